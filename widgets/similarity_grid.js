/** One query against one document: similarities, best matches in the text, what each query token adds. */
import { aboutVectors } from "./shared/about_vectors.js";
import { announcer, button, h, icon, keyHelp, keys, mount, tableView } from "./shared/dom.js";
import { csv, exportMenu } from "./shared/export.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { levels } from "./shared/matrix.js";
import { measuring, palette, SANS, SIZE } from "./shared/svg.js";
import { shown } from "./shared/text.js";
import { fetchPair } from "./similarity_grid_fetch.js";
import { heatView } from "./similarity_grid_heat.js";
import { bindings, HELP } from "./similarity_grid_keys.js";
import { legend } from "./similarity_grid_legend.js";
import {
  cellText,
  contributions,
  csvRows,
  marksOf,
  matchView,
  nothingText,
  rowState,
  scaleWords,
  scoreText,
  switched,
} from "./similarity_grid_match.js";
import { rowName } from "./similarity_grid_name.js";
import { COLOURS, picture } from "./similarity_grid_picture.js";
import { documentText } from "./similarity_grid_text.js";

const LABEL = "Similarity of query tokens (rows) and document tokens (columns)";
const COLUMNS = ["", "query token", "adds", "best match in the document", "place"];
const CAPTION = "What each query token adds to the score. grid.to_pandas() has every cell.";

/** Buttons of which one is pressed: the value of a trait. */
function choice(label, trait, values, captions, put) {
  const buttons = values.map((value, k) =>
    h("button", { type: "button", "data-value": value, on: { click: () => put(trait, value) } }, captions[k]),
  );
  const node = h("div", { class: "mll-tabs", role: "group", "aria-label": label }, buttons);
  const press = (now) => {
    for (const one of buttons) one.setAttribute("aria-pressed", String(one.dataset.value === now));
  };
  return { node, trait, press };
}

function elements(model, { put, zoom, heat, text, rows, files }) {
  const title = h("p", { class: "mll-title" });
  const choices = [
    choice("Show", "unit", ["pieces", "words"], ["Pieces", "Words"], put),
    choice("Colour scale", "scale", ["raw", "by query"], ["One scale", "Each row"], put),
  ];
  const smaller = icon("−", "Smaller cells (−)", () => zoom(-1));
  const larger = icon("+", "Larger cells (+)", () => zoom(1));
  const help = keyHelp(HELP);
  const saving = exportMenu("matrix", files, () => model.get("title") || "similarity");
  const score = h("b", { class: "mll-sg-score" });
  const says = h("span", { class: "mll-quiet mll-sg-says" });
  const allOn = button("All on", null, () => put("off", []), { class: "mll-button mll-sg-all" });
  const gone = goneNote(model);
  const note = aboutVectors();
  const problem = h("div", { class: "mll-note", "data-kind": "bad", role: "alert", hidden: true });
  const empty = h("p", { class: "mll-note" });
  const key = legend();
  const details = h("p", { class: "mll-sg-details mll-figures", dir: "auto" });
  const table = tableView(() => COLUMNS, rows, { caption: CAPTION });
  const voice = announcer();
  const body = h("div", { class: "mll-live mll-sg-body" }, heat.node, details, text.node, table.node);
  const zooms = h("span", { class: "mll-sg-zoom" }, smaller, larger);
  const tabs = choices.map((one) => one.node);
  const head = h("div", { class: "mll-sg-head" }, title, note.node, saving.node, help.button);
  const sum = h("p", { class: "mll-sg-sum mll-figures" }, score, says, allOn);
  const tools = h("div", { class: "mll-sg-tools" }, tabs, key.node, zooms);
  const all = [head, gone, problem, sum, tools, empty, body, help.node, voice.node];
  const root = h("section", { class: "mll mll-sg", "aria-label": "Similarity of a query and a document" }, all);
  const texts = { title, score, says, note, problem, empty, details };
  return { root, body, gone, choices, smaller, larger, help, saving, allOn, key, table, voice, ...texts };
}

