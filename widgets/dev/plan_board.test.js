import assert from "node:assert/strict";
import { test } from "node:test";
import { levers, tableRows, typeText } from "../plan_board.js";

test("the slider of n_ctx ends where the model's training did", () => {
  assert.deepEqual(levers(8192)[0].slice(0, 3), ["n_ctx", 256, 8192]);
  assert.equal(levers(64)[0][2], 512, "and has a length in any case");
});

test("the table has a row a part", () => {
  const parts = [
    { label: "weights", bytes: 3000 },
    { label: "KV cache", bytes: 1000 },
  ];
  const rows = [
    ["weights", "3,000", "75.0%"],
    ["KV cache", "1,000", "25.0%"],
  ];
  assert.deepEqual(tableRows({ total: 4000, parts }), rows);
  assert.deepEqual(tableRows({}), []);
});

test("a type of the cache is one, or one of keys and one of values", () => {
  assert.deepEqual(["f16", ["q8_0", "f16"]].map(typeText), ["f16", "q8_0 / f16"]);
});
