import assert from "node:assert/strict";
import { test } from "node:test";
import { foldText, placeAfterDrop, placeAfterMove, shownCards } from "../chain_editor_fold.js";

const card = (key, inert = "", on = true) => ({ key, inert, on });
const cards = [card("a", "x"), card("b"), card("c", "x"), card("d"), card("e", "x", false)];
const none = new Set();

test("stages without effect fold, those that are off or that a hand was on do not", () => {
  const keys = (touched, open) => shownCards(cards, touched, open).map(({ key }) => key);
  assert.deepEqual(keys(none, false), ["b", "d", "e"]);
  assert.deepEqual(keys(new Set(["c"]), false), ["b", "c", "d", "e"]);
  assert.equal(keys(none, true).length, 5);
  assert.equal(foldText(1), "1 stage has no effect");
});

test("a stage moves past those that are folded", () => {
  const shown = shownCards(cards, none, false);
  assert.equal(placeAfterMove(cards, shown, "b", 1), 3);
  assert.equal(placeAfterMove(cards, shown, "d", -1), 1);
  assert.equal(placeAfterMove(cards, shown, "b", -1), -1);
});

test("a stage is dropped before the line it lands on, or after the last one that is shown", () => {
  const shown = shownCards(cards, none, false);
  assert.equal(placeAfterDrop(cards, shown, "d", 0), 1);
  assert.equal(placeAfterDrop(cards, shown, "b", 2), 4);
});
