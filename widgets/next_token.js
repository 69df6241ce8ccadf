/**
 * The next token after each stage: one column a stage, one row a token, one bar a cell.
 * State lives in the model: `view` and `scale`. A new view changes what is there in place; a row
 * keeps its element as long as its token is shown.
 */
import { COLOURS, csvRows, headings, measures, picture } from "./next_token_file.js";
import { grid } from "./next_token_columns.js";
import { fate, tokenRow } from "./next_token_row.js";
import { bias } from "./shared/bias.js";
import { announcer, button, h, keyHelp, keys, mount, pointerKeys } from "./shared/dom.js";
import { csvTable, exportMenu } from "./shared/export.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { palette } from "./shared/svg.js";
import { readable } from "./shared/text.js";
import { toolbar } from "./shared/toolbar.js";

const scaleText = (scale) => (scale === "log" ? "bars 0.01–100%, log" : "bars 0–100%");

/** Which draw it was; a note says the step in its own words. */
export const drawText = ({ seed, step, note }) => (note ? `${note} · seed ${seed}` : `seed ${seed} · step ${step}`);
const aboutText = (view) => drawText(view) + (view.after ? ` · after “${readable(view.after)}”` : "");

const EMPTY = "No distribution yet. It appears here as soon as there is a prompt and a chain.";
const HELP = [
  ["↑ ↓", "token"],
  ["Home End", "first, last token"],
  ["← →", "stages without room for a column"],
  ["d e", "to the drawn token; to the end of the prompt"],
  ["b f", "ban the token (again: allow it), favour it"],
  ["l", "linear or log bars"],
  ["t", "numbers or bars"],
  ["?", "these keys and signs"],
  ["◆", "drawn by this seed at this step"],
  ["✕", "removed here; the outline is what it had"],
  ["rows", "in the order before the chain; stages without effect have no column; entropy in nats"],
];

function pressable(text, click, more = {}) {
  return h("button", { type: "button", "aria-pressed": "false", ...more, on: { click } }, text);
}

function filesOf(model) {
  const shown = (make) => (node) => (model.get("view").rows ? make(model.get("view"), node) : null);
  const drawn = (view, node) => {
    const scale = model.get("scale");
    const says = [`Next token · ${aboutText(view)}`, scaleText(scale)];
    return picture({ view, scale, says, ...measures() }, palette(node, COLOURS));
  };
  return { CSV: shown((view) => csvTable(headings(view), csvRows(view))), SVG: shown(drawn) };
}

function elements(model, { setScale, toggleTable, refit, back }) {
  const voice = announcer();
  const about = h("span", { class: "mll-quiet mll-figures mll-nt-about" });
  const tab = (name, text) => pressable(text, () => setScale(name), { "data-scale": name });
  const tabs = [tab("linear", "Linear"), tab("log", "Log")];
  const tableButton = pressable("Numbers", toggleTable);
  const problem = h("p", { class: "mll-note", "data-kind": "bad", role: "alert", hidden: true });
  const gone = goneNote(model);
  const empty = h("p", { class: "mll-note" }, EMPTY);
  const table = grid("Probability of the likeliest tokens after each stage", refit);
  const details = h("p", { class: "mll-nt-details mll-figures" });
  const why = h("p", { class: "mll-nt-why mll-figures" });
  const help = keyHelp(HELP);
  const saving = exportMenu("next token", filesOf(model));
  const title = h("h3", { class: "mll-title" }, "Next token");
  const scales = h("span", { class: "mll-tabs", role: "group", "aria-label": "Length of the bars" }, tabs);
  const shows = [scales, h("span", { class: "mll-tabs" }, tableButton), saving.node, help.button];
  const tools = h("span", { class: "mll-nt-tools" }, shows);
  const untool = toolbar(tools, "Bars, file and keys of the next token");
  const backward = button("", "Look at what Run would draw first again (e)", back, { class: "mll-button mll-nt-back" });
  const bar = h("header", { class: "mll-nt-bar" }, title, about, backward, tools);
  const all = [bar, gone, problem, empty, table.scroll, details, why, help.node, voice.node];
  const root = h("section", { class: "mll mll-nt", "aria-label": "Next token" }, all);
  const texts = { about, backward, problem, gone, empty, details, why };
  return { root, untool, voice, tabs, tableButton, ...table, help, ...texts };
}

/** One row a token, in the order of the view; a row keeps its element as long as its token is shown. */
function tokenRows({ root, body }, act) {
  const rows = new Map();
  let focused = null;
  const rove = (stop) => {
    for (const [id, row] of rows) row.node.tabIndex = id === stop ? 0 : -1;
  };
  const acts = {
    point: act.point,
    bias: act.bias,
    focus(id) {
      focused = id;
      rove(id);
      act.focus();
    },
  };
  function draw(view, scale, places) {
    const ids = new Set(view.rows.map((row) => row.id));
    const hadFocus = body.contains(root.ownerDocument.activeElement);
    for (const [id, row] of rows) {
      if (ids.has(id)) continue;
      row.node.remove();
      rows.delete(id);
    }
    view.rows.forEach((row, i) => {
      if (!rows.has(row.id)) rows.set(row.id, tokenRow(row, acts));
      const { node } = rows.get(row.id);
      if (body.children[i] !== node) body.insertBefore(node, body.children[i] ?? null);
      rows.get(row.id).update(view, i, scale, places);
    });
    if (!rows.has(focused)) focused = null;
    const stop = focused ?? view.rows[0]?.id;
    rove(stop);
    const lost = hadFocus && !body.contains(root.ownerDocument.activeElement);
    if (lost) rows.get(stop)?.node.focus({ preventScroll: true });
  }
  const go = (id, how) => rows.get(id).node.focus(how);
  return { draw, text: (id) => rows.get(id).text, go, focused: () => focused };
}

