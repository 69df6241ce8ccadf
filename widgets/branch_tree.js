/**
 * Branches from one prompt as a tree of segments. State lives in the model: `revision`, `n`,
 * `selected`, `to_undo`, `to_redo`, `compared`, `growing`, `title`; the rows are asked for.
 */
import { outline } from "./branch_tree_outline.js";
import { branchCells, branchHeads, chance, perToken, segment, spoken } from "./branch_tree_row.js";
import { comparisonView, ticked } from "./shared/comparison.js";
import { announcer, button, glyphs, h, keyHelp, keys, tableView } from "./shared/dom.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { count, percent, pieceCells, plainParts, readable } from "./shared/text.js";
import { unhex } from "./shared/tokens.js";

const NOTHING = "No branches yet. A path appears here when a prompt has run.";
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
const STATES = { queued: "waiting for the session", prompt: "reading the prompt", running: "generating" };

function render({ model, el }) {
  let state = { rows: [], nodes: 0, prompt: "", prompt_tokens: 0, prompt_shown: 0, mass: 0, revision: -1 };
  let naming = null;
  let asking = false;
  let wanted = null; // what is ticked, until the kernel has answered
  const get = (name) => model.get(name);
  const voice = announcer();
  const help = keyHelp(HELP);
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  const problem = h("p", { class: "mll-problem", role: "alert" });
  const gone = goneNote(model);
  const attempt = (op, args = {}) => {
    problem.textContent = "";
    return link.ask(op, args).catch((error) => {
      if (link.alive) problem.textContent = error.message;
    });
  };
  const undo = button("Undo", "", () => history("undo"));
  const redo = button("Redo", "", () => history("redo"));
  const name = button("Name", "Name the branch that is selected (n)", () => rename(selected()));
  const prune = button("Prune", "Take away every branch through the segment that is selected (Delete)", () =>
    remove(selected()),
  );
  const title = h("p", { class: "mll-title" });
  const tree = outline({
    label: "Branches",
    cells: (row) => branchCells(row, state, get("compared")),
    say: (row) => spoken(row, promptText()),
    ends: (row) => row.branch > 0,
    onPick: pick,
  });
  const foot = h("p", { class: "mll-quiet mll-figures" });
  const making = h("div", { class: "mll-bt-growing", "aria-live": "off" });
  const compared = h("div", { class: "mll-bt-compared" });
  const table = tableView(
    ["branch", "name", "tokens", "per token", "whole path", "after the chain", "ended", "text"],
    tableRows,
    { caption: "Branches, the likeliest path first. Chances before the chain unless it says after." },
  );
  const head = branchHeads();
  const body = h("div", { class: "mll-bt-body mll-live" }, head, tree.node);
  const root = h(
    "section",
    { class: "mll mll-bt", "aria-label": "Branch tree" },
    gone,
    h("div", { class: "mll-bt-bar mll-live" }, title, undo, redo, name, prune, help.button),
    problem,
    body,
    making,
    foot,
    compared,
    table.node,
    help.node,
    voice.node,
  );

  const promptText = () => readable(new TextDecoder().decode(unhex(state.prompt)));
  function tableRows() {
    const value = (row) => (typeof row.logprob === "number" ? row.logprob : -Infinity);
    return state.rows
      .filter((row) => row.branch)
      .sort((a, b) => value(b) - value(a))
      .map((row) => [
        row.branch,
        row.name,
        row.stop,
        percent(perToken(row)),
        chance(row.logprob),
        chance(row.logprob_after),
        row.finish,
        plainParts(segment(row).flat()),
      ]);
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
    if (row)
      attempt("prune", { key: row.key }).then(
        (reply) => reply && voice.say(`${count(reply.pruned.length)} pruned. ${count(get("n"))} left.`),
      );
  }
  function rename(row = tree.at) {
    const place = row?.branch ? tree.item(row.key)?.querySelector(".mll-bt-name") : null;
    if (!place || naming) return;
    const input = h("input", {
      class: "mll-field mll-bt-naming",
      maxlength: 80,
      value: row.name,
      dir: "auto",
      "aria-label": `Name of branch ${row.branch}`,
      placeholder: `branch ${row.branch}`,
    });
    const end = (keep) => {
      if (naming !== input) return;
      naming = null;
      const back = input.ownerDocument.activeElement === input;
      if (keep && input.value !== row.name)
        attempt("rename", { number: row.branch, name: input.value }).then((reply) => reply || draw());
      draw();
      if (back) tree.go(row.key);
    };
    input.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter") end(true);
      if (event.key === "Escape") end(false);
    });
    input.addEventListener("blur", () => end(true));
    naming = input;
    place.replaceChildren(input);
    input.focus();
    input.select();
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
    if (boxes.size < 2) return compared.replaceChildren();
    if (reply?.sides) compared.replaceChildren(comparisonView(reply));
    else attempt("compare", { numbers: [...boxes] }).then((again) => again?.sides && drawCompared(again));
  }
  /** The row that is marked: buttons act on it, keys on the one with the focus. */
  const selected = () => state.rows.find((row) => row.key === get("selected"));
  function drawButtons() {
    const row = selected();
    const [back, forth] = [get("to_undo"), get("to_redo")];
    undo.disabled = !link.alive || !back;
    undo.title = back ? `Undo: ${back} (z)` : "Nothing to undo";
    redo.disabled = !link.alive || !forth;
    redo.title = forth ? `Redo: ${forth} (y)` : "Nothing to redo";
    name.disabled = !link.alive || !row?.branch;
    prune.disabled = !link.alive || !row || get("n") === 0;
  }
  function drawFoot() {
    const { nodes, rows, mass } = state;
    const n = get("n");
    title.textContent = get("title");
    body.hidden = n === 0;
    foot.textContent =
      n === 0
        ? NOTHING
        : [
            `${count(n)} ${n === 1 ? "branch" : "branches"}`,
            `together ${chance(Math.log(mass))} of the model's probability, before the chain`,
            n > 1 ? "tick two to four to compare them" : "",
            nodes > rows.length ? `the first ${count(rows.length)} of ${count(nodes)} segments` : "",
          ]
            .filter(Boolean)
            .join(" · ");
  }
  function drawGrowing() {
    making.replaceChildren(
      ...get("growing").map(({ from, state: now, tokens, text, cut }) => {
        const parts = pieceCells([unhex(text)]).cells[0].filter((part) => part.kind !== "tick");
        return h(
          "div",
          { class: "mll-bt-new" },
          h("i", { class: "mll-bt-pulse" }),
          h("span", { class: "mll-quiet" }, STATES[now] ?? now),
          h("span", { class: "mll-bt-text", dir: "auto" }, cut ? "…" : "", glyphs(parts)),
          h("span", { class: "mll-quiet mll-figures" }, `from token ${count(from + 1)} · ${count(tokens)} tokens`),
        );
      }),
    );
  }
  function draw() {
    if (naming) return;
    tree.draw(state.rows, get("selected"));
    drawFoot();
    drawButtons();
    table.refresh();
  }
  /** Ask for the rows of the newest revision, one request at a time. */
  function refill() {
    if (asking || state.revision === get("revision")) return draw();
    asking = true;
    link.ask("rows").then(
      (reply) => {
        asking = false;
        state = reply;
        draw();
        drawCompared();
        if (state.revision !== get("revision")) refill();
      },
      (error) => {
        asking = false;
        if (link.alive) problem.textContent = error.message;
      },
    );
  }
  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    gone.hidden = alive;
    drawButtons();
    if (alive) refill();
  }
  const go = (event) => tree.move(event.key, get("selected"));
  const undoKeys = keys(tree.node, {
    ArrowUp: go,
    ArrowDown: go,
    ArrowLeft: go,
    ArrowRight: go,
    Home: go,
    End: go,
    Enter: ({ target }) => pick(tree.at, target),
    c: () => compare(),
    " ": () => compare(),
    n: () => rename(),
    F2: () => rename(),
    Delete: () => remove(),
    Backspace: () => remove(),
  });
  const unbind = keys(root, {
    z: () => history("undo"),
    y: () => history("redo"),
    "Ctrl+z": () => history("undo"),
    "Ctrl+y": () => history("redo"),
    "Ctrl+Z": () => history("redo"),
    "?": help.toggle,
    Escape: () => (help.open ? help.hide() : false),
  });
  const unwatch = watch(model, {
    revision: refill,
    n: drawFoot,
    title: drawFoot,
    selected: () => {
      tree.select(get("selected"));
      drawButtons();
    },
    to_undo: () => drawButtons(),
    to_redo: () => drawButtons(),
    compared: () => drawCompared(),
    growing: drawGrowing,
  });
  el.append(root);
  drawFoot();
  drawGrowing();
  refill();
  link.ping();
  root.addEventListener("pointerenter", link.ping);
  return () => {
    unwatch();
    undoKeys();
    unbind();
    voice.close();
    link.close();
    root.remove();
  };
}
export default { render };
