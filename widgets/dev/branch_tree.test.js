import assert from "node:assert/strict";
import { test } from "node:test";

import { outlineMove, seenRows } from "../branch_tree_outline.js";
import { newKeys, scrollTo } from "../branch_tree_news.js";
import { pathTo } from "../branch_tree_rails.js";
import { chance, endOf, labelOf, perToken, segment, segmentText, sharedEnd, spoken } from "../branch_tree_row.js";
import { footText, hintText, likeliest, tableRows } from "../branch_tree_words.js";

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
  const { first, rest } = segment({ first: hex("😀").slice(0, 4), rest: hex("😀").slice(4) + hex("a") });
  assert.deepEqual([...first, ...rest].map((part) => part.text).join(""), "😀a");
});

const plain = (parts) => parts.map((part) => part.text).join("");

test("the end of a segment at which paths part is apart, in the row and in what is sent of a long one", () => {
  const short = segment({ first: hex(" a"), rest: hex(" list of three\nfruits"), children: 2 });
  assert.deepEqual([short.first, short.rest, short.end].map(plain), ["·a", "·list·of", "·three↵fruits"]);
  const long = segment({ first: hex("x"), rest: hex("begins"), tail: hex("ends"), cut: true, children: 2 });
  assert.deepEqual([plain(long.rest), plain(long.end)], ["begins", "ends"]);
  const leaf = segment({ first: hex("x"), rest: hex(" goes on and on"), children: 0 });
  assert.equal(plain(leaf.end), "");
  const inner = { first: hex("x"), rest: hex("begins"), tail: hex("ends"), cut: true, children: 2 };
  assert.equal(segmentText(inner), "xbegins…ends");
});

test("an end is whole parts, or the last characters of one that is too long", () => {
  const parts = ["one", "·", "two"].map((text) => ({ kind: "text", text }));
  assert.equal(plain(endOf(parts, 4)), "·two");
  assert.equal(plain(endOf(parts, 3)), "two");
  assert.equal(plain(endOf(parts, 2)), "wo");
  assert.deepEqual(endOf([], 4), []);
});

test("what is shared stands before the place where paths part, from the prompt on", () => {
  const rows = [
    row("root", null),
    row("1.0", "root", 2, { first: hex(" old"), rest: hex(" man"), cut: false }),
    row("2.2", "1.0"),
    row("3.0", "root"),
  ];
  const byKey = new Map(rows.map((one) => [one.key, one]));
  assert.equal(plain(sharedEnd(rows[2], byKey, hex("There was an"))), "was·an·old·man".slice(-14));
  assert.equal(plain(sharedEnd(rows[3], byKey, hex("an"))), "an");
  rows[1] = row("1.0", "root", 2, { first: hex("a"), rest: hex("b"), tail: hex("z"), cut: true });
  byKey.set("1.0", rows[1]);
  assert.equal(plain(sharedEnd(rows[2], byKey, hex("an"))), "z"); // the middle was not sent
});

test("new are the segments that only new branches go through, and none of another tree", () => {
  const at = (key, branch) => row(key, key === "root" ? null : "root", 0, { branch });
  const before = { tree: 1, rows: [at("root", 0), at("1.0", 1)] };
  const after = { tree: 1, rows: [at("root", 0), at("1.0", 0), at("2.4", 2), at("1.4", 1)] };
  assert.deepEqual(newKeys(before, after), ["2.4"]);
  assert.deepEqual(newKeys(after, after), []);
  assert.deepEqual(newKeys(before, { ...after, tree: 2 }), []);
});

test("a row in sight stays, one out of sight comes under the headings with the row over it", () => {
  const box = { from: 24, to: 200 };
  assert.equal(scrollTo({ top: 24, bottom: 50 }, box), 0);
  assert.equal(scrollTo({ top: 300, bottom: 326 }, box), 250);
  assert.equal(scrollTo({ top: -100, bottom: -74 }, box), -150);
});

test("a path goes from the prompt to its segment", () => {
  assert.deepEqual(keysOf(pathTo(ROWS, "b2")), ["root", "a", "b", "b2"]);
  assert.deepEqual(pathTo(ROWS, "gone"), []);
});

test("names are shown with what they hide", () => {
  assert.equal(labelOf({ branch: 3, name: "", called: "run 5" }), "run 5");
  assert.equal(labelOf({ branch: 3, name: "a\u200eb" }), "aLRMb");
  assert.equal(labelOf({ branch: 0, name: "" }), "");
});

test("a screen reader hears the text, whose it is and how likely", () => {
  const one = {
    parent: "root",
    branch: 2,
    name: "x",
    start: 5,
    stop: 7,
    ended: "stopped",
    first: hex(" a"),
    rest: hex("b"),
    cut: true,
    logprob: Math.log(0.5),
    logprob_after: "-inf",
  };
  assert.equal(spoken(one), "step 5: ·ab…, x, 7 tokens, stopped, path 50.0% before the chain, 0 after");
  assert.equal(spoken({ parent: null }, "Once"), "prompt: Once");
});

test("the foot counts branches and says what is not shown", () => {
  const state = { rows: ROWS, nodes: 5, mass: 0.25 };
  assert.match(footText(0, state), /No branches yet/);
  assert.equal(footText(1, state), "1 branch · together 25.0% of the probability before the chain");
  const more = footText(2, { ...state, nodes: 9 });
  assert.match(more, /^2 branches · .* · the first 5 of 9 segments$/);
  assert.deepEqual([hintText(1), hintText(2)], ["", " · tick two to four to compare"]);
});

test("the table has the likeliest branch first, one of unknown chance last", () => {
  const text = { stop: 1, first: "", rest: "", finish: "" };
  const branch = (number, logprob) => ({ branch: number, name: "", called: `run ${number}`, logprob, ...text });
  const rows = [branch(1, null), branch(2, -3), branch(0, -1), branch(3, -2)];
  assert.deepEqual(
    tableRows({ rows }).map(([called]) => called),
    ["run 3", "run 2", "run 1"],
  );
});

test("the table tells paths apart by all of their text, the likeliest row is found", () => {
  const nothing = { rest: "", tail: "", logprob: null };
  const of = (key, parent, text, more) => ({ key, parent, first: hex(text), ...nothing, ...more });
  const rows = [
    of("root", null, ""),
    of("1.0", "root", "Par", { cut: true, tail: hex("is") }),
    of("1.3", "1.0", "é", { first: "c3", rest: "", branch: 1, logprob: -2, stop: 4 }),
    of("1.4", "1.3", ".", { first: "a9", branch: 2, logprob: -3, stop: 5 }),
  ];
  assert.deepEqual(
    tableRows({ rows }).map((row) => row.at(-1)),
    ["Par…isC3", "Par…isé"],
  );
  assert.equal(likeliest(rows), "1.3");
  assert.equal(likeliest([]), "");
});
