import assert from "node:assert/strict";
import { test } from "node:test";

import { cellSize } from "../similarity_grid_heat.js";
import { nothingText, scaleWords } from "../similarity_grid_match.js";

test("the scale says what it is measured on", () => {
  assert.deepEqual(scaleWords("raw", 0, 1), ["0", "1", "one scale for all rows, not stretched to the data"]);
  assert.deepEqual(scaleWords("raw", -3.21, 17.5), [
    "-3.21",
    "17.5",
    "one scale for all rows, from the lowest to the highest value",
  ]);
  assert.match(scaleWords("by query", 0, 1)[2], /compare colours within a row only/);
});

test("an empty side says which", () => {
  assert.equal(nothingText(3, 4), "");
  assert.match(nothingText(-1, -1), /No query and document yet/);
  assert.match(nothingText(0, 4), /The query has no tokens/);
  assert.match(nothingText(3, 0), /The document has no tokens/);
});

test("at first the whole matrix is in sight, and zooming ends where names can be read", () => {
  const big = { rows: 512, cols: 2048 };
  const window = { width: 900, height: 352 };
  const first = cellSize(big, window, 0);
  assert.ok(first.w * 2048 <= 900 + 1e-9 && first.h * 512 <= 352 + 1e-9);
  let zoom = 0;
  while (!cellSize(big, window, zoom).most) zoom += 1;
  assert.deepEqual([cellSize(big, window, zoom).w, cellSize(big, window, zoom).h], [26, 22]);
  assert.ok(zoom < 12);
  assert.equal(cellSize({ rows: 3, cols: 5 }, window, 0).most, true);
});
