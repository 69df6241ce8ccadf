/** Results of a search: who ranks where, what each query token adds, what moved, why A beats B. */
import { tokenChips } from "./rank_board_chips.js";
import { COLOURS, csvOf, picture } from "./rank_board_file.js";
import { fetchBoard, fetchMatches } from "./rank_board_fetch.js";
import { bindings, HELP } from "./rank_board_keys.js";
import { resultList } from "./rank_board_list.js";
import { bars, pairWith, ranked, versus } from "./rank_board_ranking.js";
import { rivalChoice, searchBar } from "./rank_board_search.js";
import { versusView } from "./rank_board_versus.js";
import { axisText, barsText, COLUMNS, detailsText, movesText, tableRows } from "./rank_board_words.js";
import { aboutVectors } from "./shared/about_vectors.js";
import { announcer, button, h, keyHelp, keys, mount, tableView } from "./shared/dom.js";
import { exportMenu } from "./shared/export.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { palette } from "./shared/svg.js";
import { counted } from "./shared/text.js";
import { tip } from "./shared/tip.js";

const CAPTION = "The score is the sum of what each query token adds. board.to_pandas() has every part.";
const SAID = ["state", "progress", "note", "problem", "title", "query", "total"]; // traits that stand in the head
const ASKED = ["searchable", "baseline", "rivals", "rival"];

/** What the bars show: buttons of which one is pressed. */
function barKinds(put) {
  const kind = (name, text) =>
    h("button", { type: "button", "data-kind": name, on: { click: () => put("bars", name) } }, text);
  const buttons = [kind("difference", "What differs"), kind("whole", "Whole")];
  const node = h("div", { class: "mll-tabs", role: "group", "aria-label": "Length of the bars" }, buttons);
  const press = (name) => {
    for (const one of buttons) one.setAttribute("aria-pressed", String(one.dataset.kind === name));
  };
  return { node, press };
}

/** The list and what explains it, and `results` that has them all. */
function resultElements({ describe, open, compare, rows }) {
  const list = resultList({ describe, open, compare });
  const details = h("p", { class: "mll-rb-details mll-figures", dir: "auto" });
  const table = tableView(() => COLUMNS, rows, { caption: CAPTION });
  const scroll = h("div", { class: "mll-rb-scroll" }, list.node, list.more);
  const results = h("div", { class: "mll-live mll-rb-results" }, scroll, details, table.node);
  return { results, list, details, table };
}

/** The line above the search box: the title, and the signs that have more behind them. */
function headElements(model, { files }) {
  const title = h("p", { class: "mll-title" });
  const note = aboutVectors();
  const saving = exportMenu("results", files, () => model.get("query"));
  const help = keyHelp(HELP);
  const head = h("div", { class: "mll-rb-head" }, title, note.node, saving.node, help.button);
  return { head, title, note, saving, help };
}

/** The query tokens, and how the bars below them are drawn. */
function barElements({ put, request, toggle, describe }) {
  const small = { class: "mll-button mll-rb-small" };
  const chips = tokenChips({ toggle, point: (i) => (i < 0 ? describe() : describe(-1, i)) });
  const kinds = barKinds(put);
  const scale = h("span");
  const about = tip(scale);
  const allOn = button("All on", null, () => put("off", []), small);
  const rankAll = button("Rank all documents", null, () => request("rank_all"), small);
  const buttons = h("span", { class: "mll-rb-acts" }, rankAll, allOn);
  const bar = h("div", { class: "mll-live mll-rb-tools" }, chips.node, kinds.node, about.node, buttons);
  return { chips, kinds, scale, about, allOn, rankAll, tools: bar };
}

/** The elements of a board, and `root` that has them all. */
function elements(model, acts) {
  const { put, request } = acts;
  const [top, tools, below] = [headElements(model, acts), barElements(acts), resultElements(acts)];
  const voice = announcer();
  const search = searchBar(model, { request, say: voice.say });
  const rivals = rivalChoice(model, request);
  const gone = goneNote(model);
  const problem = h("div", { class: "mll-note", "data-kind": "bad", role: "alert", hidden: true });
  const moves = h("span", { class: "mll-quiet mll-figures" });
  const status = h("p", { class: "mll-rb-status" }, search.status, moves, rivals.node);
  const panel = versusView({ onClose: () => put("pair", []) });
  const above = [top.head, gone, search.form, search.bar, problem, status, tools.tools];
  const both = h("div", { class: "mll-rb-both" }, h("div", { class: "mll-rb-top" }, above), panel.node, below.results);
  const root = h("section", { class: "mll mll-rb", "aria-label": "Search results" }, both, top.help.node, voice.node);
  return { ...top, ...tools, ...below, root, voice, search, rivals, gone, problem, moves, panel };
}

