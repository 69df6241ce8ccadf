/** A Trace as tokens in colour: layers, the card of a token, keys, and text that streams in. */
import { announcer, button, h, keyHelp, keys, mount, tableView } from "./shared/dom.js";
import { csvTable, exportMenu } from "./shared/export.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { measuring, palette } from "./shared/svg.js";
import { splitPieces } from "./shared/text.js";
import { pieceLabel } from "./shared/tokens.js";
import { toolbar } from "./shared/toolbar.js";
import { LAYERS, offers, tokenColumns } from "./token_strip_columns.js";
import { tokenDetails } from "./token_strip_details.js";
import { coloursOf, csvRows, FONT, headings, picture } from "./token_strip_file.js";
import { tokenFlow } from "./token_strip_flow.js";
import { branchedText, saidOf, tableColumns, scaleText, stateText, summary, tableRows } from "./token_strip_words.js";

const NOTHING = "No tokens yet. They appear here when a prompt runs.";
const HELP = [
  ["← →", "the token before, after; a bench shows the next token of there"],
  ["↑ ↓", "another alternative"],
  ["Home End", "the first, last token"],
  ["Enter", "choose it"],
  ["b f", "ban the token (again: allow it), favour it"],
  ["p s e r t", "colour by probability, surprise, entropy, rank, time"],
  ["g", "colour by what a grammar cost, once a run that kept to one has ended"],
  ["k", "colour by the effect of adapters and vectors, once a run with some has ended"],
  ["x", "colour by what an open grammar would have forbidden of a text written without one"],
  ["c", "colour by where a grammar had other tokens than the tokenizer"],
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

const BACK = "Show the text that this one goes off; the branch stays in the tree, where Undo takes it away";

function elements(model, columns, { pick, files, back }) {
  const saving = exportMenu("tokens", files);
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
  const table = tableView(() => tableColumns(columns), () => tableRows(columns), { caption: CAPTION });
  const layers = h("div", { class: "mll-tabs", role: "group", "aria-label": "Colour by" }, tabs);
  const head = h("div", { class: "mll-strip-head" }, title, layers, legend, saving.node, help.button);
  const body = h("div", { class: "mll-strip-body mll-live" }, bar, flow.node);
  const branched = h("span", { class: "mll-strip-branched", role: "status", hidden: true });
  branched.append(h("span", {}), button("Back", BACK, back));
  const below = h("div", { class: "mll-strip-below" }, foot, branched, table.node);
  const all = [head, gone, note, body, below, help.node];
  const root = h("div", { class: "mll mll-strip" }, all);
  const undo = toolbar(head, "Colours, file and keys of the tokens");
  return { root, undo, title, tabs, help, legend, gone, note, bar, flow, foot, branched, voice, table };
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
  let prompt = []; // its pieces
  const get = (name) => model.get(name);
  const line = connect(model, { onAlive: (alive) => setAlive(alive), onMessage: receive });
  const files = {
    CSV: () => csvTable(headings(columns), csvRows(columns)),
    SVG: (node) => (columns.token.length ? drawn(node) : null),
  };
  const parts = elements(model, columns, { pick, files, back });
  const { root, flow, foot, help, voice } = parts;
  const details = tokenDetails({ model, line, columns, flow, say: voice.say });
  root.append(details.node, voice.node);
  const unmount = mount(el, root);

  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    parts.gone.hidden = alive;
    for (const tab of parts.tabs) tab.disabled = !alive;
    showState();
    if (alive) refill();
    if (alive) refillMore();
  }
  function receive(message, buffers) {
    if (message?.kind === "delta" && message.epoch === get("epoch")) take(message, buffers);
  }
  const saidAside = () => saidOf(get("more"), layerNow());
  function layerNow() {
    return offers(get("layer"), get("more")) ? get("layer") : "probability";
  }
  function showLayer() {
    const layer = layerNow();
    for (const tab of parts.tabs) {
      tab.hidden = !offers(tab.dataset.layer, get("more"));
      tab.setAttribute("aria-pressed", String(tab.dataset.layer === layer));
    }
    parts.legend.replaceChildren(...legendParts(layer, columns.usual));
    flow.paint(layer);
  }
  function complain(problem) {
    parts.note.textContent = problem;
    parts.note.hidden = !problem;
  }
  function back() {
    line.ask("back").catch(unanswered);
  }
  function showBranched() {
    const text = branchedText(get("branched"));
    parts.branched.hidden = !text;
    parts.branched.firstChild.textContent = parts.branched.firstChild.title = text;
  }
  function showLooked() {
    flow.lookedAt(get("looked_at"));
  }
  const unanswered = (error) => line.alive && complain(error.message);
  function showProgress(state, [done, all]) {
    parts.bar.hidden = state !== "prompt" && state !== "queued";
    if (all > 0) [parts.bar.max, parts.bar.value] = [all, done];
    else parts.bar.removeAttribute("value");
  }
  function showState() {
    const [state, finish, ended, progress] = ["state", "finish", "ended", "progress"].map(get);
    parts.title.textContent = get("title");
    complain(state === "failed" ? get("note") : "");
    showBranched();
    root.dataset.state = state;
    showProgress(state, progress);
    const said = [stateText(state, progress, columns, ended), ...saidAside()].filter(Boolean);
    if (LAYERS[layerNow()].takes) said.reverse(); // what is coloured first: there may be no room for all
    foot.textContent = foot.title = state === "empty" ? NOTHING : said.join(" · ");
    if (["prompt", "finished", "failed"].includes(state)) voice.say(foot.textContent);
    const whole = finish === "eog" && flow.length === get("n");
    if (whole) flow.end(pieceLabel(columns.piece.at(-1) ?? new Uint8Array()));
  }
  function take(message, buffers) {
    const usual = columns.usual;
    if (!columns.append(message, buffers)) return refill({ gap: true });
    flow.sync();
    if (!Object.is(usual, columns.usual)) showLayer();
    const follows = atEnd && !details.float.open; // a token that is looked at stays where it is
    if (follows && get("state") === "running") flow.node.scrollTop = flow.node.scrollHeight;
    else if (message.from === 0) flow.showStart();
    parts.table.refresh();
    showState();
    showLooked();
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
  /** Show what is offered beside the first layers, and ask for what is not there of it. */
  function refillMore() {
    const epoch = get("epoch");
    columns.keep(get("more"));
    for (const layer of Object.keys(get("more"))) {
      const show = (reply) => {
        if (reply.epoch !== epoch || epoch !== get("epoch") || !reply.buffers.length) return;
        columns.take(layer, reply.buffers);
        parts.table.refresh();
        showLayer();
      };
      if (!columns[LAYERS[layer].takes[0]].length) line.ask("costs", { layer }).then(show, unanswered);
    }
    showLayer();
    showState();
  }
  function restart() {
    details.restart();
    columns.clear();
    prompt = [];
    flow.clear();
    atEnd = true;
    const epoch = get("epoch");
    const show = (reply) => {
      if (epoch !== reply.epoch) return;
      prompt = splitPieces(...reply.buffers);
      flow.prompt(prompt, reply.skipped, reply.marks);
      if (get("state") !== "running") flow.showStart();
    };
    line.ask("prompt").then(show, unanswered);
    refill();
    refillMore();
  }
  function drawn(node) {
    const layer = layerNow();
    const says = [get("title"), summary(columns, get("ended")), ...saidAside(), scaleText(layer, columns.usual)];
    return picture({ prompt, columns, layer, says, measure: measuring(FONT) }, palette(node, coloursOf(layer)));
  }
  function pick(layer) {
    if (!line.alive || !offers(layer, get("more"))) return;
    model.set("layer", layer);
    model.save_changes();
  }
  flow.node.addEventListener("scroll", () => {
    atEnd = flow.node.scrollTop + flow.node.clientHeight > flow.node.scrollHeight - 24;
  });
  const letters = Object.fromEntries(Object.entries(LAYERS).map(([name, { key }]) => [key, () => pick(name)]));
  const undoKeys = [keys(flow.node, { ...details.bindings, ...letters }), keys(root, { ...help.keys })];
  root.addEventListener("pointerenter", line.ping);
  const grown = () => {
    refill();
    showState();
  };
  const told = Object.fromEntries(["state", "title", "note", "ended", "progress"].map((name) => [name, showState]));
  const shown = { layer: refillMore, branched: showBranched, looked_at: showLooked, more: refillMore };
  const unwatch = watch(model, { epoch: restart, n: grown, ...shown, ...told });
  restart();
  line.ping();
  return () => {
    details.close();
    for (const undo of undoKeys) undo();
    parts.undo();
    voice.close();
    flow.close();
    line.close();
    unwatch();
    unmount();
  };
}
export default { render };
