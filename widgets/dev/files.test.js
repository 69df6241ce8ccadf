import assert from "node:assert/strict";
import { test } from "node:test";

import { csvOf as treeCsv, picture as treePicture } from "../branch_tree_file.js";
import { csvRows as nextRows, headings, picture as nextPicture } from "../next_token_file.js";
import { REMOVED, UNLISTED } from "../next_token_row.js";
import { COLUMNS as RUNS, csvRows as runRows } from "../run_panel_history.js";
import { csvTable, figure } from "../shared/export.js";
import { fitted } from "../shared/fitted.js";
import { heading, words, wrapped } from "../shared/svg.js";
import { tokenColumns } from "../token_strip_columns.js";
import { headings as stripHeadings, csvRows as stripRows } from "../token_strip_file.js";
import { laidOut, picture as stripPicture } from "../token_strip_file.js";
import { csvRows as whatIfRows, picture as whatIfPicture } from "../what_if_file.js";
import { GIVEN, HIGH_FLIPS, LOW_FLIPS } from "../what_if_words.js";
import { costBuffers, effectBuffers, stepBuffers } from "./fake_model.js";

const hex = (text) => [...new TextEncoder().encode(text)].map((b) => b.toString(16).padStart(2, "0")).join("");
const PAPER = { paper: "#ffffff", ink: "#000000", "ink-2": "#555555", line: "#dddddd", removed: "#bbbbbb" };
const COLOURS = { ...PAPER, kept: "#0000ff", "warm-edge": "#aa0000", "warm-5": "#ff0000" };
const MEASURES = { ofName: (text) => 7 * text.length, ofToken: (text) => 8 * text.length };
/** Boxes of a fill or a stroke in a picture. */
const boxes = (picture, colour) =>
  picture.split("\n").filter((line) => line.startsWith("<rect") && line.includes(colour));

test("a table without rows is no file, and a number that is not known is an empty cell", () => {
  assert.equal(csvTable(["a"], []), null);
  assert.equal(csvTable(["a"], [[figure(Math.fround(0.1))], [figure(NaN)]]), "a\r\n0.1\r\n\r\n");
});

test("a character that XML has not is no part of a picture, also half of one", () => {
  const text = "a\u0001b\ud800c\uffffd\te\u{1f600}<";
  assert.equal(words(0, 0, text), '<text x="0" y="0">a\ufffdb\ufffdc\ufffdd\te\u{1f600}&#60;</text>');
  assert.equal(words(0, 0, "a", { class: "\u0000" }), '<text x="0" y="0" class="\ufffd">a</text>');
});

test("what is said above a picture shows what is invisible in it", () => {
  const { parts } = heading(["“two\nlines\u0000 of it”"], 480, PAPER);
  assert.match(parts.join(""), />“two↵linesNUL of it”</);
});

const NEXT = {
  ...{ seed: 7, step: 2, draw: 0.25, choice: 11, n_listed: 64 },
  rows: [
    { id: 10, rank: 0, bytes: hex(" a") },
    { id: 11, rank: 1, bytes: hex("<b>") },
    { id: 12, rank: null, bytes: hex("\n") },
  ],
  columns: [
    { name: "row", kept: 100, removed: 0, entropy: 2.5, changed: true },
    { name: "TopK(40)", kept: 40, removed: 0.123, entropy: 2, changed: true },
    { name: "DRY()", kept: 40, removed: 0, entropy: 2, changed: false, inert: "nothing repeats" },
    { name: "Temperature(0.5)", kept: 40, removed: 0, entropy: 1, changed: true },
  ],
  cells: [
    [0.5, 0.25, UNLISTED],
    [REMOVED, 0.5, UNLISTED],
    [null, 0.5, UNLISTED],
    [null, 0.75, UNLISTED],
  ],
};

test("the table of the next token has a column a stage, also those without effect", () => {
  assert.deepEqual(headings(NEXT), ["token", "id", "drawn", "before", "TopK(40)", "DRY()", "Temperature(0.5)"]);
  assert.deepEqual(nextRows(NEXT), [
    [" a", 10, "", 0.5, "removed", null, null],
    ["<b>", 11, "drawn", 0.25, 0.5, 0.5, 0.75],
    ["\n", 12, "", "n/a", "n/a", "n/a", "n/a"],
  ]);
  assert.deepEqual(nextRows({}), []);
});

