/** A Trace as tokens in colour: layers, the card of a token, keys, and text that streams in. */
import { announcer, h, keyHelp, keys, tableView } from "./shared/dom.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { count, duration, number, percent, splitPieces } from "./shared/text.js";
import { ENDINGS, LAYERS, pieceLabel, tokenColumns } from "./shared/tokens.js";
import { tokenCard } from "./token_strip_card.js";
import { floating } from "./token_strip_floating.js";
import { tokenFlow } from "./token_strip_flow.js";

const NOTHING = "No tokens yet. They appear here when a prompt runs.";
const HELP = [
  ["← →", "the token before, after"],
  ["↑ ↓", "another alternative"],
  ["Home End", "the first, last token"],
  ["Enter", "choose it"],
  ["p s e r t", "colour by probability, surprise, entropy, rank, time"],
  ["Esc", "close"],
  ["?", "these keys"],
];

/** "64 tokens · mean logprob −1.23 nats · ended at the length asked for" */
export function summary(columns, finish) {
  const logprobs = columns.logprob.filter(Number.isFinite);
  const mean = logprobs.reduce((sum, x) => sum + x, 0) / logprobs.length;
  const n = columns.token.length;
  return [
    `${count(n)} ${n === 1 ? "token" : "tokens"}`,
    `mean logprob ${number(mean).replace("-", "−")}${logprobs.length ? " nats" : ""}`,
    ENDINGS[finish] ?? "",
  ]
    .filter(Boolean)
    .join(" · ");
}

/** What the scale of a layer says: its meaning, and for time the figure it is measured against. */
export function scaleText(layer, usual) {
  if (layer !== "time") return LAYERS[layer].says;
  const known = Number.isFinite(usual);
  return `${LAYERS.time.says}; 1× is ${known ? `${duration(usual)}, median at the start` : "known after 8 tokens"}`;
}

/** One line on what is going on. */
export function stateText(state, progress, columns, finish) {
  if (state === "queued") return "waiting for the session";
  if (state === "prompt") return `reading the prompt: ${count(progress[0])} of ${count(progress[1])} tokens`;
  if (state === "running") return `${summary(columns, "")} · generating`;
  return columns.token.length ? summary(columns, finish) : "";
}

