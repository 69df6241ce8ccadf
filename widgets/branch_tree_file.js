/** A tree as files: a table of its segments, and a picture of it with the chances of each path. */
import { NAMES } from "./branch_tree_heads.js";
import { chance, labelOf, perToken, segmentText, STAR } from "./branch_tree_row.js";
import { csvTable, figure } from "./shared/export.js";
import { palette } from "./shared/svg.js";
import { COLOURS, tablePicture } from "./shared/table_picture.js";
import { count, percent, textOf } from "./shared/text.js";
import { pieceLabel, unhex } from "./shared/tokens.js";

const INDENT = 14; // pixels that a path stands further in than the one it turns off
const MOST = 12; // times of that
const CHANCES = "Chances before the chain, but for “path after”.";

const HEADINGS = [
  ...["segment", "parent", "step", "tokens", "text", "branch", "name"],
  ...["first token", "logprob of the path", "after the chain", "ended"],
];
const wholeText = ({ first, rest, cut, tail }) =>
  textOf(unhex(first + rest)) + (cut ? `…${textOf(unhex(tail))}` : "");
const nats = (x) => (x === "-inf" ? x : figure(x));
const cellsOf = (row) => [
  ...[row.key, row.parent, row.start, row.stop - row.start, wholeText(row), row.called, row.name],
  ...[figure(row.p), nats(row.logprob), nats(row.logprob_after), row.finish],
];
/** Segments in the order of the tree; a path's logprobs are sums in nats from the prompt on. */
export const csvOf = ({ rows }) => csvTable(HEADINGS, rows.filter(({ parent }) => parent !== null).map(cellsOf));

function line(row, { best, prompt, prompt_shown: shown, prompt_tokens: all }, colours) {
  if (row.parent === null) {
    const text = `${shown < all ? "…" : ""}${pieceLabel(unhex(prompt))}`;
    return ["", text].concat(Array(NAMES.length - 2).fill("")).map((one) => ({ text: one, faint: true, mono: true }));
  }
  const share = perToken(row);
  const [further, bar] = [Math.min(row.indent, MOST) * INDENT, { fill: colours.kept, "fill-opacity": 0.42 }];
  const figures = [(row.key === best ? STAR : "") + chance(row.logprob), chance(row.logprob_after), count(row.stop)];
  return [
    { text: count(row.start), faint: true },
    { text: (row.turns ? "└ " : "") + segmentText(row), mono: true, indent: further },
    { text: labelOf(row) },
    { text: percent(row.p) },
    { text: percent(share), bars: [{ from: 0, to: share ?? 0, ...bar }] },
    ...figures.map((text) => ({ text })),
  ];
}

/** The rows as they stand in the tree, all unfolded; `says` are the lines above them. */
export function picture({ state, says, measure }, colours) {
  const columns = NAMES.map((name, k) => ({ name, end: k !== 1 && k !== 2 }));
  const rows = state.rows.map((row) => line(row, state, colours));
  return tablePicture({ says: [...says, CHANCES], columns, rows, measure }, colours);
}

/** Kinds for a menu of files; `shown()` is {state, says}. */
export const filesOf = (shown) => ({
  CSV: () => csvOf(shown().state),
  SVG: (node) => (shown().state.rows.some((row) => row.branch) ? picture(shown(), palette(node, COLOURS)) : null),
});
