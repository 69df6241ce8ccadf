/** What a board says of a search, of its bars and of one document. */
import { ordinal, printed } from "./rank_board_ranking.js";
import { count, counted, shown } from "./shared/text.js";

/** What a search is at, in a line. */
export function searchText(state, [done, total], { listed, all, tokens }) {
  if (state === "indexing")
    return `reading the documents: ${count(done)} of ${count(total)}${listed ? "; the list is of those" : ""}`;
  if (state === "comparing") return `reading the documents once more, to compare: ${count(done)} of ${count(total)}`;
  if (state === "searching") return "searching";
  if (state === "stopped") return `stopped: ${count(done)} of ${counted(total, "document")} are in the index`;
  if (state === "empty") return all ? "Ask something: the documents are ready." : "No documents yet.";
  if (state === "failed" && !tokens) return ""; // what went wrong is said beside it
  if (!tokens) return "The query has no tokens, so nothing can match it.";
  const documents = counted(all, "document");
  return listed < all ? `the ${count(listed)} best of ${documents}` : documents;
}

/** What the marks of moves are measured against. */
export function movesText({ moved }, off, baseline, { listed, all }) {
  if (off.length) {
    const only = listed < all ? `; ranked among these ${count(listed)} only` : "";
    return `${count(moved)} moved against all query tokens on${only}`;
  }
  return baseline ? `${count(moved)} moved against ${baseline}` : "";
}

/** The ends of the axis of all bars, in short. */
export const axisText = (kind, { start, low, high }) =>
  `bars ${shown(kind === "whole" ? Math.min(0, low) : start)} to ${shown(high)}`;

/** What the length of a bar is. */
export function barsText(kind, { start, low, high }) {
  if (kind === "whole") return `bars: score from ${shown(Math.min(0, low))} to ${shown(high)}, one part a query token`;
  return `bars: from ${shown(start)}, which every document of this list has, to ${shown(high)}`;
}

/** A document and a query token in words; -1 for none of either. */
export function detailsText({ board, now, off }, k, i) {
  const name = i < 0 ? "" : `query token ${i} “${board.labels[i]}”`;
  if (k < 0 && i < 0) return "Point at a part of a bar, or press ↓, to read it.";
  if (k < 0) return `${name}${off.includes(i) ? " is off" : ""}`;
  const { parts, total } = printed(board, k, off);
  const adds = i < 0 ? "" : parts[i] === null ? " is off" : ` adds ${shown(parts[i])} of ${shown(total)}`;
  const named = name && ` · ${name}`;
  return `${ordinal(now.rank[k])} ${board.names[k]} · score ${shown(total)}${named}${adds}`;
}

export const COLUMNS = ["rank", "move", "document", "score", "largest part"];

/** Documents in their order as rows of a table. */
export function tableRows({ board, now, off }) {
  return now.order.map((k) => {
    const { parts, total } = printed(board, k, off);
    const i = parts.reduce((best, x, at) => (x !== null && (best < 0 || x > parts[best]) ? at : best), -1);
    const largest = i < 0 ? "" : `${i} ${board.labels[i]} ${shown(parts[i])}`;
    return [ordinal(now.rank[k]), now.move[k], board.names[k], shown(total), largest];
  });
}
