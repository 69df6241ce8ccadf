import assert from "node:assert/strict";
import { test } from "node:test";
import { foundText, roomText } from "../explore_bar.js";

test("what was found is said with its share, and a stop is said", () => {
  const found = { expanded: 9, prefixes: 7, leaves: 1, mass: 0.25 };
  assert.equal(
    foundText("finished", found, 9),
    "Found the 7 likeliest beginnings, 1 path with 25.0% of the probability there.",
  );
  assert.match(foundText("stopped", found, 64), /^Stopped: the 7 likeliest/);
  assert.equal(foundText("running", found, 1000), "Exploring… 9 of at most 1,000");
  assert.match(foundText("idle", {}, 9), /^Finds the likeliest/);
  assert.equal(foundText("stopped", { prefixes: 0 }, 9), "Stopped before anything was found.");
});

test("a tree that fits is not spoken of", () => {
  assert.equal(roomText([256, 256]), "");
  assert.equal(roomText([9, 0]), "");
  assert.match(roomText([2000, 256]), /^The tree has 2,000 tokens and the context room for 256/);
});
