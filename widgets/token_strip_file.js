/** Tokens as files: a table with every number, and a picture of the coloured text. */
import { figure } from "./shared/export.js";
import { box, EDGE, heading, MONO, svg, tokenWords } from "./shared/svg.js";
import { pieceCells, textOf } from "./shared/text.js";
import { LAYERS } from "./token_strip_columns.js";
import { lookOf } from "./token_strip_flow.js";

const WIDTH = 760;
const LINE = 24;
const SIZE = 13;
export const FONT = `${SIZE}px ${MONO}`;
const LINES_BELOW = [0, 1, 1, 2, 3, 4]; // thickness of the line under a token of each level
const HEADINGS = ["step", "token", "text", "probability", "logprob", "rank", "entropy", "ms", "ahead", "stale"];
const COSTS = ["grammar_nats", "grammar_nats_high", "grammar_wanted"];
const EFFECTS = ["effect_nats", "base_logprob"];
const FORBIDDEN = ["forbidden_nats", "forbidden"];
const OWN = ["tokenizer_probability", "tokenizer"];

/** The headings of the table: also of what the grammar cost, and of the effect, once that is known. */
export const headings = ({ cost, kl, barred, own }) => [
  ...HEADINGS,
  ...(cost.length ? COSTS : []),
  ...(kl.length ? EFFECTS : []),
  ...(barred.length ? FORBIDDEN : []),
  ...(own.length ? OWN : []),
];

/** What the grammar cost at a step, at least and at most, and the likeliest token that it took. */
function costCells({ cost, most, wanted, wantedLogprob }, i) {
  const took = Number.isFinite(wantedLogprob[i]) ? textOf(wanted[i]) : null;
  return [figure(cost[i]), figure(most[i]), took];
}

/** What a layer says of a step in words, with its number; nothing where it has nothing to say. */
const wordCells = (values, words, i) => (words[i].length ? [figure(values[i]), textOf(words[i])] : [null, null]);

export function csvRows(columns) {
  const { token, piece, logprob, rank, entropy, ms, ahead, stale, cost, kl, baseLogprob } = columns;
  const { barred, barredWords, own, ownWords } = columns;
  return token.map((id, i) => [
    i,
    id,
    textOf(piece[i]),
    ...[Math.exp(logprob[i]), logprob[i], rank[i] < 0 ? NaN : rank[i], entropy[i], ms[i]].map(figure),
    ...[ahead, stale].map((column) => String(column[i] > 0)),
    ...(cost.length ? costCells(columns, i) : []),
    ...(kl.length ? [kl, baseLogprob].map((column) => figure(column[i])) : []),
    ...(barred.length ? wordCells(barred, barredWords, i) : []),
    ...(own.length ? wordCells(own, ownWords, i) : []),
  ]);
}

export const coloursOf = (layer) => {
  const { ramp } = LAYERS[layer];
  return ["paper", "ink", "ink-2", ...[1, 2, 3, 4, 5, "edge"].map((level) => `${ramp}-${level}`)];
};

/** Pieces -> the texts of each, as they are seen; a true after one that ends a line. */
function textsOf(pieces) {
  return pieceCells(pieces).cells.map((parts) => {
    const texts = [];
    let text = parts.length ? "" : "∅";
    for (const part of parts) {
      if (part.kind !== "tick") text += part.kind === "space" ? " " : part.text;
      if (part.kind !== "newline") continue;
      texts.push([text, true]);
      text = "";
    }
    return text ? [...texts, [text, false]] : texts;
  });
}

/** Where each text stands, {x, line, width, text, look}, in lines of a width; `tokens` are [texts, look]. */
export function laidOut(tokens, width, measure) {
  const placed = [];
  let [x, line] = [0, 0];
  for (const [texts, look] of tokens)
    for (const [text, ends] of texts) {
      const wide = measure(text);
      if (x > 0 && x + wide > width) [x, line] = [0, line + 1];
      placed.push({ x, line, width: wide, text, look });
      [x, line] = ends ? [0, line + 1] : [x + wide, line];
    }
  return placed;
}

function tokenParts({ x, line, width, text, look }, top, colours) {
  const [left, y] = [EDGE + x, top + line * LINE];
  const [ramp, level] = look.split("-");
  const thick = LINES_BELOW[level] ?? 0;
  const font = { "font-family": MONO, "font-size": SIZE, textLength: width || null };
  return [
    colours[look] ? box(left, y, width, LINE - 3, { fill: colours[look] }) : "",
    thick ? box(left, y + LINE - 3 - thick, width, thick, { fill: colours[`${ramp}-edge`] }) : "",
    tokenWords(left, y + 15, text, { ...font, fill: look === "prompt" ? colours["ink-2"] : colours.ink }),
  ];
}

/** The text in the colours of a layer; `says` are the lines above it, `measure(text)` its width in pixels. */
export function picture({ prompt, columns, layer, says, measure }, colours) {
  const { ramp, marks } = LAYERS[layer];
  const { parts, bottom } = heading(says, WIDTH, colours);
  const [around, between] = ["\u00a0", "\u00a0\u00a0"]; // no dots in the scale
  const mark = (text) => [around + text.replace(" ", around) + around, false];
  const scale = marks.map((text, level) => [[mark(text), [between, false]], `${ramp}-${level}`]);
  const key = laidOut(scale, Infinity, measure).filter(({ text }) => text !== between);
  const given = textsOf(prompt).map((texts) => [texts, "prompt"]);
  const own = textsOf(columns.piece).map((texts, i) => [texts, lookOf(layer, columns, i)]);
  const placed = laidOut([...given, ...own], WIDTH - 2 * EDGE, measure);
  const top = bottom + LINE + 8;
  parts.push(...key.flatMap((one) => tokenParts(one, bottom, colours)));
  parts.push(...placed.flatMap((one) => tokenParts(one, top, colours)));
  return svg(WIDTH, top + ((placed.at(-1)?.line ?? 0) + 1) * LINE + EDGE, parts.filter(Boolean), colours);
}
