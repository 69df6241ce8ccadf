import assert from "node:assert/strict";
import { test } from "node:test";
import { beside } from "../model_picker_list.js";
import { facts, inert, promise, sizeText, stateText, typedWhole } from "../model_picker_words.js";

test("a size is in megabytes, from a thousand on in gigabytes", () => {
  assert.equal(sizeText(98_362_432), "98 MB");
  assert.equal(sizeText(4_200_000_000), "4.2 GB");
});

test("a row says what it is, how large, where it is and under which licence", () => {
  const entry = { kind: "catalogue", what: "chats", size: 98e6, cached: false, licence: "MIT" };
  assert.deepEqual(facts(entry), ["chats", "98 MB", "to be fetched", "MIT"]);
  assert.equal(facts({ ...entry, cached: true })[2], "on this disk");
  assert.equal(facts({ kind: "model", what: "llama", size: 5e6 })[2], "new session");
  const session = { kind: "session", tokens: 1200, n_ctx: 4096 };
  assert.deepEqual(facts(session), ["holds 1,200 of 4,096 tokens", "", "share it", ""]);
  assert.equal(facts({ ...session, text: "…a fox" })[0], "holds 1,200 of 4,096 tokens: …a fox");
  assert.equal(facts({ ...session, at_work: true, same: true, runs: 1 })[2], "at work here, 1 run");
  assert.equal(facts({ ...entry, cached: true, runs: 2 })[2], "on this disk, 2 runs kept");
  assert.equal(facts({ kind: "before", what: "a file", size: 5e6, runs: 2 })[2], "load it again, 2 runs kept");
});

test("before another model is opened, it is said what becomes of the runs", () => {
  const here = { key: "s", name: "small", at_work: true, same: true, runs: 4 };
  const again = { key: "m", name: "small", same: true, runs: 4 };
  const rows = [here, again, { key: "b", name: "big", runs: 2 }, { key: "c" }];
  assert.equal(promise(rows, "s"), "");
  assert.equal(promise(rows, "m"), "The 4 runs here go along: it is the same model.");
  for (const choice of ["c", ""]) {
    assert.match(promise(rows, choice), /^The tree here, of 4 runs, is kept with small, .* open that again\./);
    assert.match(promise(rows, choice), /Prompt, chain and seed go along\.$/);
  }
  assert.match(promise(rows, "b"), /2 runs with big will be shown again\./);
  assert.match(promise([{ ...here, runs: 1 }, { key: "c" }], "c"), /^The tree here, of 1 run, is kept/);
  assert.equal(promise([{ ...here, runs: 0 }, { key: "c" }], "c"), "Prompt, chain and seed go along.");
  assert.equal(promise([{ key: "c" }], "c"), "");
});

test("how far it is comes in bytes while it is fetched, and in percent while it loads", () => {
  assert.equal(stateText("fetching", [45e6, 93e6], "m"), "Fetching m: 45 MB of 93 MB");
  assert.equal(stateText("fetching", [0, 0], "m"), "Opening m…");
  assert.equal(stateText("loading", [250, 1000], "m"), "Loading m: 25%");
  assert.equal(stateText("stopped", [0, 0], "m"), "Stopped: nothing was opened.");
  assert.equal(stateText("idle", [0, 0], ""), "");
});

test("an empty number is 0, and what is none goes to the kernel, which says what is wrong with it", () => {
  assert.equal(typedWhole("  "), 0);
  assert.equal(typedWhole(" 2048 "), 2048);
  assert.equal(typedWhole("-1"), -1);
  assert.equal(typedWhole("many"), "many");
});

test("a setting without effect on a choice says why", () => {
  assert.match(inert("n_ctx", "session"), /keeps what it was opened with/);
  assert.match(inert("n_gpu_layers", "model"), /layers stay/);
  assert.equal(inert("n_ctx", "model"), "");
  assert.equal(inert("n_gpu_layers", "catalogue") + inert("n_ctx", "file"), "");
});

test("the arrows go from row to row and stay at the ends", () => {
  const rows = [{ key: "a" }, { key: "b" }];
  assert.equal(beside(rows, "a", 1), "b");
  assert.equal(beside(rows, "b", 1), "b");
  assert.equal(beside(rows, "a", -1), "a");
  assert.equal(beside([], "a", 1), "");
});
