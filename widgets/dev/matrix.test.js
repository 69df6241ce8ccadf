import assert from "node:assert/strict";
import { test } from "node:test";

import { moveMark, ranking } from "../rank_board_ranking.js";
import { addsUp, byWords, extent, groupStarts, levels, rowMaxima, sumOf } from "../shared/matrix.js";

const matrix = (...rows) => ({ values: Float32Array.from(rows.flat()), rows: rows.length, cols: rows[0]?.length ?? 0 });

test("each row's best is its first largest value", () => {
  const { values, rows, cols } = matrix([0.25, 0.75, 0.75], [-0.5, -0.25, -1]);
  const { column, value } = rowMaxima(values, rows, cols);
  assert.deepEqual([...column], [1, 1]);
  assert.deepEqual([...value], [0.75, -0.25]);
});

test("a document without tokens has no best and adds nothing", () => {
  const { column, value } = rowMaxima(new Float32Array(0), 2, 0);
  assert.deepEqual(
    [[...column], [...value]],
    [
      [-1, -1],
      [0, 0],
    ],
  );
});

test("the score is the sum of what is on", () => {
  assert.equal(sumOf([0.5, 0.25, 1]), 1.75);
  assert.equal(sumOf([0.5, 0.25, 1], [1]), 1.5);
  assert.equal(sumOf([0.5], [0]), 0);
});

test("printed numbers add up to the printed sum", () => {
  const { parts, total } = addsUp([1 / 3, 1 / 3, 1 / 3], 2);
  assert.deepEqual(parts, [0.34, 0.33, 0.33]);
  assert.equal(total, 1);
  let seed = 1;
  const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647 - 0.3;
  for (let n = 0; n < 200; n++) {
    const values = Array.from({ length: 1 + (n % 40) }, random);
    const { parts: shown, total: sum } = addsUp(values, 3);
    assert.equal(
      shown.reduce((a, x) => a + Math.round(x * 1000), 0),
      Math.round(sum * 1000),
    );
    shown.forEach((x, i) => assert.ok(Math.abs(x - values[i]) < 0.001 + 1e-12));
    assert.ok(Math.abs(sum - values.reduce((a, b) => a + b)) <= 0.0005 + 1e-12);
  }
});

test("a word's cell is the mean over its pieces of the best piece over there", () => {
  const words = byWords(
    matrix([0.5, 1, 0], [0, 0.5, 0.25], [0.25, 0, 1]),
    groupStarts([0, 0, 1]),
    groupStarts([0, 0, 1]),
  );
  assert.deepEqual([words.rows, words.cols], [2, 2]);
  assert.deepEqual([...words.values], [0.75, 0.125, 0.25, 1]);
});

test("by words of one piece nothing changes", () => {
  const pieces = matrix([0.5, 1], [0, 0.25]);
  assert.deepEqual(byWords(pieces, [0, 1, 2], [0, 1, 2]), pieces);
});

test("one scale for all rows, or each row's own", () => {
  const cells = matrix([0, 0.5, 1], [0, 0.25, 0.5]);
  assert.deepEqual([...levels(cells, [0, 1])], [1, 128, 255, 1, 65, 128]);
  assert.deepEqual([...levels(cells, null)], [1, 128, 255, 1, 128, 255]);
  assert.deepEqual([...levels(matrix([-0.1, 2]), [0, 1])], [0, 255]);
  assert.deepEqual([...levels(matrix([0.5, 0.5]), null)], [1, 1]);
});

test("the extent of nothing is nothing", () => {
  assert.deepEqual(extent([]), [0, 0]);
  assert.deepEqual(extent([0.5, -1, 0]), [-1, 0.5]);
});

test("the best score ranks first and equals keep their order", () => {
  const { order, rank } = ranking([1, 3, 2, 3]);
  assert.deepEqual(order, [1, 3, 2, 0]);
  assert.deepEqual([...rank], [4, 1, 3, 2]);
});

test("a move says how many places", () => {
  assert.deepEqual([moveMark(5, 3), moveMark(3, 5), moveMark(2, 2), moveMark(0, 9)], ["▲2", "▼2", "=", "new"]);
});
