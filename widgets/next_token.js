/**
 * The next token after each stage: one column a stage, one row a token, one bar a cell.
 * State lives in the model: `view` and `scale`. A new view changes what is there in place; a row
 * keeps its element as long as its token is shown.
 */
import { fate, stageHead, tokenRow } from "./next_token_row.js";
import { announcer, h, keyHelp, keys } from "./shared/dom.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { readable } from "./shared/text.js";

const SIGNS = [
  "◆ drawn by this seed at this step",
  "✕ removed here, the outline is what it had",
  "rows in the order before the chain",
  "entropy in nats",
].join(" · ");

export const scaleText = (scale) => (scale === "log" ? "bars: 0.01% to 100%, logarithmic" : "bars: 0% to 100%, linear");

/** Which draw it was; a note says the step in its own words. */
export const drawText = ({ seed, step, note }) => (note ? `${note} · seed ${seed}` : `seed ${seed} · step ${step}`);

const EMPTY = "No distribution yet. It appears here as soon as there is a prompt and a chain.";
const HELP = [
  ["↑ ↓", "token"],
  ["Home End", "first, last token"],
  ["← →", "scroll to the stages"],
  ["d", "to the drawn token"],
  ["l", "linear or log bars"],
  ["t", "numbers or bars"],
  ["?", "these keys"],
];

function pressable(text, click, more = {}) {
  return h("button", { type: "button", "aria-pressed": "false", ...more, on: { click } }, text);
}

function grid() {
  const headRow = h("tr", {}, h("th", { scope: "col", class: "mll-nt-token" }, "token"));
  const body = h("tbody");
  const label = "Probability of the likeliest tokens after each stage";
  const table = h("table", { role: "grid", "aria-label": label }, h("thead", {}, headRow), body);
  return { headRow, heads: [], body, scroll: h("div", { class: "mll-nt-scroll mll-live" }, table) };
}

function elements(model, { setScale, toggleTable }) {
  const voice = announcer();
  const about = h("span", { class: "mll-quiet mll-figures mll-nt-about" });
  const tab = (name, text) => pressable(text, () => setScale(name), { "data-scale": name });
  const tabs = [tab("linear", "Linear"), tab("log", "Log")];
  const tableButton = pressable("Show as table", toggleTable);
  const problem = h("p", { class: "mll-note", "data-kind": "bad", role: "alert", hidden: true });
  const gone = goneNote(model);
  const empty = h("p", { class: "mll-note" }, EMPTY);
  const table = grid();
  const details = h("p", { class: "mll-nt-details mll-figures" });
  const why = h("p", { class: "mll-nt-why mll-figures" });
  const legend = h("p", { class: "mll-quiet mll-nt-legend" });
  const help = keyHelp(HELP);
  const title = h("h3", { class: "mll-title" }, "Next token");
  const scales = h("span", { class: "mll-tabs", role: "group", "aria-label": "Length of the bars" }, tabs);
  const bar = h("header", { class: "mll-nt-bar" }, title, about, scales, h("span", { class: "mll-tabs" }, tableButton));
  const all = [bar, gone, problem, empty, table.scroll, details, why, legend, help.node, voice.node];
  const root = h("section", { class: "mll mll-nt", "aria-label": "Next token" }, all);
  const texts = { about, problem, gone, empty, details, why, legend };
  return { root, voice, tabs, tableButton, ...table, help, ...texts };
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
    focus(id) {
      focused = id;
      rove(id);
      act.focus();
    },
  };
  function draw(view, scale) {
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
      rows.get(row.id).update(view, i, scale);
    });
    if (!rows.has(focused)) focused = null;
    const stop = focused ?? view.rows[0]?.id;
    rove(stop);
    const lost = hadFocus && !body.contains(root.ownerDocument.activeElement);
    if (lost) rows.get(stop)?.node.focus({ preventScroll: true });
  }
  return { draw, text: (id) => rows.get(id).text, go: (id) => rows.get(id).node.focus(), focused: () => focused };
}

