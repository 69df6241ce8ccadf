/** A map of values over two strengths as pixels: bands of one colour each, with a line where one ends. */
import { mixed } from "./shared/heat.js";

const GROWING = [1, 2, 5]; // times a power of ten
const EVEN = [1, 2, 2.5, 5];
const MOST_LEVELS = [7, 6]; // of those that grow, and of those that are even
const LINE = 0.45; // of the ink in a line

/** The least number that is at least x, of some times a power of ten. */
function nice(x, times) {
  const ten = 10 ** Math.floor(Math.log10(x));
  return (times.find((k) => k * ten >= x * (1 - 1e-9)) ?? 10) * ten;
}

/** The levels of a divergence, which grows as the square of the strengths: 0.1, 0.2, 0.5, 1 ... below the most. */
function growing(most) {
  const levels = [];
  if (!(most > 0)) return levels;
  const next = (x) => nice(x, GROWING);
  for (let level = next(most) / 10 ** 3; level < most; level = next(level * 1.5)) levels.push(level);
  return levels.slice(-MOST_LEVELS[0]).map((x) => Number(x.toPrecision(3)));
}

/** Levels with even steps between two values. */
function even(low, high) {
  if (!(high > low)) return [];
  const step = nice((high - low) / MOST_LEVELS[1], EVEN);
  const first = Math.floor(low / step) + 1;
  const n = Math.ceil(high / step) - first;
  return Array.from({ length: n }, (_, k) => Number(((first + k) * step).toPrecision(6)));
}

/** Where lines run: of the KL, or (`isLogprob`) of a log-probability. What is not known, null, counts nothing. */
export function levelsOf(values, isLogprob) {
  const known = values.filter((x) => x !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  return isLogprob ? even(low, high) : growing(high);
}

/** A colour for each band between the levels, [r, g, b]. */
export const bandColours = (levels, stops) =>
  Array.from({ length: levels.length + 1 }, (_, k) => mixed(stops, levels.length ? k / levels.length : 0));

/** The value and how steep it is, at a place in cells; between cells it is interpolated. NaN beside one not known. */
function sampler({ n, values }) {
  const at = (i, j) => values[i * n + j] ?? NaN;
  return (x, y) => {
    const [j, i] = [Math.min(n - 2, Math.floor(x)), Math.min(n - 2, Math.floor(y))];
    const [u, v] = [x - j, y - i];
    const [a, b, c, d] = [at(i, j), at(i, j + 1), at(i + 1, j), at(i + 1, j + 1)];
    const [lower, upper] = [a + (b - a) * u, c + (d - c) * u];
    return [lower + (upper - lower) * v, (b - a) * (1 - v) + (d - c) * v, upper - lower];
  };
}

/** The pixels of a map, for ImageData: the first row of values at the bottom. `paper` is where nothing is known. */
export function mapPixels(grid, wide, high, levels, { bands, ink, paper }) {
  const out = new Uint8ClampedArray(4 * wide * high);
  const valueAt = sampler(grid);
  const [across, down] = [(grid.n - 1) / Math.max(1, wide - 1), (grid.n - 1) / Math.max(1, high - 1)];
  for (let y = 0, p = 0; y < high; y++) {
    for (let x = 0; x < wide; x++, p += 4) {
      const [value, dx, dy] = valueAt(x * across, (high - 1 - y) * down);
      let band = 0;
      while (band < levels.length && value >= levels[band]) band++;
      const slope = Math.hypot(dx * across, dy * down); // a pixel
      const gap = Math.min(value - (levels[band - 1] ?? -Infinity), (levels[band] ?? Infinity) - value);
      const line = Number.isNaN(value) ? 0 : LINE * Math.max(0, 1 - gap / (slope || 1e-9));
      const colour = Number.isNaN(value) ? paper : bands[band];
      for (let c = 0; c < 3; c++) out[p + c] = colour[c] + (ink[c] - colour[c]) * line;
      out[p + 3] = 255;
    }
  }
  return out;
}

/** Strengths at a place in a box, each from 0 (left, top) to 1, on axes that go so far to both sides; in steps. */
export function strengthsAt([x, y], [right, up]) {
  const at = (share, reach) => {
    const step = stepOf(reach);
    const clear = Math.min(1, Math.max(-1, 2 * share - 1)) * reach;
    return Number((Math.round(clear / step) * step).toPrecision(12));
  };
  return [at(x, right), at(1 - y, up)];
}

/** What an arrow key moves on an axis: the 40th part of it. */
export const stepOf = (reach) => reach / 40;

/** Where a point stands in the box, 0 (left, top) to 1, also if it is beyond it. */
export function placeOf([x, y], [right, up]) {
  const share = (value, reach) => (Math.min(1, Math.max(-1, value / reach)) + 1) / 2;
  return [share(x, right), 1 - share(y, up)];
}
