import assert from "node:assert/strict";
import { test } from "node:test";

import { bars, floors, pairWith, printed, ranked, versus } from "../rank_board_ranking.js";

const board = (rows, before = null) => ({
  values: Float32Array.from(rows.flat()),
  rows: rows.length,
  cols: rows[0].length,
  before,
});
const three = board([
  [0.5, 0.25, 0.75],
  [0.75, 0.5, 0],
  [0.25, 0.5, 0.25],
]);

test("switching a token ranks again and marks the moves against all tokens on", () => {
  const all = ranked(three, []);
  assert.deepEqual(
    [all.scores, all.order, all.move],
    [
      [1.5, 1.25, 1],
      [0, 1, 2],
      ["", "", ""],
    ],
  );
  const some = ranked(three, [2]);
  assert.deepEqual(
    [some.scores, some.order],
    [
      [0.75, 1.25, 0.75],
      [1, 0, 2],
    ],
  );
  assert.deepEqual([some.move, some.moved], [["▼1", "▲1", "="], 2]);
});

test("with all tokens on, moves are against the ranks that Python gave", () => {
  assert.deepEqual(ranked(board([[1], [0.5]], Int32Array.of(0, 1)), []).move, ["new", "▼1"]);
});

test("whole bars begin at nothing and add up to the score", () => {
  const { start, low, high, segments } = bars(three, [], "whole");
  assert.deepEqual([start, low, high], [0, 0, 1.5]);
  assert.deepEqual(
    segments(0).map(({ from, to }) => [from, to]),
    [
      [0, 0.5],
      [0.5, 0.75],
      [0.75, 1.5],
    ],
  );
  assert.deepEqual(segments(0).at(-1).to, 1.5);
});

test("bars of what differs begin at what every document has", () => {
  assert.deepEqual(floors(three), [0.25, 0.25, 0]);
  const { start, high, segments } = bars(three, [], "difference");
  assert.deepEqual([start, high], [0.5, 1.5]);
  assert.equal(segments(1).at(-1).to, 1.25);
});

test("what takes away from a score runs to the left", () => {
  const { low, segments } = bars(board([[0.5, -0.25]]), [], "whole");
  assert.equal(low, -0.25);
  assert.deepEqual(
    segments(0).map(({ from, to }) => [from, to]),
    [
      [0, 0.5],
      [-0.25, 0],
    ],
  );
});

test("printed contributions add up, and those that are off are not there", () => {
  const { parts, total } = printed(board([[1 / 3, 1 / 3, 1 / 3, 9]]), 0, [3]);
  assert.deepEqual([parts, total], [[0.334, 0.333, 0.333, null], 1]);
});

test("why A beats B: the shares add up to the difference of the scores", () => {
  const { rows, a, b, by, most } = versus(three, 0, 1, []);
  assert.deepEqual(
    rows.map(({ i, by: share }) => [i, share]),
    [
      [2, 0.75],
      [0, -0.25],
      [1, -0.25],
    ],
  );
  assert.deepEqual([a, b, by, most], [1.5, 1.25, 0.25, 0.75]);
});

test("choosing one side keeps the other, swaps, or takes the best that is left", () => {
  const order = [2, 0, 1];
  assert.deepEqual(pairWith([], "a", 0, order), [0, 2]);
  assert.deepEqual(pairWith([], "b", 2, order), [0, 2]);
  assert.deepEqual(pairWith([0, 2], "b", 1, order), [0, 1]);
  assert.deepEqual(pairWith([0, 2], "a", 2, order), [2, 0]);
  assert.deepEqual(pairWith([], "a", 0, [0]), [0, 0]);
});
