/**
 * Branches from one prompt as a tree of segments. State lives in the model: `revision`, `n`,
 * `selected`, `to_undo`, `to_redo`, `compared`, `growing`, `title`, `sorted_by`, `ascending`; the rows are asked for.
 */
import { filesOf } from "./branch_tree_file.js";
import { branchHeads, FIGURE_HELP } from "./branch_tree_heads.js";
import { nameField } from "./branch_tree_naming.js";
import { newKeys, news, reveal } from "./branch_tree_news.js";
import { outline } from "./branch_tree_outline.js";
import { branchCells, isShortened, spoken, stepCell, wholeText } from "./branch_tree_row.js";
import { describedBy, segmentBox, tips } from "./branch_tree_tip.js";
import { CAPTION, COLUMNS, footText, growingLine, HELP, hintText } from "./branch_tree_words.js";
import { EMPTY, likeliest, tableRows } from "./branch_tree_words.js";
import { comparisonView, ticked } from "./shared/comparison.js";
import { announcer, button, h, icon, keyHelp, keys, mount, tableView } from "./shared/dom.js";
import { exportMenu } from "./shared/export.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { count, readable } from "./shared/text.js";
import { unhex } from "./shared/tokens.js";

function elements(model, tree, { attempt, history, rename, remove, rows, files, said }) {
  const voice = announcer();
  const help = keyHelp([...HELP, ...FIGURE_HELP]);
  const saving = exportMenu("tree", files);
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
  const table = tableView(() => COLUMNS, rows, { caption: CAPTION });
  const heads = branchHeads((by) => attempt("sort", { by }));
  const body = h("div", { class: "mll-bt-body mll-live" }, heads.node, tree.node);
  const main = h("div", { class: "mll-bt-main" }, body, compared);
  const bar = h("div", { class: "mll-bt-bar mll-live" }, title, undo, redo, name, prune, saving.node, help.button);
  const tip = tips(body, { find: describedBy, box: segmentBox, fill: said });
  const end = h("div", { class: "mll-bt-under" }, foot, table.node);
  const all = [gone, bar, problem, main, growing, end, help.node, tip.node, voice.node];
  const root = h("section", { class: "mll mll-bt", "aria-label": "Branch tree" }, all);
  const buttons = { undo, redo, name, prune };
  return { ...buttons, root, voice, help, problem, gone, title, foot, growing, compared, table, body, heads, tip };
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
    lead: stepCell,
    cells: (row) => branchCells(row, state, get("compared")),
    say: (row) => spoken(row, promptText(), state.best),
    ends: (row) => row.branch > 0,
    onPick: pick,
  });
  const files = filesOf(() => ({ state, says: [get("title"), footText(get("n"), state)] }));
  const buttons = { attempt, history, rename: () => rename(selected()), remove: () => remove(selected()) };
  const parts = elements(model, tree, { ...buttons, rows: () => tableRows(state), files, said });
  const { root, voice } = parts;
  const fresh = news();
  function promptText() {
    return readable(new TextDecoder().decode(unhex(state.prompt)));
  }
  /** What a card says of a heading, and of a row that is shown shortened. */
  async function said(node) {
    if (node.dataset.tip) return [node.dataset.tip];
    const row = state.byKey.get(node.dataset.key);
    if (!row || !isShortened(node, row) || naming || !link.alive) return null;
    const reply = await link.ask("text", { key: row.key }).catch(() => null);
    return reply && wholeText(row, reply);
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
    compareAll(ticked(wanted ?? get("compared"), row.branch));
  }
  function compareAll(numbers) {
    wanted = numbers;
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
    const close = icon("✕", "Compare no more", () => compareAll([]));
    if (reply?.sides) parts.compared.replaceChildren(close, comparisonView(reply));
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
    parts.body.hidden = parts.table.node.hidden = get("n") === 0;
    parts.foot.textContent = parts.foot.title = footText(get("n"), state) + hintText(get("n"));
  }
  const drawGrowing = () => parts.growing.replaceChildren(...get("growing").map(growingLine));
  function draw() {
    if (naming) return;
    tree.draw(state.rows, get("selected"));
    fresh.draw(tree.item);
    parts.heads.draw(get("sorted_by"), get("ascending"));
    drawFoot();
    drawButtons();
    parts.table.refresh();
  }
  /** Bring new paths into view, the likeliest of several, and mark them for a moment. */
  function show(keys) {
    if (!keys.length || naming) return;
    const first = likeliest(keys.map((key) => state.byKey.get(key)));
    tree.unfold(first, get("selected"));
    fresh.mark(keys, tree.item);
    reveal(tree.item(first), parts.body, parts.heads.node);
  }
  /** Ask for the rows of the newest revision, one request at a time. */
  function refill() {
    if (asking || state.revision === get("revision")) return draw();
    asking = true;
    const take = (reply) => {
      asking = false;
      const keys = newKeys(state, reply);
      const ends = reply.rows.filter((row) => row.branch);
      const best = ends.length > 1 ? likeliest(ends) : "";
      state = { ...reply, best, byKey: new Map(reply.rows.map((row) => [row.key, row])) };
      draw();
      drawCompared();
      show(keys);
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
  const unbind = bind(parts, tree, { get, pick, compare, rename, remove, history });
  const buttonTraits = { to_undo: drawButtons, to_redo: drawButtons, selected: select };
  const footTraits = { n: drawFoot, title: drawFoot };
  const rowTraits = { revision: refill, compared: () => drawCompared(), growing: drawGrowing };
  const unwatch = watch(model, { ...buttonTraits, ...footTraits, ...rowTraits });
  const unmount = mount(el, root);
  drawFoot();
  drawGrowing();
  refill();
  link.ping();
  root.addEventListener("pointerenter", link.ping);
  const undo = [unwatch, unbind, fresh.close, parts.tip.hide, voice.close, link.close, unmount];
  return () => undo.forEach((act) => act());
}

function bind({ root, heads, help, tip }, tree, { get, pick, compare, rename, remove, history }) {
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
  const hide = () => (tip.open ? tip.hide() : help.open ? help.hide() : false);
  const undoHeads = keys(heads.node, heads.bindings);
  const undoRoot = keys(root, {
    z: () => history("undo"),
    y: () => history("redo"),
    "Ctrl+z": () => history("undo"),
    "Ctrl+y": () => history("redo"),
    "Ctrl+Z": () => history("redo"),
    "?": help.toggle,
    Escape: hide,
  });
  return () => {
    undoTree();
    undoHeads();
    undoRoot();
  };
}

export default { render };
