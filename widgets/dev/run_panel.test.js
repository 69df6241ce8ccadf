import assert from "node:assert/strict";
import { test } from "node:test";
import { pointsOf } from "../run_panel_figures.js";
import { branchText, chainText } from "../run_panel_history.js";
import { figuresInWords, figuresOf, progressOf, remarkText, stateText, stopText } from "../run_panel_words.js";

test("each state has its words", () => {
  assert.equal(stateText("idle"), "Ready.");
  assert.equal(stateText("running"), "Generating…");
  assert.equal(stateText("failed", {}, "no context"), "Failed: no context");
  const full = { finish: "length", ended: "reached max tokens" };
  assert.equal(stateText("finished", full), "Finished: reached max tokens.");
  assert.equal(stateText("stopped", { finish: "stopped", ended: "stopped" }), "Stopped.");
});

test("what did not finish is not said to have finished", () => {
  assert.equal(stateText("finished", { finish: "stopped", ended: "stopped" }), "Stopped.");
  assert.equal(stateText("finished", { finish: "explored", ended: "found by exploring" }), "Found by exploring.");
  assert.equal(stateText("finished", { finish: "scored", ended: "given text, scored" }), "Given text, scored.");
  assert.equal(stateText("finished", { finish: "cut", ended: "the beginning of a text" }), "The beginning of a text.");
  assert.equal(stateText("failed", { finish: "failed", ended: "failed" }), "Failed.");
});

test("a remark is said in every state but while a run goes on, apart from the state", () => {
  const full = { finish: "length", ended: "reached max tokens" };
  const left = "2 runs with tiny: kept until that model is opened again.";
  for (const state of ["idle", "stopped", "finished"]) {
    assert.equal(remarkText(state, left), left);
    assert.equal(stateText(state, full, left), stateText(state, full));
  }
  for (const busy of ["queued", "prompt", "running"]) assert.equal(remarkText(busy, left), "");
  assert.equal(remarkText("failed", "no context"), ""); // the state says it
});

test("progress is of the prompt first, then of the tokens asked for", () => {
  assert.deepEqual(progressOf("prompt", [128, 512], {}, 64), { share: 0.25, text: "128 of 512 prompt tokens" });
  assert.equal(progressOf("running", [512, 512], { tokens: 16, copied: 0 }, 64).share, 0.25);
  const branch = progressOf("running", [9, 9], { tokens: 351, copied: 233 }, 256);
  assert.equal(branch.text, "118 of at most 256 tokens");
  assert.equal(progressOf("prompt", [0, 0], {}, 0).share, 0);
  assert.equal(progressOf("finished", [1, 1], { tokens: 9 }, 9).text, "");
});

test("a figure that is not known is left out", () => {
  const none = {
    tokens: 0,
    tokens_per_second: null,
    first_token_seconds: null,
    prompt_decoded: null,
    prompt_reused: null,
    logprob: null,
    speeds: [],
    logprobs: [],
  };
  assert.deepEqual(figuresOf({}, "idle"), []);
  assert.equal(figuresOf(none, "finished")[0][0], "0 tokens");
  assert.equal(figuresOf(none, "finished").length, 1);
  assert.deepEqual(figuresInWords(none), []);
  assert.deepEqual(figuresInWords({}), []);
});

const RUN = {
  tokens: 96,
  tokens_per_second: 53.25,
  speeds: [40, 60],
  logprob: -1.234,
  logprobs: [-3, -0.5],
  first_token_seconds: 0.12,
  prompt_decoded: 5,
  prompt_reused: 10,
};

test("a finished run says how long it was, how fast, how likely, and what the prompt cost", () => {
  const said = figuresOf(RUN, "finished");
  const texts = ["96 tokens", "53.3 tokens/s", "logprob −1.23", "first 120 ms", "prompt 5 decoded, 10 reused"];
  assert.deepEqual(
    said.map(([text]) => text),
    texts,
  );
  assert.deepEqual(
    said.map(([, curve]) => curve),
    [null, RUN.speeds, RUN.logprobs, null, null],
  );
  const moving = [said[1], said[2]];
  assert.deepEqual(figuresOf(RUN, "running"), moving, "while it goes on, those with a curve");
  assert.deepEqual(figuresOf({ ...RUN, tokens_per_second: null, logprob: null }, "running"), []);
});

test("in words the figures say what they are of, and the ends of the curves' scales", () => {
  const said = figuresInWords(RUN).join("\n");
  assert.match(said, /53\.3 tokens a second after the first\. From 40 to 60 on the way/);
  assert.match(said, /5 tokens of the prompt read for it, 10 more were in the cache/);
  assert.match(said, /−1\.23 nats on the average\. From −3 to −0\.5 on the way/);
});

test("a curve has 0 at one edge: speeds stand on it, log-probabilities hang off it", () => {
  assert.equal(pointsOf([30, 60]), "0.0,7.0 44.0,1.0");
  assert.equal(pointsOf([0, -2, -1]), "0.0,1.0 22.0,13.0 44.0,7.0");
  assert.equal(pointsOf([0, 0]), "0.0,1.0 44.0,1.0");
});

test("a branch says off which run and at which token", () => {
  assert.equal(branchText(null), "");
  assert.equal(branchText({ number: 2, step: 3, token: " a" }), "run 2 at step 3: ·a");
  assert.equal(branchText({ number: 2, step: 9, token: "" }), "run 2, on");
  assert.equal(branchText({ number: null, step: 3, token: "·a" }), "a run before at step 3: ·a");
});

test("what a run has otherwise than the one before stands before its stages", () => {
  const [differs, chain] = ["Temperature 0.8 → 1.64", "TopK(40) | Temperature(1.64)"];
  assert.equal(chainText({ differs, chain }), `${differs} · ${chain}`);
  assert.equal(chainText({ differs: "", chain }), chain);
});

test("one plain stop string needs no quotes, all others have them", () => {
  assert.equal(stopText([]), "");
  assert.equal(stopText(["END"]), "END");
  assert.equal(stopText(["\n"]), "\\n");
  assert.equal(stopText(["\t.\n"]), "\\t.\\n");
  assert.equal(stopText(["\\n"]), '"\\\\n"', "a backslash and an n");
  assert.equal(stopText(["\r"]), '"\\r"');
  assert.equal(stopText([" a"]), '" a"');
  assert.equal(stopText(["a, b"]), '"a, b"');
  assert.equal(stopText(["A", "B"]), '"A", "B"');
});
