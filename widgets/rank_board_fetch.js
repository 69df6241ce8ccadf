/** The results that a board shows, as the kernel sends them. */
import { readable, splitPieces, typed } from "./shared/text.js";
import { unitLabels } from "./shared/units.js";

/** Fetch the results; null when others have taken their place. */
export async function fetchBoard(line, model) {
  const epoch = model.get("epoch");
  const reply = await line.ask("board");
  return epoch === model.get("epoch") && reply.epoch === epoch ? boardOf(reply) : null;
}

function boardOf({ rows, buffers }) {
  const pieces = splitPieces(buffers[0], buffers[1]);
  const decode = (bytes) => readable(new TextDecoder().decode(bytes));
  const texts = (k) => splitPieces(buffers[k], buffers[k + 1]).map(decode);
  const before = typed(buffers[7], Int32Array);
  return {
    values: typed(buffers[6], Float32Array),
    rows,
    cols: pieces.length,
    before: before.length ? before : null,
    special: splitPieces(buffers[8], buffers[9]).map(decode), // what a query token is that stands for no text
    labels: unitLabels(pieces, [...pieces.keys(), pieces.length]),
    names: texts(2),
    snippets: texts(4),
    matched: new Map(), // of "a b": what each query token matched in these two documents
  };
}

/** Fetch what each query token matched in two documents: its text, and what it is if it is special. */
export async function fetchMatches(line, a, b) {
  const { buffers } = await line.ask("matches", { a, b });
  const tokens = (k) => {
    const special = splitPieces(buffers[k + 2], buffers[k + 3]);
    const token = (piece, i) => [unitLabels([piece], [0, 1])[0], new TextDecoder().decode(special[i])];
    return splitPieces(buffers[k], buffers[k + 1]).map(token);
  };
  return { a: tokens(0), b: tokens(4) };
}
