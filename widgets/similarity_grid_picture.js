/** A heat map as one picture to keep: names in full, cells, and above them what it shows. */
import { EDGE, heading, image, svg, words } from "./shared/svg.js";

const LEAST = 480; // pixels of the picture
const GAP = 8; // between a name and the cells
const NUMBER = 12; // of a line of numbers
export const COLOURS = ["paper", "ink", "ink-2"];

/**
 * What is in sight of a matrix. `cells` are {href, wide, high}, `rows` and `columns` are {name, at} with their
 * middle in pixels; `upright`: names of columns stand on their sides, else they are numbers.
 */
export function picture({ says, cells, rows, columns, upright, measure }, colours) {
  const longest = (some) => Math.ceil(Math.max(0, ...some.map(({ name }) => measure(name))));
  const left = EDGE + (rows.length ? longest(rows) + GAP : 0);
  const width = Math.max(LEAST, left + cells.wide + EDGE);
  const { parts, bottom } = heading(says, width, colours);
  const top = bottom + (upright ? longest(columns) : NUMBER) + GAP;
  const ink = { fill: colours["ink-2"] };
  const above = ({ name, at }) => {
    const [x, y] = [left + at, top - GAP / 2];
    const turn = { transform: `rotate(-90 ${x + 4} ${y})` };
    const [from, more] = upright ? [x + 4, turn] : [x, { "text-anchor": "middle" }];
    return words(from, y, name, { ...ink, ...more });
  };
  parts.push(...columns.map(above));
  parts.push(image(left, top, cells.wide, cells.high, cells.href));
  parts.push(...rows.map(({ name, at }) => words(EDGE, top + at + 4, name, ink)));
  return svg(width, top + cells.high + EDGE, parts, colours);
}
