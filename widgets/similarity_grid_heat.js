/**
 * A matrix as a picture that scrolls, with names at the left and above, a cursor for mouse and
 * keyboard, and a grid of one cell that tells a screen reader where the cursor is.
 * It knows levels and places; what a row, a column or a cell means is said by whoever uses it.
 */
import { h } from "./shared/dom.js";
import { colours, matrixPixels, onTheme, ramp, rgb } from "./similarity_grid_pixels.js";

const TALL = 22; // pixels of a row at most; from READABLE on its name stands beside it
const WIDE = 26;
const READABLE = 16;
const NAMED = 12; // pixels of a column from which its name stands above it
const WINDOW = 352; // pixels of the window's height at most
const STEP = 1.6;
const PATIENCE = 40; // times that a picture out of sight is tried again
let made = 0;

/** Pixels of a cell: the whole matrix in sight at zoom 0, then larger step by step. */
export function cellSize({ rows, cols }, width, zoom) {
  const scale = STEP ** zoom;
  const fit = { w: Math.min(WIDE, width / Math.max(1, cols)), h: Math.min(TALL, WINDOW / Math.max(1, rows)) };
  return {
    w: Math.min(WIDE, fit.w * scale),
    h: Math.min(TALL, fit.h * scale),
    most: fit.w * scale >= WIDE && fit.h * scale >= TALL,
  };
}

