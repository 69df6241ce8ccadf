import assert from "node:assert/strict";
import { test } from "node:test";

import { outlineMove, seenRows } from "../branch_tree_outline.js";
import { chance, labelOf, perToken, segment, spoken } from "../branch_tree_row.js";
import { footText, tableRows } from "../branch_tree_words.js";
import { alikeText, nats, noiseText, partingText, ticked } from "../shared/comparison.js";

const hex = (text) => [...new TextEncoder().encode(text)].map((b) => b.toString(16).padStart(2, "0")).join("");
const row = (key, parent, children = 0, more = {}) => ({ key, parent, children, ...more });
//  root ─ a ─┬ b (turns off) ─ b2
//            └ c
const ROWS = [row("root", null, 1), row("a", "root", 2), row("b", "a", 1), row("b2", "b"), row("c", "a")];
const keysOf = (rows) => rows.map((one) => one.key);

test("a collapsed row hides all that is below it, at any depth", () => {
  assert.deepEqual(keysOf(seenRows(ROWS, new Set())), ["root", "a", "b", "b2", "c"]);
  assert.deepEqual(keysOf(seenRows(ROWS, new Set(["b"]))), ["root", "a", "b", "c"]);
  assert.deepEqual(keysOf(seenRows(ROWS, new Set(["root", "b"]))), ["root"]);
});

test("up and down pass over hidden rows, and the ends hold", () => {
  const shut = new Set(["b"]);
  assert.deepEqual(outlineMove(ROWS, shut, "b", "ArrowDown"), { key: "c" });
  assert.deepEqual(outlineMove(ROWS, shut, "c", "ArrowDown"), { key: "c" });
  assert.deepEqual(outlineMove(ROWS, shut, "root", "ArrowUp"), { key: "root" });
  assert.deepEqual(outlineMove(ROWS, shut, "root", "End"), { key: "c" });
  assert.deepEqual(outlineMove(ROWS, shut, "c", "Home"), { key: "root" });
});

test("left folds, then goes to the parent; right unfolds, then goes to the first child", () => {
  assert.deepEqual(outlineMove(ROWS, new Set(), "b", "ArrowLeft"), { close: "b" });
  assert.deepEqual(outlineMove(ROWS, new Set(["b"]), "b", "ArrowLeft"), { key: "a" });
  assert.deepEqual(outlineMove(ROWS, new Set(["b"]), "b", "ArrowRight"), { open: "b" });
  assert.deepEqual(outlineMove(ROWS, new Set(), "b", "ArrowRight"), { key: "b2" });
  assert.deepEqual(outlineMove(ROWS, new Set(), "b2", "ArrowRight"), { key: "b2" });
  assert.deepEqual(outlineMove(ROWS, new Set(["root"]), "root", "ArrowLeft"), { key: "root" });
});

test("a row that is gone leads to the first one, and no rows lead nowhere", () => {
  assert.deepEqual(outlineMove(ROWS, new Set(), "zzz", "ArrowDown"), { key: "root" });
  assert.deepEqual(outlineMove([], new Set(), "", "ArrowDown"), { key: "" });
});

test("a chance keeps two digits however small it is", () => {
  assert.equal(chance(0), "100%");
  assert.equal(chance(Math.log(0.123)), "12.3%");
  assert.equal(chance(Math.log(4.6e-8)), "4.6·10⁻⁸");
  assert.equal(chance(Math.log(9.99e-9)), "1.0·10⁻⁸");
  assert.equal(chance(-5000 * Math.LN10), "1.0·10⁻⁵⁰⁰⁰");
  assert.equal(chance("-inf"), "0");
  assert.equal(chance(null), "n/a");
});

test("a path's mean chance does not shrink with its length", () => {
  assert.ok(Math.abs(perToken({ logprob: 40 * Math.log(0.5), stop: 40 }) - 0.5) < 1e-12);
  assert.equal(perToken({ logprob: 0, stop: 0 }), null);
  assert.equal(perToken({ logprob: null, stop: 3 }), null);
});

test("a character cut by the border of the segment stays in sight", () => {
  const [first, rest] = segment({ first: hex("😀").slice(0, 4), rest: hex("😀").slice(4) + hex("a") });
  assert.deepEqual([...first, ...rest].map((part) => part.text).join(""), "😀a");
});

test("names are shown with what they hide", () => {
  assert.equal(labelOf({ branch: 3, name: "" }), "branch 3");
  assert.equal(labelOf({ branch: 3, name: "a\u200eb" }), "aLRMb");
  assert.equal(labelOf({ branch: 0, name: "" }), "");
});

