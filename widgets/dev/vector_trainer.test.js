import assert from "node:assert/strict";
import { test } from "node:test";
import { lineSpan, pairsText, stateText } from "../vector_trainer.js";

test("pairs are counted as they are typed", () => {
  assert.equal(pairsText("I am hap"), "");
  assert.equal(pairsText("I am happy | I am sad"), "1 pair; two are needed");
  assert.equal(pairsText("a | b\n\nc\td\nnot yet |"), "2 pairs; from 4 on, two or more are held out to try it");
  assert.equal(pairsText("a | b\r\n".repeat(5)), "5 pairs");
});

test("what the training does is a line", () => {
  assert.equal(stateText({ state: "idle", share: 0, said: "" }), "");
  assert.equal(stateText({ state: "running", share: 0.25, said: "" }), "Learning… 25.0%");
  assert.equal(stateText({ state: "finished", share: 1, said: "Learnt it." }), "Learnt it.");
  assert.equal(stateText({ state: "stopped", share: 0, said: "" }), "Stopped; nothing was learnt.");
});

test("a line of a text is found, to be marked", () => {
  const text = "one\n\nthree";
  const at = (line) => text.slice(...lineSpan(text, line));
  assert.deepEqual([at(1), at(2), at(3)], ["one", "", "three"]);
});
