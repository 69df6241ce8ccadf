import assert from "node:assert/strict";
import test from "node:test";
import { csvOf, picture } from "../grammar_bench_file.js";
import { kindOf, linesOf, marked, placeIn, spansOf } from "../grammar_bench_code.js";
import { isUnwritten, STARTERS } from "../grammar_bench_starters.js";
import { cutText } from "../grammar_bench_walk.js";
import { triedText } from "../grammar_bench_tried.js";

const text = 'root ::= "a" word* # all\nword ::= [a-z]+ | <think>';

test("what is typed is known by its beginning", () => {
  assert.equal(kindOf('"yes" | "no"'), "GBNF");
  assert.equal(kindOf(' {"type": "object"}'), "JSON Schema");
  assert.equal(kindOf("/[a-z]+/"), "regular expression");
  assert.equal(kindOf("/"), "GBNF");
});

test("spans are the whole text, each of its kind", () => {
  const spans = spansOf(text);
  assert.equal(spans.map((span) => span.text).join(""), text);
  const of = (kind) => spans.filter((span) => span.kind === kind).map((span) => span.text);
  assert.deepEqual(of("rule"), ["root", "word"]);
  assert.deepEqual(of("string"), ['"a"']);
  assert.deepEqual(of("set"), ["[a-z]"]);
  assert.deepEqual(of("token"), ["<think>"]);
  assert.deepEqual(of("comment"), ["# all"]);
  for (const broken of ['root ::= "a', "root ::= [a", "root ::= <a", '{"a', "", "\n\n"])
    assert.equal(spansOf(broken).map((span) => span.text).join(""), broken);
});

test("lines are cut at each line feed, also inside a span", () => {
  const texts = (text) => linesOf(spansOf(text)).map((line) => line.map((span) => span.text).join(""));
  for (const one of [text, "", "\n", "a\n\nb\n", '{"a":\n 1}', "/a\nb/"]) assert.deepEqual(texts(one), one.split("\n"));
  assert.equal(linesOf(spansOf(text))[1][0].kind, "rule");
});

test("keys of a schema differ from its texts", () => {
  const spans = spansOf('{"type": "object"}');
  assert.deepEqual(
    spans.filter((span) => /"/.test(span.text)).map((span) => [span.kind, span.text]),
    [
      ["rule", '"type"'],
      ["string", '"object"'],
    ],
  );
});

test("a place is marked with the word that stands there", () => {
  const place = placeIn(text, 2, 17);
  assert.equal(text.slice(place, place + 1), "|");
  const wrong = marked(spansOf(text), placeIn(text, 1, 14)).filter((span) => span.wrong);
  assert.deepEqual(wrong.map((span) => span.text), ["word"]);
  assert.equal(placeIn("ab", 7, 3), 2, "no further than the end");
  assert.equal(marked(spansOf(text), -1).some((span) => span.wrong), false);
});

test("a starter is known by its kind, and only what somebody wrote is asked for", () => {
  assert.deepEqual(STARTERS.map((one) => kindOf(one.text)), ["GBNF", "JSON Schema", "regular expression"]);
  assert.equal(JSON.parse(STARTERS[1].text).type, "object");
  const given = ["", " \n", 'root ::= "yes" | "no"', ...STARTERS.map((one) => one.text)];
  for (const text of given) assert.ok(isUnwritten(text));
  assert.equal(isUnwritten('"mine"'), false);
});

test("what texts use of a grammar is said in a sentence", () => {
  assert.equal(triedText({}), "");
  const some = { n_tried: 1, n_texts: 1, n_unread: 0, n_used: 1, n_alternatives: 2 };
  assert.equal(triedText(some), "1 text tried: 1 of 2 alternatives used");
  const cut = { ...some, n_tried: 4, n_texts: 3, n_unread: 1 };
  assert.equal(triedText(cut), "3 of 4 texts tried: 1 of 2 alternatives used · 1 text too long to be read");
  assert.match(triedText({ problem: "why" }), /not known: why$/);
});

const WALK = {
  ...{ tokens: [{ text: " {\n", rules: ["root"] }, { text: "a,", rules: ["key", "root"] }], rest: "<x", refusal: "" },
  ...{ is_complete: false, is_ended: false, can_only_end: false, expected: "[a-c]", n_allowed: 2, n_vocab: 300 },
  ...{ forced: "", tax: "", stack: ["root"], n_tokens: 2 },
  allowed: [
    { token: 7, bytes: "2061", p: 0.25, spans: "" },
    { token: 8, bytes: "0a7d", p: null, spans: "key › root" },
  ],
};

test("the file of a text in a grammar has the tokens that may come next", () => {
  const lines = csvOf(WALK).split("\r\n");
  assert.deepEqual(lines, ["token,id,probability,across", '" a",7,0.25,', '"\n}",8,,key › root', ""]);
  assert.equal(csvOf({}), null);
});

test("the picture of a text in a grammar has its tokens with their rules, what it is, and what may come", () => {
  const colours = { paper: "#ffffff", ink: "#000000", "ink-2": "#555555", line: "#dddddd", kept: "#0000ff" };
  const drawn = picture({ walk: WALK, measure: (text) => 6 * text.length }, colours);
  const words = [...drawn.matchAll(/<text [^>]*>([^<]*)</g)].map(([, text]) => text).filter(Boolean);
  const from = words.indexOf("token");
  assert.deepEqual(words.slice(0, 2), ["A beginning. Expected: [a-c].", "2 tokens of 300 may come"]);
  const taken = ["·{↵", "root", "a,", "key › root", "&#60;x", "not taken"];
  const next = ["·a", "may come", "25.0%", "↵}", "may come, across key › root"];
  assert.deepEqual(words.slice(from), ["token", "rule", "chance", ...taken, ...next]);
});

test("the picture shows what is invisible in a text that was not taken", () => {
  const drawn = picture({ walk: { ...WALK, rest: "a\u0000\n" }, measure: (text) => 6 * text.length }, {});
  assert.match(drawn, />aNUL↵</);
});

test("of a long text it is said that its end is shown, also in the picture", () => {
  assert.equal(cutText(WALK), "");
  assert.equal(cutText({ ...WALK, n_tokens: 1600 }), "The last 2 of 1,600 tokens.");
  const drawn = picture({ walk: { ...WALK, n_tokens: 1600 }, measure: (text) => 6 * text.length }, {});
  assert.ok(drawn.includes(">The last 2 of 1,600 tokens.<"));
});
