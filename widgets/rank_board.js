/** Results of a search: who ranks where, what each query token adds, what moved, why A beats B. */
import { tokenChips } from "./rank_board_chips.js";
import { fetchBoard, fetchMatches } from "./rank_board_fetch.js";
import { bindings, HELP } from "./rank_board_keys.js";
import { resultList } from "./rank_board_list.js";
import { bars, pairWith, ranked, versus } from "./rank_board_ranking.js";
import { rivalChoice, searchBar } from "./rank_board_search.js";
import { versusView } from "./rank_board_versus.js";
import { barsText, COLUMNS, detailsText, movesText, tableRows } from "./rank_board_words.js";
import { announcer, button, h, keyHelp, keys, tableView } from "./shared/dom.js";
import { connect, goneNote, watch } from "./shared/kernel.js";

const CAPTION = "The score is the sum of what each query token adds. board.to_pandas() has every part.";
const SAID = ["state", "progress", "note", "problem", "title", "query", "total"]; // traits that stand in the head
const ASKED = ["searchable", "baseline", "rivals", "rival"];

/** What the bars show: buttons of which one is pressed. */
function barKinds(put) {
  const kind = (name, text) =>
    h("button", { type: "button", "data-kind": name, on: { click: () => put("bars", name) } }, text);
  const buttons = [kind("whole", "Whole"), kind("difference", "What differs")];
  const node = h("div", { class: "mll-tabs", role: "group", "aria-label": "Length of the bars" }, buttons);
  const press = (name) => {
    for (const one of buttons) one.setAttribute("aria-pressed", String(one.dataset.kind === name));
  };
  return { node, press };
}

/** The results and what explains them, and `results` that has them all. */
function resultElements({ put, toggle, describe, open, compare, rows }) {
  const chips = tokenChips({ toggle, point: (i) => (i < 0 ? describe() : describe(-1, i)) });
  const scale = h("p", { class: "mll-quiet mll-figures" });
  const list = resultList({ describe, open, compare });
  const details = h("p", { class: "mll-rb-details mll-figures", dir: "auto" });
  const panel = versusView({ onClose: () => put("pair", []) });
  const table = tableView(COLUMNS, rows, { caption: CAPTION });
  const shown = [chips.node, scale, list.node, list.more, details, panel.node, table.node];
  const results = h("div", { class: "mll-live mll-rb-results" }, shown);
  return { results, chips, scale, list, details, panel, table };
}

/** The elements of a board, and `root` that has them all. */
function elements(model, acts) {
  const { put, request } = acts;
  const below = resultElements(acts);
  const small = { class: "mll-button mll-rb-small" };
  const voice = announcer();
  const search = searchBar(model, { request, say: voice.say });
  const rivals = rivalChoice(model, request);
  const title = h("p", { class: "mll-title" });
  const gone = goneNote(model);
  const note = h("div", { class: "mll-note", hidden: true });
  const problem = h("div", { class: "mll-note", "data-kind": "bad", role: "alert", hidden: true });
  const moves = h("span", { class: "mll-quiet mll-figures" });
  const kinds = barKinds(put);
  const help = keyHelp(HELP);
  const allOn = button("All on", null, () => put("off", []), small);
  const rankAll = button("Rank all documents", null, () => request("rank_all"), small);
  const head = h("div", { class: "mll-rb-head" }, title, kinds.node, help.button);
  const buttons = h("span", { class: "mll-rb-acts" }, rivals.node, rankAll, allOn);
  const status = h("p", { class: "mll-rb-status" }, search.status, moves, buttons);
  const all = [head, gone, search.form, search.bar, problem, note, status, below.results, help.node, voice.node];
  const root = h("section", { class: "mll mll-rb", "aria-label": "Search results" }, all);
  const texts = { title, note, problem, moves };
  return { ...below, ...texts, root, voice, search, rivals, gone, kinds, help, allOn, rankAll };
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
  const parts = elements(model, { put, request, toggle, describe, open, compare, rows });
  const { root, list, voice, panel, help } = parts;
  el.append(root);
  const line = connect(model, { onAlive: (alive) => setAlive(alive) });
  const failed = (error) => line.alive && complain(error.message);

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
    parts.note.textContent = get("note");
    parts.note.hidden = !get("note");
    parts.rivals.update(line.alive);
    parts.search.update(sizes(), line.alive);
  }
  function toggle(i) {
    const off = get("off");
    put("off", off.includes(i) ? off.filter((x) => x !== i) : [...off, i].sort((a, b) => a - b));
    voice.say(`query token ${i + 1} ${get("off").includes(i) ? "off" : "on"}, ${now.moved} documents moved`);
  }
  function open(k) {
    put("selected", k);
    request("open", { row: k });
  }
  function compare(side, k) {
    put("pair", pairWith(get("pair"), side, k, now.order));
  }
  /** What follows from the query tokens that are on: all of it here, nothing asked. */
  function refresh() {
    if (!board) return;
    const [off, kind] = [get("off"), get("bars")];
    now = ranked(board, off);
    axis = bars(board, off, kind);
    parts.kinds.press(kind);
    parts.chips.mark(off);
    parts.allOn.disabled = !off.length;
    parts.rankAll.hidden = board.rows >= get("total");
    parts.rankAll.disabled = !off.length || !line.alive;
    parts.moves.textContent = movesText(now, off, get("baseline"), sizes());
    parts.scale.textContent = board.rows ? barsText(kind, axis) : "";
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
    const [{ names, labels, matched }, key] = [board, `${a} ${b}`];
    const fill = (found) =>
      panel.fill(versus(board, a, b, get("off")), { a: names[a], b: names[b], labels, matched: found });
    fill(matched.get(key) ?? { a: [], b: [] });
    if (matched.has(key)) return;
    const epoch = get("epoch");
    fetchMatches(line, a, b).then((found) => {
      if (epoch !== get("epoch")) return;
      matched.set(key, found);
      if (get("pair").join(" ") === key) fill(found);
    }, failed);
  }
  function restart() {
    showState();
    if (!get("n_query") || !get("epoch")) {
      board = null;
      parts.results.hidden = true;
      parts.moves.textContent = "";
      parts.rankAll.hidden = parts.allOn.disabled = true;
      return;
    }
    fetchBoard(line, model).then((fetched) => {
      if (!fetched) return;
      [board, token] = [fetched, -1];
      parts.results.hidden = false;
      list.restart(board);
      parts.chips.show(board.labels);
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
  return () => {
    unwatch();
    undoKeys();
    parts.chips.close();
    voice.close();
    line.close();
    root.remove();
  };
}

export default { render };
