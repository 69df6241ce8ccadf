/** Results of a search as files: a table with every part of each score, and a picture of the bars. */
import { ordinal, printed } from "./rank_board_ranking.js";
import { barsText } from "./rank_board_words.js";
import { csvTable, figure } from "./shared/export.js";
import { HUES } from "./shared/hues.js";
import { tablePicture, COLOURS as TABLE } from "./shared/table_picture.js";
import { readable, shown } from "./shared/text.js";

const BAR = 320; // pixels of all parts together
const LEAST = 18; // of a part that has its number in it
const hues = Array.from({ length: HUES }, (_, i) => `hue-${i}`);
export const COLOURS = [...TABLE, ...hues];

/** The documents in their order with everything that `to_pandas` has of them. */
export function csvOf({ board, now, off }) {
  const names = board.labels.map((label, i) => `${i} ${label}`);
  const parts = (k) => board.labels.map((_, i) => (off.includes(i) ? 0 : figure(board.values[k * board.cols + i])));
  return csvTable(
    ["document", "score", ...names],
    now.order.map((k) => [board.names[k], figure(now.scores[k]), ...parts(k)]),
  );
}

/** The parts of a document's score on the axis of all bars; what counts against it is hollow. */
function barsOf(k, { start, low, high, segments }, colours) {
  const share = (x) => (x - low) / Math.max(1e-9, high - low);
  const part = ({ i, from, to, x }) => {
    const [hue, long] = [colours[`hue-${i % HUES}`], share(to) - share(from)];
    const look = x < 0 ? { fill: "none", stroke: hue } : { fill: hue, "fill-opacity": 0.55 };
    return { from: share(from), to: share(to), text: long * BAR < LEAST ? "" : String(i), ...look };
  };
  const nought = { from: share(start), to: share(start) + 1 / BAR, fill: colours["ink-2"] };
  return [...segments(k).map(part), nought];
}

/** The documents that are listed, `order`, under the lines that say what was asked. */
export function picture({ board, now, axis, off, kind, order, says, measure }, colours) {
  const token = (label, i) => `${i} ${readable(label)}${off.includes(i) ? " (off)" : ""}`;
  const about = [barsText(kind, axis), `query tokens: ${board.labels.map(token).join(", ")}`];
  const moves = now.move.some(Boolean);
  const line = (k) => [
    { text: ordinal(now.rank[k]), faint: true },
    ...(moves ? [{ text: now.move[k], faint: true }] : []),
    { text: readable(board.names[k]), bold: true },
    { text: "", bars: barsOf(k, axis, colours) },
    { text: shown(printed(board, k, off).total) },
  ];
  const head = [{ name: "rank", end: true }, ...(moves ? [{ name: "move" }] : [])];
  const columns = [...head, { name: "document" }, { name: "what each adds", least: BAR }, { name: "score", end: true }];
  return tablePicture({ says: [...says, ...about], columns, rows: order.map(line), measure }, colours);
}
