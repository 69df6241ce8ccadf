/** Pictures of pixels: a matrix of levels in a window that scrolls. */
import { mixed } from "./shared/heat.js";

export const rgb = ([r, g, b], alpha = 1) => `rgb(${r} ${g} ${b} / ${alpha})`;

const little = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;
const packed = ([r, g, b]) =>
  (little ? (255 << 24) | (b << 16) | (g << 8) | r : (r << 24) | (g << 16) | (b << 8) | 255) >>> 0;

/** 256 packed colours: `below` for level 0, then `stops` ([r, g, b] each) evenly from 1 to 255. */
export function ramp(stops, below) {
  const table = new Uint32Array(256);
  table[0] = packed(below);
  for (let level = 1; level < 256; level++) table[level] = packed(mixed(stops, (level - 1) / 254));
  return table;
}

/** First and last cell under each pixel of one direction; -1 where there is none. */
function cellsUnder(pixels, from, size, count, ratio) {
  const first = new Int32Array(pixels).fill(-1);
  const last = new Int32Array(pixels).fill(-1);
  for (let p = 0; p < pixels; p++) {
    const a = Math.floor((from + p / ratio) / size + 1e-9);
    const b = Math.ceil((from + (p + 1) / ratio) / size - 1e-9) - 1;
    if (a >= count || b < 0) continue;
    [first[p], last[p]] = [Math.max(0, a), Math.max(a, Math.min(count - 1, b))];
  }
  return { first, last };
}

/**
 * The pixels of the part of a matrix that is in sight, packed as ImageData wants them. Where a
 * pixel covers several cells it shows the highest of them, so no match gets lost.
 *
 * `view`: left, top (pixels scrolled), width, height (of the window), w, h (of one cell), ratio.
 */
export function matrixPixels({ levels, rows, cols }, { left, top, width, height, w, h, ratio }, table, paper = 0) {
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
  const out = new Uint32Array(wide * high).fill(paper);
  const across = cellsUnder(wide, left, w, cols, ratio);
  const down = cellsUnder(high, top, h, rows, ratio);
  for (let y = 0; y < high; y++) {
    const [i0, i1] = [down.first[y], down.last[y]];
    if (i0 < 0) continue;
    if (y > 0 && i0 === i1 && down.first[y - 1] === i0 && down.last[y - 1] === i0) {
      out.copyWithin(y * wide, (y - 1) * wide, y * wide);
      continue;
    }
    for (let x = 0; x < wide; x++) {
      const [j0, j1] = [across.first[x], across.last[x]];
      if (j0 < 0) continue;
      let most = 0;
      for (let i = i0; i <= i1; i++) for (let j = j0; j <= j1; j++) most = Math.max(most, levels[i * cols + j]);
      out[y * wide + x] = table[most];
    }
  }
  return { pixels: out, wide, high };
}