function render({ model, el }) {
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  let pointed = null; // a token under the pointer
  let wait = null; // before a token is explained
  let unsaid = null; // the token that a key led to, until its explanation was spoken
  const view = () => model.get("view");
  const indexOf = (id) => view().rows?.findIndex((row) => row.id === id) ?? -1;
  const parts = elements(model, { setScale, toggleTable });
  const { root, voice, details, why, help } = parts;
  const rows = tokenRows(parts, { point, focus: () => point(null) });
  const current = () => pointed ?? rows.focused() ?? view().choice; // the token that is described

  function point(id) {
    pointed = id;
    describe();
  }
  function toggleTable() {
    const on = root.toggleAttribute("data-table");
    parts.tableButton.setAttribute("aria-pressed", String(on));
  }
  function setScale(name) {
    link.ask("scale", { scale: name }).catch((error) => {
      parts.problem.textContent = error.message;
      parts.problem.hidden = false;
    });
  }
  function describe() {
    const id = current();
    const i = indexOf(id);
    details.replaceChildren(...(i < 0 ? [] : [h("b", { dir: "auto" }, rows.text(id)), ` ${fate(view(), i)}`]));
    clearTimeout(wait);
    why.textContent = "";
    if (i >= 0 && model.get("explains")) wait = setTimeout(explain, 80, id);
  }
  /** Ask what would have kept a token; an answer for another token or picture comes too late. */
  function explain(id) {
    const show = ({ seq, text }) => {
      if (seq !== view().seq || id !== current()) return;
      why.textContent = text;
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
  const now = () => Math.max(0, indexOf(rows.focused()));
  function pan(by) {
    parts.scroll.scrollLeft += by * 96;
  }
  const unbind = keys(root, {
    ArrowUp: () => go(now() - 1),
    ArrowDown: () => go(now() + 1),
    Home: () => go(0),
    End: () => go(Infinity),
    ArrowLeft: () => pan(-1),
    ArrowRight: () => pan(1),
    d: () => go(indexOf(view().choice)),
    l: () => setScale(model.get("scale") === "log" ? "linear" : "log"),
    t: toggleTable,
    "?": () => help.toggle(),
    Escape: () => (help.open ? help.hide() : false),
  });
  function drawHeads({ columns }) {
    const { heads, headRow } = parts;
    while (heads.length > columns.length) heads.pop().node.remove();
    while (heads.length < columns.length) headRow.append(heads[heads.push(stageHead()) - 1].node);
    heads.forEach((head, i) => head.update(columns, i));
  }
  function showOrHide(shown) {
    const some = Boolean(shown.rows);
    parts.empty.hidden = some || Boolean(shown.error);
    parts.scroll.hidden = details.hidden = parts.legend.hidden = !some;
    why.hidden = !some || !model.get("explains");
    parts.problem.hidden = !shown.error;
    parts.problem.textContent = shown.error ?? "";
    root.toggleAttribute("data-stale", Boolean(shown.error));
  }
  function draw() {
    const [shown, scale] = [view(), model.get("scale")];
    showOrHide(shown);
    for (const tab of parts.tabs) tab.setAttribute("aria-pressed", String(tab.dataset.scale === scale));
    if (!shown.rows) return;
    drawHeads(shown);
    rows.draw(shown, scale);
    parts.about.textContent = `${shown.after ? `after “${readable(shown.after)}” · ` : ""}${drawText(shown)}`;
    parts.legend.textContent = `${scaleText(scale)} · ${SIGNS}`;
    describe();
  }
  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    parts.gone.hidden = alive;
    for (const tab of parts.tabs) tab.disabled = !alive;
  }
  const unwatch = watch(model, { view: draw, scale: draw, explains: draw });
  draw();
  el.append(root);
  link.ping();
  root.addEventListener("pointerenter", link.ping);
  return () => {
    unwatch();
    clearTimeout(wait);
    unbind();
    voice.close();
    link.close();
    root.remove();
  };
}

export default { render };
