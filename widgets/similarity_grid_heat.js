/**
 * A matrix as a picture that scrolls, with names at the left and above, a cursor for mouse and
 * keyboard, and a grid of one cell that tells a screen reader where the cursor is.
 * It knows levels and places; what a row, a column or a cell means is said by whoever uses it.
 */
import { h } from "./shared/dom.js";
import { onTheme } from "./shared/heat.js";
import { columnsInSight, paintCells, paintColumnNames, readPalette } from "./similarity_grid_paint.js";

const TALL = 22; // pixels of a row at most; from READABLE on its name stands beside it
const WIDE = 26;
const READABLE = 13;
const BORDER = 14; // pixels around the cells, with a scroll bar below them
const STEP = 1.6;
const PATIENCE = 40; // times that a picture out of sight is tried again
let made = 0;

/** Pixels of a cell: the whole matrix in a window of some pixels at zoom 0, then larger step by step. */
export function cellSize({ rows, cols }, { width, height }, zoom) {
  const scale = STEP ** zoom;
  const fit = { w: Math.min(WIDE, width / Math.max(1, cols)), h: Math.min(TALL, height / Math.max(1, rows)) };
  return {
    w: Math.min(WIDE, fit.w * scale),
    h: Math.min(TALL, fit.h * scale),
    most: fit.w * scale >= WIDE && fit.h * scale >= TALL,
  };
}

function elements(label) {
  const list = h("div", { class: "mll-heat-list" });
  const left = h("div", { class: "mll-heat-names" }, h("div", { class: "mll-heat-window" }, list));
  const above = h("canvas", { class: "mll-heat-above", "aria-hidden": "true" });
  const canvas = h("canvas", { class: "mll-heat-cells", "aria-hidden": "true" });
  const area = h("div", { class: "mll-heat-area" }, canvas);
  const spot = h("div", { role: "gridcell", id: `mll-heat-${++made}` });
  const line = h("div", { role: "row" }, spot);
  const spoken = h("div", { class: "mll-spoken", role: "presentation" }, line);
  const grid = { class: "mll-heat-scroll", role: "grid", tabindex: 0, "aria-label": label };
  const scroll = h("div", grid, area, spoken);
  const node = h("div", { class: "mll-heat" }, left, above, scroll);
  return { node, left, list, above, canvas, area, spot, line, scroll };
}

/** Pixels scrolled so that the cell `at` is in a window of some pixels. */
function scrolledTo(at, size, from, window) {
  if (at * size < from) return at * size;
  return (at + 1) * size > from + window ? (at + 1) * size - window : from;
}

