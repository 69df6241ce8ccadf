/**
 * Branches from one prompt as a tree of segments. State lives in the model: `revision`, `n`,
 * `selected`, `to_undo`, `to_redo`, `compared`, `growing`, `title`; the rows are asked for.
 */
import { nameField } from "./branch_tree_naming.js";
import { outline } from "./branch_tree_outline.js";
import { branchCells, branchHeads, spoken } from "./branch_tree_row.js";
import { COLUMNS, footText, growingLine, tableRows } from "./branch_tree_words.js";
import { comparisonView, ticked } from "./shared/comparison.js";
import { announcer, button, h, keyHelp, keys, tableView } from "./shared/dom.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { count, readable } from "./shared/text.js";
import { unhex } from "./shared/tokens.js";

const HELP = [
  ["↑ ↓", "the row above, below"],
  ["← →", "fold, unfold; to the parent, the child"],
  ["Home End", "the first, last row"],
  ["Enter", "select the path"],
  ["c Space", "compare it"],
  ["n F2", "name the branch"],
  ["Delete", "prune: take every branch through it away"],
  ["z Ctrl+Z", "undo"],
  ["y Ctrl+Y", "redo"],
  ["?", "these keys"],
];
const CAPTION = "Branches, the likeliest path first. Chances before the chain unless it says after.";
const EMPTY = { rows: [], nodes: 0, prompt: "", prompt_tokens: 0, prompt_shown: 0, mass: 0, revision: -1 };

function elements(model, tree, { history, rename, remove, rows }) {
  const voice = announcer();
  const help = keyHelp(HELP);
  const problem = h("p", { class: "mll-problem", role: "alert" });
  const gone = goneNote(model);
  const undo = button("Undo", "", () => history("undo"));
  const redo = button("Redo", "", () => history("redo"));
  const name = button("Name", "Name the branch that is selected (n)", rename);
  const prune = button("Prune", "Take away every branch through the segment that is selected (Delete)", remove);
  const title = h("p", { class: "mll-title" });
  const foot = h("p", { class: "mll-quiet mll-figures" });
  const growing = h("div", { class: "mll-bt-growing", "aria-live": "off" });
  const compared = h("div", { class: "mll-bt-compared" });
  const table = tableView(COLUMNS, rows, { caption: CAPTION });
  const body = h("div", { class: "mll-bt-body mll-live" }, branchHeads(), tree.node);
  const bar = h("div", { class: "mll-bt-bar mll-live" }, title, undo, redo, name, prune, help.button);
  const all = [gone, bar, problem, body, growing, foot, compared, table.node, help.node, voice.node];
  const root = h("section", { class: "mll mll-bt", "aria-label": "Branch tree" }, all);
  return { root, voice, help, problem, gone, undo, redo, name, prune, title, foot, growing, compared, table, body };
}

