/** The layers of a control vector as files: a table of them, and a picture of their bars with those that are chosen. */
import { csvTable, figure } from "./export.js";
import { lanesOf, rangeText } from "./layer_bars_words.js";
import { box, EDGE, heading, svg, words } from "./svg.js";

const NAME = 84; // pixels for what a lane is called
const HIGH = 64;
const GAP = 14;
const LEAST = 480;
export const COLOURS = ["paper", "ink", "ink-2", "line", "kept", "removed", "bad", "accent"];

/** A row a layer; what a training alone knows is there where it is known. */
export function csvOf({ layers = [], norms, n_held_out: n, separation, accuracy }, [first, last]) {
  const held = (i) => (n ? [figure(separation[i]), figure(accuracy[i])] : []);
  const isIn = (layer) => (layer >= first && layer <= last ? "yes" : "");
  return csvTable(
    ["layer", "length", ...(n ? ["sd apart", "share in order"] : []), "chosen"],
    layers.map((layer, i) => [layer, figure(norms[i]), ...held(i), isIn(layer)]),
  );
}

/** A lane above `bottom`, its bars `step` pixels apart. */
function laneParts({ name, shares, scale }, { left, bottom, step }, isIn, colours) {
  const bar = (share, i) => {
    const long = Math.max(1, Math.abs(share) * HIGH);
    const fill = share < 0 ? { fill: "none", stroke: colours.bad } : { fill: isIn(i) ? colours.kept : colours.removed };
    return share === null ? "" : box(left + (i + 0.11) * step, bottom - long, 0.78 * step, long, fill);
  };
  const says = [words(EDGE, bottom - 16, name), words(EDGE, bottom - 2, scale, { fill: colours["ink-2"] })];
  return [...says, box(left, bottom, shares.length * step, 1, { fill: colours.line }), ...shares.map(bar)];
}

export function picture({ title, rows, range }, colours) {
  const { layers } = rows;
  const step = Math.max(8, Math.min(28, 640 / layers.length));
  const [left, wide] = [EDGE + NAME, step * layers.length];
  const width = Math.max(LEAST, left + wide + EDGE);
  const lanes = lanesOf(rows);
  const { parts, bottom: top } = heading([title, rangeText(rows, range)], width, colours);
  const [low, high] = range.map((layer) => layers.indexOf(layer));
  const under = top + lanes.length * (HIGH + GAP);
  lanes.forEach((lane, k) => {
    const at = { left, step, bottom: top + (k + 1) * (HIGH + GAP) };
    parts.push(...laneParts(lane, at, (i) => i >= low && i <= high, colours));
  });
  const frame = { fill: colours.accent, "fill-opacity": 0.09, stroke: colours.accent };
  parts.push(box(left + low * step, top, (high - low + 1) * step, under - top, frame));
  const every = Math.ceil(20 / step);
  layers.forEach((layer, i) => {
    const look = { fill: colours["ink-2"], "text-anchor": "middle" };
    if (i % every === 0) parts.push(words(left + (i + 0.5) * step, under + GAP, layer, look));
  });
  return svg(width, under + GAP + EDGE, parts.filter(Boolean), colours);
}