test("the picture of the next token has a bar for each share and says what it shows", () => {
  const says = ["seed 7 · step 2", "bars 0–100%"];
  const drawn = nextPicture({ view: NEXT, scale: "linear", says, ...MEASURES }, COLOURS);
  assert.match(drawn, /^<svg xmlns="http:\/\/www.w3.org\/2000\/svg" width="480" /);
  const widths = (colour) => boxes(drawn, colour).map((line) => Number(line.match(/width="([\d.]+)"/)[1]));
  assert.deepEqual(widths(COLOURS["warm-edge"]), [55, 82.5]); // of 110: the drawn token, after each stage
  assert.deepEqual(widths('stroke="#bbbbbb"'), [55]); // what the other one had
  const said = ["seed 7 · step 2", "bars 0–100%", "◆", ">&#60;b&#62;<", "✕"];
  for (const text of said) assert.ok(drawn.includes(text), text);
  assert.ok(!drawn.includes("DRY"));
});

/** The words at each place from the left in a picture, and where its columns of figures begin. */
function wordsAcross(drawn) {
  const texts = [...drawn.matchAll(/<text x="([\d.]+)"[^>]*>([^<]*)</g)].map(([, x, text]) => [Number(x), text]);
  const lefts = texts.filter(([, text]) => text.endsWith(" entropy")).map(([x]) => x);
  return { lefts, at: (x) => texts.filter(([left]) => left === x).map(([, text]) => text) };
}

test("no name of a stage and no token is cut in a picture: what is long has more room", () => {
  const rows = NEXT.rows.map((row) => ({ ...row, bytes: hex("incomprehensibilities") }));
  const drawn = (...names) => {
    const columns = [NEXT.columns[0], ...names.map((name) => ({ ...NEXT.columns[1], name }))];
    const view = { ...NEXT, rows, columns, cells: NEXT.cells.slice(0, columns.length) };
    return wordsAcross(nextPicture({ view, scale: "linear", says: [], ...MEASURES }, COLOURS));
  };
  const { lefts, at } = drawn("DynamicTemperature(0.9, 0.5, 1.5)", "Penalties(repeat=1.1, last_n=64)");
  assert.equal(lefts[2] - lefts[1], 4 + 7 * "DynamicTemperature(".length + 4);
  assert.deepEqual(at(lefts[1]).slice(0, 2), ["DynamicTemperature(", "0.9, 0.5, 1.5)"]);
  assert.deepEqual(at(lefts[2]).slice(0, -3), ["Penalties(", "repeat=1.1,", "last_n=64)"]);
  assert.deepEqual(at(26), rows.map(() => "incomprehensibilities"));
  assert.ok(26 + 8 * "incomprehensibilities".length < lefts[0]);
  const long = drawn("x".repeat(90));
  assert.deepEqual(long.at(long.lefts[1]).slice(0, -3), ["x".repeat(30), "x".repeat(30), "x".repeat(30)]);
});

test("what a token says is never markup in a picture", () => {
  assert.equal(words(0, 0, '<i a="b">&'), '<text x="0" y="0">&#60;i a=&#34;b&#34;&#62;&#38;</text>');
});

test("lines break between words, and before the settings of a stage", () => {
  assert.deepEqual(wrapped("one two three", 7), ["one two", "three"]);
  assert.deepEqual(wrapped("incomprehensible", 7), ["incomprehensible"]);
  const fit = (text) => fitted(text, 8, (of) => of.length);
  assert.deepEqual(fit("TopK(40)"), ["TopK(40)"]);
  assert.deepEqual(fit("XTC(0.1, 0.3)"), ["XTC(0.1,", "0.3)"]);
  assert.deepEqual(fit("a incomprehensible"), ["a incomp", "rehensib", "le"]);
});

