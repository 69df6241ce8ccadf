/** Results of a search: who ranks where, what each query token adds, what moved, why A beats B. */
import { tokenChips } from "./rank_board_chips.js";
import { bars, barsText, movesText, pairWith, printed, ranked, searchText, versus } from "./rank_board_ranking.js";
import { arrange, resultRow } from "./rank_board_result.js";
import { versusView } from "./rank_board_versus.js";
import { announcer, button, h, keyHelp, keys, tableView } from "./shared/dom.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { readable, shown, splitPieces, typed } from "./shared/text.js";
import { unitLabels } from "./shared/units.js";

const HELP = [
  ["↑ ↓", "another document"],
  ["Home End", "first, last document"],
  ["← →", "what each query token adds"],
  ["Enter", "open it in the grid"],
  ["a b", "compare: this one as A, as B"],
  ["Space", "the query token at hand off or on"],
  ["d", "whole bars or what differs"],
  ["Esc", "close"],
  ["?", "these keys"],
];
const PAGE = 10;
const labelsOf = (sizes, bytes) => splitPieces(sizes, bytes).map((piece) => unitLabels([piece], [0, 1])[0]);

function render({ model, el }) {
  let board = null;
  let now = null;
  let axis = null;
  let rows = [];
  let listed = PAGE;
  let focus = -1; // a document
  let token = -1; // a query token
  const get = (name) => model.get(name);

  const input = h("input", {
    type: "search",
    class: "mll-field mll-rb-query",
    "aria-label": "Query",
    placeholder: "Ask the documents",
    maxlength: 4000,
    autocomplete: "off",
    spellcheck: "false",
    dir: "auto",
  });
  const search = h("button", { type: "submit", class: "mll-button", "data-main": true }, "Search");
  const stop = button("Stop", null, () => request(get("state") === "stopped" ? "go_on" : "stop"), {
    class: "mll-button mll-rb-stop",
  });
  const form = h(
    "form",
    {
      class: "mll-rb-form",
      role: "search",
      on: {
        submit: (event) => {
          event.preventDefault();
          request("search", { text: input.value });
        },
      },
    },
    input,
    search,
    stop,
  );
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault(); // JupyterLab would keep the form from being sent
    form.requestSubmit();
  });
  const bar = h("progress", { class: "mll-rb-progress", "aria-label": "Documents read" });
  const title = h("p", { class: "mll-title" });
  const gone = goneNote(model);
  const note = h("div", { class: "mll-note", hidden: true });
  const problem = h("div", { class: "mll-note", "data-kind": "bad", role: "alert", hidden: true });
  const choice = h("select", {
    class: "mll-field mll-rb-choice",
    "aria-label": "Moves against",
    on: { change: () => request("compare", { name: choice.value }).then(showRivals) },
  });
  const against = h("label", { class: "mll-quiet mll-rb-against", hidden: true }, "moves against", choice);
  const status = h("span", { class: "mll-quiet mll-figures" });
  const moves = h("span", { class: "mll-quiet mll-figures" });
  const kinds = ["whole", "difference"].map((kind, k) =>
    h(
      "button",
      { type: "button", "data-kind": kind, on: { click: () => put("bars", kind) } },
      ["Whole", "What differs"][k],
    ),
  );
  const help = keyHelp(HELP);
  const chips = tokenChips({ toggle, point: (i) => (i < 0 ? describe() : describe(-1, i)) });
  const allOn = button("All on", null, () => put("off", []), { class: "mll-button mll-rb-small" });
  const rankAll = button("Rank all documents", null, () => request("rank_all"), { class: "mll-button mll-rb-small" });
  const scale = h("p", { class: "mll-quiet mll-figures" });
  const list = h("div", { class: "mll-rb-list", role: "list", "aria-label": "Results" });
  const more = button(
    "",
    null,
    () => {
      listed += PAGE;
      drawRows();
    },
    { class: "mll-button mll-rb-small" },
  );
  const details = h("p", { class: "mll-rb-details mll-figures", dir: "auto" });
  const voice = announcer();
  const panel = versusView({ onClose: () => put("pair", []) });
  const table = tableView(["rank", "move", "document", "score", "largest part"], tableRows, {
    caption: "The score is the sum of what each query token adds. board.to_pandas() has every part.",
  });
  const results = h(
    "div",
    { class: "mll-live mll-rb-results" },
    chips.node,
    scale,
    list,
    more,
    details,
    panel.node,
    table.node,
  );
  const root = h(
    "section",
    { class: "mll mll-rb", "aria-label": "Search results" },
    h(
      "div",
      { class: "mll-rb-head" },
      title,
      h("div", { class: "mll-tabs", role: "group", "aria-label": "Length of the bars" }, kinds),
      help.button,
    ),
    gone,
    form,
    bar,
    problem,
    note,
    h("p", { class: "mll-rb-status" }, status, moves, h("span", { class: "mll-rb-acts" }, against, rankAll, allOn)),
    results,
    help.node,
    voice.node,
  );
  el.append(root);

  const line = connect(model, {
    onAlive: (alive) => {
      root.toggleAttribute("data-gone", !alive);
      gone.hidden = alive;
      for (const control of [input, search, stop, rankAll]) control.disabled = !alive;
      showState();
      if (alive && !board) restart();
    },
  });
  function put(trait, value) {
    model.set(trait, value);
    model.save_changes();
  }
  const request = (op, args) => line.ask(op, args).catch((error) => line.alive && complain(error.message));
  function complain(words) {
    problem.textContent = words;
    problem.hidden = !words;
  }
  const sizes = () => ({ listed: board?.rows ?? 0, all: get("total"), tokens: get("n_query") });
  function showState() {
    const [state, progress] = [get("state"), get("progress")];
    const before = root.dataset.state;
    root.dataset.state = state;
    title.textContent = get("title");
    complain(get("problem"));
    note.textContent = get("note");
    note.hidden = !note.textContent;
    const busy = ["indexing", "comparing", "searching"].includes(state);
    stop.textContent = state === "stopped" ? "Go on" : "Stop";
    stop.disabled = !(busy || state === "stopped") || !line.alive;
    bar.style.visibility = state === "indexing" || state === "comparing" ? "visible" : "hidden";
    showRivals();
    if (progress[1] > 0) [bar.max, bar.value] = [progress[1], progress[0]];
    else bar.removeAttribute("value");
    form.hidden = bar.hidden = !get("searchable");
    const text = searchText(state, progress, sizes());
    const counting = state === before && (state === "indexing" || state === "comparing");
    if (before && text !== status.textContent && !counting) voice.say(text); // not every document that was read
    status.textContent = text;
    if (input.ownerDocument.activeElement !== input) input.value = get("query");
  }
  function showRivals() {
    const names = get("rivals");
    if (String(names) !== choice.dataset.names) {
      choice.dataset.names = String(names);
      choice.replaceChildren(
        h("option", { value: "" }, "the query before"),
        ...names.map((name) => h("option", { value: name }, name)),
      );
    }
    choice.value = get("rival");
    choice.disabled = !line.alive;
    against.hidden = !names.length;
  }
  function toggle(i) {
    const off = get("off");
    put("off", off.includes(i) ? off.filter((x) => x !== i) : [...off, i].sort((a, b) => a - b));
    voice.say(`query token ${i + 1} ${get("off").includes(i) ? "off" : "on"}, ${now.moved} documents moved`);
  }
  const visibleRows = () => now.order.slice(0, listed);
  const rove = () =>
    visibleRows().forEach((k) => {
      if (rows[k]) rows[k].node.tabIndex = k === (visibleRows().includes(focus) ? focus : now.order[0]) ? 0 : -1;
    });
  const facts = () => ({ now, axis, off: get("off"), pair: get("pair"), selected: get("selected") });
  const act = {
    focus(k) {
      focus = k;
      describe();
      rove();
    },
    open(k) {
      put("selected", k);
      request("open", { row: k });
    },
    compare(side, k) {
      put("pair", pairWith(get("pair"), side, k, now.order));
    },
    point: (k, i) => (k < 0 ? describe() : describe(k, i)),
  };
  function drawRows() {
    const order = visibleRows();
    const had = list.contains(root.ownerDocument.activeElement);
    const moved = arrange(
      list,
      order.map((k) => (rows[k] ??= resultRow(board, k, act)).node),
    );
    if (moved && had) rows[focus]?.node.focus({ preventScroll: true });
    for (const k of order) rows[k].update(facts());
    more.hidden = listed >= board.rows;
    more.textContent = `Show ${Math.min(PAGE, board.rows - listed)} more`;
    rove();
  }
  /** What follows from the query tokens that are on: all of it here, nothing asked. */
  function refresh() {
    if (!board) return;
    const off = get("off");
    now = ranked(board, off);
    axis = bars(board, off, get("bars"));
    for (const one of kinds) one.setAttribute("aria-pressed", String(one.dataset.kind === get("bars")));
    chips.mark(off);
    allOn.disabled = !off.length;
    rankAll.hidden = board.rows >= get("total");
    rankAll.disabled = !off.length || !line.alive;
    moves.textContent = movesText(now, off, get("baseline"), sizes());
    scale.textContent = board.rows ? barsText(get("bars"), axis) : "";
    drawRows();
    describe();
    showPair();
    table.refresh();
  }
  function describe(k = focus, i = token) {
    if (!board) return;
    const name = i < 0 ? "" : `query token ${i + 1} “${board.labels[i]}”`;
    if (k < 0)
      details.textContent =
        i < 0
          ? "Point at a part of a bar, or press ↓, to read it."
          : `${name}${get("off").includes(i) ? " is off" : ""}`;
    else {
      const { parts, total } = printed(board, k, get("off"));
      const one =
        i < 0 ? "" : parts[i] === null ? ` · ${name} is off` : ` · ${name} adds ${shown(parts[i])} of ${shown(total)}`;
      details.textContent = `${now.rank[k]}. ${board.names[k]} · score ${shown(total)}${one}`;
    }
  }
  function showPair() {
    for (const one of rows) one?.update(facts());
    const [a, b] = get("pair");
    if (!board || a === undefined || a >= board.rows || b >= board.rows) return panel.hide();
    const epoch = get("epoch");
    const fill = (matched) =>
      panel.fill(versus(board, a, b, get("off")), {
        a: board.names[a],
        b: board.names[b],
        labels: board.labels,
        matched,
      });
    const known = board.matched.get(`${a} ${b}`);
    fill(known ?? { a: [], b: [] });
    if (known) return;
    line.ask("matches", { a, b }).then(
      ({ buffers: [sizesA, bytesA, sizesB, bytesB] }) => {
        if (epoch !== get("epoch")) return;
        const matched = { a: labelsOf(sizesA, bytesA), b: labelsOf(sizesB, bytesB) };
        board.matched.set(`${a} ${b}`, matched);
        if (String(get("pair")) === `${a},${b}`) fill(matched);
      },
      (error) => line.alive && complain(error.message),
    );
  }
  function tableRows() {
    return now.order.map((k) => {
      const { parts, total } = printed(board, k, get("off"));
      const i = parts.reduce((best, x, at) => (x !== null && (best < 0 || x > parts[best]) ? at : best), -1);
      return [
        now.rank[k],
        now.move[k],
        board.names[k],
        shown(total),
        i < 0 ? "" : `${i + 1} ${board.labels[i]} ${shown(parts[i])}`,
      ];
    });
  }
  function restart() {
    const epoch = get("epoch");
    showState();
    if (!get("n_query") || !epoch) {
      board = null;
      results.hidden = true;
      moves.textContent = "";
      rankAll.hidden = allOn.disabled = true;
      return;
    }
    line.ask("board").then(
      (reply) => {
        if (epoch !== get("epoch") || reply.epoch !== epoch) return;
        const b = reply.buffers;
        const pieces = splitPieces(b[0], b[1]);
        const texts = (k) => splitPieces(b[k], b[k + 1]).map((bytes) => readable(new TextDecoder().decode(bytes)));
        const before = typed(b[7], Int32Array);
        board = {
          values: typed(b[6], Float32Array),
          rows: reply.rows,
          cols: pieces.length,
          before: before.length ? before : null,
          labels: unitLabels(pieces, [...pieces.keys(), pieces.length]),
          names: texts(2),
          snippets: texts(4),
          matched: new Map(),
        };
        [rows, focus, token, listed] = [[], -1, -1, PAGE];
        results.hidden = false;
        list.replaceChildren();
        chips.show(board.labels);
        showState();
        refresh();
      },
      (error) => line.alive && complain(error.message),
    );
  }
  const place = () => visibleRows().indexOf(focus);
  const go = (to) => {
    if (!board?.rows) return false;
    const order = visibleRows();
    rows[order[Math.max(0, Math.min(order.length - 1, to))]].node.focus();
  };
  const part = (by) => () => {
    if (!board) return false;
    token = Math.max(0, Math.min(board.cols - 1, token + by));
    describe();
    voice.say(details.textContent);
  };
  const here = (act) => () => (focus < 0 ? false : act());
  const undoKeys = keys(list, {
    ArrowDown: () => go(place() + 1),
    ArrowUp: () => go(place() - 1),
    Home: () => go(0),
    End: () => go(Infinity),
    ArrowLeft: part(-1),
    ArrowRight: part(1),
    Enter: here(() => act.open(focus)),
    a: here(() => act.compare("a", focus)),
    b: here(() => act.compare("b", focus)),
    " ": () => (token < 0 ? false : toggle(token)),
    d: () => put("bars", get("bars") === "whole" ? "difference" : "whole"),
    "?": help.toggle,
    Escape: () => (help.open ? help.hide() : get("pair").length ? put("pair", []) : false),
  });
  const told = [
    "state",
    "progress",
    "note",
    "problem",
    "title",
    "query",
    "total",
    "searchable",
    "baseline",
    "rivals",
    "rival",
  ];
  const unwatch = watch(model, {
    epoch: restart,
    off: refresh,
    bars: refresh,
    pair: showPair,
    selected: refresh,
    ...Object.fromEntries(told.map((name) => [name, showState])),
  });
  root.addEventListener("pointerenter", line.ping);
  restart();
  line.ping();
  return () => {
    unwatch();
    undoKeys();
    chips.close();
    voice.close();
    line.close();
    root.remove();
  };
}
export default { render };
