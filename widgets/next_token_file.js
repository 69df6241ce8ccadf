/** The next token after each stage as files: a table with every number, and a picture of the bars. */
import { barLength, headLines, lastShown, REMOVED, shareText, UNLISTED } from "./next_token_row.js";
import { figure } from "./shared/export.js";
import { breakable, fitted } from "./shared/fitted.js";
import { box, EDGE, heading, measuring, MONO, SANS, SIZE, svg, words } from "./shared/svg.js";
import { textOf } from "./shared/text.js";
import { pieceLabel, unhex } from "./shared/tokens.js";

const TOKEN = 120; // pixels of the column of tokens, which a longer one widens
const CELL = 112; // pixels of the others, which a longer name of a stage widens
const WIDEST = 2 * CELL;
const ROW = 20;
const LINE = 15; // of the heads
const PAD = 4; // pixels on either side of a head
const MARK = 14; // pixels for the sign of the drawn token
const LABEL = 12; // pixels of a token's letters
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

/** How many pixels wide the name of a stage is in a picture, and the label of a token. */
export const measures = () => ({
  ofName: measuring(`600 ${SIZE}px ${SANS}`),
  ofToken: measuring(`700 ${LABEL}px ${MONO}`),
});

/** The heads of the columns that are shown, each `[name, figures]` as lines, and how wide the columns are. */
function headsOf(columns, shown, ofName) {
  const said = shown.map((c) => headLines(columns, c));
  const longest = Math.max(...said.flatMap(([name]) => breakable(name).map((part) => ofName(part.trimEnd()))));
  const cell = Math.min(WIDEST, Math.max(CELL, Math.ceil(longest) + 2 * PAD));
  return { cell, heads: said.map(([name, ...figures]) => [fitted(name, cell - 2 * PAD, ofName), figures]) };
}

/** The lines of a head, the last of them over `bottom`. */
function headParts([name, figures], x, bottom, colours) {
  const lines = [...name, ...figures];
  const look = (k) => (k < name.length ? { fill: colours.ink, "font-weight": 600 } : { fill: colours["ink-2"] });
  return lines.map((line, k) => words(x + PAD, bottom - (lines.length - k) * LINE, line, look(k)));
}

function cellParts({ view, scale, wide }, i, c, x, y, colours) {
  const p = view.cells[c][i];
  const out = p === REMOVED;
  const length = (wide - 2) * barLength(out ? view.cells[c - 1]?.[i] : p, scale);
  const [drawn, last] = [view.rows[i].id === view.choice, lastShown(view.columns)];
  const fill = c === 0 ? colours.removed : drawn ? colours["warm-edge"] : colours.kept;
  const look = out
    ? { fill: "none", stroke: colours.removed, "stroke-dasharray": "2 2" }
    : { fill, "fill-opacity": c === 0 ? 0.6 : 0.42 };
  const text = c === 0 || c === last || drawn || !(p > 0) ? shareText(p) : "";
  return [
    length > 0 ? box(x + 1, y + 2, length, ROW - 4, look) : "",
    words(x + wide - 6, y + 14, text, { "text-anchor": "end", fill: out ? colours["ink-2"] : colours.ink }),
  ];
}

/**
 * The bars as a picture; `says` are the lines above it, `ofName` and `ofToken` as `measures` gives them.
 * Stages without effect have no column, as on the page. No name and no token is cut: what is long has more room.
 */
export function picture({ view, scale, says, ofName, ofToken }, colours) {
  const shown = view.columns.map((_, c) => c).filter((c) => !view.columns[c].inert);
  const { cell, heads } = headsOf(view.columns, shown, ofName);
  const labels = view.rows.map(labelOf);
  const token = Math.max(TOKEN, ...labels.map((label) => MARK + Math.ceil(ofToken(label)) + PAD));
  const width = Math.max(480, 2 * EDGE + token + shown.length * cell);
  const { parts, bottom } = heading(says, width, colours);
  const at = (k) => EDGE + token + k * cell;
  const top = bottom + (Math.max(...heads.map((lines) => lines.flat().length)) + 1) * LINE;
  heads.forEach((head, k) => parts.push(...headParts(head, at(k), top, colours)));
  view.rows.forEach((row, i) => {
    const y = top + i * ROW;
    const drawn = row.id === view.choice;
    parts.push(box(EDGE, y, token + shown.length * cell, 1, { fill: colours.line }));
    if (drawn) parts.push(words(EDGE, y + 14, "◆", { fill: colours["warm-edge"] }));
    const font = { "font-family": MONO, "font-size": LABEL, "font-weight": drawn ? 700 : null };
    parts.push(words(EDGE + MARK, y + 14, labels[i], font));
    const of = { view, scale, wide: cell };
    shown.forEach((c, k) => parts.push(...cellParts(of, i, c, at(k), y, colours)));
  });
  return svg(width, top + view.rows.length * ROW + EDGE, parts.filter(Boolean), colours);
}