function columnsOf(steps) {
  const columns = tokenColumns();
  columns.append({ from: 0 }, stepBuffers(steps));
  return columns;
}
const STEPS = [
  { token: 5, piece: " a", logprob: Math.log(0.5), rank: 0 },
  { token: 6, piece: "b\n", logprob: Math.log(0.001), rank: 412, stale: 1 },
  { token: 7, piece: "", logprob: NaN, entropy: NaN, rank: -1, ms: 2.5, ahead: 1 },
];

test("the table of a text has every number of every token, counted from 0 as a trace does", () => {
  const headings = stripHeadings(columnsOf(STEPS));
  assert.deepEqual(headings.slice(0, 6), ["step", "token", "text", "probability", "logprob", "rank"]);
  assert.deepEqual(stripRows(columnsOf(STEPS)), [
    [0, 5, " a", 0.5, -0.693147, 0, 1, 5, "false", "false"],
    [1, 6, "b\n", 0.001, -6.90776, 412, 1, 5, "false", "true"],
    [2, 7, "", null, null, null, null, 2.5, "true", "false"],
  ]);
});

test("the table of a text has what a grammar cost and what adapters did, once that is known", () => {
  const columns = columnsOf(STEPS);
  columns.take("grammar", costBuffers([[0.5, 0.5, "\n", -1], [0, 0, "", NaN], [0, Infinity, "", NaN]]));
  columns.take("effect", effectBuffers([[0.25, -2, ""], [0, -1, "x"], [1.5, -3, ""]]));
  const grammar = ["grammar_nats", "grammar_nats_high", "grammar_wanted"];
  assert.deepEqual(stripHeadings(columns).slice(10), [...grammar, "effect_nats", "base_logprob"]);
  assert.deepEqual(
    stripRows(columns).map((row) => row.slice(10)),
    [
      [0.5, 0.5, "\n", 0.25, -2],
      [0, 0, null, 0, -1],
      [0, null, null, 1.5, -3],
    ],
  );
});

test("a token that does not fit on a line begins the next one, and so does what follows a newline", () => {
  const token = (text, ends = false) => [[[text, ends]], "x"];
  const tokens = [token("abc"), token("de"), token("f", true), token("g")];
  const placed = laidOut(tokens, 4, (text) => text.length);
  assert.deepEqual(
    placed.map(({ x, line, text }) => [x, line, text]),
    [
      [0, 0, "abc"],
      [0, 1, "de"],
      [2, 1, "f"],
      [0, 2, "g"],
    ],
  );
});

test("the picture of a text has its prompt, its tokens in their colours and the scale", () => {
  const prompt = [new TextEncoder().encode("Once")];
  const says = ["a strip", "chance of the token"];
  const more = { columns: columnsOf(STEPS), layer: "probability", says, measure: (text) => 8 * text.length };
  const drawn = stripPicture({ prompt, ...more }, COLOURS);
  for (const text of ["a strip", "chance of the token", ">Once<", ">b↵<", ">∅<", "≥\u00a090%"]) {
    assert.ok(drawn.includes(text), text);
  }
  assert.match(drawn, /<tspan fill-opacity="0.4">·<\/tspan>a</); // a space is seen
  assert.equal(boxes(drawn, COLOURS["warm-5"]).length, 2); // of the scale, and the unlikely token
});

const BARS = {
  ...{ label: "Temperature t", setting: "t", range: [0, 2], scale: "linear", was: 0.8, more: 0 },
  ...{ low: [null, 0.5, 1.5], high: [null, 1.5, 0.5], texts: ["a", " b", "c"] },
  marks: [GIVEN, LOW_FLIPS | HIGH_FLIPS, LOW_FLIPS],
};

test("the table of the bars has their ends as numbers", () => {
  assert.deepEqual(
    whatIfRows(BARS, 0.25, {}).map((row) => row.slice(1)),
    [
      ["a", null, null, "stays"],
      [" b", 0.5, 1.5, "another choice"],
      ["c", "nowhere", "", "another choice"],
    ],
  );
  assert.deepEqual(whatIfRows({}, null, {}), []);
});