function render({ model, el }) {
  let state = EMPTY; // what the kernel sent of the rows
  let naming = false;
  let asking = false;
  let wanted = null; // what is ticked, until the kernel has answered
  const get = (name) => model.get(name);
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  const tree = outline({
    label: "Branches",
    cells: (row) => branchCells(row, state, get("compared")),
    say: (row) => spoken(row, promptText()),
    ends: (row) => row.branch > 0,
    onPick: pick,
  });
  const buttons = { history, rename: () => rename(selected()), remove: () => remove(selected()) };
  const parts = elements(model, tree, { ...buttons, rows: () => tableRows(state) });
  const { root, voice } = parts;
  function promptText() {
    return readable(new TextDecoder().decode(unhex(state.prompt)));
  }
  function fail(error) {
    if (link.alive) parts.problem.textContent = error.message;
  }
  function attempt(op, args = {}) {
    parts.problem.textContent = "";
    return link.ask(op, args).catch(fail);
  }
  function pick(row, target) {
    if (!row || !link.alive) return;
    if (target.closest("input[type=checkbox]")) return compare(row);
    if (target.closest(".mll-bt-naming")) return;
    if (target.closest(".mll-knot") && row.children) return tree.fold(row.key, !tree.folded(row.key), get("selected"));
    attempt("select", { key: row.key }).then((reply) => reply && voice.say(`selected: ${spoken(row, promptText())}`));
  }
  function history(op) {
    attempt(op).then((reply) => reply && voice.say(`${op === "undo" ? "undone" : "done again"}: ${reply.change}`));
  }
  function remove(row = tree.at) {
    const say = (reply) => reply && voice.say(`${count(reply.pruned.length)} pruned. ${count(get("n"))} left.`);
    if (row) attempt("prune", { key: row.key }).then(say);
  }
  function rename(row = tree.at) {
    const place = row?.branch ? tree.item(row.key)?.querySelector(".mll-bt-name") : null;
    if (!place || naming) return;
    const field = nameField(row, (name, focused) => {
      naming = false;
      if (name !== null) attempt("rename", { number: row.branch, name }).then((reply) => reply || draw());
      draw();
      if (focused) tree.go(row.key);
    });
    naming = true;
    place.replaceChildren(field);
    field.focus();
    field.select();
  }
  function compare(row = tree.at) {
    if (!row?.branch) return;
    const numbers = (wanted = ticked(wanted ?? get("compared"), row.branch));
    attempt("compare", { numbers }).then((reply) => {
      if (wanted !== numbers) return; // a newer tick is under way
      wanted = null;
      drawCompared(reply);
    });
  }
  function drawCompared(reply) {
    const boxes = new Set(wanted ?? get("compared"));
    for (const row of state.rows) {
      const box = row.branch && tree.item(row.key)?.querySelector("input[type=checkbox]");
      if (box) box.checked = boxes.has(row.branch);
    }
    if (wanted) return;
    if (boxes.size < 2) return parts.compared.replaceChildren();
    if (reply?.sides) parts.compared.replaceChildren(comparisonView(reply));
    else attempt("compare", { numbers: [...boxes] }).then((again) => again?.sides && drawCompared(again));
  }
  /** The row that is marked: buttons act on it, keys on the one with the focus. */
  const selected = () => state.rows.find((row) => row.key === get("selected"));
  function drawButtons() {
    const row = selected();
    const [back, forth] = [get("to_undo"), get("to_redo")];
    parts.undo.disabled = !link.alive || !back;
    parts.undo.title = back ? `Undo: ${back} (z)` : "Nothing to undo";
    parts.redo.disabled = !link.alive || !forth;
    parts.redo.title = forth ? `Redo: ${forth} (y)` : "Nothing to redo";
    parts.name.disabled = !link.alive || !row?.branch;
    parts.prune.disabled = !link.alive || !row || get("n") === 0;
  }
  function drawFoot() {
    parts.title.textContent = get("title");
    parts.body.hidden = get("n") === 0;
    parts.foot.textContent = footText(get("n"), state);
  }
  const drawGrowing = () => parts.growing.replaceChildren(...get("growing").map(growingLine));
  function draw() {
    if (naming) return;
    tree.draw(state.rows, get("selected"));
    drawFoot();
    drawButtons();
    parts.table.refresh();
  }
  /** Ask for the rows of the newest revision, one request at a time. */
  function refill() {
    if (asking || state.revision === get("revision")) return draw();
    asking = true;
    const take = (reply) => {
      asking = false;
      state = reply;
      draw();
      drawCompared();
      if (state.revision !== get("revision")) refill();
    };
    link.ask("rows").then(take, (error) => {
      asking = false;
      fail(error);
    });
  }
  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    parts.gone.hidden = alive;
    drawButtons();
    if (alive) refill();
  }
  function select() {
    tree.select(get("selected"));
    drawButtons();
  }
  const unbind = bind(root, tree, { get, pick, compare, rename, remove, history, help: parts.help });
  const buttonTraits = { to_undo: drawButtons, to_redo: drawButtons, selected: select };
  const footTraits = { n: drawFoot, title: drawFoot };
  const rowTraits = { revision: refill, compared: () => drawCompared(), growing: drawGrowing };
  const unwatch = watch(model, { ...buttonTraits, ...footTraits, ...rowTraits });
  el.append(root);
  drawFoot();
  drawGrowing();
  refill();
  link.ping();
  root.addEventListener("pointerenter", link.ping);
  return () => {
    unwatch();
    unbind();
    voice.close();
    link.close();
    root.remove();
  };
}

function bind(root, tree, { get, pick, compare, rename, remove, history, help }) {
  const go = (event) => tree.move(event.key, get("selected"));
  const arrows = ["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Home", "End"];
  const undoTree = keys(tree.node, {
    ...Object.fromEntries(arrows.map((key) => [key, go])),
    Enter: ({ target }) => pick(tree.at, target),
    c: () => compare(),
    " ": () => compare(),
    n: () => rename(),
    F2: () => rename(),
    Delete: () => remove(),
    Backspace: () => remove(),
  });
  const undoRoot = keys(root, {
    z: () => history("undo"),
    y: () => history("redo"),
    "Ctrl+z": () => history("undo"),
    "Ctrl+y": () => history("redo"),
    "Ctrl+Z": () => history("redo"),
    "?": help.toggle,
    Escape: () => (help.open ? help.hide() : false),
  });
  return () => {
    undoTree();
    undoRoot();
  };
}

export default { render };
