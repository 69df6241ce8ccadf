import assert from "node:assert/strict";
import { test } from "node:test";

import {
  effectText,
  flippedAt,
  flipText,
  GIVEN,
  HIGH_FLIPS,
  intervalText,
  legendText,
  LOW_FLIPS,
  placeOf,
  tableRows,
  UNSURE,
} from "../what_if_words.js";
import { namesFit } from "../what_if_names.js";

const MAP = {
  label: "Temperature t",
  setting: "t",
  range: [0, 2],
  scale: "linear",
  was: 0.8,
  low: [null, 0.5, 0, 0.2],
  high: [null, 1.5, 1.2, 2],
  texts: ["a", "b", "c", "d"],
  marks: [GIVEN, LOW_FLIPS | HIGH_FLIPS, HIGH_FLIPS, LOW_FLIPS | UNSURE],
};

test("a value lies where the scale says, and never outside", () => {
  assert.equal(placeOf(0.5, MAP), 0.25);
  assert.equal(placeOf(3, MAP), 1);
  assert.equal(placeOf(10, { range: [1, 100], scale: "log" }), 0.5);
  assert.equal(placeOf(0, { range: [1, 100], scale: "log" }), 0);
});

test("a token is another choice beyond an end at which it flips, not beyond the scale's own", () => {
  assert.deepEqual(flippedAt(0.8, MAP), []);
  assert.deepEqual(flippedAt(1.3, MAP), [2]);
  assert.deepEqual(flippedAt(0.1, MAP), [1, 3]);
  assert.deepEqual(flippedAt(null, MAP), []);
});

test("where a replay has looked, its word counts and not the bars'", () => {
  const seen = { at: 1.3, differs: [1, 3], of: 2 };
  assert.deepEqual(flippedAt(1.3, MAP, seen), [1, 3]);
  assert.deepEqual(flippedAt(1.4, MAP, seen), [2]);
  assert.equal(flipText(1.3, MAP, seen), "Temperature t at 1.3 changes 2 of 2 choices, the first at step 1");
  assert.equal(flipText(1.4, MAP, seen), "Temperature t at 1.4 changes 1 of 3 choices, the first at step 2");
});

test("a token that is the choice nowhere has crossed ends", () => {
  const map = { ...MAP, low: [2], high: [0], marks: [LOW_FLIPS | HIGH_FLIPS] };
  for (const value of [0, 0.8, 2]) assert.deepEqual(flippedAt(value, map), [0]);
  assert.equal(intervalText(map, 0), "is the choice with no value of t that was tried");
});

test("words say how many change, and where a token stays", () => {
  assert.equal(flipText(1.3, MAP), "Temperature t at 1.3 changes 1 of 3 choices, the first at step 2");
  assert.equal(flipText(0.8, MAP), "Temperature t at 0.8 changes 0 of 3 choices");
  assert.equal(flipText(null, MAP), "Temperature t is not in the chain now");
  assert.equal(intervalText(MAP, 1), "stays the choice with t from 0.5 to 1.5");
  assert.equal(intervalText(MAP, 2), "stays the choice with t up to 1.2");
  assert.match(intervalText(MAP, 3), /from 0.2 on, as far as/);
  assert.match(intervalText(MAP, 0), /given, not drawn/);
  const thin = { ...MAP, low: [0.80001], high: [0.80003], marks: [LOW_FLIPS | HIGH_FLIPS] };
  assert.equal(intervalText(thin, 0), "stays the choice with t only at about 0.8");
  assert.equal(effectText(["MinP(0)", 0, 24, "p is 0"]), "changed 0 of 24 · p is 0");
  assert.equal(effectText(["MinP(0.1)", 0, 0, ""]), "n/a");
});

test("the legend says where the setting was, if the run had it", () => {
  assert.match(legendText({ ...MAP, more: 0 }), /0 to 2; it was 0\.8/);
  assert.match(legendText({ ...MAP, more: 0, was: null }), /0 to 2; the run had no such stage/);
});

test("the table says where a token stays, and which are another choice now", () => {
  assert.deepEqual(tableRows({}, 0.8), []);
  const rows = tableRows({ ...MAP, texts: ["a", "b", "c", "d"] }, 1.3);
  assert.deepEqual(rows[1].slice(0, 4), [1, "b", "0.5", "1.5"]);
  assert.deepEqual(
    rows.map((row) => row[4]),
    ["stays", "stays", "another choice", "stays"],
  );
});

test("tokens stand under their bars as far as there is room", () => {
  assert.deepEqual([60, 36, 20, 13, 12].map(namesFit), ["across", "across", "down", "down", "none"]);
});
