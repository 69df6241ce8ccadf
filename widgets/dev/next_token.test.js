import assert from "node:assert/strict";
import { test } from "node:test";
import { barLength, fate, headLines, REMOVED, shareText, UNLISTED } from "../next_token_row.js";
import { drawText } from "../next_token.js";

const view = {
  seed: 7,
  step: 2,
  draw: 0.25,
  choice: 11,
  n_listed: 64,
  rows: [
    { id: 10, rank: 0 },
    { id: 11, rank: 1 },
    { id: 12, rank: null },
  ],
  columns: [
    { name: "row", kept: 100, removed: 0, entropy: 2.5, changed: true },
    { name: "TopK(40)", kept: 40, removed: 0.123, entropy: 2, changed: true },
    { name: "MinP(0.05)", kept: 40, removed: 0, entropy: 2, changed: false },
    { name: "Temperature(0.5)", kept: 40, removed: 0, entropy: 1, changed: true },
  ],
  cells: [
    [0.5, 0.25, UNLISTED],
    [REMOVED, 0.5, UNLISTED],
    [null, 0.5, null],
    [null, 0.75, null],
  ],
};

test("a linear bar is the probability; a log bar has four decades", () => {
  assert.equal(barLength(0.25, "linear"), 0.25);
  assert.equal(barLength(1, "log"), 1);
  assert.equal(barLength(0.01, "log"), 0.5);
  assert.equal(barLength(1e-9, "log"), 0);
  for (const none of [null, undefined, REMOVED, UNLISTED, 0]) assert.equal(barLength(none, "log"), 0);
});

test("a cell without a number says why", () => {
  assert.deepEqual([null, REMOVED, UNLISTED, 0.5].map(shareText), ["", "✕", "n/a", "50.0%"]);
});

test("a head says what is left, what went and how uncertain it is", () => {
  assert.deepEqual(headLines(view.columns, 0), ["before", "100", "tokens", "2.50 entropy"]);
  assert.deepEqual(headLines(view.columns, 1), ["TopK(40)", "40 left", "12% gone", "2.00 entropy"]);
  assert.equal(headLines([view.columns[0], { ...view.columns[1], removed: 0.9964 }], 1)[2], "99.6% gone");
  assert.equal(headLines(view.columns, 2)[2], "no change");
  assert.equal(headLines(view.columns, 3)[2], "none gone");
});

test("the fate of a token names the stage that removed it and what it had", () => {
  assert.equal(fate(view, 0), "rank 0, 50.0% before · removed by TopK(40), where it had 50.0% · id 10");
});

test("the fate of a token says what matters most first, in few words", () => {
  assert.equal(fate(view, 1), "rank 1, 25.0% before · 75.0% after · drawn, u = 0.2500 · id 11");
});

test("a note names the step in its own words, and then nothing else does", () => {
  assert.equal(drawText(view), "seed 7 · step 2");
  assert.equal(drawText({ ...view, note: "at step 2" }), "at step 2 · seed 7");
});

test("no stage is blamed for a token that was not listed before it went", () => {
  const text = fate(view, 2);
  assert.match(text, /not among the 64 likeliest before/);
  assert.doesNotMatch(text, /removed by/);
});
