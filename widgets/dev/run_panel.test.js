import assert from "node:assert/strict";
import { test } from "node:test";
import { METERS, progressOf, stateText } from "../run_panel_words.js";

test("each state has its words", () => {
  assert.equal(stateText("idle"), "Ready.");
  assert.equal(stateText("running"), "Generating…");
  assert.equal(stateText("failed", {}, "no context"), "Failed: no context");
  assert.equal(stateText("finished", { finish: "eog" }), "Finished: the model ended the text.");
  assert.equal(stateText("stopped", { finish: "stopped" }), "Stopped.");
});

test("progress is of the prompt first, then of the tokens asked for", () => {
  assert.deepEqual(progressOf("prompt", [128, 512], 0, 64), { share: 0.25, text: "128 of 512 prompt tokens" });
  assert.equal(progressOf("running", [512, 512], 16, 64).share, 0.25);
  assert.equal(progressOf("prompt", [0, 0], 0, 0).share, 0);
  assert.equal(progressOf("finished", [1, 1], 9, 9).text, "");
});

test("a figure that is not known is n/a", () => {
  const none = {
    tokens: 0,
    tokens_per_second: null,
    first_token_seconds: null,
    prompt_decoded: null,
    prompt_reused: null,
  };
  assert.deepEqual(
    METERS.map(([, , show]) => show(none)),
    ["0", "n/a", "n/a", "n/a", "n/a"],
  );
});
