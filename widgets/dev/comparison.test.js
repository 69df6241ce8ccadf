import assert from "node:assert/strict";
import { test } from "node:test";

import { ticked } from "../shared/comparison.js";
import { csvOf, picture } from "../shared/comparison_file.js";
import {
  alikeText,
  costTexts,
  differsText,
  exactText,
  nats,
  noiseText,
  partingText,
  removedText,
} from "../shared/comparison_words.js";

test("a fifth tick lets the oldest go", () => {
  assert.deepEqual(ticked([], 1), [1]);
  assert.deepEqual(ticked([1, 2, 3], 4), [1, 2, 3, 4]);
  assert.deepEqual(ticked([1, 2, 3, 4], 5), [2, 3, 4, 5]);
  assert.deepEqual(ticked([1, 2], 1), [2]);
});

const side = (label, first, kl = null, kl_after = null) => ({ label, first, kl, kl_after, token: "x", cost: "" });
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

test("where two part, it is said in words how far apart the chances are", () => {
  const there = "run 2 parts from run 1 at step 11. There ";
  assert.equal(
    parting(true, null, exact(0)),
    `${there}the model's chances are the same; after the chain they differ clearly.`,
  );
  assert.equal(
    parting(true, null, exact(0), null, exact(0)),
    `${there}the model's chances are the same; after the chain they are the same, so only the draw differs.`,
  );
  for (const [kl, words] of [
    [0.003, "hardly differ"],
    [0.05, "differ a little"],
    [0.5, "differ clearly"],
    [2, "differ strongly"],
  ])
    assert.ok(parting(false, null, exact(kl)).startsWith(`${there}the model's chances ${words};`));
  assert.equal(parting(true, null, null), `${there}after the chain they differ clearly.`);
  assert.equal(parting(true, null, null, null, null), `${there}how far apart the chances are is not known.`);
  const bound = (x) => ({ ...exact(x), exact: false });
  assert.match(parting(true, null, bound(0), null, bound(0)), /the same as far as they were kept\.$/);
  assert.match(parting(true, null, bound(0.5)), /chances differ clearly or more;/);
  assert.equal(/KL|nats/.test(parting(true, null, exact(0.5))), false);
});

test("prompts that differ leave more than the draw to differ", () => {
  assert.equal(parting(false, null, exact(0), null, exact(0)).includes("only the draw"), false);
});

test("a token that was given is not called a draw", () => {
  const c = sides(true, null, exact(0), null, exact(0));
  const given = { ...c.sides[1], given: true };
  assert.match(partingText(c, given), /after the chain they are the same, but a token was given, not drawn\.$/);
});

test("chances are the same but for rounding only where that was measured", () => {
  assert.match(parting(true, null, exact(2e-5)), /chances hardly differ;/);
  assert.match(
    parting(true, 0.01, exact(2e-5), true, exact(3e-5), true),
    /but for rounding; after the chain they are the same but for rounding, so only the draw differs/,
  );
  const never = { nats: null, infinite: true, exact: true };
  const said = parting(true, null, exact(0.5), false, never);
  assert.match(said, /they differ: run 2 excludes a token that run 1 could draw/);
});

test("the exact term, its unit and what the words mean are there for who asks", () => {
  const c = sides(true, 0.0123, exact(0.5), false);
  const figures = exactText(c, c.sides[1]);
  assert.match(figures, /KL\(run 1 ‖ run 2\) at step 11: 0.500 nats before the chain, 0.250 nats after/);
  assert.match(figures, /Rounding makes up to 0.012 nats with this model/);
});

test("the view says that noise was measured, or how to measure it, only where a difference may be noise", () => {
  assert.match(noiseText(sides(true, 0.0123, exact(0.001), true))[0], /but for rounding, which was measured/);
  assert.deepEqual(noiseText(sides(true, 0.0123, exact(0.5), false)), []);
  const unknown = sides(true, null, exact(0.001));
  assert.equal(noiseText({ ...unknown, may_be_noise: true })[1], "ml.studies.noise.noise(model)");
  assert.deepEqual(noiseText({ ...unknown, may_be_noise: false }), []);
});

