import { pieceCells, plainParts } from "./text.js";

/**
 * Texts of units (tokens or words) from their pieces: joined, without the space at their edges,
 * hidden characters made visible, a tick where nothing is left.
 */
export function unitLabels(pieces, starts) {
  return starts.slice(0, -1).map((start, k) => {
    const { cells } = pieceCells(pieces.slice(start, starts[k + 1]));
    const parts = cells.flat().filter((part) => part.kind !== "tick");
    while (parts.length > 1 && parts[0].kind === "space") parts.shift();
    while (parts.length > 1 && parts.at(-1).kind === "space") parts.pop();
    return plainParts(parts) || "‧";
  });
}
