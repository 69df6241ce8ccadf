/** What a strip says of a trace: in one line, of its colours, and as a table. */
import { count, counted, duration, number, percent } from "./shared/text.js";
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
  return `${LAYERS.time.says}; 1× is ${known ? `${duration(usual)}, median at the start` : "known after 8 tokens"}`;
}

/** One line on what is going on. */
export function stateText(state, progress, columns, ended) {
  if (state === "queued") return "waiting for the session";
  if (state === "prompt") return `reading the prompt: ${count(progress[0])} of ${counted(progress[1], "token")}`;
  if (state === "running") return `${summary(columns, "")} · generating`;
  return columns.token.length ? summary(columns, ended) : "";
}

const removed = (nats) => percent(-Math.expm1(-nats));
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
  const [least, most] = [removed(low), removed(high)];
  const range = least === most || same(low, high) ? least : `${least} to ${most}`;
  return [`the grammar removed ${range}`, wantedText(columns, i)].filter(Boolean).join("; ");
}

/** "grammar cost 14.2 nats, 46% of it at token 0: the model wanted `↵`"; "" where that is not known. */
export function costText(columns) {
  const { cost, most } = columns;
  if (!cost.length) return "";
  const [low, high] = [cost, most].map((column) => column.reduce((sum, x) => sum + x, 0));
  if (high === 0) return "grammar cost nothing";
  const sure = same(low, high);
  const range = high < Infinity ? `${number(low)} to ${number(high)}` : `at least ${number(low)}`;
  const told = `grammar cost ${sure ? number(low) : range} nats`;
  if (low === 0) return told;
  const at = cost.indexOf(cost.reduce((one, other) => Math.max(one, other)));
  const share = sure ? `${percent(cost[at] / low)} of it` : `${number(cost[at])} or more`;
  const why = wantedText(columns, at);
  return `${told}, ${share} at token ${at}${why && `: ${why}`}`;
}

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

/** "token 79 · bytes 5F", and whether it needed no decode. */
export function tokenText({ token, hex, ahead }) {
  const bytes = hex.replace(/(..)(?=.)/g, "$1 ").toUpperCase() || "none";
  return `token ${token} · bytes ${bytes}${ahead ? ` · decoded ${AHEAD}` : ""}`;
}

const COLUMNS = ["step", "token", "text", "probability", "rank", "entropy", "time"];

/** The headings of the table: how a token was decoded if some were ahead, what the grammar cost once that is known. */
export const tableColumns = ({ ahead, cost }) => [
  ...COLUMNS,
  ...(ahead.some(Boolean) ? ["decoded"] : []),
  ...(cost.length ? ["grammar cost"] : []),
];

export function tableRows(columns) {
  const { token, piece, logprob, rank, entropy, ms, ahead, cost } = columns;
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
      ...(ahead.some(Boolean) ? [ahead[i] ? AHEAD : ""] : []),
      ...(cost.length ? [costCell(columns, i)] : []),
    ]);
}
