import assert from "node:assert/strict";
import { test } from "node:test";
import { shifted, toggled } from "../panel_bar.js";

test("a panel is added at the end and taken away, but the last one stays", () => {
  assert.deepEqual(toggled(["a"], "b"), ["a", "b"]);
  assert.deepEqual(toggled(["a", "b"], "a"), ["b"]);
  assert.deepEqual(toggled(["a"], "a"), ["a"]);
});

test("a panel goes one place to the side, and stays where there is none", () => {
  assert.deepEqual(shifted(["a", "b", "c"], "b", -1), ["b", "a", "c"]);
  assert.deepEqual(shifted(["a", "b", "c"], "b", 1), ["a", "c", "b"]);
  assert.deepEqual(shifted(["a", "b"], "b", 1), ["a", "b"]);
  assert.deepEqual(shifted(["a"], "x", 1), ["a"]);
});
