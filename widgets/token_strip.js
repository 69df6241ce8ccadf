/** A Trace as tokens in colour: layers, the card of a token, keys, and text that streams in. */
import { announcer, h, keyHelp, keys, tableView } from "./shared/dom.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { splitPieces } from "./shared/text.js";
import { LAYERS, pieceLabel, tokenColumns } from "./shared/tokens.js";
import { tokenDetails } from "./token_strip_details.js";
import { tokenFlow } from "./token_strip_flow.js";
import { COLUMNS, scaleText, stateText, tableRows } from "./token_strip_words.js";

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
const CAPTION = "Probability, rank and entropy are the model's, before the chain.";

/** One button a layer; `pick(name)` when it is pressed. */
const layerTabs = (pick) =>
  Object.entries(LAYERS).map(([name, { key, label }]) => {
    const says = { title: `Key ${key}`, "aria-keyshortcuts": key, "data-layer": name };
    return h("button", { type: "button", ...says, on: { click: () => pick(name) } }, label);
  });

function elements(model, columns, pick) {
  const title = h("p", { class: "mll-title" });
  const tabs = layerTabs(pick);
  const help = keyHelp(HELP);
  const legend = h("div", { class: "mll-strip-legend mll-figures" });
  const gone = goneNote(model);
  const note = h("div", { class: "mll-note", "data-kind": "bad", role: "status", hidden: true });
  const bar = h("progress", { class: "mll-strip-progress", "aria-label": "Prompt", hidden: true });
  const flow = tokenFlow(columns, "Tokens");
  const foot = h("p", { class: "mll-quiet mll-figures mll-strip-foot" });
  const voice = announcer();
  const table = tableView(COLUMNS, () => tableRows(columns), { caption: CAPTION });
  const layers = h("div", { class: "mll-tabs", role: "group", "aria-label": "Colour by" }, tabs);
  const head = h("div", { class: "mll-strip-head" }, title, layers, help.button);
  const body = h("div", { class: "mll-strip-body mll-live" }, bar, flow.node);
  const all = [head, legend, gone, note, body, foot, table.node, help.node];
  const root = h("div", { class: "mll mll-strip" }, all);
  return { root, title, tabs, help, legend, gone, note, bar, flow, foot, voice, table };
}

function legendParts(layer, usual) {
  const { marks, ramp } = LAYERS[layer];
  const mark = (text, level) => h("span", { class: "mll-token", "data-level": `${ramp}-${level}` }, text);
  return [
    h("span", { class: "mll-strip-says" }, scaleText(layer, usual)),
    h("span", { class: "mll-strip-scale" }, marks.map(mark)),
  ];
}

function render({ model, el }) {
  const columns = tokenColumns();
  let atEnd = true; // of the text: it scrolls with what streams in
  let fetching = null;
  const get = (name) => model.get(name);
  const line = connect(model, { onAlive: (alive) => setAlive(alive), onMessage: receive });
  const parts = elements(model, columns, pick);
  const { root, flow, foot, help, voice } = parts;
  const details = tokenDetails({ model, line, columns, flow, say: voice.say });
  root.append(details.node, voice.node);
  el.append(root);

  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    parts.gone.hidden = alive;
    for (const tab of parts.tabs) tab.disabled = !alive;
    showState();
    if (alive) refill();
  }
  function receive(message, buffers) {
    if (message?.kind === "delta" && message.epoch === get("epoch")) take(message, buffers);
  }
  function showLayer() {
    const layer = get("layer");
    for (const tab of parts.tabs) tab.setAttribute("aria-pressed", String(tab.dataset.layer === layer));
    parts.legend.replaceChildren(...legendParts(layer, columns.usual));
    flow.paint(layer);
  }
  function complain(problem) {
    parts.note.textContent = problem;
    parts.note.hidden = !problem;
  }
  const unanswered = (error) => line.alive && complain(error.message);
  function showProgress(state, [done, all]) {
    parts.bar.hidden = state !== "prompt" && state !== "queued";
    if (all > 0) [parts.bar.max, parts.bar.value] = [all, done];
    else parts.bar.removeAttribute("value");
  }
  function showState() {
    const [state, finish, progress] = ["state", "finish", "progress"].map(get);
    parts.title.textContent = get("title");
    complain(state === "failed" ? get("note") : "");
    root.dataset.state = state;
    showProgress(state, progress);
    foot.textContent = state === "empty" ? NOTHING : stateText(state, progress, columns, finish);
    if (["prompt", "finished", "failed"].includes(state)) voice.say(foot.textContent);
    const whole = finish === "eog" && flow.length === get("n");
    if (whole) flow.end(pieceLabel(columns.piece.at(-1) ?? new Uint8Array()));
  }
  function take(message, buffers) {
    const usual = columns.usual;
    if (!columns.append(message, buffers)) return refill({ gap: true });
    flow.sync();
    if (!Object.is(usual, columns.usual)) showLayer();
    if (atEnd && get("state") === "running") flow.node.scrollTop = flow.node.scrollHeight;
    parts.table.refresh();
    showState();
  }
  /** Ask for what is missing, one request at a time. */
  function refill({ gap = false } = {}) {
    if (fetching || (!gap && columns.token.length >= get("n"))) return;
    const epoch = get("epoch");
    fetching = line
      .ask("steps", { from: columns.token.length })
      .then((reply) => {
        if (reply.epoch === epoch && epoch === get("epoch")) take(reply, reply.buffers);
        fetching = null;
        refill();
      })
      .catch((error) => {
        fetching = null;
        unanswered(error);
      });
  }
  function restart() {
    details.restart();
    columns.clear();
    flow.clear();
    atEnd = true;
    showState();
    showLayer();
    const epoch = get("epoch");
    const show = (reply) => epoch === reply.epoch && flow.prompt(splitPieces(...reply.buffers), reply.skipped);
    line.ask("prompt").then(show, unanswered);
    refill();
  }
  function pick(layer) {
    if (!line.alive) return;
    model.set("layer", layer);
    model.save_changes();
  }
  flow.node.addEventListener("scroll", () => {
    atEnd = flow.node.scrollTop + flow.node.clientHeight > flow.node.scrollHeight - 24;
  });
  const undoKeys = keys(flow.node, {
    ...details.bindings,
    Escape: () => (help.open ? help.hide() : details.bindings.Escape()),
    "?": help.toggle,
    ...Object.fromEntries(Object.entries(LAYERS).map(([name, { key }]) => [key, () => pick(name)])),
  });
  root.addEventListener("pointerenter", line.ping);
  const grown = () => {
    refill();
    showState();
  };
  const told = Object.fromEntries(["state", "title", "note", "finish", "progress"].map((name) => [name, showState]));
  const unwatch = watch(model, { epoch: restart, layer: showLayer, n: grown, ...told });
  restart();
  line.ping();
  return () => {
    details.close();
    undoKeys();
    voice.close();
    flow.close();
    line.close();
    unwatch();
    root.remove();
  };
}
export default { render };
