/** Pieces of tokens, as the kernel sends them, and as they are shown. */
import { pieceCells, plainParts } from "./text.js";

export const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
/** One piece by itself, as parts. */
export const pieceParts = (bytes) => pieceCells([bytes]).cells[0];
/** One piece as a short string for labels. */
export const pieceLabel = (bytes) => plainParts(pieceParts(bytes)) || "(empty)";
