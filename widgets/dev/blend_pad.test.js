import assert from "node:assert/strict";
import { test } from "node:test";
import { gridRows, pointText, progressText, targetText } from "../blend_pad_words.js";

const axes = [
  { name: "happy", reach: 2 },
  { name: "pirate", reach: 4 },
];

test("a point is said with the names of both", () => {
  assert.equal(pointText(axes, [0.5, -1]), "happy 0.5, pirate −1");
});

test("a target is said beside what it is without them; there may be none", () => {
  assert.equal(targetText({ logprob: -10, base_logprob: -12.5 }), "The text: −10 nats (−12.5 without them). ");
  assert.equal(targetText({ logprob: null }), "");
});

test("how far a map is", () => {
  assert.equal(progressText("running", 80, 289), "80 of 289 cells…");
  assert.equal(progressText("stopped", 80, 289), "stopped, 80 of 289 cells");
  assert.equal(progressText("finished", 289, 289), "289 cells");
  assert.equal(progressText("idle", 0, 289), "");
});

test("its table has a row a cell, from the lowest strengths", () => {
  const rows = gridRows({ n: 3, values: [1, 2, 3, 4, null, 6, 7, 8, 9] }, axes);
  assert.deepEqual(rows.slice(0, 2), [
    ["−4", "−2", "1"],
    ["−4", "0", "2"],
  ]);
  assert.deepEqual([rows[4], rows[8]], [["0", "0", "n/a"], ["4", "2", "9"]]); // prettier-ignore
  assert.deepEqual(gridRows({}, axes), []);
});
