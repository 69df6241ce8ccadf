/** Texts side by side as files: a table with the chances of every token, and a picture of it. */
import { alikeText, costTexts, differsText, klText, noiseText, partingText, REMOVED } from "./comparison_words.js";
import { removedText, sameRow } from "./comparison_words.js";
import { csvTable, figure } from "./export.js";
import { palette } from "./svg.js";
import { COLOURS, tablePicture } from "./table_picture.js";
import { percent, readable, textOf } from "./text.js";
import { pieceLabel, unhex } from "./tokens.js";

const bound = (nats) => (nats === null ? "inf" : figure(nats));
/** What a side has at each step: columns of the table and their cells, a column of the picture and its words. */
const CHANCE = {
  names: ["chance", "chance after the chain"],
  cells: ([, p, after]) => [figure(p), figure(after)],
  head: "chance",
  text: ([, p]) => percent(p),
};
const KL = {
  names: ["KL, nats", "KL is exact"],
  cells: ([, , , kl]) => (kl ? [bound(kl.nats), kl.exact ? "yes" : "no"] : ["", ""]),
  head: "KL, nats",
  text: klText,
};
const COST = {
  names: ["removed, nats at least", "removed, nats at most"],
  cells: ([, , , , , cost]) => cost?.map(bound) ?? ["", ""],
  head: "removed",
  text: removedText,
};
const figuresOf = ({ cost }, k) => [CHANCE, ...(k ? [KL] : []), ...(cost ? [COST] : [])];

/** A row a step; the KL is that of the first side from another one: at least so much where it is not exact. */
export function csvOf({ sides, rows }) {
  const all = sides.map(figuresOf);
  const heads = sides.flatMap(({ label }, k) => [
    label,
    ...all[k].flatMap(({ names }) => names.map((name) => `${label}: ${name}`)),
  ]);
  const cells = (row, k) =>
    row
      ? [textOf(unhex(row[0])), ...all[k].flatMap((one) => one.cells(row))]
      : Array(1 + 2 * all[k].length).fill("");
  return csvTable(
    ["step", ...heads],
    rows.map(([step, each]) => [step, ...each.flatMap(cells)]),
  );
}

/** The cells of one side at a step; its token is strong where not all are alike. */
function sideCells(side, figures, step, row, alike) {
  if (!row) return [{ text: "–", faint: true }, ...figures.map(() => ({ text: "" }))];
  const token = { text: pieceLabel(unhex(row[0])), mono: true, bold: !alike, faint: alike };
  const same = sameRow(side, step, row[3], row[4]);
  return [token, ...figures.map((one) => ({ text: one.text(row, same) }))];
}

export function picture(c, colours, measure) {
  const others = c.sides.slice(1);
  const last = c.rows.at(-1)?.[0] ?? -1;
  const says = [
    `${c.sides.map(({ label }) => label).join(", ")}: ${alikeText(c)}.`,
    ...others.map((one) => differsText(c.sides, one)),
    ...others.map((one) => partingText(c, one)),
    ...costTexts(c),
    noiseText(c).join(""),
    "Chances before the chain. KL: how far the first one's chances of all tokens are from this one's, 0 for the same.",
    c.sides.some(({ cost }) => cost) && REMOVED,
    last + 1 < c.n && `The first ${last + 1} of ${c.n} tokens.`,
  ];
  const all = c.sides.map(figuresOf);
  const columns = c.sides.flatMap(({ label }, k) => [
    { name: label },
    ...all[k].map(({ head }) => ({ name: head, end: true })),
  ]);
  const text = ({ token, rest }) => readable(c.common + token + rest);
  const texts = c.sides.flatMap((one, k) => [{ text: text(one) }, ...all[k].map(() => ({ text: "" }))]);
  const steps = c.rows.map(([step, row]) => {
    const alike = row.every((other) => other?.[0] === row[0]?.[0]);
    const cells = row.flatMap((one, k) => sideCells(c.sides[k], all[k], step, one, alike));
    return [{ text: String(step), faint: true }, ...cells];
  });
  const rows = [[{ text: "text", faint: true }, ...texts], ...steps];
  return tablePicture({ says, columns: [{ name: "step", end: true }, ...columns], rows, measure }, colours);
}

/** Kinds for a menu of files. */
export const filesOf = (c) => ({ CSV: () => csvOf(c), SVG: (node) => picture(c, palette(node, COLOURS)) });