/** `names.row(i)` is a node, `names.column(j)` a string, `names.cell(i, j)` what is said of a cell. */
export function heatView({ label, names, onPoint = () => {}, onZoom = () => {} }) {
  const left = h("div", { class: "mll-heat-names" });
  const list = h("div", { class: "mll-heat-list" });
  left.append(h("div", { class: "mll-heat-window" }, list));
  const above = h("canvas", { class: "mll-heat-above", "aria-hidden": "true" });
  const canvas = h("canvas", { class: "mll-heat-cells", "aria-hidden": "true" });
  const area = h("div", { class: "mll-heat-area" }, canvas);
  const spot = h("div", { role: "gridcell", id: `mll-heat-${++made}` });
  const line = h("div", { role: "row" }, spot);
  const scroll = h(
    "div",
    { class: "mll-heat-scroll", role: "grid", tabindex: 0, "aria-label": label },
    area,
    h("div", { class: "mll-spoken", role: "presentation" }, line),
  );
  const node = h("div", { class: "mll-heat" }, left, above, scroll);
  let matrix = { levels: new Uint8Array(0), rows: 0, cols: 0 };
  let best = [];
  let off = new Set();
  let size = { w: 1, h: 1, most: true };
  let zoom = 0;
  let cursor = null; // [row, column] of the keyboard
  let hover = null;
  let table = null;
  let ink = {};
  let booked = 0;
  let patience = PATIENCE;

  const look = () => {
    const [paper, below, ...stops] = colours(node, [
      "--mll-paper",
      "--mll-heat-below",
      "--mll-heat-0",
      "--mll-heat-1",
      "--mll-heat-2",
      "--mll-heat-3",
      "--mll-heat-4",
    ]);
    const [mark, cross, text] = colours(node, ["--mll-heat-mark", "--mll-ink", "--mll-ink-2"]);
    table = ramp(stops, below);
    ink = { paper, mark, cross, text, font: getComputedStyle(node).fontFamily };
  };
  /** Width and height in CSS pixels; the canvas has the screen's own. */
  const fitted = (board, width, height, ratio) => {
    [board.width, board.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    [board.style.width, board.style.height] = [`${width}px`, `${height}px`];
    return board.getContext("2d");
  };
  const span = () => ({
    first: Math.max(0, Math.floor(scroll.scrollTop / size.h)),
    last: Math.min(matrix.rows - 1, Math.floor((scroll.scrollTop + scroll.clientHeight) / size.h)),
  });

  function drawCells(width, height, ratio) {
    const context = fitted(canvas, width, height, ratio);
    const view = { left: scroll.scrollLeft, top: scroll.scrollTop, width, height, w: size.w, h: size.h, ratio };
    const { pixels, wide, high } = matrixPixels(matrix, view, table, 0);
    if (wide && high) context.putImageData(new ImageData(new Uint8ClampedArray(pixels.buffer), wide, high), 0, 0);
    context.scale(ratio, ratio);
    const box = (i, j) => [j * size.w - view.left, i * size.h - view.top, size.w, size.h];
    const { first, last } = span();
    context.fillStyle = rgb(ink.paper, 0.72);
    for (let i = first; i <= last; i++)
      if (off.has(i)) context.fillRect(-view.left, box(i, 0)[1], matrix.cols * size.w, size.h);
    context.strokeStyle = rgb(ink.mark);
    context.lineWidth = Math.min(2, Math.max(1, size.h / 8));
    for (let i = first; i <= last; i++) {
      if (best[i] < 0 || off.has(i)) continue;
      const [x, y, w, high] = box(i, best[i]);
      const wider = Math.max(0, 5 - w) / 2;
      const higher = Math.max(0, 3 - high) / 2;
      context.strokeRect(x - wider + 0.5, y - higher + 0.5, w + 2 * wider - 1, high + 2 * higher - 1);
    }
    for (const [at, strength] of [
      [hover, 0.45],
      [cursor, 0.9],
    ]) {
      if (!at) continue;
      const [x, y, w, high] = box(...at);
      context.strokeStyle = rgb(ink.cross, strength / 2.5);
      context.lineWidth = 1;
      context.strokeRect(-view.left + 0.5, y + 0.5, matrix.cols * size.w - 1, high - 1);
      context.strokeRect(x + 0.5, -view.top + 0.5, w - 1, matrix.rows * size.h - 1);
      context.strokeStyle = rgb(ink.cross, strength);
      context.lineWidth = 2;
      context.strokeRect(x - 1, y - 1, w + 2, high + 2);
    }
  }
  function drawAbove(width, ratio) {
    const named = size.w >= NAMED;
    const height = named ? 84 : 16;
    const context = fitted(above, width, height, ratio);
    context.scale(ratio, ratio);
    context.fillStyle = rgb(ink.text);
    context.font = `11px ${ink.font}`;
    const { scrollLeft } = scroll;
    const [first, last] = [
      Math.floor(scrollLeft / size.w),
      Math.min(matrix.cols - 1, Math.floor((scrollLeft + width) / size.w)),
    ];
    const every = named ? 1 : ([5, 10, 20, 50, 100, 200, 500, 1000].find((n) => n * size.w >= 44) ?? 1000);
    for (let j = first; j <= last; j++) {
      const x = (j + 0.5) * size.w - scrollLeft;
      if (!named) {
        if ((j + 1) % every === 0 || j === 0) {
          context.textAlign = x < 12 ? "left" : "center";
          context.fillText(String(j + 1), x < 12 ? Math.max(0, x - 3) : x, 11);
        }
        continue;
      }
      const at = (cursor ?? hover)?.[1] === j || hover?.[1] === j;
      context.save();
      context.translate(x + 4, height - 4);
      context.rotate(-Math.PI / 2);
      context.fillStyle = rgb(at ? ink.cross : ink.text);
      context.font = `${at ? "600 " : ""}11px ${ink.font}`;
      let text = names.column(j);
      if (context.measureText(text).width > height - 8) {
        const characters = [...text].slice(0, 40);
        while (characters.length > 1 && context.measureText(`${characters.join("")}…`).width > height - 8)
          characters.pop();
        text = `${characters.join("")}…`;
      }
      context.fillText(text, 0, 0);
      context.restore();
    }
  }
  function drawNames() {
    const readable = size.h >= READABLE;
    node.toggleAttribute("data-small", !readable);
    list.parentElement.style.height = `${scroll.clientHeight}px`;
    if (!readable) return list.replaceChildren();
    const { first, last } = span();
    const rows = [];
    for (let i = first; i <= last; i++) {
      const row = names.row(i);
      row.toggleAttribute("data-at", hover?.[0] === i || cursor?.[0] === i);
      row.style.height = `${size.h}px`;
      rows.push(row);
    }
    if (rows.length !== list.children.length || rows.some((row, k) => list.children[k] !== row))
      list.replaceChildren(...rows);
    list.style.transform = `translateY(${first * size.h - scroll.scrollTop}px)`;
  }
  function draw() {
    booked = 0;
    if (!node.isConnected || !matrix.rows || !matrix.cols) return;
    if (!scroll.clientWidth) {
      // JupyterLab hides everything while it changes its theme, and no observer sees it come back
      if (patience-- > 0) setTimeout(redraw, 50);
      return;
    }
    patience = PATIENCE;
    if (!table) look();
    const ratio = Math.max(1, window.devicePixelRatio || 1);
    const width = Math.min(scroll.clientWidth, matrix.cols * size.w);
    drawNames();
    drawCells(width, Math.min(scroll.clientHeight, matrix.rows * size.h), ratio);
    drawAbove(scroll.clientWidth, ratio);
  }
  const redraw = () => {
    booked ||= requestAnimationFrame(draw);
  };
  function lay() {
    const width = node.clientWidth;
    if (!width) return;
    const names = width > 640 ? 208 : 160;
    size = cellSize(matrix, width - 2, zoom);
    const beside = size.h >= READABLE ? names : 0;
    if (beside) size = cellSize(matrix, width - beside - 2, zoom);
    node.style.gridTemplateColumns = `${beside}px minmax(0, 1fr)`;
    [area.style.width, area.style.height] = [`${matrix.cols * size.w}px`, `${matrix.rows * size.h}px`];
    const border = matrix.cols * size.w > width - beside ? 14 : 2; // with the scroll bar, if there is one
    scroll.style.height = `${Math.min(WINDOW, matrix.rows * size.h) + border}px`;
    onZoom({ zoom, most: size.most, readable: beside > 0, cells: Math.max(1 / size.w, 1 / size.h) });
    redraw();
  }
  const inside = ([i, j]) => [Math.max(0, Math.min(matrix.rows - 1, i)), Math.max(0, Math.min(matrix.cols - 1, j))];
  const tell = () => onPoint(hover ?? cursor);
  const under = (event) => {
    const box = scroll.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left - scroll.clientLeft, event.clientY - box.top - scroll.clientTop];
    if (x < 0 || y < 0 || x >= scroll.clientWidth || y >= scroll.clientHeight) return null;
    const at = [Math.floor((y + scroll.scrollTop) / size.h), Math.floor((x + scroll.scrollLeft) / size.w)];
    return at[0] < matrix.rows && at[1] < matrix.cols ? at : null;
  };
  function point(at) {
    if (String(at) === String(hover)) return;
    hover = at;
    tell();
    redraw();
  }
  function go(to) {
    if (!matrix.rows || !matrix.cols) return;
    hover = null;
    cursor = inside(to);
    const [i, j] = cursor;
    const { clientWidth, clientHeight } = scroll;
    const shift = (from, size, window, at) =>
      at * size < from ? at * size : (at + 1) * size > from + window ? (at + 1) * size - window : from;
    scroll.scrollTop = shift(scroll.scrollTop, size.h, clientHeight, i);
    scroll.scrollLeft = shift(scroll.scrollLeft, size.w, clientWidth, j);
    line.setAttribute("aria-rowindex", i + 1);
    spot.setAttribute("aria-colindex", j + 1);
    spot.textContent = names.cell(i, j);
    scroll.setAttribute("aria-activedescendant", spot.id);
    tell();
    redraw();
  }
  scroll.addEventListener("pointermove", (event) => point(under(event)));
  scroll.addEventListener("pointerleave", () => point(null));
  scroll.addEventListener("click", (event) => {
    const at = under(event);
    if (at) go(at);
  });
  scroll.addEventListener("scroll", redraw);
  scroll.addEventListener("focus", () => {
    if (scroll.matches(":focus-visible")) go(cursor ?? [0, Math.max(0, best[0] ?? 0)]);
  });
  left.addEventListener(
    "wheel",
    (event) => {
      const before = scroll.scrollTop;
      scroll.scrollTop += event.deltaY;
      if (scroll.scrollTop !== before) event.preventDefault();
    },
    { passive: false },
  );
  const watch = new ResizeObserver(lay);
  watch.observe(node);
  const undoTheme = onTheme(() => {
    table = null;
    redraw();
  });
  return {
    node,
    focusable: scroll,
    go,
    redraw,
    get at() {
      return hover ?? cursor;
    },
    get cursor() {
      return cursor;
    },
    /** Another matrix: zoom and cursor begin anew. */
    show(next) {
      const same = next.rows === matrix.rows && next.cols === matrix.cols;
      matrix = next;
      if (!same) {
        [zoom, cursor, hover] = [0, null, null];
        scroll.removeAttribute("aria-activedescendant");
        tell();
      }
      scroll.setAttribute("aria-rowcount", matrix.rows);
      scroll.setAttribute("aria-colcount", matrix.cols);
      lay();
    },
    mark(columns, rowsOff) {
      [best, off] = [columns, rowsOff];
      redraw();
    },
    zoom(by) {
      if (by > 0 && size.most) return;
      zoom = by === 0 ? 0 : Math.max(0, zoom + by);
      lay();
      if (cursor) go(cursor);
    },
    point,
    close() {
      watch.disconnect();
      undoTheme();
      cancelAnimationFrame(booked);
    },
  };
}