/** `names.row(i)` is a node; `label(i)`, `column(j)` and what is said of a `cell(i, j)` are strings. */
export function heatView({ label, names, onPoint = () => {}, onZoom = () => {} }) {
  const parts = elements(label);
  const { node, scroll } = parts;
  // `best` has the column of each row's best cell; `cursor` (keyboard) and `hover` are [row, column].
  const map = { matrix: { levels: new Uint8Array(0), rows: 0, cols: 0 }, best: [], off: new Set() };
  Object.assign(map, { cursor: null, hover: null });
  let size = { w: 1, h: 1, most: true };
  let zoom = 0;
  const { redraw, cancel } = painter(parts, map, names, () => size);

  function layOut() {
    const width = node.clientWidth;
    if (!width) return;
    const { rows, cols } = map.matrix;
    const height = parseFloat(getComputedStyle(scroll).maxHeight) - BORDER;
    size = cellSize(map.matrix, { width: width - 2, height }, zoom);
    const beside = size.h < READABLE ? 0 : width > 640 ? 208 : 160;
    if (beside) size = cellSize(map.matrix, { width: width - beside - 2, height }, zoom);
    node.style.gridTemplateColumns = `${beside}px minmax(0, 1fr)`;
    const { style } = parts.area;
    [style.width, style.height] = [`${cols * size.w}px`, `${rows * size.h}px`];
    const [isWide, isHigh] = [cols * size.w > width - beside, rows * size.h > height];
    scroll.style.height = `${Math.min(height, rows * size.h) + (isWide ? BORDER : 2)}px`;
    scroll.style.overflow = isWide || isHigh ? "" : "hidden"; // two bars of a larger page would need each other
    onZoom({ zoom, most: size.most, readable: beside > 0, cells: Math.max(1 / size.w, 1 / size.h) });
    redraw();
  }
  /** What is in sight, for `similarity_grid_picture`. */
  function inSight() {
    const [first, most] = [Math.floor(scroll.scrollTop / size.h), Math.ceil(scroll.clientHeight / size.h) + 1];
    const n = size.h < READABLE ? 0 : Math.min(most, map.matrix.rows - first);
    const { canvas } = parts;
    const [wide, high] = [canvas.style.width, canvas.style.height].map(parseFloat);
    const middle = (i) => (i + 0.5) * size.h - scroll.scrollTop;
    const rows = Array.from({ length: n }, (_, k) => ({ name: names.label(first + k), at: middle(first + k) }));
    const view = { left: scroll.scrollLeft, width: wide, w: size.w };
    const { named, columns } = columnsInSight(view, { cols: map.matrix.cols, nameOf: names.column });
    const inside = ({ at }, most) => at > 0 && at < most;
    const seen = { rows: rows.filter((row) => inside(row, high)), columns: columns.filter((one) => inside(one, wide)) };
    return { ...seen, upright: named, cells: { href: canvas.toDataURL("image/png"), wide, high } };
  }
  const here = () => map.hover ?? map.cursor;
  const tell = () => onPoint(here());
  function point(at) {
    if (String(at) === String(map.hover)) return;
    map.hover = at;
    tell();
    redraw();
  }
  function go([row, column]) {
    const { rows, cols } = map.matrix;
    if (!rows || !cols) return;
    const [i, j] = [Math.max(0, Math.min(rows - 1, row)), Math.max(0, Math.min(cols - 1, column))];
    map.hover = null;
    map.cursor = [i, j];
    scroll.scrollTop = scrolledTo(i, size.h, scroll.scrollTop, scroll.clientHeight);
    scroll.scrollLeft = scrolledTo(j, size.w, scroll.scrollLeft, scroll.clientWidth);
    parts.line.setAttribute("aria-rowindex", i + 1);
    parts.spot.setAttribute("aria-colindex", j + 1);
    parts.spot.textContent = names.cell(i, j);
    scroll.setAttribute("aria-activedescendant", parts.spot.id);
    tell();
    redraw();
  }
  /** Another matrix: zoom and cursor begin anew where its shape is another. */
  function show(matrix) {
    const same = matrix.rows === map.matrix.rows && matrix.cols === map.matrix.cols;
    map.matrix = matrix;
    if (!same) {
      [zoom, map.cursor, map.hover] = [0, null, null];
      scroll.removeAttribute("aria-activedescendant");
      tell();
    }
    scroll.setAttribute("aria-rowcount", matrix.rows);
    scroll.setAttribute("aria-colcount", matrix.cols);
    layOut();
  }
  function mark(best, off) {
    Object.assign(map, { best, off });
    redraw();
  }
  function zoomBy(steps) {
    if (steps > 0 && size.most) return;
    zoom = steps === 0 ? 0 : Math.max(0, zoom + steps);
    layOut();
    if (map.cursor) go(map.cursor);
  }
  listen(parts, { point, go, redraw, under: (event) => cellUnder(event, scroll, map.matrix, size) });
  scroll.addEventListener("focus", () => {
    if (scroll.matches(":focus-visible")) go(map.cursor ?? [0, Math.max(0, map.best[0] ?? 0)]);
  });
  const resized = new ResizeObserver(() => {
    if (!around) resized.observe((around = node.parentElement)); // its height says how much room there is
    layOut();
  });
  let around = null;
  resized.observe(node);
  const close = () => {
    resized.disconnect();
    cancel();
  };
  const cursor = () => map.cursor;
  return { node, focusable: scroll, here, cursor, show, mark, zoom: zoomBy, point, go, inSight, close };
}

