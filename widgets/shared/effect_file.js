/** What levers make of the next token as files: a table of both distributions, and a picture of their bars. */
import { csvTable, figure } from "./export.js";
import { palette } from "./svg.js";
import { COLOURS, tablePicture } from "./table_picture.js";
import { percent, textOf } from "./text.js";
import { pieceLabel, unhex } from "./tokens.js";

/** Rows are [bytes, id, without, with], `heads` the names of both. */
export const csvOf = ({ rows, heads }) =>
  csvTable(
    ["token", "id", ...heads],
    rows.map(([piece, id, p, q]) => [textOf(unhex(piece)), id, figure(p), figure(q)]),
  );

export function picture({ rows, heads, says, measure }, colours) {
  const most = [2, 3].map((k) => Math.max(...rows.map((row) => row[k])));
  const cell = (row, k) => {
    const isTop = row[k] === most[k - 2];
    const [fill, opacity] = k === 2 ? [colours.removed, 0.6] : [colours.kept, 0.42];
    const bars = [{ from: 0, to: row[k], fill, "fill-opacity": opacity }];
    return { text: percent(row[k]) + (isTop ? " ◆" : ""), bold: isTop, bars };
  };
  const lines = rows.map((row) => [{ text: pieceLabel(unhex(row[0])), mono: true }, cell(row, 2), cell(row, 3)]);
  const columns = [{ name: "token", least: 140 }, ...heads.map((name) => ({ name, end: true, least: 150 }))];
  return tablePicture({ says, columns, rows: lines, measure }, colours);
}

/** Kinds for a menu of files; `shown()` is {rows, heads, says}, without rows where there are none. */
export const filesOf = (shown) => ({
  CSV: () => csvOf(shown()),
  SVG: (node) => (shown().rows.length ? picture(shown(), palette(node, COLOURS)) : null),
});
