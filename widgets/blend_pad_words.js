/** What a blend pad says, in words and numbers. */
import { count, number } from "./shared/text.js";

export const signed = (x) => number(x, 4).replace("-", "−");

/** Where the point is: "happy 0.5, pirate −1". */
export const pointText = (axes, at) => axes.map(({ name }, k) => `${name} ${signed(at[k])}`).join(", ");

/** What the target comes to at the point; "" without one. */
export function targetText({ logprob, base_logprob: base }) {
  if (logprob === null || logprob === undefined) return "";
  return `The text: ${signed(logprob)} nats (${signed(base)} without them). `;
}

/** How far the map is. */
export function progressText(state, done, cells) {
  if (state === "idle") return "";
  const far = `${count(done)} of ${count(cells)} cells`;
  return state === "finished" ? `${count(cells)} cells` : state === "running" ? `${far}…` : `${state}, ${far}`;
}

/** Each cell of a grid as a row: strength of the second, of the first, value; null is not known. */
export function gridCells({ n, values }, axes) {
  if (!n) return [];
  const at = (k, reach) => Number((reach * ((2 * k) / (n - 1) - 1)).toPrecision(6));
  const [first, second] = axes.map(({ reach }) => reach);
  return values.map((x, k) => [at(Math.floor(k / n), second), at(k % n, first), x]);
}
/** The same as it is printed. */
export const gridRows = (grid, axes) => gridCells(grid, axes).map((row) => row.map(signed));
