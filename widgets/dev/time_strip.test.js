import assert from "node:assert/strict";
import { test } from "node:test";
import { barText, heightOf, topText, scaleText, stepsOf, stopsOf, tableRows, totalOf } from "../time_strip.js";

const bars = {
  first: 3,
  n: 5,
  per: 2,
  scale: 8,
  n_cut: 1,
  labels: {
    ...{ decode: "decode", sampling: "sampling", constraint: "constraint" },
    ...{ capture: "capture", rest: "Python and display" },
  },
  parts: { decode: [6, 30, null], sampling: [1, 2, 1], constraint: [0, 0, 0], capture: [0, 0, 0], rest: [1, 0, 0] },
};

test("a bar is of some steps, the last of what is left", () => {
  assert.deepEqual([0, 1, 2].map((bar) => stepsOf(bars, bar)), [[3, 4], [5, 6], [7, 7]]);
});

test("a bar is as high as its parts together, up to the scale", () => {
  assert.deepEqual([0, 1, 2].map((bar) => totalOf(bars, bar)), [8, 32, null]);
  assert.deepEqual(heightOf(bars, 0), { share: 1, cut: false });
  assert.deepEqual(heightOf(bars, 1), { share: 1, cut: true });
  assert.deepEqual(heightOf(bars, 2), { share: 0, cut: false });
  assert.deepEqual(heightOf({ ...bars, scale: null }, 0), { share: 0, cut: false });
});

test("the parts stand one on the other", () => {
  const stops = stopsOf(bars, 0).split(",");
  assert.match(stops[0], / 0\.00% 75\.00%$/);
  assert.match(stops[1], / 75\.00% 87\.50%$/);
  assert.match(stops.at(-1), / 87\.50% 100\.00%$/);
});

test("bars are said in words, and what is not known is n/a", () => {
  const said = "steps 3–4: 8 ms, mean of a token: decode 6 ms, sampling 1 ms, Python and display 1 ms";
  assert.equal(barText(bars, 0), said);
  assert.equal(barText({ ...bars, per: 1 }, 0).slice(0, 14), "step 3: 8 ms: ");
  assert.equal(scaleText(bars), "5 tokens, a bar is the mean of 2 tokens; 1 bar higher, cut");
  assert.deepEqual(tableRows(bars)[2], ["7", "n/a", "n/a", "1 ms", "0 µs", "0 µs", "0 µs"]);
  assert.deepEqual(tableRows({}), []);
  assert.equal(topText({ ...bars, scale: null }), "to n/a");
});
