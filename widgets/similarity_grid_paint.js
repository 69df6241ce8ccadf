/** Drawing of a heat map on its two canvases: cells with their marks, and the names above them. */
import { colours } from "./shared/colours.js";
import { HEAT } from "./shared/heat.js";
import { matrixPixels, ramp, rgb } from "./similarity_grid_pixels.js";

const NAMED = 12; // pixels of a column from which its name stands above it
const NAME_HEIGHT = 84;
const NUMBER_HEIGHT = 16;
const NUMBERED = [5, 10, 20, 50, 100, 200, 500, 1000]; // every so many columns have their number, by their width

/** The colours and the font of a heat map, as the page's theme has them. */
export function readPalette(node) {
  const [paper, below, ...stops] = colours(node, ["--mll-paper", "--mll-heat-below", ...HEAT]);
  const [mark, cross, text] = colours(node, ["--mll-heat-mark", "--mll-ink", "--mll-ink-2"]);
  return { paper, mark, cross, text, levels: ramp(stops, below), font: getComputedStyle(node).fontFamily };
}

/** Size a canvas in CSS pixels, with the screen's own pixels in it, and get what draws on it in CSS pixels. */
function contextOf(canvas, width, height, ratio) {
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return context;
}

/**
 * The cells in sight. `view` is as for `matrixPixels`, with the first and last row in sight; `best`
 * has the column of each row's best cell, `off` the rows that do not count.
 */
export function paintCells(canvas, view, { matrix, best, off, hover, cursor }, palette) {
  const context = contextOf(canvas, view.width, view.height, view.ratio);
  const { pixels, wide, high } = matrixPixels(matrix, view, palette.levels, 0);
  if (wide && high) context.putImageData(new ImageData(new Uint8ClampedArray(pixels.buffer), wide, high), 0, 0);
  fadeRows(context, view, matrix, off, palette);
  ringBest(context, view, best, off, palette);
  crossHair(context, view, matrix, hover, 0.45, palette);
  crossHair(context, view, matrix, cursor, 0.9, palette);
}

/** Left, top, width and height of a cell on the canvas. */
const boxOf = ({ left, top, w, h }, i, j) => [j * w - left, i * h - top, w, h];

function fadeRows(context, view, { cols }, off, { paper }) {
  context.fillStyle = rgb(paper, 0.72);
  for (let i = view.first; i <= view.last; i++) {
    if (off.has(i)) context.fillRect(-view.left, boxOf(view, i, 0)[1], cols * view.w, view.h);
  }
}

/** A ring around the best cell of each row: at least 5 by 3 pixels, however small the cells are. */
function ringBest(context, view, best, off, { mark }) {
  context.strokeStyle = rgb(mark);
  context.lineWidth = Math.min(2, Math.max(1, view.h / 8));
  for (let i = view.first; i <= view.last; i++) {
    if (best[i] < 0 || off.has(i)) continue;
    const [x, y, w, h] = boxOf(view, i, best[i]);
    const wider = Math.max(0, 5 - w) / 2;
    const higher = Math.max(0, 3 - h) / 2;
    context.strokeRect(x - wider + 0.5, y - higher + 0.5, w + 2 * wider - 1, h + 2 * higher - 1);
  }
}

/** The row and the column of a cell faintly, the cell itself strongly. */
function crossHair(context, view, { rows, cols }, cell, strength, { cross }) {
  if (!cell) return;
  const [x, y, w, h] = boxOf(view, ...cell);
  context.strokeStyle = rgb(cross, strength / 2.5);
  context.lineWidth = 1;
  context.strokeRect(-view.left + 0.5, y + 0.5, cols * w - 1, h - 1);
  context.strokeRect(x + 0.5, -view.top + 0.5, w - 1, rows * h - 1);
  context.strokeStyle = rgb(cross, strength);
  context.lineWidth = 2;
  context.strokeRect(x - 1, y - 1, w + 2, h + 2);
}

/** The columns in sight, {j, name, at} with their middles; the numbers of some where they are too narrow for names. */
export function columnsInSight({ left, width, w }, { cols, nameOf }) {
  const named = w >= NAMED;
  const first = Math.floor(left / w);
  const last = Math.min(cols - 1, Math.floor((left + width) / w));
  const every = named ? 1 : (NUMBERED.find((n) => n * w >= 44) ?? 1000);
  const all = Array.from({ length: Math.max(0, last - first + 1) }, (_, k) => first + k);
  const columns = all
    .filter((j) => j % every === 0)
    .map((j) => ({ j, name: named ? nameOf(j) : String(j), at: (j + 0.5) * w - left }));
  return { named, columns };
}

/** Names of the columns in sight, upright, or their numbers. */
export function paintColumnNames(canvas, { left, width, w, ratio }, { cols, nameOf, isAt }, palette) {
  const { named, columns } = columnsInSight({ left, width, w }, { cols, nameOf });
  const context = contextOf(canvas, width, named ? NAME_HEIGHT : NUMBER_HEIGHT, ratio);
  context.fillStyle = rgb(palette.text);
  context.font = `11px ${palette.font}`;
  for (const { j, name, at } of columns) {
    if (named) paintName(context, name, at, isAt(j), palette);
    else paintNumber(context, name, at);
  }
}

function paintNumber(context, number, x) {
  context.textAlign = x < 12 ? "left" : "center";
  context.fillText(number, x < 12 ? Math.max(0, x - 3) : x, 11);
}

function paintName(context, name, x, isAt, { cross, text, font }) {
  context.save();
  context.translate(x + 4, NAME_HEIGHT - 4);
  context.rotate(-Math.PI / 2);
  context.fillStyle = rgb(isAt ? cross : text);
  context.font = `${isAt ? "600 " : ""}11px ${font}`;
  context.fillText(shortened(context, name, NAME_HEIGHT - 8), 0, 0);
  context.restore();
}

/** As much of a text as fits in `width` pixels. */
function shortened(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  const characters = [...text].slice(0, 40);
  while (characters.length > 1 && context.measureText(`${characters.join("")}…`).width > width) characters.pop();
  return `${characters.join("")}…`;
}
