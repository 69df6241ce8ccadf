/** What views of tokens share: columns of a message, scales that never move, a token as a node. */
import { glyphs } from "./dom.js";
import { duration, number, percent, pieceCells, plainParts, splitPieces, typed } from "./text.js";

/** How many edges `x` has passed, going up; -1 when `x` is not known. */
const rising = (edges) => (x) => (Number.isFinite(x) ? edges.filter((edge) => x >= edge).length : -1);
const falling = (edges) => (x) => (Number.isFinite(x) ? edges.filter((edge) => x < edge).length : -1);

/**
 * One layer: the value of a step, its level 0 (calm) to 5 (loud), and the scale in words.
 * Edges are fixed. Time is measured against the first tokens, and the scale prints that figure.
 */
export const LAYERS = {
  probability: {
    key: "p",
    label: "Probability",
    ramp: "warm",
    says: "chance of the token in the model, before the chain",
    value: (c, i) => Math.exp(c.logprob[i]),
    level: falling([0.9, 0.5, 0.2, 0.05, 0.01]),
    marks: ["≥ 90%", "≥ 50%", "≥ 20%", "≥ 5%", "≥ 1%", "< 1%"],
    format: percent,
  },
  surprise: {
    key: "s",
    label: "Surprise",
    ramp: "warm",
    says: "−ln of the token's chance before the chain, in nats",
    value: (c, i) => -c.logprob[i],
    level: rising([0.5, 1, 2, 4, 8]),
    marks: ["< 0.5", "≥ 0.5", "≥ 1", "≥ 2", "≥ 4", "≥ 8"],
    format: (x) => `${number(x)} nats`,
  },
  entropy: {
    key: "e",
    label: "Entropy",
    ramp: "violet",
    says: "spread of the model's choices here, in nats",
    value: (c, i) => c.entropy[i],
    level: rising([0.5, 1, 2, 3, 4.5]),
    marks: ["< 0.5", "≥ 0.5", "≥ 1", "≥ 2", "≥ 3", "≥ 4.5"],
    format: (x) => `${number(x)} nats`,
  },
  rank: {
    key: "r",
    label: "Rank",
    ramp: "warm",
    says: "place of the token among the model's choices",
    value: (c, i) => (c.rank[i] < 0 ? NaN : c.rank[i] + 1),
    level: rising([2, 3, 6, 11, 101]),
    marks: ["1st", "2nd", "3rd–5th", "6th–10th", "11th–100th", "> 100th"],
    format: (x) => `${number(x, 9)}.`,
  },
  time: {
    key: "t",
    label: "Time",
    ramp: "teal",
    says: "decode to capture",
    value: (c, i) => c.ms[i],
    level: (x, usual) => rising([1.1, 1.25, 1.5, 2, 4])(x / usual),
    marks: ["< 1.1×", "≥ 1.1×", "≥ 1.25×", "≥ 1.5×", "≥ 2×", "≥ 4×"],
    format: duration,
  },
};

/** How a text came to its end, by the finish reason of its Trace. */
export const ENDINGS = {
  length: "ended at the length asked for",
  eog: "the model ended the text",
  stop: "ended at a stop string",
  stopped: "stopped",
  context: "the context is full",
  scored: "given text, scored",
  explored: "found by exploring",
  failed: "failed",
};

/** The steps a view has so far: numbers by column, pieces as bytes. */
export function tokenColumns() {
  const c = { token: [], logprob: [], entropy: [], rank: [], ms: [], piece: [], usual: NaN };
  c.clear = () => {
    for (const column of Object.values(c)) if (Array.isArray(column)) column.length = 0;
    c.usual = NaN;
  };
  /** Add what is new of a message; false when steps between are missing. */
  c.append = ({ from }, buffers) => {
    const have = c.token.length;
    const names = ["token", "logprob", "entropy", "rank", "ms"];
    const kinds = [Int32Array, Float32Array, Float32Array, Int32Array, Float32Array];
    if (from > have) return false;
    const skip = have - from;
    names.forEach((name, k) => {
      for (const x of typed(buffers[k], kinds[k]).subarray(skip)) c[name].push(x);
    });
    for (const piece of splitPieces(buffers[5], buffers[6]).slice(skip)) c.piece.push(piece);
    if (Number.isNaN(c.usual) && c.ms.length >= 8) c.usual = median(c.ms.slice(0, 16));
    return true;
  };
  return c;
}

export const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
/** One piece by itself, as parts. */
export const pieceParts = (bytes) => pieceCells([bytes]).cells[0];
/** One piece as a short string for labels. */
export const pieceLabel = (bytes) => plainParts(pieceParts(bytes)) || "(empty)";

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? sorted[sorted.length >> 1] : NaN;
}

/** Write parts into a token: a leading space is a mark on the node, so most tokens are one text node. */
export function fillToken(node, parts, { special = "" } = {}) {
  if (special || parts.length === 0) {
    node.toggleAttribute("data-space", false);
    node.replaceChildren(...glyphs([{ kind: "special", text: special || "∅" }]));
    return;
  }
  const spaced = parts.length === 2 && parts[0].kind === "space" && parts[1].kind === "text";
  node.toggleAttribute("data-space", spaced);
  if (spaced) node.textContent = ` ${parts[1].text}`;
  else if (parts.length === 1 && parts[0].kind === "text") node.textContent = parts[0].text;
  else node.replaceChildren(...glyphs(parts, { flow: true }));
}
