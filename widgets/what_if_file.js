/** What other settings would have made of a run as files: a table of the bars, and a picture of them. */
import { figure } from "./shared/export.js";
import { box, EDGE, heading, svg, words } from "./shared/svg.js";
import { number } from "./shared/text.js";
import { flippedAt, flipText, GIVEN, legendText, placeOf, tableRows, UNSURE } from "./what_if_words.js";

const AXIS = 44; // pixels for the numbers beside the bars
const HIGH = 160;
export const COLOURS = ["paper", "ink", "ink-2", "line", "kept", "removed", "warm-edge"];

/** As in the table below the bars, with numbers as numbers. */
export const csvRows = (bars, at, seen) =>
  tableRows(bars, at, seen).map(([step, , low, , now], i) =>
    low === "nowhere"
      ? [step, bars.texts[i], low, "", now]
      : [step, bars.texts[i], figure(bars.low[i]), figure(bars.high[i]), now],
  );

/** The bars as a picture, under the line that says what the chain would have chosen. */
export function picture({ bars, at, seen, line }, colours) {
  const step = Math.max(4, Math.min(24, 640 / bars.marks.length));
  const width = Math.max(520, 2 * EDGE + AXIS + step * bars.marks.length);
  const says = [line, flipText(at, bars, seen), ...legendText(bars).split(" · ")];
  const { parts, bottom } = heading(says, width, colours);
  const [left, right] = [EDGE + AXIS, width - EDGE];
  const y = (place) => bottom + HIGH * (1 - place);
  const out = new Set(flippedAt(at, bars, seen));
  const beside = { fill: colours["ink-2"], "text-anchor": "end" };
  parts.push(box(left, bottom, right - left, HIGH, { fill: "none", stroke: colours.line }));
  parts.push(words(left - 6, bottom + 9, number(bars.range[1], 4), beside));
  parts.push(words(left - 6, bottom + HIGH, number(bars.range[0], 4), beside));
  bars.marks.forEach((mark, i) => {
    const given = Boolean(mark & GIVEN);
    const [low, high] = given ? [0, 1] : [placeOf(bars.low[i], bars), placeOf(bars.high[i], bars)];
    if (low > high) return;
    const filled = { fill: colours.kept, "fill-opacity": mark & UNSURE ? 0.25 : 0.55 };
    const hollow = { fill: "none", stroke: colours["warm-edge"] };
    const none = { fill: "none", stroke: colours.removed, "stroke-dasharray": "2 2" };
    const look = given ? none : out.has(i) ? hollow : filled;
    const length = Math.max(1, (high - low) * HIGH);
    parts.push(box(left + (i + 0.08) * step, y(high), step * 0.84, length, look));
  });
  if (at !== null) parts.push(box(left - 4, y(placeOf(at, bars)) - 1, right - left + 4, 2, { fill: colours.ink }));
  return svg(width, bottom + HIGH + EDGE, parts, colours);
}
