/** The pair that a grid shows, as the kernel sends it. */
import { splitPieces, typed } from "./shared/text.js";

/** Fetch texts, then the matrix, some rows at a time; null when another pair has taken its place. */
export async function fetchPair(line, model) {
  const [epoch, rows, cols] = ["epoch", "n_query", "n_document"].map((name) => model.get(name));
  const reply = await line.ask("texts");
  const values = new Float32Array(rows * cols);
  for (let have = 0; have < rows;) {
    const part = await line.ask("matrix", { from: have });
    if (part.epoch !== model.get("epoch") || part.rows < 1) return null;
    values.set(typed(part.buffers[0], Float32Array), have * cols);
    have += part.rows;
  }
  if (epoch !== model.get("epoch") || reply.epoch !== epoch) return null;
  return { values, rows, cols, scale: reply.scale, ...textsOf(reply.buffers) };
}

function textsOf(buffers) {
  const pieces = (k) => splitPieces(buffers[k], buffers[k + 1]);
  const strings = (k) => pieces(k).map((bytes) => new TextDecoder().decode(bytes));
  return {
    query: pieces(0),
    document: pieces(2),
    shown: strings(2),
    gaps: strings(4),
    querySpecial: strings(6), // what a token is that stands for no text
    documentSpecial: strings(8),
    queryWords: typed(buffers[10], Int32Array),
    documentWords: typed(buffers[11], Int32Array),
  };
}