function render({ model, el }) {
  let board = null;
  let now = null; // ranks with the query tokens that are on
  let axis = null; // of the bars
  let token = -1; // the query token at hand
  const get = (name) => model.get(name);
  const facts = () => ({ board, now, axis, off: get("off"), pair: get("pair"), selected: get("selected") });
  function put(trait, value) {
    model.set(trait, value);
    model.save_changes();
  }
  const rows = () => tableRows(facts());
  const files = { CSV: () => csvOf(facts()), SVG: (node) => drawn(palette(node, COLOURS)) };
  const parts = elements(model, { put, request, toggle, describe, open, compare, rows, files });
  const { root, list, voice, panel, help } = parts;
  const unmount = mount(el, root);
  const line = connect(model, { onAlive: (alive) => setAlive(alive) });
  const failed = (error) => line.alive && complain(error.message);

  /** What is listed as a picture. */
  function drawn(colours) {
    if (!board.rows) return null;
    const [order, kind] = [list.listed(), board.rows > 1 ? get("bars") : "whole"];
    const query = get("query") && `“${get("query")}”`;
    const some = order.length < board.rows && `the first ${order.length} of ${board.rows} that are listed`;
    const says = [get("title"), query, parts.search.status.textContent, some, parts.moves.textContent];
    return picture({ ...facts(), kind, order, says }, colours);
  }
  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    parts.gone.hidden = alive;
    parts.search.enable(alive);
    parts.rankAll.disabled = !alive;
    showState();
    if (alive && !board) restart();
  }
  function request(op, args) {
    return line.ask(op, args).catch(failed);
  }
  function complain(words) {
    parts.problem.textContent = words;
    parts.problem.hidden = !words;
  }
  const sizes = () => ({ listed: board?.rows ?? 0, all: get("total"), tokens: get("n_query") });
  function showState() {
    root.dataset.state = get("state");
    parts.title.textContent = get("title");
    complain(get("problem"));
    parts.note.say(...get("note").split(" · "));
    parts.rivals.update(line.alive);
    parts.search.update(sizes(), line.alive);
  }
  function toggle(i) {
    const off = get("off");
    put("off", off.includes(i) ? off.filter((x) => x !== i) : [...off, i].sort((a, b) => a - b));
    voice.say(`query token ${i} ${get("off").includes(i) ? "off" : "on"}, ${counted(now.moved, "document")} moved`);
  }
  /** Open a document: what it shows takes the place of a comparison. */
  function open(k) {
    put("selected", k);
    if (get("pair").length) put("pair", []);
    request("open", { row: k });
  }
  function compare(side, k) {
    put("pair", pairWith(get("pair"), side, k, now.order));
  }
  /** What follows from the query tokens that are on: all of it here, nothing asked. */
  function refresh() {
    if (!board) return;
    const several = board.rows > 1;
    const [off, kind] = [get("off"), several ? get("bars") : "whole"]; // one by itself differs from nothing
    now = ranked(board, off);
    axis = bars(board, off, kind);
    parts.kinds.press(kind);
    parts.kinds.node.hidden = !several;
    parts.chips.mark(off);
    parts.allOn.disabled = !off.length;
    parts.rankAll.hidden = board.rows >= get("total") || !off.length;
    parts.rankAll.disabled = !line.alive;
    parts.moves.textContent = movesText(now, off, get("baseline"), sizes());
    parts.scale.textContent = board.rows ? axisText(kind, axis) : "";
    parts.about.say(board.rows ? barsText(kind, axis) : "");
    list.draw(facts());
    describe();
    showPair();
    parts.table.refresh();
  }
  function describe(k = list.focus(), i = token) {
    if (board) parts.details.textContent = detailsText(facts(), k, i);
  }
  function showPair() {
    list.update(facts());
    const [a, b] = get("pair");
    if (!board || a === undefined || a >= board.rows || b >= board.rows) return panel.hide();
    const [{ names, labels, special, matched }, key] = [board, `${a} ${b}`];
    const fill = (found) =>
      panel.fill(versus(board, a, b, get("off")), { a: names[a], b: names[b], labels, special, matched: found });
    fill(matched.get(key) ?? { a: [], b: [] });
    if (matched.has(key)) return;
    const epoch = get("epoch");
    fetchMatches(line, a, b).then((found) => {
      if (epoch !== get("epoch")) return;
      matched.set(key, found);
      if (get("pair").join(" ") === key) fill(found);
    }, failed);
  }
  function showResults(there) {
    for (const node of [parts.results, parts.tools, parts.saving.node]) node.hidden = !there;
  }
  function restart() {
    showState();
    if (!get("n_query") || !get("epoch")) {
      board = null;
      showResults(false);
      panel.hide();
      parts.moves.textContent = "";
      return;
    }
    fetchBoard(line, model).then((fetched) => {
      if (!fetched) return;
      [board, token] = [fetched, -1];
      showResults(true);
      list.restart(board);
      parts.chips.show(board.labels, board.special);
      showState();
      refresh();
    }, failed);
  }
  function part(by) {
    if (!board) return false;
    token = Math.max(0, Math.min(board.cols - 1, token + by));
    describe();
    voice.say(parts.details.textContent);
  }
  const acts = { open, compare, part, put, get, tokenAtHand: () => (token < 0 ? false : toggle(token)) };
  const undoKeys = keys(list.node, bindings(list, help, acts));
  const said = Object.fromEntries([...SAID, ...ASKED].map((name) => [name, showState]));
  const unwatch = watch(model, {
    epoch: restart,
    off: refresh,
    bars: refresh,
    pair: showPair,
    selected: refresh,
    ...said,
  });
  root.addEventListener("pointerenter", line.ping);
  restart();
  line.ping();
  const undo = [unwatch, undoKeys, parts.chips.close, voice.close, line.close, unmount];
  return () => undo.forEach((act) => act());
}

export default { render };
