/** What a strip says of a trace: in one line, of its colours, and as a table. */
import { count, duration, number, percent } from "./shared/text.js";
import { ENDINGS, LAYERS, pieceLabel } from "./shared/tokens.js";

/** "64 tokens · mean logprob −1.23 nats · ended at the length asked for" */
export function summary(columns, finish) {
  const logprobs = columns.logprob.filter(Number.isFinite);
  const mean = logprobs.reduce((sum, x) => sum + x, 0) / logprobs.length;
  const n = columns.token.length;
  return [
    `${count(n)} ${n === 1 ? "token" : "tokens"}`,
    `mean logprob ${number(mean).replace("-", "−")}${logprobs.length ? " nats" : ""}`,
    ENDINGS[finish] ?? "",
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
export function stateText(state, progress, columns, finish) {
  if (state === "queued") return "waiting for the session";
  if (state === "prompt") return `reading the prompt: ${count(progress[0])} of ${count(progress[1])} tokens`;
  if (state === "running") return `${summary(columns, "")} · generating`;
  return columns.token.length ? summary(columns, finish) : "";
}

export const COLUMNS = ["step", "token", "text", "probability", "rank", "entropy", "time"];

export const tableRows = ({ token, piece, logprob, rank, entropy, ms }) =>
  token
    .slice(0, 501)
    .map((id, i) => [
      i + 1,
      id,
      pieceLabel(piece[i]),
      percent(Math.exp(logprob[i])),
      rank[i] < 0 ? "n/a" : rank[i] + 1,
      number(entropy[i]),
      duration(ms[i]),
    ]);
