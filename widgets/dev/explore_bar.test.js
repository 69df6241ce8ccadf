import assert from "node:assert/strict";
import { test } from "node:test";
import { foundBriefly, foundText, fromText, notes, roomText } from "../explore_bar.js";

test("what was found is said with its share, and a stop is said", () => {
  const found = { expanded: 9, prefixes: 7, leaves: 1, mass: 0.25, shortest: 3, longest: 3, open: 0 };
  assert.equal(
    foundText("finished", found, 9),
    "Found the 7 likeliest beginnings, 1 path of 3 tokens with 25.0% of the probability there.",
  );
  assert.match(foundText("stopped", found, 64), /^Stopped: the 7 likeliest/);
  assert.equal(foundBriefly("finished", found, 9), "Found 1 path of 3 tokens, 25.0% of the probability.");
  assert.equal(foundBriefly("stopped", found, 9), "Stopped: 1 path of 3 tokens, 25.0% of the probability.");
  assert.equal(foundBriefly("running", found, 9), foundText("running", found, 9));
  assert.equal(foundText("running", found, 1000), "Exploring… 9 of at most 1,000");
  const short = foundText("finished", { ...found, leaves: 36, shortest: 1, longest: 5, open: 34 }, 64);
  assert.match(short, /36 paths of 1 to 5 tokens with .* 34 of them would go on with more budget; /);
  assert.match(foundText("idle", {}, 9), /^Finds the likeliest/);
  assert.equal(foundBriefly("idle", {}, 9), "Finds the likeliest paths.");
  assert.equal(foundBriefly("stopped", {}, 9), "Stopped before anything was found.");
  assert.equal(foundText("stopped", { prefixes: 0 }, 9), "Stopped before anything was found.");
});

test("where it goes on from is a path's end, or the prompt with its own", () => {
  assert.deepEqual(fromText("…is Paris", "The capital"), ["from:", "…is Paris"]);
  assert.deepEqual(fromText("", "The capital\n"), ["from the prompt:", "The capital↵"]);
  assert.deepEqual(fromText("", ""), ["from the prompt", ""]);
});

test("the room says what the tree takes, and nothing where the context is not known", () => {
  assert.equal(roomText([312, 4096]), "312 of 4,096 tokens");
  assert.equal(roomText([9, 0]), "");
});

test("behind the question mark is what the line has no room for", () => {
  const all = (room) => notes({ from: "after …is", line: "Found it.", room, note: "Drawn by: TopK(2)." });
  assert.equal(all([9, 256]).length, 4);
  assert.match(all([9, 256])[0], /^Explores after …is/);
  assert.match(all([9, 256])[2], /^9 of 256 tokens\. Tokens of the tree/);
  assert.match(all([300, 256])[2], /more tokens than the context has room for/);
  assert.deepEqual(all([9, 0]).slice(1), ["Found it.", "Drawn by: TopK(2)."]);
});
