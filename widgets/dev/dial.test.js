import assert from "node:assert/strict";
import { test } from "node:test";
import { placeText, strengthText } from "../dial.js";

test("a strength has a real minus", () => {
  assert.equal(strengthText(-0.25), "at −0.25");
});

test("the row that is shown is that of a step, or of the prompt's end", () => {
  assert.equal(placeText(""), "before the chain, at the end of the prompt; bars 0% to 100%");
  assert.match(placeText("step 5"), /, at step 5; /);
});
