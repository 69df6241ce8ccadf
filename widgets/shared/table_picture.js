/** A table as a picture: columns as wide as what stands in them, bars under the words. No text is cut. */
import { fitted } from "./fitted.js";
import { box, EDGE, heading, measuring, MONO, SANS, SIZE, svg, words } from "./svg.js";

const WIDEST = 320; // pixels of a column; what is longer goes on in another line
const LEAST = 480; // of the picture
const PAD = 7; // on either side of a cell
const LINE = 15;
const BASE = 11; // from the top of a line to the feet of its letters
export const COLOURS = ["paper", "ink", "ink-2", "line", "kept", "removed"];

const weightOf = ({ bold }) => (bold ? 700 : 400);
const familyOf = ({ mono }) => (mono ? MONO : SANS);

/** `measure(text, cell)`: how many pixels wide a text is as a cell has it. */
function measures() {
  const known = new Map();
  return (text, cell) => {
    const font = `${weightOf(cell)} ${SIZE}px ${familyOf(cell)}`;
    if (!known.has(font)) known.set(font, measuring(font));
    return known.get(font)(text);
  };
}

/** A cell with its text in lines, and what is left of the column for it. */
function laidOut(cell, room, measure) {
  const indent = cell.indent ?? 0;
  const lines = fitted(cell.text, Math.max(PAD, room - indent), (text) => measure(text, cell));
  return { ...cell, indent, lines };
}

function cellParts({ lines, indent, bars = [], faint, ...look }, { end }, { x, y, wide, high }, colours) {
  const place = (share) => x + 1 + share * (wide - 2);
  const number = (text, at) => words(at, y + 3 + BASE, text, { fill: colours.ink, "text-anchor": "middle" });
  const bar = ({ from, to, text, ...more }) => {
    const part = box(place(from), y + 2, place(to) - place(from), high - 4, more);
    return text ? `${part}\n${number(text, place((from + to) / 2))}` : part;
  };
  const font = { "font-family": familyOf(look), "font-weight": weightOf(look), fill: colours[faint ? "ink-2" : "ink"] };
  const [at, anchor] = end ? [x + wide - PAD, { "text-anchor": "end" }] : [x + PAD + indent, {}];
  const line = (text, k) => words(at, y + 3 + BASE + k * LINE, text, { ...font, ...anchor });
  return [...bars.filter(({ from, to }) => to > from).map(bar), ...lines.map(line)];
}

/**
 * `says` are the lines above it. Columns are {name}, `end` where words stand at the right, `least` for its least
 * width. Cells are {text}, `bold`, `mono`, `faint`, `indent` in pixels, and `bars` under it, [{from, to, fill}] in
 * shares of its width, with a short `text` each.
 */
export function tablePicture({ says, columns, rows, measure = measures() }, colours) {
  const heads = columns.map(({ name }) => ({ text: name, faint: true }));
  const all = [heads, ...rows];
  const longest = (c) => Math.max(...all.map((row) => (row[c].indent ?? 0) + measure(row[c].text, row[c])));
  const wide = columns.map(({ least = 0 }, c) => Math.ceil(Math.max(least, Math.min(WIDEST, longest(c)))) + 2 * PAD);
  const lefts = wide.map((_, c) => wide.slice(0, c).reduce((sum, x) => sum + x, EDGE));
  const right = lefts.at(-1) + wide.at(-1);
  const { parts, bottom } = heading(says, Math.max(LEAST, right + EDGE), colours);
  let y = bottom;
  for (const row of all) {
    const cells = row.map((cell, c) => laidOut(cell, wide[c] - 2 * PAD, measure));
    const high = 5 + LINE * Math.max(...cells.map(({ lines }) => lines.length));
    if (row !== heads) parts.push(box(EDGE, y, right - EDGE, 1, { fill: colours.line }));
    cells.forEach((cell, c) => {
      parts.push(...cellParts(cell, columns[c], { x: lefts[c], y, wide: wide[c], high }, colours));
    });
    y += high;
  }
  return svg(Math.max(LEAST, right + EDGE), y + EDGE, parts, colours);
}
