/**
 * Results of a search as a board shows them: scores from contributions, ranks and moves,
 * bars that add up, and why one document beats another. Plain functions.
 */
import { addsUp, sumOf } from "./shared/matrix.js";

/**
 * Ranks from scores, best first, 1 for the first; equal scores keep the order of `scores`.
 * `order[k]` is who has rank k + 1.
 */
export function ranking(scores) {
  const order = Array.from(scores, (_, i) => i).sort((a, b) => scores[b] - scores[a] || a - b);
  const rank = new Int32Array(order.length);
  order.forEach((i, k) => {
    rank[i] = k + 1;
  });
  return { order, rank };
}

const ENDINGS = ["th", "st", "nd", "rd"];
/** "1st", "2nd", "11th": a rank from 1. */
export const ordinal = (rank) => `${rank}${(rank % 100 > 10 && rank % 100 < 14 ? "" : ENDINGS[rank % 10]) || "th"}`;

/** "▲2" for two places up, "▼1", "=", or "new" for what had no rank before (0). */
export function moveMark(before, now) {
  if (!before) return "new";
  return before === now ? "=" : before > now ? `▲${before - now}` : `▼${now - before}`;
}

const rowOf = ({ values, cols }, k) => Array.from(values.subarray(k * cols, (k + 1) * cols));
const onOf = (cols, off) => Array.from({ length: cols }, (_, i) => i).filter((i) => !off.includes(i));

/**
 * Everything that follows when query tokens are switched. `board`: values (documents x query
 * tokens), rows, cols, before (rank elsewhere, 0 for none, or null).
 */
export function ranked(board, off) {
  const scores = Array.from({ length: board.rows }, (_, k) => sumOf(rowOf(board, k), off));
  const { order, rank } = ranking(scores);
  const all = off.length ? ranking(Array.from({ length: board.rows }, (_, k) => sumOf(rowOf(board, k)))).rank : null;
  const before = all ?? board.before;
  const move = Array.from({ length: board.rows }, (_, k) => (before ? moveMark(before[k], rank[k]) : ""));
  return { scores, order, rank, move, moved: move.filter((mark) => mark && mark !== "=").length };
}

/** What each query token adds at least, over all documents of the board. */
export function floors(board) {
  return Array.from({ length: board.cols }, (_, i) => {
    let least = Infinity;
    for (let k = 0; k < board.rows; k++) least = Math.min(least, board.values[k * board.cols + i]);
    return board.rows ? least : 0;
  });
}

/**
 * Bars of all documents on one axis: {start, low, high, segments(k)}. "whole" begins at 0; "difference" leaves
 * out what each token adds to every document alike, and begins at the sum of that. `segments(k)` gives
 * segments {i, from, to} with the value's sign kept: negative ones run to the left of the start.
 */
export function bars(board, off, kind) {
  const least = kind === "difference" ? floors(board) : Array(board.cols).fill(0);
  const on = onOf(board.cols, off);
  const start = on.reduce((sum, i) => sum + least[i], 0);
  const segments = (k) => {
    let [right, left] = [start, start];
    return on.map((i) => {
      const x = board.values[k * board.cols + i] - least[i];
      const from = x < 0 ? left + x : right;
      const to = x < 0 ? left : right + x;
      if (x < 0) left = from;
      else right = to;
      return { i, from, to, x };
    });
  };
  let [low, high] = [start, start];
  for (let k = 0; k < board.rows; k++)
    for (const { from, to } of segments(k)) [low, high] = [Math.min(low, from), Math.max(high, to)];
  return { start, low, high, segments };
}

/** One document's contributions as printed: they add up to the printed score; null is off. */
export function printed(board, k, off) {
  const on = onOf(board.cols, off);
  const row = rowOf(board, k);
  const { parts, total } = addsUp(on.map((i) => row[i]));
  const all = Array(board.cols).fill(null);
  on.forEach((i, at) => {
    all[i] = parts[at];
  });
  return { parts: all, total };
}

/** The pair after document `k` became one side: the other side keeps, or gets the best that is left. */
export function pairWith(pair, side, k, order) {
  const mine = side === "a" ? 0 : 1;
  let other = pair[1 - mine] ?? order.find((one) => one !== k) ?? k;
  if (other === k) other = pair[mine] ?? other;
  return mine ? [other, k] : [k, other];
}

/** Why A scores more than B: each query token's share of the difference, most in favour of A first. */
export function versus(board, a, b, off) {
  const [one, two] = [printed(board, a, off), printed(board, b, off)];
  const round = (x) => Math.round(x * 1000) / 1000;
  const rows = onOf(board.cols, off).map((i) => ({
    i,
    a: one.parts[i],
    b: two.parts[i],
    by: round(one.parts[i] - two.parts[i]),
  }));
  rows.sort((x, y) => y.by - x.by || x.i - y.i);
  return {
    rows,
    a: one.total,
    b: two.total,
    by: round(one.total - two.total),
    most: rows.reduce((most, { by }) => Math.max(most, Math.abs(by)), 0),
  };
}