function render({ model, el }) {
  const columns = tokenColumns();
  const remembered = new Map();
  let at = -1;
  let pinned = false;
  let atEnd = true;
  let fetching = null;
  let wait = null;
  let look = null;
  let looked = null;

  const title = h("p", { class: "mll-title" });
  const tabs = Object.entries(LAYERS).map(([name, { key, label }]) =>
    h(
      "button",
      {
        type: "button",
        title: `Key ${key}`,
        "aria-keyshortcuts": key,
        "data-layer": name,
        on: { click: () => pick(name) },
      },
      label,
    ),
  );
  const help = keyHelp(HELP);
  const legend = h("div", { class: "mll-strip-legend mll-figures" });
  const gone = goneNote(model);
  const note = h("div", { class: "mll-note", "data-kind": "bad", role: "status", hidden: true });
  const bar = h("progress", { class: "mll-strip-progress", "aria-label": "Prompt", hidden: true });
  const flow = tokenFlow(columns, "Tokens");
  const foot = h("p", { class: "mll-quiet mll-figures mll-strip-foot" });
  const voice = announcer();
  const table = tableView(["step", "token", "text", "probability", "rank", "entropy", "time"], tableRows, {
    caption: "Probability, rank and entropy are the model's, before the chain.",
  });
  const card = tokenCard({ onChoose: (row) => choose(row.token), onSelect: voice.say, onLook: (row) => explain(row) });
  const float = floating(card.node);
  const root = h(
    "div",
    { class: "mll mll-strip" },
    h(
      "div",
      { class: "mll-strip-head" },
      title,
      h("div", { class: "mll-tabs", role: "group", "aria-label": "Colour by" }, tabs),
      help.button,
    ),
    legend,
    gone,
    note,
    h("div", { class: "mll-strip-body mll-live" }, bar, flow.node),
    foot,
    table.node,
    help.node,
    card.node,
    voice.node,
  );
  el.append(root);

  const line = connect(model, {
    onAlive: (alive) => {
      root.toggleAttribute("data-gone", !alive);
      gone.hidden = alive;
      for (const tab of tabs) tab.disabled = !alive;
      showState();
      if (alive) refill();
    },
    onMessage: (message, buffers) =>
      message?.kind === "delta" && message.epoch === model.get("epoch") && take(message, buffers),
  });

  function tableRows() {
    return columns.token
      .slice(0, 501)
      .map((token, i) => [
        i + 1,
        token,
        pieceLabel(columns.piece[i]),
        percent(Math.exp(columns.logprob[i])),
        columns.rank[i] < 0 ? "n/a" : columns.rank[i] + 1,
        number(columns.entropy[i]),
        duration(columns.ms[i]),
      ]);
  }
  function showLayer() {
    const layer = model.get("layer");
    for (const tab of tabs) tab.setAttribute("aria-pressed", String(tab.dataset.layer === layer));
    legend.replaceChildren(
      h("span", { class: "mll-strip-says" }, scaleText(layer, columns.usual)),
      h(
        "span",
        { class: "mll-strip-scale" },
        LAYERS[layer].marks.map((mark, level) =>
          h("span", { class: "mll-token", "data-level": `${LAYERS[layer].ramp}-${level}` }, mark),
        ),
      ),
    );
    flow.paint(layer);
  }
  function complain(problem) {
    note.textContent = problem;
    note.hidden = !problem;
  }
  const unanswered = (error) => line.alive && complain(error.message);
  function showState() {
    const [state, finish, progress] = ["state", "finish", "progress"].map((name) => model.get(name));
    title.textContent = model.get("title");
    complain(state === "failed" ? model.get("note") : "");
    root.dataset.state = state;
    bar.hidden = state !== "prompt" && state !== "queued";
    if (progress[1] > 0) [bar.max, bar.value] = [progress[1], progress[0]];
    else bar.removeAttribute("value");
    foot.textContent = state === "empty" ? NOTHING : stateText(state, progress, columns, finish);
    if (state === "prompt" || state === "finished" || state === "failed") voice.say(foot.textContent);
    if (finish === "eog" && flow.length === model.get("n"))
      flow.end(pieceLabel(columns.piece.at(-1) ?? new Uint8Array()));
  }
  function take(message, buffers) {
    const usual = columns.usual;
    if (!columns.append(message, buffers)) return refill({ gap: true });
    flow.sync();
    if (!Object.is(usual, columns.usual)) showLayer();
    if (atEnd && model.get("state") === "running") flow.node.scrollTop = flow.node.scrollHeight;
    table.refresh();
    showState();
  }
  /** Ask for what is missing, one request at a time. */
  function refill({ gap = false } = {}) {
    if (fetching || (!gap && columns.token.length >= model.get("n"))) return;
    const epoch = model.get("epoch");
    fetching = line
      .ask("steps", { from: columns.token.length })
      .then((reply) => {
        if (reply.epoch === epoch && epoch === model.get("epoch")) take(reply, reply.buffers);
        fetching = null;
        refill();
      })
      .catch((error) => {
        fetching = null;
        unanswered(error);
      });
  }
  function restart() {
    hide();
    columns.clear();
    remembered.clear();
    flow.clear();
    at = -1;
    atEnd = true;
    showState();
    showLayer();
    const epoch = model.get("epoch");
    line
      .ask("prompt")
      .then((reply) => epoch === reply.epoch && flow.prompt(splitPieces(...reply.buffers), reply.skipped), unanswered);
    refill();
  }
  function show(step, { pin = false } = {}) {
    if (step < 0 || step >= flow.length) return;
    at = step;
    pinned = pinned || pin;
    const { token, logprob, rank, entropy, ms, piece } = columns;
    const p = Math.exp(logprob[at]);
    flow.mark(at, `${flow.text(at)}, step ${at + 1} of ${flow.length}, ${percent(p)}, rank ${rank[at] + 1}`);
    card.begin({ piece: piece[at], step: at, n: token.length, p, rank: rank[at], entropy: entropy[at], ms: ms[at] });
    float.show(flow.box(at));
    const epoch = model.get("epoch");
    const here = () => at === step && epoch === model.get("epoch") && float.open;
    const known = remembered.get(step);
    if (known) return card.complete(known);
    line
      .ask("details", { step })
      .then((details) => {
        if (remembered.size > 500) remembered.clear();
        if (epoch === model.get("epoch")) remembered.set(step, details);
        if (here()) card.complete(details);
      })
      .catch((error) => here() && card.failed(`Alternatives: n/a. ${error.message}`));
  }
  function hide() {
    clearTimeout(wait);
    pinned = false;
    float.hide();
    flow.mark(-1);
  }
  const later = (act, ms) => {
    clearTimeout(wait);
    wait = setTimeout(act, ms);
  };
  /** Ask what would have kept an alternative; an answer for another one comes too late. */
  function explain(row) {
    if (!model.get("explains")) return;
    const [step, epoch] = [at, model.get("epoch")];
    looked = row;
    clearTimeout(look);
    look = setTimeout(
      () =>
        line
          .ask("explain", { step, token: row.token }, { patience: 20000 })
          .then(
            ({ text }) => text,
            (error) => `n/a: ${error.message}`,
          )
          .then((text) => looked === row && at === step && epoch === model.get("epoch") && card.explain(row, text)),
      60,
    );
  }
  function choose(token) {
    if (!line.alive) return;
    line.ask("choose", { step: at, token }).then(
      () => voice.say(`chosen at step ${at + 1}`),
      (error) => card.failed(error.message),
    );
  }
  function pick(layer) {
    if (!line.alive) return;
    model.set("layer", layer);
    model.save_changes();
  }
  const go = (step) => {
    if (!flow.length) return;
    show(Math.max(0, Math.min(flow.length - 1, step)), { pin: true });
    flow.reveal(at);
    float.show(flow.box(at));
  };
  const undoKeys = keys(flow.node, {
    ArrowLeft: () => go(at < 0 ? flow.length - 1 : at - 1),
    ArrowRight: () => go(at + 1),
    ArrowUp: () => (float.open ? card.move(-1) : go(Math.max(0, at))),
    ArrowDown: () => (float.open ? card.move(1) : go(Math.max(0, at))),
    Home: () => go(0),
    End: () => go(flow.length - 1),
    Enter: () => (at >= 0 && float.open ? choose(card.selected?.token ?? columns.token[at]) : go(Math.max(0, at))),
    Escape: () => (help.open ? help.hide() : float.open ? hide() : false),
    "?": help.toggle,
    ...Object.fromEntries(Object.entries(LAYERS).map(([name, { key }]) => [key, () => pick(name)])),
  });
  const listen = (node, acts) => Object.entries(acts).forEach(([type, act]) => node.addEventListener(type, act));
  listen(flow.node, {
    pointerover: ({ target }) =>
      flow.stepOf(target) >= 0 && !pinned && later(() => show(flow.stepOf(target)), float.open ? 20 : 120),
    pointerleave: () => !pinned && later(hide, 200),
    click: ({ target }) => (flow.stepOf(target) < 0 ? hide() : show(flow.stepOf(target), { pin: true })),
    focus: () => flow.node.matches(":focus-visible") && flow.length && go(Math.max(0, at)),
    blur: ({ relatedTarget }) => !card.node.contains(relatedTarget) && hide(),
    scroll: () => {
      atEnd = flow.node.scrollTop + flow.node.clientHeight > flow.node.scrollHeight - 24;
      if (float.open && at >= 0) float.show(flow.box(at));
    },
  });
  listen(card.node, {
    pointerenter: () => clearTimeout(wait),
    pointerleave: () => !pinned && later(hide, 200),
    pointerdown: (event) => event.preventDefault(),
  });
  root.addEventListener("pointerenter", line.ping);
  const unwatch = watch(model, {
    epoch: restart,
    layer: showLayer,
    n: () => {
      refill();
      showState();
    },
    state: showState,
    title: showState,
    note: showState,
    finish: showState,
    progress: showState,
  });
  restart();
  line.ping();
  return () => {
    hide();
    clearTimeout(look);
    undoKeys();
    voice.close();
    flow.close();
    line.close();
    unwatch();
    root.remove();
  };
}
export default { render };