/** The cell under the pointer, or null. */
function cellUnder(event, scroll, { rows, cols }, size) {
  const box = scroll.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left - scroll.clientLeft, event.clientY - box.top - scroll.clientTop];
  if (x < 0 || y < 0 || x >= scroll.clientWidth || y >= scroll.clientHeight) return null;
  const at = [Math.floor((y + scroll.scrollTop) / size.h), Math.floor((x + scroll.scrollLeft) / size.w)];
  return at[0] < rows && at[1] < cols ? at : null;
}

function listen({ scroll, left }, { point, go, redraw, under }) {
  scroll.addEventListener("pointermove", (event) => point(under(event)));
  scroll.addEventListener("pointerleave", () => point(null));
  scroll.addEventListener("click", (event) => {
    const at = under(event);
    if (at) go(at);
  });
  scroll.addEventListener("scroll", redraw);
  const scrollFromNames = (event) => {
    const before = scroll.scrollTop;
    scroll.scrollTop += event.deltaY;
    if (scroll.scrollTop !== before) event.preventDefault();
  };
  left.addEventListener("wheel", scrollFromNames, { passive: false });
}

/** Draws what is in sight, at most once a frame; `sizeNow()` is the size of a cell. */
function painter({ node, list, above, canvas, scroll }, map, names, sizeNow) {
  let palette = null;
  let frame = 0;
  let patience = PATIENCE;
  const redraw = () => {
    frame ||= requestAnimationFrame(draw);
  };
  function rowsInSight({ h: height }) {
    const first = Math.max(0, Math.floor(scroll.scrollTop / height));
    const last = Math.floor((scroll.scrollTop + scroll.clientHeight) / height);
    return { first, last: Math.min(map.matrix.rows - 1, last) };
  }
  function drawRowNames({ first, last }, { h: height }) {
    const readable = height >= READABLE;
    node.toggleAttribute("data-small", !readable);
    list.parentElement.style.height = `${scroll.clientHeight}px`;
    if (!readable) return list.replaceChildren();
    const rows = [];
    for (let i = first; i <= last; i++) {
      const row = names.row(i);
      row.toggleAttribute("data-at", map.hover?.[0] === i || map.cursor?.[0] === i);
      row.style.height = `${height}px`;
      rows.push(row);
    }
    const same = rows.length === list.children.length && rows.every((row, k) => list.children[k] === row);
    if (!same) list.replaceChildren(...rows);
    list.style.transform = `translateY(${first * height - scroll.scrollTop}px)`;
  }
  function draw() {
    frame = 0;
    const { matrix } = map;
    if (!node.isConnected || !matrix.rows || !matrix.cols) return;
    if (!scroll.clientWidth) {
      // JupyterLab hides everything while it changes its theme, and no observer sees it come back
      if (patience-- > 0) setTimeout(redraw, 50);
      return;
    }
    patience = PATIENCE;
    palette ??= readPalette(node);
    const [size, ratio] = [sizeNow(), Math.max(1, window.devicePixelRatio || 1)];
    const rows = rowsInSight(size);
    drawRowNames(rows, size);
    const view = { left: scroll.scrollLeft, top: scroll.scrollTop, w: size.w, h: size.h, ratio, ...rows };
    const width = Math.min(scroll.clientWidth, matrix.cols * size.w);
    const height = Math.min(scroll.clientHeight, matrix.rows * size.h);
    paintCells(canvas, { ...view, width, height }, map, palette);
    const isAt = (j) => map.cursor?.[1] === j || map.hover?.[1] === j;
    paintColumnNames(
      above,
      { ...view, width: scroll.clientWidth },
      { cols: matrix.cols, nameOf: names.column, isAt },
      palette,
    );
  }
  const undoTheme = onTheme(() => {
    palette = null;
    redraw();
  });
  const cancel = () => {
    undoTheme();
    cancelAnimationFrame(frame);
  };
  return { redraw, cancel };
}
