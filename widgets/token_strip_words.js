/** What a strip says of a trace: in one line, of its colours, and as a table. */
import { count, counted, duration, number, percent, removedShare } from "./shared/text.js";
import { pieceLabel, unhex } from "./shared/tokens.js";
import { LAYERS } from "./token_strip_columns.js";

/** "64 tokens · mean logprob −1.23 nats · reached max tokens" */
export function summary(columns, ended) {
  const logprobs = columns.logprob.filter(Number.isFinite);
  const mean = logprobs.reduce((sum, x) => sum + x, 0) / logprobs.length;
  const n = columns.token.length;
  return [
    counted(n, "token"),
    `mean logprob ${number(mean).replace("-", "−")}${logprobs.length ? " nats" : ""}`,
    ended,
  ]
    .filter(Boolean)
    .join(" · ");
}

/** What the scale of a layer says: its meaning, and for time the figure it is measured against. */
export function scaleText(layer, usual) {
  if (layer !== "time") return LAYERS[layer].says;
  const known = Number.isFinite(usual);
  const once = known ? `${duration(usual)}, median at the start` : "known after 8 tokens";
  return `${LAYERS.time.says}; 1× is ${once}`;
}

/** One line on what is going on. */
export function stateText(state, progress, columns, ended) {
  if (state === "queued") return "waiting for the session";
  if (state === "prompt") return `reading the prompt: ${count(progress[0])} of ${counted(progress[1], "token")}`;
  if (state === "running") return `${summary(columns, ended)} · generating`;
  return columns.token.length ? summary(columns, ended) : "";
}

const same = (low, high) => number(low) === number(high);

/** What the grammar took most of at a step: the model's choice where it was likelier than all that was left. */
function wantedText({ cost, wanted, wantedLogprob }, i) {
  if (!Number.isFinite(wantedLogprob[i])) return "";
  const is = `\`${pieceLabel(wanted[i])}\``;
  if (wantedLogprob[i] > -cost[i]) return `the model wanted ${is}`;
  return `most of all ${is}, ${percent(Math.exp(wantedLogprob[i]))}`;
}

/** "the grammar removed 93%; the model wanted `Sure`"; "" where that is not asked. */
export function removedText(columns, i) {
  const [low, high] = [columns.cost[i], columns.most[i]];
  if (low === undefined) return "";
  if (high === 0) return "the grammar removed nothing";
  if (low === 0 && high === Infinity) return "what the grammar removed is not known: too little of the row was kept";
  return [`the grammar removed ${removedShare(low, high)}`, wantedText(columns, i)].filter(Boolean).join("; ");
}

/** "0.42 nats from the model as it is: that has 3.1%, and `Sure` is the likeliest"; "" where that is not known. */
export function effectText({ kl, baseLogprob, base }, i) {
  if (kl[i] === undefined) return "";
  const best = base[i].length ? `, and \`${pieceLabel(base[i])}\` is the likeliest` : "";
  return `${number(kl[i])} nats from the model as it is: that has ${percent(Math.exp(baseLogprob[i]))}${best}`;
}

const decoder = new TextDecoder();
const IN_WORDS = Object.entries(LAYERS).filter(([, { inWords }]) => inWords);
/** The layers that say something of a token in words, once they are known: [name, words of a step]. */
const wordsOf = (columns) =>
  IN_WORDS.map(([name, { takes }]) => [name, columns[takes.at(-1)]])
    .filter(([, words]) => words.length)
    .map(([name, words]) => [name, (i) => decoder.decode(words[i])]);

/** What layers say of a token in words: of what forbids it, and of the tokenizer's own. */
export const layerText = (columns, i) =>
  wordsOf(columns)
    .map(([, say]) => say(i))
    .filter(Boolean)
    .join("\n");

/** What is said of layers: of those in words only while they are chosen. */
export const saidOf = (more, layer) =>
  Object.entries(more).flatMap(([name, said]) => (LAYERS[name]?.inWords && name !== layer ? [] : [said]));

/** Where a text goes off another one, in words; "" if it does not. */
export function branchedText({ step, hex, was }) {
  if (step === undefined) return "";
  if (!was) return `Goes on after step ${step}, the end of the text before`;
  return `Branched at step ${step}: ${pieceLabel(unhex(hex))} by hand instead of ${pieceLabel(unhex(was))}`;
}

/** What the grammar cost at a token, as a cell of the table. */
function costCell({ cost, most }, i) {
  const [low, high] = [cost[i], most[i]];
  if (low === undefined || (low === 0 && high === Infinity)) return "n/a";
  if (same(low, high)) return `${number(low)} nats`;
  return high === Infinity ? `at least ${number(low)} nats` : `${number(low)} to ${number(high)} nats`;
}

const AHEAD = "with the token before"; // as the grammar forced it
const STALE = "over a stale cache"; // which other weights computed

const decodedText = (ahead, stale) => [ahead && AHEAD, stale && STALE].filter(Boolean).join(", ");
const isTold = ({ ahead, stale }) => [...ahead, ...stale].some(Boolean);

/** "token 79 · bytes 5F", and how it was decoded where that is not as usual. */
export function tokenText({ token, hex, ahead, stale }) {
  const bytes = hex.replace(/(..)(?=.)/g, "$1 ").toUpperCase() || "none";
  const how = decodedText(ahead, stale);
  return `token ${token} · bytes ${bytes}` + (how && ` · decoded ${how}`);
}

const COLUMNS = ["step", "token", "text", "probability", "rank", "entropy", "time"];

/** The headings of the table: how tokens were decoded if not as usual; grammar's cost and the effect, once known. */
export const tableColumns = (columns) => [
  ...COLUMNS,
  ...(isTold(columns) ? ["decoded"] : []),
  ...(columns.cost.length ? ["grammar cost"] : []),
  ...(columns.kl.length ? ["effect"] : []),
  ...wordsOf(columns).map(([name]) => name),
];

export function tableRows(columns) {
  const { token, piece, logprob, rank, entropy, ms, ahead, stale, cost, kl } = columns;
  const told = isTold(columns);
  return token
    .slice(0, 501)
    .map((id, i) => [
      i,
      id,
      pieceLabel(piece[i]),
      percent(Math.exp(logprob[i])),
      rank[i] < 0 ? "n/a" : rank[i],
      number(entropy[i]),
      duration(ms[i]),
      ...(told ? [decodedText(ahead[i], stale[i])] : []),
      ...(cost.length ? [costCell(columns, i)] : []),
      ...(kl.length ? [`${number(kl[i])} nats`] : []),
      ...wordsOf(columns).map(([, say]) => say(i)),
    ]);
}
