/** Texts side by side as files: a table with the chances of every token, and a picture of it. */
import { alikeText, costTexts, differsText, klText, noiseText, partingText, sameRow } from "./comparison_words.js";
import { csvTable, figure } from "./export.js";
import { palette } from "./svg.js";
import { COLOURS, tablePicture } from "./table_picture.js";
import { percent, readable, textOf } from "./text.js";
import { pieceLabel, unhex } from "./tokens.js";

const klCells = (kl) => (kl ? [kl.infinite ? "inf" : figure(kl.nats), kl.exact ? "yes" : "no"] : ["", ""]);

/** A row a step; the KL is that of the first side from another one: at least so much where it is not exact. */
export function csvOf({ sides, rows }) {
  const kl = (label) => [`${label}: KL, nats`, `${label}: KL is exact`];
  const heads = sides.map(({ label }, k) => [
    ...[label, `${label}: chance`, `${label}: chance after the chain`],
    ...(k ? kl(label) : []),
  ]);
  const cells = (one, k) => {
    if (!one) return k ? ["", "", "", "", ""] : ["", "", ""];
    const [piece, p, after, divergence] = one;
    return [textOf(unhex(piece)), figure(p), figure(after), ...(k ? klCells(divergence) : [])];
  };
  return csvTable(
    ["step", ...heads.flat()],
    rows.map(([step, all]) => [step, ...all.flatMap(cells)]),
  );
}

/** The cells of one side at a step; its token is strong where not all are alike. */
function sideCells(c, step, all, k) {
  const row = all[k];
  const rest = k ? [{ text: "" }, { text: "" }] : [{ text: "" }];
  if (!row) return [{ text: "–", faint: true }, ...rest];
  const alike = all.every((other) => other?.[0] === all[0]?.[0]);
  const token = { text: pieceLabel(unhex(row[0])), mono: true, bold: !alike, faint: alike };
  const kl = k && row[3] ? klText(row, sameRow(c.sides[k], step, row[3], row[4])) : "";
  return [token, { text: percent(row[1]) }, ...(k ? [{ text: kl }] : [])];
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
    last + 1 < c.n && `The first ${last + 1} of ${c.n} tokens.`,
  ];
  const figures = (k) => ["chance", ...(k ? ["KL, nats"] : [])].map((name) => ({ name, end: true }));
  const columns = [{ name: "step", end: true }, ...c.sides.flatMap(({ label }, k) => [{ name: label }, ...figures(k)])];
  const text = ({ token, rest }) => readable(c.common + token + rest);
  const none = { text: "" };
  const texts = c.sides.flatMap((one, k) => [{ text: text(one) }, none, ...(k ? [none] : [])]);
  const steps = c.rows.map(([step, all]) => [
    { text: String(step), faint: true },
    ...all.flatMap((_, k) => sideCells(c, step, all, k)),
  ]);
  return tablePicture({ says, columns, rows: [[{ text: "text", faint: true }, ...texts], ...steps], measure }, colours);
}

/** Kinds for a menu of files. */
export const filesOf = (c) => ({ CSV: () => csvOf(c), SVG: (node) => picture(c, palette(node, COLOURS)) });
