/**
 * A query against a document as both are shown: by pieces or by words, with query tokens off and on.
 * Pure: numbers and texts in, numbers and sentences out.
 */
import { figure } from "./shared/export.js";
import { addsUp, byWords, groupStarts, rowMaxima, sumOf } from "./shared/matrix.js";
import { counted, number, shown } from "./shared/text.js";
import { unitLabels } from "./shared/units.js";

const range = (from, to) => Array.from({ length: to - from }, (_, k) => from + k);
/**
 * What one way of looking at a pair needs. `pair`: values, rows, cols, query and document (pieces),
 * queryWords and documentWords (one group a token).
 */
export function matchView(pair, unit) {
  const { values, rows, cols } = pair;
  const words = unit === "words";
  const rowStarts = words ? groupStarts(pair.queryWords) : range(0, rows + 1);
  const colStarts = words ? groupStarts(pair.documentWords) : range(0, cols + 1);
  const matrix = words ? byWords(pair, rowStarts, colStarts) : { values, rows, cols };
  const own = rowMaxima(values, rows, cols); // of the pieces: they make the score
  return {
    ...matrix,
    rowStarts,
    colStarts,
    best: rowMaxima(matrix.values, matrix.rows, matrix.cols).column,
    rowLabels: unitLabels(pair.query, rowStarts),
    rowSpecial: rowStarts.map((start) => pair.querySpecial?.[start]),
    colLabels: unitLabels(pair.document, colStarts),
    own,
  };
}

const pieceRows = (view, i) => range(view.rowStarts[i], view.rowStarts[i + 1]);

/**
 * The score without the pieces that are off, and what each row adds to it. The printed numbers add
 * up to the printed score: `row[i]` is null for a row that is off.
 */
export function contributions(view, off) {
  const out = new Set(off);
  const { value } = view.own;
  const on = range(0, value.length).filter((i) => !out.has(i));
  const { parts, total } = addsUp(on.map((i) => value[i]));
  const printed = new Map(on.map((i, k) => [i, parts[k]]));
  const row = range(0, view.rows).map((i) => {
    const mine = pieceRows(view, i).filter((piece) => printed.has(piece));
    return mine.length ? mine.reduce((sum, piece) => sum + printed.get(piece), 0) : null;
  });
  return { score: sumOf(value, off), total, row, n: on.length };
}

/** Whether all, some or none of a row's pieces are off. */
export function rowState(view, i, off) {
  const out = pieceRows(view, i).filter((piece) => off.includes(piece)).length;
  return out === 0 ? "on" : out === view.rowStarts[i + 1] - view.rowStarts[i] ? "off" : "part";
}

/** `off` after a row was switched, in order. */
export function switched(view, i, off) {
  const mine = pieceRows(view, i);
  const gone = rowState(view, i, off) === "off";
  const rest = off.filter((piece) => !mine.includes(piece));
  return (gone ? rest : [...rest, ...mine]).sort((a, b) => a - b);
}

/** The rows, in order, whose best match each column is; rows that are off have none. */
export function marksOf(view, off) {
  const marks = Array.from({ length: view.cols }, () => []);
  view.best.forEach((column, i) => {
    if (column >= 0 && rowState(view, i, off) !== "off") marks[column].push(i);
  });
  return marks;
}

/** "1 2 3 +4": numbers of rows, the first ones. */
export const markText = (rows, most = 3) =>
  [...rows.slice(0, most), ...(rows.length > most ? [`+${rows.length - most}`] : [])].join(" ");

/** A cell in a sentence. */
export function cellText(view, [i, j], { scale, off }) {
  const at = (column) => view.values[i * view.cols + column];
  const best = view.best[i];
  const pieces = view.rowStarts[i + 1] - view.rowStarts[i];
  const name = (column) => `${column} “${view.colLabels[column]}”`;
  const parts = [`query ${i} “${view.rowLabels[i]}”`, `document ${name(j)}`, `similarity ${shown(at(j))}`];
  if (pieces > 1) parts.push(`mean of ${pieces} pieces`);
  parts.push(j === best ? "the best of its row" : `best of its row: ${name(best)} with ${shown(at(best))}`);
  if (scale === "by query") {
    const row = view.values.subarray(i * view.cols, (i + 1) * view.cols);
    const [low, high] = [row.reduce((a, b) => Math.min(a, b)), at(best)];
    parts.push(`its row goes from ${shown(low)} to ${shown(high)}`);
  }
  if (rowState(view, i, off) === "off") parts.push("switched off: adds nothing");
  return parts.join(" · ");
}

/** "score 7.314 · the best matches of 9 query tokens added up · 0.813 a token · 2 off" */
export function scoreText({ total, n }, off) {
  const parts = [`the best matches of ${counted(n, "query token")} added up`];
  if (n > 1) parts.push(`${number(total / n)} a token`);
  if (off.length) parts.push(`${off.length} off`);
  return parts.join(" · ");
}

/** What the colours mean, in words: [low end, high end, what they are measured on]. */
export function scaleWords(scale, low, high) {
  if (scale === "by query")
    return ["lowest of the row", "highest of the row", "each row on its own scale: compare colours within a row only"];
  const fixed = low === 0 && high === 1;
  return [
    number(low),
    number(high),
    `one scale for all rows, ${fixed ? "not stretched to the data" : "from the lowest to the highest value"}`,
  ];
}

/** Every similarity for a file: query tokens by document tokens, each with its place. */
export function csvRows({ rowLabels, colLabels, values, cols }) {
  const head = ["", ...colLabels.map((label, j) => `${j} ${label}`)];
  const cells = (i) => Array.from(values.subarray(i * cols, (i + 1) * cols), figure);
  return [head, ...rowLabels.map((label, i) => [`${i} ${label}`, ...cells(i)])];
}

/** Why there is no picture, or "". */
export function nothingText(queryTokens, documentTokens) {
  if (queryTokens < 0) return "No query and document yet. Which of their tokens match shows here.";
  if (!queryTokens) return "The query has no tokens, so there is nothing to match.";
  return documentTokens ? "" : "The document has no tokens, so nothing can match it.";
}
