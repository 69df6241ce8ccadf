import assert from "node:assert/strict";
import { test } from "node:test";

import {
  cellText,
  contributions,
  marksOf,
  markText,
  matchView,
  rowState,
  scoreText,
  switched,
} from "../similarity_grid_match.js";

const bytes = (text) => new TextEncoder().encode(text);
const pair = {
  values: Float32Array.of(0.5, 0.25, 0.125, 0.25, 0.75, 0, 0.25, 0.5, 1),
  rows: 3,
  cols: 3,
  query: ["re", "move", " it"].map(bytes),
  document: ["str", "ip", "\n"].map(bytes),
  queryWords: Int32Array.of(0, 0, 1),
  documentWords: Int32Array.of(0, 0, 1),
};
const pieces = matchView(pair, "pieces");
const words = matchView(pair, "words");

test("pieces are as they are, words are put together", () => {
  assert.deepEqual(pieces.rowLabels, ["re", "move", "it"]);
  assert.deepEqual(pieces.colLabels, ["str", "ip", "↵"]);
  assert.deepEqual(
    [words.rowLabels, words.colLabels],
    [
      ["remove", "it"],
      ["strip", "↵"],
    ],
  );
  assert.deepEqual([...words.values], [0.625, 0.0625, 0.5, 1]);
});

test("the score is the same by pieces and by words, and its parts add up", () => {
  assert.deepEqual(contributions(pieces, []), { score: 2.25, total: 2.25, row: [0.5, 0.75, 1], n: 3 });
  assert.deepEqual(contributions(words, []), { score: 2.25, total: 2.25, row: [1.25, 1], n: 3 });
});

test("a token that is off adds nothing; a word is off when all its pieces are", () => {
  assert.deepEqual(contributions(pieces, [1]).row, [0.5, null, 1]);
  assert.equal(contributions(pieces, [1]).score, 1.5);
  assert.deepEqual(contributions(words, [1]).row, [0.5, 1]);
  assert.deepEqual(
    [rowState(words, 0, [1]), rowState(words, 0, [0, 1]), rowState(words, 0, [])],
    ["part", "off", "on"],
  );
});

test("switching a row switches all its pieces, and back", () => {
  assert.deepEqual(switched(pieces, 1, [2]), [1, 2]);
  assert.deepEqual(switched(pieces, 1, [1, 2]), [2]);
  assert.deepEqual(switched(words, 0, [1]), [0, 1]);
  assert.deepEqual(switched(words, 0, [0, 1]), []);
});

test("each column knows the rows that match it best", () => {
  assert.deepEqual(marksOf(pieces, []), [[0], [1], [2]]);
  assert.deepEqual(marksOf(pieces, [1]), [[0], [], [2]]);
  assert.equal(markText([0, 3, 6, 7, 8]), "0 3 6 +2");
});

test("a cell is told in a sentence", () => {
  const raw = { scale: "raw", off: [] };
  assert.equal(
    cellText(pieces, [0, 0], raw),
    "query 0 “re” · document 0 “str” · similarity 0.500 · the best of its row",
  );
  assert.match(cellText(pieces, [0, 2], raw), /similarity 0\.125 · best of its row: 0 “str” with 0\.500$/);
  assert.match(
    cellText(pieces, [0, 0], { scale: "by query", off: [0] }),
    /goes from 0\.125 to 0\.500 · switched off: adds nothing$/,
  );
  assert.match(cellText(words, [0, 0], raw), /mean of 2 pieces/);
});

test("the score says what it is made of", () => {
  assert.equal(
    scoreText(contributions(pieces, [1]), [1]),
    "the best matches of 2 query tokens added up · 0.75 a token · 1 off",
  );
  assert.equal(scoreText(contributions(pieces, [0, 1]), [0, 1]), "the best matches of 1 query token added up · 2 off");
});

test("a query or a document without tokens has no matches and no error", () => {
  const empty = { ...pair, values: new Float32Array(0), cols: 0, document: [], documentWords: new Int32Array(0) };
  const view = matchView(empty, "pieces");
  assert.deepEqual([view.colLabels, contributions(view, []).score, marksOf(view, [])], [[], 0, []]);
  const none = matchView({ ...empty, rows: 0, query: [], queryWords: new Int32Array(0) }, "words");
  assert.deepEqual([none.rowLabels, contributions(none, []).total], [[], 0]);
});
