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
    labels: unitLabels(pieces, [...pieces.keys(), pieces.length]),
    names: texts(2),
    snippets: texts(4),
    matched: new Map(), // of "a b": what each query token matched in these two documents
  };
}

/** Fetch what each query token matched in two documents. */
export async function fetchMatches(line, a, b) {
  const { buffers } = await line.ask("matches", { a, b });
  const labels = (k) => splitPieces(buffers[k], buffers[k + 1]).map((piece) => unitLabels([piece], [0, 1])[0]);
  return { a: labels(0), b: labels(2) };
}
