/** What a strip knows of its steps: columns of a message, and scales of colours that never move. */
import { splitPieces, typed } from "./shared/text.js";

/** How many edges `x` has passed, going up; -1 when `x` is not known. */
const rising = (edges) => (x) => (Number.isFinite(x) ? edges.filter((edge) => x >= edge).length : -1);
const falling = (edges) => (x) => (Number.isFinite(x) ? edges.filter((edge) => x < edge).length : -1);

const LARGE = 1e9; // nats, in place of what has no bound
const costLevel = rising([0.1, 0.5, 1, 2, 4]);
/** What the grammar cost at a step; NaN where its bounds are of other colours. */
const sureCost = ({ cost, most }, i) => (costLevel(cost[i]) === costLevel(Math.min(most[i], LARGE)) ? cost[i] : NaN);

/** The number of a token that something is said of; −1 of another one, undefined while nothing is known. */
const ofWords = (values, words, i) => (words[i] && !words[i].length ? -1 : values[i]);
/** Level 0 where nothing is said, else 1 and up. */
const worded = (edges) => (x) => (x === undefined ? -1 : x === -1 ? 0 : 1 + Math.max(0, rising(edges)(x)));

/**
 * One layer: the value of a step, its level 0 (calm) to 5 (loud), and the scale in words.
 * Edges are fixed. Time is measured against the first tokens, and the scale prints that figure.
 */
export const LAYERS = {
  probability: {
    key: "p",
    label: "Probability",
    ramp: "warm",
    says: "chance before the chain",
    value: (c, i) => Math.exp(c.logprob[i]),
    level: falling([0.9, 0.5, 0.2, 0.05, 0.01]),
    marks: ["≥ 90%", "≥ 50%", "≥ 20%", "≥ 5%", "≥ 1%", "< 1%"],
  },
  surprise: {
    key: "s",
    label: "Surprise",
    ramp: "warm",
    says: "−ln of the chance before the chain, in nats",
    value: (c, i) => -c.logprob[i],
    level: rising([0.5, 1, 2, 4, 8]),
    marks: ["< 0.5", "≥ 0.5", "≥ 1", "≥ 2", "≥ 4", "≥ 8"],
  },
  entropy: {
    key: "e",
    label: "Entropy",
    ramp: "violet",
    says: "spread of the model's choices here, in nats",
    value: (c, i) => c.entropy[i],
    level: rising([0.5, 1, 2, 3, 4.5]),
    marks: ["< 0.5", "≥ 0.5", "≥ 1", "≥ 2", "≥ 3", "≥ 4.5"],
  },
  rank: {
    key: "r",
    label: "Rank",
    ramp: "warm",
    says: "rank among the model's choices, 0 the likeliest",
    value: (c, i) => (c.rank[i] < 0 ? NaN : c.rank[i]),
    level: rising([1, 2, 5, 10, 100]),
    marks: ["0", "1", "2–4", "5–9", "10–99", "≥ 100"],
  },
  time: {
    key: "t",
    label: "Time",
    ramp: "teal",
    says: "decode to capture",
    value: (c, i) => c.ms[i],
    level: (x, usual) => rising([1.1, 1.25, 1.5, 2, 4])(x / usual),
    marks: ["< 1.1×", "≥ 1.1×", "≥ 1.25×", "≥ 1.5×", "≥ 2×", "≥ 4×"],
  },
  grammar: {
    key: "g",
    label: "Grammar",
    ramp: "violet",
    says: "−ln of the chance that the grammar left, in nats",
    value: sureCost,
    level: costLevel,
    marks: ["< 0.1", "≥ 0.1", "≥ 0.5", "≥ 1", "≥ 2", "≥ 4"],
    takes: ["cost", "most", "wantedLogprob", "wanted"],
  },
  effect: {
    key: "k",
    label: "Effect",
    ramp: "teal",
    says: "KL from the model as it is, in nats",
    value: ({ kl }, i) => kl[i],
    level: rising([0.01, 0.1, 0.5, 1, 2]),
    marks: ["< 0.01", "≥ 0.01", "≥ 0.1", "≥ 0.5", "≥ 1", "≥ 2"],
    takes: ["kl", "baseLogprob", "base"],
  },
  forbidden: {
    key: "x",
    label: "Forbidden",
    ramp: "violet",
    says: "by the grammar written here: −ln of the chance of all that it lets in, in nats",
    value: ({ barred, barredWords }, i) => ofWords(barred, barredWords, i),
    level: worded([0.5, 1, 2, 4]),
    marks: ["let in", "< 0.5", "≥ 0.5", "≥ 1", "≥ 2", "≥ 4"],
    takes: ["barred", "barredWords"],
    inWords: true,
  },
  tokenizer: {
    key: "c",
    label: "Tokenizer",
    ramp: "teal",
    says: "chance of the tokenizer's own token where there are others",
    value: ({ own, ownWords }, i) => ofWords(own, ownWords, i),
    level: worded([0.01, 0.1, 0.5, 0.9]),
    marks: ["its own", "others", "≥ 1%", "≥ 10%", "≥ 50%", "≥ 90%"],
    takes: ["own", "ownWords"],
    inWords: true,
  },
};

/** Whether a layer can be chosen: those whose numbers come aside are, once they are among `more`. */
export const offers = (layer, more) => !LAYERS[layer].takes || layer in more;

/** The steps a view has so far: numbers by column, pieces as bytes. */
export function tokenColumns() {
  const names = ["token", "logprob", "entropy", "rank", "ms", "ahead", "stale"];
  const aside = Object.values(LAYERS).flatMap(({ takes = [] }) => takes);
  const c = Object.fromEntries([...names, "piece", ...aside].map((name) => [name, []]));
  c.usual = NaN;
  c.clear = () => {
    for (const column of Object.values(c)) if (Array.isArray(column)) column.length = 0;
    c.usual = NaN;
  };
  /** Add what is new of a message; false when steps between are missing. */
  c.append = ({ from }, buffers) => {
    const have = c.token.length;
    const kinds = [Int32Array, Float32Array, Float32Array, Int32Array, Float32Array, Uint8Array, Uint8Array];
    if (from > have) return false;
    const skip = have - from;
    names.forEach((name, k) => {
      for (const x of typed(buffers[k], kinds[k]).subarray(skip)) c[name].push(x);
    });
    for (const piece of splitPieces(buffers[7], buffers[8]).slice(skip)) c.piece.push(piece);
    if (Number.isNaN(c.usual) && c.ms.length >= 8) c.usual = median(c.ms.slice(0, 16));
    return true;
  };
  /** Take what a layer shows of each step, where that comes aside: numbers, and pieces at last. */
  c.take = (layer, buffers) =>
    LAYERS[layer].takes.forEach((name, k, { length }) => {
      c[name] = k < length - 1 ? [...typed(buffers[k], Float32Array)] : splitPieces(buffers[k], buffers[k + 1]);
    });
  /** Forget what layers show that are not offered any more. */
  c.keep = (more) => {
    for (const { takes } of Object.entries(LAYERS).flatMap(([name, of]) => (of.takes && !(name in more) ? [of] : [])))
      for (const name of takes) c[name].length = 0;
  };
  return c;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? sorted[sorted.length >> 1] : NaN;
}