test("the picture of the bars has one where a value keeps the token, and the line where the setting is", () => {
  const draw = (at) => whatIfPicture({ bars: BARS, at, seen: {}, line: "1 of 2 differs" }, COLOURS);
  assert.equal(boxes(draw(0.8), COLOURS.kept).length, 1);
  assert.equal(boxes(draw(0.25), COLOURS["warm-edge"]).length, 1);
  assert.equal(boxes(draw(0.8), COLOURS.ink + '"').filter((line) => line.includes('height="2"')).length, 1);
  assert.equal(boxes(draw(null), 'height="2"').length, 0);
  assert.ok(draw(0.25).includes("Temperature t at 0.25 changes 2 of 2 choices"));
});

test("the table of the runs has plain numbers, and no tick or button", () => {
  const run = { number: 2, prompt: "x", chain: "TopK(40)", seed: null, tokens: 1200, speed: 12.3456789, logprob: -1.5 };
  const figures = ["seed", "tokens", "tokens/s", "mean logprob"];
  assert.deepEqual(RUNS, ["run", "branch of", "prompt", "stages with effect", ...figures, "ended", "text"]);
  const said = [2, "", "x", "TopK(40)", null, 1200, 12.3457, -1.5, "length", "a, b\n"];
  assert.deepEqual(runRows([{ ...run, finish: "length", text: "a, b\n" }]), [said]);
  const branch = { number: 1, step: 3, token: "·a" };
  assert.equal(runRows([{ ...run, branch, finish: "length", text: "" }])[0][1], "run 1 at step 3: ·a");
});

function treeRows() {
  const none = { children: 0, tail: "", cut: false, branch: 0, called: "", name: "", indent: 0 };
  const row = (key, parent, more) => ({ key, parent, ...none, ...more });
  const rows = [
    row("r", null, { first: "", rest: "" }),
    row("a", "r", { start: 0, stop: 2, first: hex("x"), rest: hex(" y"), children: 1, finish: "" }),
    row("b", "a", { start: 2, stop: 3, first: hex("z"), rest: "", branch: 1, name: "mine", finish: "eog" }),
  ];
  rows[2].called = "run 3";
  Object.assign(rows[1], { p: 0.5, logprob: -1, logprob_after: null });
  Object.assign(rows[2], { p: 0.25, logprob: -3, logprob_after: "-inf", indent: 1, turns: true });
  return rows;
}

test("the table of a tree has its segments and what each hangs on", () => {
  const [head, ...rows] = treeCsv({ rows: treeRows() }).split("\r\n");
  assert.equal(head.split(",").length, 11);
  assert.deepEqual(rows, ["a,r,0,2,x y,,,0.5,-1,,", "b,a,2,1,z,run 3,mine,0.25,-3,-inf,eog", ""]);
  assert.equal(treeCsv({ rows: [] }), null);
});

test("the picture of a tree has its rows, a path that turns off stands further in, and the likeliest is marked", () => {
  const prompt = { prompt: hex("Once a"), prompt_shown: 2, prompt_tokens: 3 };
  const state = { rows: treeRows(), best: "b", ...prompt };
  const drawn = treePicture({ state, says: ["2 branches"], measure: (text) => 7 * text.length }, COLOURS);
  const texts = [...drawn.matchAll(/<text x="([\d.]+)"[^>]*>(.*?)<\/text>/g)].map(([, x, text]) => [Number(x), text]);
  const words = texts.map(([, text]) => text).filter(Boolean);
  const above = ["2 branches", "Chances before the chain, but for “path after”."];
  const heads = ["step", "segment", "branch", "first token", "per token", "path before", "path after", "tokens"];
  const trunk = ["0", "x·y", "50.0%", "60.7%", "36.8%", "n/a", "2"];
  const branch = ["2", "└ z", "mine", "25.0%", "36.8%", "★ 5.0%", "0", "3"];
  assert.deepEqual(words, [...above, ...heads, "…Once·a", ...trunk, ...branch]);
  const left = (said) => texts.find(([, text]) => text === said)[0];
  assert.equal(left("└ z") - left("x·y"), 14);
  assert.equal(boxes(drawn, COLOURS.kept).length, 2);
});