test("a screen reader hears the text, whose it is and how likely", () => {
  const one = {
    parent: "root",
    branch: 2,
    name: "x",
    stop: 7,
    first: hex(" a"),
    rest: hex("b"),
    cut: true,
    logprob: Math.log(0.5),
    logprob_after: "-inf",
  };
  assert.equal(spoken(one), "·ab…, x, 7 tokens, path 50.0% before the chain, 0 after");
  assert.equal(spoken({ parent: null }, "Once"), "prompt: Once");
});

test("a fifth tick lets the oldest go", () => {
  assert.deepEqual(ticked([], 1), [1]);
  assert.deepEqual(ticked([1, 2, 3], 4), [1, 2, 3, 4]);
  assert.deepEqual(ticked([1, 2, 3, 4], 5), [2, 3, 4, 5]);
  assert.deepEqual(ticked([1, 2], 1), [2]);
});

const side = (label, first, kl = null, kl_after = null) => ({ label, first, kl, kl_after, token: "x" });
const exact = (x) => ({ nats: x, infinite: false, exact: true });

test("a divergence says when it is infinite, a bound, or not known", () => {
  assert.equal(nats(exact(0.3125)), "0.313 nats");
  assert.equal(nats({ ...exact(0.3125), exact: false }), "≥ 0.313 nats");
  assert.equal(nats({ nats: null, infinite: true, exact: true }), "∞");
  assert.equal(nats(null), "n/a");
});

const sides = (same_prompt, floor, kl, noise = null, kl_after = exact(0.25), noise_after = null) => ({
  floor,
  sides: [side("run 1", null), { ...side("run 2", 11, kl, kl_after), noise, noise_after, same_prompt }],
});
const parting = (...args) => partingText(sides(...args), sides(...args).sides[1]);

test("where two part, rows of one history are called the same, others are measured", () => {
  assert.equal(
    parting(true, null, exact(0)),
    "run 2 parts from run 1 at token 12. The model's row is the same there; after the chain KL is 0.250 nats.",
  );
  assert.match(parting(false, null, exact(0)), /KL there: 0 nats before the chain, 0.250 nats after/);
  assert.match(parting(true, null, exact(0.5)), /KL there: 0.500 nats before/);
  assert.match(parting(true, null, null), /KL there: n\/a before/);
});

test("a divergence is noise only where noise was measured, and then no figure is given as one", () => {
  assert.match(parting(true, null, exact(2e-5)), /KL there: 0.00002 nats before the chain/);
  assert.match(
    parting(true, 0.01, exact(2e-5), true),
    /row is the same there, within noise; after the chain KL is 0.250 nats/,
  );
  assert.match(
    parting(false, 0.01, exact(2e-5), true, exact(0.25), false),
    /KL there: within noise before the chain, 0.250 nats after/,
  );
  assert.match(
    parting(true, 0.01, exact(0.5), false, { nats: null, infinite: true, exact: true }, true),
    /0.500 nats before the chain, within noise after/,
  );
});

test("the view says how large noise is, or how to measure it where a difference is shown", () => {
  assert.deepEqual(noiseText(sides(true, 0.0123, exact(0.5), false)), [
    "Within noise: up to 0.012 nats, as measured with this model.",
  ]);
  assert.equal(noiseText(sides(true, null, exact(0.5)))[1], "ml.studies.noise.noise(model)");
  assert.deepEqual(noiseText(sides(true, null, exact(0), null, exact(0))), []);
  assert.deepEqual(noiseText(sides(true, null, null, null, null)), []);
});

test("what is alike is said in words", () => {
  const c = (first, shared, ...tokens) => ({ first, shared, sides: tokens.map((token) => ({ token })) });
  assert.equal(alikeText(c(0, 0, "a", "b")), "the first token differs");
  assert.equal(alikeText(c(1, 1, "a", "b")), "1 token alike, then token 2 differs");
  assert.equal(alikeText(c(null, 3, "a", "")), "3 tokens alike, then one goes on");
  assert.equal(alikeText(c(null, 3, "", "")), "the same 3 tokens");
});

test("the foot counts branches and says what is not shown", () => {
  const state = { rows: ROWS, nodes: 5, mass: 0.25 };
  assert.match(footText(0, state), /No branches yet/);
  assert.equal(footText(1, state), "1 branch · together 25.0% of the model's probability, before the chain");
  const more = footText(2, { ...state, nodes: 9 });
  assert.match(more, /^2 branches · .* · tick two to four to compare them · the first 5 of 9 segments$/);
});

test("the table has the likeliest branch first, one of unknown chance last", () => {
  const branch = (number, logprob) => ({ branch: number, name: "", logprob, stop: 1, first: "", rest: "", finish: "" });
  const rows = [branch(1, null), branch(2, -3), branch(0, -1), branch(3, -2)];
  assert.deepEqual(
    tableRows({ rows }).map(([number]) => number),
    [3, 2, 1],
  );
});
