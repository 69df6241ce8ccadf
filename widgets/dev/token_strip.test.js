import assert from "node:assert/strict";
import { test } from "node:test";

import { ENDINGS, tokenColumns } from "../shared/tokens.js";
import { scaleText, stateText, summary } from "../token_strip_words.js";
import { stepBuffers } from "./fake_model.js";

function columnsOf(...logprobs) {
  const columns = tokenColumns();
  columns.append({ from: 0 }, stepBuffers(logprobs.map((logprob) => ({ piece: "x", logprob }))));
  return columns;
}

test("the summary counts, averages what is known and says how it ended", () => {
  assert.equal(
    summary(columnsOf(-1, -2, NaN), "eog"),
    "3 tokens · mean logprob −1.5 nats · the model ended the text",
  );
  assert.equal(summary(columnsOf(), ""), "0 tokens · mean logprob n/a");
  assert.match(summary(columnsOf(-1), "length"), /^1 token · /);
});

test("every way in which a text ends is said", () => {
  const reasons = ["length", "eog", "stop", "stopped", "context", "scored", "explored", "failed"]; // of Python's Trace
  assert.deepEqual(Object.keys(ENDINGS), reasons);
  assert.match(summary(columnsOf(-1), "explored"), / · found by exploring$/);
});

test("each state has a line of its own", () => {
  const some = columnsOf(-1, -1);
  assert.equal(stateText("queued", [0, 0], some, ""), "waiting for the session");
  assert.equal(stateText("prompt", [512, 2000], some, ""), "reading the prompt: 512 of 2,000 tokens");
  assert.match(stateText("running", [0, 0], some, ""), /generating$/);
  assert.match(stateText("stopped", [0, 0], some, "stopped"), /stopped$/);
  assert.equal(stateText("failed", [0, 0], columnsOf(), "failed"), "");
});

test("the scale of time prints what it is measured against", () => {
  assert.match(scaleText("time", 5.31), /1× is 5\.31 ms/);
  assert.match(scaleText("time", NaN), /known after 8 tokens/);
  assert.match(scaleText("probability", NaN), /before the chain/);
});