function render({ model, el }) {
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  let pointed = null; // a token under the pointer
  let wait = null; // before a token is explained
  let unsaid = null; // the token that a key led to, until its explanation was spoken
  const view = () => model.get("view");
  const indexOf = (id) => view().rows?.findIndex((row) => row.id === id) ?? -1;
  const parts = elements(model, { setScale, toggleTable, refit: () => draw(), back });
  const { root, voice, details, why, help } = parts;
  const rows = tokenRows(parts, { point, focus: () => point(null), bias: biasOf });
  const current = () => pointed ?? rows.focused() ?? view().choice; // the token that is described

  function point(id) {
    pointed = id;
    hoverKeys.listen(id !== null);
    describe();
  }
  function toggleTable() {
    const on = root.toggleAttribute("data-table");
    parts.tableButton.setAttribute("aria-pressed", String(on));
  }
  function ask(op, args) {
    link.ask(op, args).catch((error) => {
      parts.problem.textContent = error.message;
      parts.problem.hidden = false;
    });
  }
  function setScale(scale) {
    ask("scale", { scale });
  }
  /** Back to where Run begins; the button goes, so the focus moves to the rows. */
  function back() {
    if (!view().back) return false;
    rows.go(rows.focused() ?? view().rows[0].id, { preventScroll: true });
    ask("back");
  }
  function describe() {
    const id = current();
    const i = indexOf(id);
    details.replaceChildren(...(i < 0 ? [] : [h("b", { dir: "auto" }, rows.text(id)), ` ${fate(view(), i)}`]));
    details.title = details.textContent;
    clearTimeout(wait);
    why.textContent = "";
    if (i >= 0 && model.get("explains")) wait = setTimeout(explain, 80, id);
  }
  /** Ask what would have kept a token; an answer for another token or picture comes too late. */
  function explain(id) {
    const show = ({ seq, text }) => {
      if (seq !== view().seq || id !== current()) return;
      why.textContent = why.title = text;
      if (id === unsaid) voice.say(`${details.textContent} · ${text}`);
      unsaid = null;
    };
    const asked = link.ask("explain", { token: id }, { patience: 20000 });
    asked.then(show).catch((error) => {
      if (link.alive) why.textContent = `n/a: ${error.message}`;
    });
  }
  function go(to) {
    const all = view().rows;
    const next = all?.[Math.max(0, Math.min(all.length - 1, to))];
    if (!next) return false;
    rows.go(next.id);
    unsaid = next.id;
    voice.say(details.textContent);
  }
  function biasHere(ban) {
    const id = pointed ?? rows.focused();
    return indexOf(id) < 0 ? false : biasOf(id, ban);
  }
  function biasOf(id, ban) {
    const done = (what) => voice.say(`${rows.text(id)} ${what}`);
    bias(link, id, ban).then(done, (error) => {
      why.textContent = error.message;
    });
  }
  const hoverKeys = pointerKeys({ b: () => biasHere(true), f: () => biasHere(false) });
  const now = () => Math.max(0, indexOf(rows.focused()));
  const unbind = keys(root, {
    ArrowUp: () => go(now() - 1),
    ArrowDown: () => go(now() + 1),
    ...{ Home: () => go(0), End: () => go(Infinity) },
    ...{ ArrowLeft: () => parts.pan(-1), ArrowRight: () => parts.pan(1) },
    ...{ d: () => go(indexOf(view().choice)), e: back },
    ...hoverKeys.bindings,
    l: () => setScale(model.get("scale") === "log" ? "linear" : "log"),
    t: toggleTable,
    ...help.keys,
  });
  function showOrHide(shown) {
    const some = Boolean(shown.rows);
    parts.empty.hidden = some || Boolean(shown.error);
    parts.scroll.hidden = details.hidden = !some;
    why.hidden = !some || !model.get("explains");
    parts.backward.hidden = !shown.back;
    parts.backward.textContent = `↩ ${shown.back}`;
    parts.problem.hidden = !shown.error;
    parts.problem.textContent = shown.error ?? "";
    root.toggleAttribute("data-stale", Boolean(shown.error));
    root.toggleAttribute("data-biases", Boolean(model.get("biases")));
  }
  function draw() {
    const [shown, scale] = [view(), model.get("scale")];
    showOrHide(shown);
    for (const tab of parts.tabs) tab.setAttribute("aria-pressed", String(tab.dataset.scale === scale));
    if (!shown.rows) return;
    rows.draw(shown, scale, parts.drawHeads(shown.columns));
    parts.about.title = parts.about.textContent = aboutText(shown);
    parts.bars.textContent = scaleText(scale);
    describe();
  }
  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    parts.gone.hidden = alive;
    for (const one of [...parts.tabs, parts.backward]) one.disabled = !alive;
  }
  const unwatch = watch(model, { view: draw, scale: draw, explains: draw, biases: draw });
  draw();
  const unmount = mount(el, root);
  link.ping();
  root.addEventListener("pointerenter", link.ping);
  return () => {
    unwatch();
    clearTimeout(wait);
    [unbind, parts.close, parts.untool, hoverKeys.listen].forEach((act) => act(false));
    voice.close();
    link.close();
    unmount();
  };
}

export default { render };