function render({ model, el }) {
  let pair = null; // what the kernel sent
  let view = null; // the pair by pieces or by words
  let adds = null; // what each row adds to the score
  let names = []; // of the rows that were in sight
  const get = (name) => model.get(name);
  const settings = () => ({ scale: get("scale"), off: get("off") });
  /** What a hand turns stays here at once; the kernel hears of it. */
  function put(trait, value) {
    model.set(trait, value);
    model.save_changes();
  }
  const row = (i) => (names[i] ??= named(i)).node;
  const column = (j) => view.colLabels[j];
  const label = (i) => `${i} ${view.rowLabels[i]}`;
  const cell = (i, j) => cellText(view, [i, j], settings());
  const heat = heatView({ label: LABEL, names: { row, label, column, cell }, onPoint: describe, onZoom: showZoom });
  const cellIn = (j) => [marksOf(view, get("off"))[j][0] ?? heat.cursor()?.[0] ?? 0, j];
  const text = documentText({
    point: (j) => heat.point(j < 0 ? null : cellIn(j)),
    go: (j) => heat.go(cellIn(j)),
  });
  const parts = elements(model, { put, zoom: heat.zoom, heat, text, rows: tableRows, files: files() });
  const { root, voice } = parts;
  const unmount = mount(el, root);
  const line = connect(model, { onAlive: (alive) => setAlive(alive) });
  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    parts.gone.hidden = alive;
    complain("");
    if (alive && !pair) restart();
  }
  function complain(words) {
    parts.problem.textContent = words;
    parts.problem.hidden = !words;
  }
  function named(i) {
    const name = rowName(view, i, { toggle, point: heat.point });
    name.update(adds, get("off"));
    return name;
  }
  function toggle(i) {
    if (!view?.rows) return;
    put("off", switched(view, i, get("off")));
    const state = rowState(view, i, get("off")) === "off" ? "off" : "on";
    voice.say(`query token ${i} ${state}, score ${shown(adds.total)}`);
  }
  /** What changes when a query token is switched: sums, marks, figures. The matrix stays. */
  function refresh() {
    if (!view) return;
    const off = get("off");
    adds = contributions(view, off);
    parts.score.textContent = `score ${shown(adds.total)}`;
    parts.says.textContent = parts.says.title = scoreText(adds, off);
    parts.allOn.disabled = !off.length;
    for (const name of names) name?.update(adds, off);
    text.mark(marksOf(view, off));
    const rows = [...Array(view.rows).keys()];
    heat.mark(view.best, new Set(rows.filter((i) => rowState(view, i, off) === "off")));
    parts.table.refresh();
    describe(heat.here());
  }
  function describe(at) {
    text.dim();
    if (!view) return;
    parts.details.textContent = at
      ? cellText(view, at, settings())
      : "Point at a cell, or press an arrow key, to read it.";
    if (at) text.light(at[1], view.best[at[0]]);
  }
  function showScale() {
    const scale = get("scale");
    for (const one of parts.choices) one.press(get(one.trait));
    if (!view) return;
    parts.key.showScale(scale, pair.scale, view.values);
    heat.show({ levels: levels(view, scale === "raw" ? pair.scale : null), rows: view.rows, cols: view.cols });
    describe(heat.here());
  }
  function showZoom(now) {
    parts.smaller.disabled = now.zoom === 0;
    parts.larger.disabled = now.most;
    parts.key.showZoom(now);
  }
  function showUnit() {
    if (pair) {
      view = matchView(pair, get("unit"));
      names = [];
      adds = contributions(view, get("off"));
      text.draw(pair, view);
    }
    showScale();
    refresh();
  }
  function tableRows() {
    const rows = view.rowLabels.map((label, i) => [
      i,
      label,
      adds.row[i] === null ? "off" : shown(adds.row[i]),
      view.colLabels[view.best[i]] ?? "none",
      view.best[i] < 0 ? "" : view.best[i],
    ]);
    return [...rows, ["", "score", shown(adds.total), "", ""]];
  }
  function files() {
    const says = () => [
      [get("title"), `score ${shown(adds.total)}`].filter(Boolean).join(" · "),
      ["Query tokens by document tokens", ...scaleWords(get("scale"), ...pair.scale)].join(" · "),
    ];
    const drawn = (node) =>
      picture({ ...heat.inSight(), says: says(), measure: measuring(`${SIZE}px ${SANS}`) }, palette(node, COLOURS));
    return { CSV: () => csv(csvRows(view)), SVG: drawn };
  }
  function showTexts() {
    parts.title.textContent = get("title");
    parts.note.say(...get("note").split(" · "));
  }
  async function restart() {
    [pair, view] = [null, null];
    const nothing = nothingText(get("n_query"), get("n_document"));
    parts.empty.textContent = nothing || "Fetching the similarities…";
    parts.empty.hidden = false;
    parts.body.hidden = true;
    root.toggleAttribute("data-empty", Boolean(nothing));
    parts.score.textContent = parts.says.textContent = "";
    parts.allOn.disabled = true;
    if (nothing) return;
    try {
      const fetched = await fetchPair(line, model);
      if (!fetched) return;
      pair = fetched;
      parts.empty.hidden = true;
      parts.body.hidden = false;
      showUnit();
    } catch (error) {
      if (line.alive) complain(error.message);
    }
  }
  const best = (i) => Math.max(0, view.best[i]);
  const undoKeys = keys(heat.focusable, bindings(heat, { toggle, best, put, get, help: parts.help }));
  const traits = { epoch: restart, off: refresh, scale: showScale, unit: showUnit };
  const unwatch = watch(model, { ...traits, title: showTexts, note: showTexts });
  root.addEventListener("pointerenter", line.ping);
  showTexts();
  showScale();
  restart();
  line.ping();
  const closed = [heat, voice, line].map(({ close }) => close);
  return () => [unwatch, undoKeys, ...closed, unmount].forEach((act) => act());
}

export default { render };
