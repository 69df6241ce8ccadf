/**
 * The numbers of late interaction: row maxima, what each query token adds to the score, words of
 * several pieces, levels of a picture. Plain functions; they know neither the DOM nor tokens.
 */

/** Each row's largest value and the first column that has it; -1 and 0 where there is no column. */
export function rowMaxima(values, rows, cols) {
  const column = new Int32Array(rows).fill(-1);
  const value = new Float64Array(rows);
  for (let i = 0; i < rows; i++) {
    const start = i * cols;
    let best = -1;
    for (let j = 0; j < cols; j++) if (best < 0 || values[start + j] > values[start + best]) best = j;
    column[i] = best;
    if (best >= 0) value[i] = values[start + best];
  }
  return { column, value };
}

/** The sum in order, leaving out what is off: the score is the sum of its contributions and nothing else. */
export const sumOf = (values, off = []) => {
  const out = new Set(off);
  return values.reduce((sum, x, i) => (out.has(i) ? sum : sum + x), 0);
};

/**
 * Numbers rounded so that the printed ones add up to the printed sum: each is rounded down, and
 * the units that are missing go to those that lost most. Each stays within one unit.
 */
export function addsUp(values, digits = 3) {
  const unit = 10 ** digits;
  const parts = Array.from(values, (x) => Math.floor(x * unit));
  const total = Math.round(Array.from(values).reduce((sum, x) => sum + x, 0) * unit);
  let missing = total - parts.reduce((sum, x) => sum + x, 0);
  const lost = Array.from(values, (x, i) => [x * unit - parts[i], i]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
  for (const [, i] of lost) if (missing-- > 0) parts[i] += 1;
  return { parts: parts.map((x) => x / unit), total: total / unit };
}

/** Starts of runs of equal numbers: [0, 0, 1, 2, 2] -> [0, 2, 3, 5]; the last one is the end. */
export function groupStarts(groups) {
  const starts = [];
  groups.forEach((group, i) => {
    if (i === 0 || group !== groups[i - 1]) starts.push(i);
  });
  return [...starts, groups.length];
}

/**
 * The matrix by words. A cell is the mean, over the pieces of the query's word, of the best piece
 * of the document's word: so it stays on the scale of one similarity.
 */
export function byWords({ values, cols }, rowStarts, colStarts) {
  const [m, n] = [rowStarts.length - 1, colStarts.length - 1];
  const merged = new Float32Array(m * n);
  for (let a = 0; a < m; a++) {
    const pieces = rowStarts[a + 1] - rowStarts[a];
    for (let b = 0; b < n; b++) {
      let sum = 0;
      for (let i = rowStarts[a]; i < rowStarts[a + 1]; i++) {
        let best = -Infinity;
        for (let j = colStarts[b]; j < colStarts[b + 1]; j++) best = Math.max(best, values[i * cols + j]);
        sum += best;
      }
      merged[a * n + b] = sum / pieces;
    }
  }
  return { values: merged, rows: m, cols: n };
}

/** The smallest and largest value; [0, 0] of nothing. */
export function extent(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const x of values) {
    if (x < low) low = x;
    if (x > high) high = x;
  }
  return low > high ? [0, 0] : [low, high];
}

/** Level 0 is below the scale, 1 to 255 go from its low end to its high end; where all is equal, nothing stands out. */
const levelOf = (x, low, high) =>
  x < low ? 0 : 1 + Math.round(254 * (high > low ? Math.min(1, (x - low) / (high - low)) : 0));

/** One level a cell, on one scale for all rows, or on each row's own when `scale` is null. */
export function levels({ values, rows, cols }, scale) {
  const out = new Uint8Array(rows * cols);
  for (let i = 0; i < rows; i++) {
    const row = values.subarray(i * cols, (i + 1) * cols);
    const [low, high] = scale ?? extent(row);
    for (let j = 0; j < cols; j++) out[i * cols + j] = levelOf(row[j], low, high);
  }
  return out;
}
