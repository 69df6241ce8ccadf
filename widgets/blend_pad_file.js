/** A map of two strengths as files: a table of its cells, and a picture of it with its axes and its scale. */
import { gridCells, pointText, signed } from "./blend_pad_words.js";
import { csvTable, figure } from "./shared/export.js";
import { box, EDGE, heading, image, svg, words } from "./shared/svg.js";

const WIDE = 440; // pixels of the map, if it is not wider on the page
const AXIS = 44; // for the numbers beside the map
const LINE = 18;
const LEVEL = 56; // of a colour of the scale with the number at its end
export const COLOURS = ["paper", "ink", "ink-2", "line"];

/** A row a cell: both strengths, the second first as they lie in the map, and the value in nats. */
export const csvOf = (grid, axes) =>
  csvTable(
    [...axes.map(({ name }) => name).reverse(), `${grid.of === "logprob" ? "logprob" : "KL"}, nats`],
    gridCells(grid, axes).map((row) => row.map(figure)),
  );

function scaleParts({ bands, levels, isLogprob }, y, colours) {
  const name = isLogprob ? "logprob, nats:" : "KL, nats:";
  const fill = (band) => ({ fill: `rgb(${band.join(" ")})`, stroke: colours.line });
  const swatch = (band, k) => box(EDGE + 90 + k * LEVEL, y + 2, 14, 12, fill(band));
  const level = (x, k) => words(EDGE + 90 + (k + 1) * LEVEL - 5, y + 12, signed(x), { "text-anchor": "end" });
  const ink = { fill: colours["ink-2"] };
  return [words(EDGE, y + 12, name, ink), ...bands.map(swatch), ...levels.map(level)];
}

/**
 * `map` is what was painted, {href, wide, high, bands, levels, isLogprob}, `place` where the point is in it, each
 * 0 to 1 from the left and the top.
 */
export function picture({ map, axes, at, place, says }, colours) {
  const times = Math.max(1, WIDE / map.wide);
  const [wide, high] = [map.wide * times, map.high * times];
  const width = Math.max(EDGE + AXIS + wide + EDGE, EDGE + 90 + map.bands.length * LEVEL + EDGE);
  const point = `the point: ${pointText(axes, at)}`;
  const { parts, bottom } = heading([...says, point, "before the chain, after the prompt"], width, colours);
  const [left, top] = [EDGE + AXIS, bottom + LINE];
  const [first, second] = axes;
  const [middle, end] = [{ "text-anchor": "middle" }, { "text-anchor": "end" }];
  const quiet = { fill: colours["ink-2"] };
  const [x, y] = [left + place[0] * wide, top + place[1] * high];
  const ring = { rx: 6, fill: colours.paper, stroke: colours.ink, "stroke-width": 2 };
  parts.push(words(EDGE, bottom + 10, `↑ ${second.name}`));
  parts.push(image(left, top, wide, high, map.href));
  parts.push(box(left, top, wide, high, { fill: "none", stroke: colours.line }));
  const nought = { fill: colours.ink, "fill-opacity": 0.25 };
  parts.push(box(left + wide / 2, top, 1, high, nought), box(left, top + high / 2, wide, 1, nought));
  parts.push(box(x - 6, y - 6, 12, 12, ring));
  parts.push(words(left - 6, top + 10, signed(second.reach), { ...quiet, ...end }));
  parts.push(words(left - 6, top + high, signed(-second.reach), { ...quiet, ...end }));
  const under = top + high + 14;
  parts.push(words(left, under, signed(-first.reach), quiet));
  parts.push(words(left + wide / 2, under, `→ ${first.name}`, middle));
  parts.push(words(left + wide, under, signed(first.reach), { ...quiet, ...end }));
  parts.push(...scaleParts(map, under + LINE, colours));
  return svg(width, under + 2 * LINE + EDGE, parts, colours);
}