test("what two were asked for that differs is said from the first to the other", () => {
  const c = sides(true, null, null);
  const said = (...differs) => differsText(c.sides, { ...c.sides[1], differs });
  assert.equal(said("seed 3 → 4", "with a grammar"), "run 1 → run 2: seed 3 → 4, with a grammar");
  assert.equal(said(), "run 1 → run 2: the same settings");
});

test("what is alike is said in words", () => {
  const c = (first, shared, ...tokens) => ({ first, shared, sides: tokens.map((token) => ({ token })) });
  assert.equal(alikeText(c(0, 0, "a", "b")), "the first token differs");
  assert.equal(alikeText(c(1, 1, "a", "b")), "1 token alike, then step 1 differs");
  assert.equal(alikeText(c(null, 3, "a", "")), "3 tokens alike, then one goes on");
  assert.equal(alikeText(c(null, 3, "", "")), "the same 3 tokens");
});

const hex = (text) => [...new TextEncoder().encode(text)].map((b) => b.toString(16).padStart(2, "0")).join("");
const AT_LEAST = { nats: 0.5, infinite: false, exact: false };
const COMPARED = {
  ...{ first: 2, shared: 2, common: " there lived", n: 4, floor: null, may_be_noise: false },
  sides: [
    { ...side("run 1", null), token: " a", rest: " king.", differs: [] },
    { ...side("run 2", 2, exact(0.5), exact(0.25)), token: " an", rest: " old <b>.", differs: ["seed 1 → 2"] },
  ],
  rows: [
    [1, [[hex(" lived"), 0.75, 1, null, null, null], [hex(" lived"), 0.75, 1, exact(0), null, null]]],
    [2, [[hex(" a"), 0.5, 0.5, null, null, null], [hex(" an"), 0.25, 0.5, AT_LEAST, false, null]]],
    [3, [[hex(" king"), 0.1, 0.2, null, null, null], null]],
  ],
};
const [FREE, BOUND] = COMPARED.sides;
/** The same where the second was written under a grammar, of which little is known at the last step. */
const TAXED = {
  ...COMPARED,
  sides: [FREE, { ...BOUND, cost: "the grammar cost 3 nats" }],
  rows: [
    [1, [[hex(" lived"), 0.75, 1, null, null, null], [hex(" lived"), 0.75, 1, exact(0), null, [0, 0]]]],
    [2, [[hex(" a"), 0.5, 0.5, null, null, null], [hex(" an"), 0.25, 0.5, null, null, [Math.log(2), Math.log(4)]]]],
    [3, [null, [hex(" king"), 0.1, 0.2, null, null, [Math.log(2), null]]]],
    [4, [[hex("."), 0.1, 0.2, null, null, null], null]],
  ],
};
/** What is written in a picture, from the heads of its columns on. */
function tableOf(drawn) {
  const words = [...drawn.matchAll(/<text [^>]*>([^<]*)</g)].map(([, text]) => text);
  return words.slice(words.indexOf("step")).filter(Boolean);
}

test("the file of a comparison has the chances of each side at each step, and how far apart they are", () => {
  const [head, ...rows] = csvOf(COMPARED).split("\r\n");
  const ofOne = "run 1,run 1: chance,run 1: chance after the chain";
  const ofTwo = ofOne.replaceAll("run 1", "run 2");
  assert.equal(head, `step,${ofOne},${ofTwo},"run 2: KL, nats",run 2: KL is exact`);
  assert.deepEqual(rows, [
    '1," lived",0.75,1," lived",0.75,1,0,yes',
    '2," a",0.5,0.5," an",0.25,0.5,0.5,no',
    '3," king",0.1,0.2,,,,,',
    "",
  ]);
});

