import assert from "node:assert/strict";
import { test } from "node:test";
import { columnsInRoom } from "../next_token_columns.js";

const columns = ["", "", "no effect", "", "", ""].map((inert) => ({ inert }));
const places = (room, back) => [...columnsInRoom(columns, room, back).shown];

test("a stage without effect has no column, and all others have one where they fit", () => {
  assert.deepEqual(places(5), [0, 1, 3, 4, 5]);
  assert.deepEqual(columnsInRoom(columns, 5).folded, []);
});

test("without room the raw row, what the chain leaves and the stages before that stay", () => {
  assert.deepEqual(places(4), [0, 3, 4, 5]);
  assert.deepEqual(places(3), [0, 4, 5]);
  assert.deepEqual(columnsInRoom(columns, 3).folded, [1, 3]);
});

test("two columns stay however narrow it is", () => {
  assert.deepEqual(places(0), [0, 5]);
});

test("going back shows earlier stages, to the first and no further", () => {
  assert.deepEqual(places(3, 1), [0, 3, 5]);
  assert.deepEqual(places(3, 2), [0, 1, 5]);
  assert.deepEqual(places(3, 9), [0, 1, 5]);
});
