/** One query against one document: similarities, best matches in the text, what each query token adds. */
import { announcer, button, glyphs, h, icon, keyHelp, keys, tableView } from "./shared/dom.js";
import { badge, HUES } from "./shared/hues.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { extent, levels } from "./shared/matrix.js";
import { count, shown, splitPieces, typed, visible } from "./shared/text.js";
import { heatView } from "./similarity_grid_heat.js";
import {
  cellText,
  contributions,
  marksOf,
  markText,
  matchView,
  nothingText,
  rowState,
  scaleWords,
  scoreText,
  switched,
} from "./similarity_grid_match.js";

const HELP = [
  ["← → ↑ ↓", "another cell"],
  ["Home End", "first, last document token"],
  ["Ctrl+Home Ctrl+End", "first, last cell"],
  ["m", "the best match of the row"],
  ["Space", "query token off or on"],
  ["a", "all query tokens on"],
  ["n", "one scale, or each row on its own"],
  ["w", "pieces or words"],
  ["+ − 0", "larger, smaller, all of it"],
  ["?", "these keys"],
];

function render({ model, el }) {
  let pair = null;
  let view = null;
  let adds = null;
  let rowNodes = [];
  let textNodes = [];
  let lit = [];

  const title = h("p", { class: "mll-title" });
  const group = (label, trait, names, captions) => {
    const buttons = names.map((name, k) =>
      h("button", { type: "button", "data-value": name, on: { click: () => put(trait, name) } }, captions[k]),
    );
    return { trait, buttons, node: h("div", { class: "mll-tabs", role: "group", "aria-label": label }, buttons) };
  };
  const units = group("Show", "unit", ["pieces", "words"], ["Pieces", "Words"]);
  const scales = group("Colour scale", "scale", ["raw", "by query"], ["One scale", "Each row"]);
  const zooms = [
    icon("−", "Smaller cells (−)", () => heat.zoom(-1)),
    icon("+", "Larger cells (+)", () => heat.zoom(1)),
  ];
  const help = keyHelp(HELP);
  const score = h("b", { class: "mll-sg-score" });
  const says = h("span", { class: "mll-quiet" });
  const allOn = button("All on", null, () => put("off", []), { class: "mll-button mll-sg-all" });
  const gone = goneNote(model);
  const note = h("div", { class: "mll-note", hidden: true });
  const problem = h("div", { class: "mll-note", "data-kind": "bad", role: "alert", hidden: true });
  const empty = h("p", { class: "mll-note" });
  const bar = h("span", { class: "mll-sg-ramp", "aria-hidden": "true" });
  const [low, high, measure, under, hint] = Array.from({ length: 5 }, () => h("span"));
  const legend = h(
    "div",
    { class: "mll-sg-legend mll-quiet mll-figures" },
    h("span", { class: "mll-sg-scale" }, low, bar, high),
    measure,
    under,
    h("span", { class: "mll-sg-key" }, h("i", { class: "mll-sg-ring", "aria-hidden": "true" }), "best of its row"),
    hint,
  );
  const details = h("p", { class: "mll-sg-details mll-figures", dir: "auto" });
  const text = h("div", {
    class: "mll-sg-text",
    role: "group",
    "aria-label": "Document, with the numbers of the query tokens that match best",
    tabindex: 0,
    dir: "auto",
  });
  const voice = announcer();
  const heat = heatView({
    label: "Similarity of query tokens (rows) and document tokens (columns)",
    names: {
      row: (i) => (rowNodes[i] ??= rowNode(i)),
      column: (j) => view.colLabels[j],
      cell: (i, j) => cellText(view, [i, j], settings()),
    },
    onPoint: describe,
    onZoom: showZoom,
  });
  const table = tableView(["", "query token", "adds", "best match in the document", "place"], tableRows, {
    caption: "What each query token adds to the score. grid.to_pandas() has every cell.",
  });
  const body = h("div", { class: "mll-live mll-sg-body" }, legend, heat.node, details, text, table.node);
  const root = h(
    "section",
    { class: "mll mll-sg", "aria-label": "Similarity of a query and a document" },
    h(
      "div",
      { class: "mll-sg-head" },
      title,
      units.node,
      scales.node,
      h("span", { class: "mll-sg-zoom" }, zooms),
      help.button,
    ),
    gone,
    problem,
    note,
    h("p", { class: "mll-sg-sum mll-figures" }, score, says, allOn),
    empty,
    body,
    help.node,
    voice.node,
  );
  el.append(root);

  const line = connect(model, {
    onAlive: (alive) => {
      root.toggleAttribute("data-gone", !alive);
      gone.hidden = alive;
      complain("");
      if (alive && !pair) restart();
    },
  });
  const off = () => model.get("off");
  const settings = () => ({ scale: model.get("scale"), off: off() });
  /** What a hand turns stays here at once; the kernel hears of it. */
  function put(trait, value) {
    model.set(trait, value);
    model.save_changes();
  }
  function complain(words) {
    problem.textContent = words;
    problem.hidden = !words;
  }
  function rowNode(i) {
    const box = h("input", {
      type: "checkbox",
      tabindex: -1,
      "aria-label": `query token ${i + 1} ${view.rowLabels[i]}`,
      on: { change: () => toggle(i) },
    });
    const figure = h("span", { class: "mll-sg-adds" });
    const node = h(
      "div",
      {
        class: "mll-sg-name",
        on: { pointerenter: () => heat.point([i, Math.max(0, view.best[i])]), pointerleave: () => heat.point(null) },
      },
      box,
      badge(i),
      h("span", { class: "mll-sg-token", dir: "auto", title: view.rowLabels[i] }, view.rowLabels[i]),
      figure,
    );
    node.refresh = () => {
      const state = rowState(view, i, off());
      box.checked = state !== "off";
      box.indeterminate = state === "part";
      node.dataset.state = state;
      figure.textContent = adds.row[i] === null ? "off" : shown(adds.row[i]);
    };
    node.refresh();
    return node;
  }
  function toggle(i) {
    if (!view?.rows) return;
    put("off", switched(view, i, off()));
    voice.say(`query token ${i + 1} ${rowState(view, i, off()) === "off" ? "off" : "on"}, score ${shown(adds.total)}`);
  }
  function drawText() {
    const gaps = pair.gaps;
    text.replaceChildren();
    textNodes = view.colLabels.map((label, j) => {
      const [from, to] = [view.colStarts[j], view.colStarts[j + 1]];
      const flow = (string) => glyphs(visible(string), { flow: true });
      const inner = pair.shown
        .slice(from, to)
        .map((part, k) => (k ? gaps[from + k] : "") + part)
        .join("");
      const sup = h("sup", { "aria-hidden": "true" });
      const name = pair.outside[from] ? h("span", { class: "mll-g-special" }, label) : flow(inner || label);
      const node = h("span", { class: "mll-sg-match", "data-column": j }, name, sup);
      text.append(...flow(gaps[from]), node);
      return { node, sup };
    });
    text.append(...glyphs(visible(gaps.at(-1) ?? ""), { flow: true }));
  }
  /** What changes when a query token is switched: sums, marks, figures. The matrix stays. */
  function refresh() {
    if (!view) return;
    adds = contributions(view, off());
    score.textContent = `score ${shown(adds.total)}`;
    says.textContent = scoreText(adds, off());
    allOn.disabled = !off().length;
    for (const node of rowNodes) node?.refresh();
    marksOf(view, off()).forEach((rows, j) => {
      const { node, sup } = textNodes[j];
      const words = rows.length ? markText(rows) : "";
      if (sup.textContent !== words) sup.textContent = words;
      if (rows.length) node.dataset.hue = rows[0] % HUES;
      else delete node.dataset.hue;
    });
    heat.mark(view.best, new Set([...Array(view.rows).keys()].filter((i) => rowState(view, i, off()) === "off")));
    table.refresh();
    describe(heat.at);
  }
  function describe(at) {
    for (const node of lit) node.removeAttribute("data-at");
    lit = [];
    if (!view) return;
    details.textContent = at ? cellText(view, at, settings()) : "Point at a cell, or press an arrow key, to read it.";
    if (!at) return;
    const here = textNodes[at[1]]?.node;
    here?.setAttribute("data-at", "here");
    const best = textNodes[view.best[at[0]]]?.node;
    if (best !== here) best?.setAttribute("data-at", "best");
    lit = [here, best].filter(Boolean);
    const top = here ? here.offsetTop - text.offsetTop : 0;
    if (here && (top < text.scrollTop || top + here.offsetHeight > text.scrollTop + text.clientHeight))
      text.scrollTop = top - text.clientHeight / 2;
  }
  function showScale() {
    const scale = model.get("scale");
    for (const set of [units, scales])
      for (const node of set.buttons)
        node.setAttribute("aria-pressed", String(node.dataset.value === model.get(set.trait)));
    if (!view) return;
    const ends = pair.scale;
    [low.textContent, high.textContent, measure.textContent] = scaleWords(scale, ...ends);
    const least = extent(view.values)[0];
    under.textContent =
      scale === "raw" && least < ends[0] ? `below it: a colour of its own, down to ${shown(least)}` : "";
    heat.show({ levels: levels(view, scale === "raw" ? ends : null), rows: view.rows, cols: view.cols });
    describe(heat.at);
  }
  function showZoom({ zoom, most, readable, cells }) {
    zooms[0].disabled = zoom === 0;
    zooms[1].disabled = most;
    const several = cells > 1 ? `a pixel shows the highest of its ${count(cells + 0.499)} cells a side` : "";
    hint.textContent = [several, readable ? "" : "enlarge (+) to read the query tokens"].filter(Boolean).join(" · ");
  }
  function look() {
    if (!pair) return;
    view = matchView(pair, model.get("unit"));
    rowNodes = [];
    adds = contributions(view, off());
    drawText();
    showScale();
    refresh();
  }
  function tableRows() {
    const rows = view.rowLabels.map((label, i) => [
      i + 1,
      label,
      adds.row[i] === null ? "off" : shown(adds.row[i]),
      view.colLabels[view.best[i]] ?? "none",
      view.best[i] + 1,
    ]);
    return [...rows, ["", "score", shown(adds.total), "", ""]];
  }
  function showTexts() {
    title.textContent = model.get("title");
    note.textContent = model.get("note");
    note.hidden = !note.textContent;
  }
  /** Fetch the pair: its texts, then its matrix, some rows at a time. */
  async function restart() {
    const [epoch, rows, cols] = [model.get("epoch"), model.get("n_query"), model.get("n_document")];
    [pair, view] = [null, null];
    const nothing = nothingText(rows, cols);
    empty.textContent = nothing || "Fetching the similarities…";
    empty.hidden = false;
    body.hidden = true;
    root.toggleAttribute("data-empty", Boolean(nothing));
    score.textContent = says.textContent = "";
    allOn.disabled = true;
    if (nothing) return;
    try {
      const reply = await line.ask("texts");
      const b = reply.buffers;
      const strings = (k) => splitPieces(b[k], b[k + 1]).map((bytes) => new TextDecoder().decode(bytes));
      const values = new Float32Array(rows * cols);
      for (let have = 0; have < rows;) {
        const part = await line.ask("matrix", { from: have });
        if (part.epoch !== model.get("epoch") || part.rows < 1) return;
        values.set(typed(part.buffers[0], Float32Array), have * cols);
        have += part.rows;
      }
      if (epoch !== model.get("epoch") || reply.epoch !== epoch) return;
      pair = {
        values,
        rows,
        cols,
        scale: reply.scale,
        query: splitPieces(b[0], b[1]),
        document: splitPieces(b[2], b[3]),
        shown: strings(2),
        gaps: strings(4),
        queryWords: typed(b[6], Int32Array),
        documentWords: typed(b[7], Int32Array),
        outside: typed(b[8], Uint8Array),
      };
      empty.hidden = true;
      body.hidden = false;
      look();
    } catch (error) {
      if (line.alive) complain(error.message);
    }
  }
  const column = (target) => Number(target.closest?.(".mll-sg-match")?.dataset.column ?? -1);
  const rowHere = (j) => marksOf(view, off())[j][0] ?? heat.cursor?.[0] ?? 0;
  text.addEventListener("pointerover", ({ target }) =>
    heat.point(column(target) < 0 ? null : [rowHere(column(target)), column(target)]),
  );
  text.addEventListener("pointerleave", () => heat.point(null));
  text.addEventListener(
    "click",
    ({ target }) => column(target) >= 0 && heat.go([rowHere(column(target)), column(target)]),
  );
  const at = () => heat.cursor ?? [0, 0];
  const move = (down, right) => () => heat.go([at()[0] + down, at()[1] + right]);
  const flip =
    (trait, [one, two]) =>
    () =>
      put(trait, model.get(trait) === one ? two : one);
  const undoKeys = keys(heat.focusable, {
    ArrowUp: move(-1, 0),
    ArrowDown: move(1, 0),
    ArrowLeft: move(0, -1),
    ArrowRight: move(0, 1),
    PageUp: move(-10, 0),
    PageDown: move(10, 0),
    Home: () => heat.go([at()[0], 0]),
    End: () => heat.go([at()[0], Infinity]),
    "Ctrl+Home": () => heat.go([0, 0]),
    "Ctrl+End": () => heat.go([Infinity, Infinity]),
    m: () => heat.go([at()[0], Math.max(0, view.best[at()[0]])]),
    " ": () => toggle(at()[0]),
    a: () => put("off", []),
    n: flip("scale", ["raw", "by query"]),
    w: flip("unit", ["pieces", "words"]),
    "+": () => heat.zoom(1),
    "=": () => heat.zoom(1),
    "-": () => heat.zoom(-1),
    "−": () => heat.zoom(-1),
    0: () => heat.zoom(0),
    "?": help.toggle,
    Escape: () => (help.open ? help.hide() : false),
  });
  const unwatch = watch(model, {
    epoch: restart,
    off: refresh,
    scale: showScale,
    unit: () => {
      look();
      showScale();
    },
    title: showTexts,
    note: showTexts,
  });
  root.addEventListener("pointerenter", line.ping);
  showTexts();
  showScale();
  restart();
  line.ping();
  return () => {
    unwatch();
    undoKeys();
    heat.close();
    voice.close();
    line.close();
    root.remove();
  };
}
export default { render };