test("the picture of a comparison has the texts, their tokens side by side, and the words on them", () => {
  const paper = { paper: "#ffffff", ink: "#000000", "ink-2": "#555555", line: "#dddddd" };
  const drawn = picture(COMPARED, { ...paper, kept: "#0000ff", removed: "#bbbbbb" }, (text) => 6 * text.length);
  const words = [...drawn.matchAll(/<text [^>]*>([^<]*)</g)].map(([, text]) => text);
  const said = ["run 1, run 2: 2 tokens alike, then step 2 differs.", "run 1 → run 2: seed 1 → 2"];
  assert.deepEqual(words.slice(0, 2), said);
  const heads = ["step", "run 1", "chance", "run 2", "chance", "KL, nats"];
  const from = words.indexOf("step");
  assert.deepEqual(words.slice(from, from + 6), heads);
  assert.deepEqual(words.slice(from + 6).filter(Boolean), [
    ...["text", " there lived a king.", " there lived an old &#60;b&#62;."].map((text) => text.trimEnd()),
    ...["1", "·lived", "75.0%", "·lived", "75.0%", "0"],
    ...["2", "·a", "50.0%", "·an", "25.0%", "≥ 0.500"],
    ...["3", "·king", "10.0%", "–"],
  ]);
  assert.ok(words.includes("The first 4 of 9 tokens.") === false);
  assert.ok(picture({ ...COMPARED, n: 9 }, { ...paper }, (text) => text.length).includes("The first 4 of 9 tokens."));
});

test("what a grammar took of the chances is a share, a range of it, or not known", () => {
  const taken = (...cost) => removedText(["61", 0.1, 0.5, null, null, cost]);
  assert.equal(taken(Math.log(4), Math.log(4)), "75.0%");
  assert.equal(taken(Math.log(2), Math.log(4)), "50.0% to 75.0%");
  assert.equal(taken(Math.log(2), null), "50.0% to 100%");
  assert.equal(taken(0, 0), "0%");
  assert.equal(taken(0, null), "n/a");
  assert.equal(removedText(["61", 0.1, 0.5, null, null, null]), "");
  assert.equal(removedText(["61", 0.1, 0.5, null, null]), "");
});

test("what a grammar cost in all is said of the side that had one, in the view and in the picture", () => {
  assert.deepEqual(costTexts(TAXED), ["run 2: the grammar cost 3 nats."]);
  assert.deepEqual(costTexts(COMPARED), []);
  assert.ok(picture(TAXED, {}, (text) => text.length).includes("run 2: the grammar cost 3 nats."));
});

test("a file of a comparison has what a grammar took at each step, under the side that had one", () => {
  const [head, ...rows] = csvOf(TAXED).split("\r\n");
  assert.ok(head.endsWith(',run 2: KL is exact,"run 2: removed, nats at least","run 2: removed, nats at most"'));
  assert.ok(!head.includes("run 1: removed"));
  assert.deepEqual(rows, [
    '1," lived",0.75,1," lived",0.75,1,0,yes,0,0',
    '2," a",0.5,0.5," an",0.25,0.5,,,0.693147,1.38629',
    '3,,,," king",0.1,0.2,,,0.693147,inf',
    "4,.,0.1,0.2,,,,,,,",
    "",
  ]);
  const alone = [[0, [[hex("a"), 1, 1, null, null, [0.5, 0.5]], null]]];
  const first = csvOf({ ...TAXED, sides: [{ ...FREE, cost: "it cost much" }, BOUND], rows: alone });
  assert.equal(first.split("\r\n")[1], "0,a,1,1,0.5,0.5,,,,,");
});

test("a picture of a comparison has that too, and says where something is not known", () => {
  const drawn = picture(TAXED, {}, (text) => 6 * text.length);
  assert.ok(drawn.includes("Removed: how much of the model's chances"));
  assert.deepEqual(tableOf(drawn).filter((text) => text !== "text"), [
    ...["step", "run 1", "chance", "run 2", "chance", "KL, nats", "removed"],
    ...[" there lived a king.", " there lived an old &#60;b&#62;."],
    ...["1", "·lived", "75.0%", "·lived", "75.0%", "0", "0%"],
    ...["2", "·a", "50.0%", "·an", "25.0%", "n/a", "50.0% to 75.0%"],
    ...["3", "–", "·king", "10.0%", "n/a", "50.0% to 100%"],
    ...["4", ".", "10.0%", "–"],
  ]);
});
