/** The next token after each stage as files: a table with every number, and a picture of the bars. */
import { barLength, headLines, lastShown, REMOVED, shareText, UNLISTED } from "./next_token_row.js";
import { figure } from "./shared/export.js";
import { beginning, box, EDGE, heading, MONO, svg, words } from "./shared/svg.js";
import { textOf } from "./shared/text.js";
import { pieceLabel, unhex } from "./shared/tokens.js";

const TOKEN = 120; // pixels of the column of tokens
const CELL = 112;
const ROW = 20;
const HEAD = 72;
export const COLOURS = ["paper", "paper-2", "ink", "ink-2", "line", "kept", "removed", "warm-edge"];

const labelOf = (row) => pieceLabel(unhex(row.bytes));
const cellOf = (p) => (p === REMOVED ? "removed" : p === UNLISTED ? "n/a" : figure(p));

export function headings({ columns }) {
  return ["token", "id", "drawn", "before", ...columns.slice(1).map((head) => head.name)];
}
/** Probabilities after each stage; empty where a stage before had removed the token. */
export const csvRows = ({ rows, cells, choice }) =>
  (rows ?? []).map((row, i) => [
    textOf(unhex(row.bytes)),
    row.id,
    row.id === choice ? "drawn" : "",
    ...cells.map((column) => cellOf(column[i])),
  ]);

function headOf(columns, c, x, y, colours) {
  return headLines(columns, c).map((line, k) =>
    words(x + 4, y + 12 + k * 15, beginning(line, 16), {
      fill: k ? colours["ink-2"] : colours.ink,
      "font-weight": k ? null : 600,
    }),
  );
}

function cellParts(view, i, c, x, y, scale, colours) {
  const p = view.cells[c][i];
  const out = p === REMOVED;
  const length = (CELL - 2) * barLength(out ? view.cells[c - 1]?.[i] : p, scale);
  const [drawn, last] = [view.rows[i].id === view.choice, lastShown(view.columns)];
  const fill = c === 0 ? colours.removed : drawn ? colours["warm-edge"] : colours.kept;
  const look = out
    ? { fill: "none", stroke: colours.removed, "stroke-dasharray": "2 2" }
    : { fill, "fill-opacity": c === 0 ? 0.6 : 0.42 };
  const text = c === 0 || c === last || drawn || !(p > 0) ? shareText(p) : "";
  return [
    length > 0 ? box(x + 1, y + 2, length, ROW - 4, look) : "",
    words(x + CELL - 6, y + 14, text, { "text-anchor": "end", fill: out ? colours["ink-2"] : colours.ink }),
  ];
}

/** The bars as a picture; `says` are the lines above it. Stages without effect have no column, as on the page. */
export function picture(view, scale, says, colours) {
  const shown = view.columns.map((_, c) => c).filter((c) => !view.columns[c].inert);
  const width = Math.max(480, 2 * EDGE + TOKEN + shown.length * CELL);
  const { parts, bottom } = heading(says, width, colours);
  const at = (k) => EDGE + TOKEN + k * CELL;
  const top = bottom + HEAD;
  shown.forEach((c, k) => parts.push(...headOf(view.columns, c, at(k), bottom, colours)));
  view.rows.forEach((row, i) => {
    const y = top + i * ROW;
    const drawn = row.id === view.choice;
    parts.push(box(EDGE, y, TOKEN + shown.length * CELL, 1, { fill: colours.line }));
    if (drawn) parts.push(words(EDGE, y + 14, "◆", { fill: colours["warm-edge"] }));
    const font = { "font-family": MONO, "font-size": 12, "font-weight": drawn ? 700 : null };
    parts.push(words(EDGE + 14, y + 14, beginning(labelOf(row), 13), font));
    shown.forEach((c, k) => parts.push(...cellParts(view, i, c, at(k), y, scale, colours)));
  });
  return svg(width, top + view.rows.length * ROW + EDGE, parts.filter(Boolean), colours);
}
