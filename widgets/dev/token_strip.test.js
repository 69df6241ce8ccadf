import assert from "node:assert/strict";
import { test } from "node:test";

import { offers, tokenColumns } from "../token_strip_columns.js";
import { placeBeside } from "../shared/place.js";
import { markAfter } from "../token_strip_alternatives.js";
import { laneBeside } from "../token_strip_lane.js";
import { lookOf } from "../token_strip_flow.js";
import { csvRows, headings } from "../token_strip_file.js";
import { branchedText, effectText, layerText, removedText, saidOf, scaleText } from "../token_strip_words.js";
import { stateText, summary, tableColumns, tableRows, tokenText } from "../token_strip_words.js";
import { costBuffers, effectBuffers, stepBuffers, wordBuffers } from "./fake_model.js";

function columnsOf(...logprobs) {
  const columns = tokenColumns();
  columns.append({ from: 0 }, stepBuffers(logprobs.map((logprob) => ({ piece: "x", logprob }))));
  return columns;
}

test("the summary counts, averages what is known and says how it ended", () => {
  const ended = summary(columnsOf(-1, -2, NaN), "the model ended the text");
  assert.equal(ended, "3 tokens · mean logprob −1.5 nats · the model ended the text");
  assert.equal(summary(columnsOf(), ""), "0 tokens · mean logprob n/a");
  assert.match(summary(columnsOf(-1), ""), /^1 token · [^·]*$/);
});

test("each state has a line of its own", () => {
  const some = columnsOf(-1, -1);
  assert.equal(stateText("queued", [0, 0], some, ""), "waiting for the session");
  assert.equal(stateText("prompt", [512, 2000], some, ""), "reading the prompt: 512 of 2,000 tokens");
  assert.match(stateText("running", [0, 0], some, ""), /nats · generating$/);
  const stale = "stale from step 1 on";
  assert.match(stateText("running", [0, 0], some, stale), /nats · stale from step 1 on · generating$/);
  assert.match(stateText("stopped", [0, 0], some, "stopped"), /stopped$/);
  assert.equal(stateText("failed", [0, 0], columnsOf(), "failed"), "");
});

test("a token that was decoded ahead says so, and the table has a column for it where there is one", () => {
  const columns = tokenColumns();
  columns.append({ from: 0 }, stepBuffers([{ piece: "a" }, { piece: "b", ms: 0.5, ahead: 1 }]));
  assert.equal(tableColumns(columns).at(-1), "decoded");
  assert.deepEqual(
    tableRows(columns).map((row) => row.at(-1)),
    ["", "with the token before"],
  );
  assert.equal(tokenText({ token: 79, hex: "5f" }), "token 79 · bytes 5F");
  const said = tokenText({ token: 8, hex: "5f61", ahead: true });
  assert.equal(said, "token 8 · bytes 5F 61 · decoded with the token before");
});

test("a token that was made over a stale cache says so, and the table too", () => {
  const columns = tokenColumns();
  columns.append({ from: 0 }, stepBuffers([{ piece: "a" }, { piece: "b", stale: 1 }]));
  assert.deepEqual(columns.stale, [0, 1]);
  assert.equal(tableColumns(columns).at(-1), "decoded");
  assert.deepEqual(
    tableRows(columns).map((row) => row.at(-1)),
    ["", "over a stale cache"],
  );
  assert.match(tokenText({ token: 8, hex: "5f", stale: true }), / · decoded over a stale cache$/);
  assert.match(tokenText({ token: 8, hex: "5f", stale: true, ahead: true }), /before, over a stale cache$/);
});

test("the effect's layer is offered before its numbers come, and says what the token is without it", () => {
  const columns = columnsOf(-1, -1, -1);
  assert.deepEqual([offers("effect", {}), offers("effect", { effect: "" }), offers("rank", {})], [false, true, true]);
  assert.equal(lookOf("effect", columns, 0), "unknown");
  assert.equal(effectText(columns, 0), "");
  const likely = Math.log(0.25);
  columns.take("effect", effectBuffers([[0.004, likely, ""], [0.3, likely, " a"], [2.5, likely, ""]]));
  assert.deepEqual(
    [0, 1, 2].map((i) => lookOf("effect", columns, i)),
    ["teal-0", "teal-2", "teal-5"],
  );
  assert.equal(effectText(columns, 0), "0.004 nats from the model as it is: that has 25.0%");
  assert.match(effectText(columns, 1), /that has 25\.0%, and `·a` is the likeliest$/);
  assert.equal(tableColumns(columns).at(-1), "effect");
  assert.equal(tableRows(columns)[2].at(-1), "2.5 nats");
  columns.clear();
  assert.equal(effectText(columns, 0), "");
});

test("the scale of time prints what it is measured against", () => {
  assert.match(scaleText("time", 5.31), /1× is 5\.31 ms/);
  assert.match(scaleText("time", NaN), /known after 8 tokens/);
  assert.match(scaleText("probability", NaN), /before the chain/);
});

test("a card stands beside its token and inside the window, wherever the token is", () => {
  const window = { wide: 700, high: 500 };
  for (const height of [80, 340, 900])
    for (let top = 0; top <= 480; top += 20)
      for (const left of [0, 300, 690]) {
        const box = { top, bottom: top + 20, left };
        const { left: x, top: y, room } = placeBeside(box, { width: 380, height }, window);
        const bottom = y + Math.min(height, room);
        assert.ok(bottom <= box.top || y >= box.bottom, `${height} at ${top} lies on its token`);
        assert.ok(x >= 0 && x + 380 <= 700 && y >= 0 && bottom <= 500, `${height} at ${left}, ${top} sticks out`);
        assert.ok(room >= Math.min(height, 200), `${height} at ${top} has no room`);
      }
});

test("a card leaves the text of its token free where it can be read beside it, and grows away from it", () => {
  const window = { wide: 1280, high: 720 };
  const [box, card] = [{ top: 252, bottom: 269, left: 600 }, { width: 450, height: 400 }];
  const text = { top: 240, bottom: 333 };
  const beside = (more, size = card) => placeBeside({ ...box, ...more }, size, window);
  assert.deepEqual(beside({ text }), { left: 600, top: 339, bottom: null, room: 377 });
  assert.deepEqual(beside({ text: { top: 420, bottom: 513 } }), { left: 600, top: 14, bottom: 306, room: 410 });
  assert.equal(beside({ text: { top: 100, bottom: 600 } }).top, 275); // no room beside the text: beside the token
  assert.deepEqual(beside({ text: { top: 260, bottom: 353 }, above: true }).bottom, 466);
  assert.equal(beside({ text, above: true }).bottom, null); // above it a card could not be read
});

test("a card in a lab keeps to one side of the next token, that of its token where there is room", () => {
  const lab = { left: 372, right: 1352 };
  const lane = (kept, x) => laneBeside(kept, lab, x, 1400);
  const [half, middle] = [
    { left: 870, right: 1352 },
    { left: 700, right: 1000 },
  ];
  for (const x of [380, 900, 1340]) assert.deepEqual(lane(half, x), { left: 282, right: 864 });
  assert.deepEqual(lane(middle, 400), { left: 282, right: 694 });
  assert.deepEqual(lane(middle, 1300), { left: 1006, right: 1396 });
  assert.equal(lane(lab, 400), undefined); // all across: there is no side
  const high = { wide: 1400, high: 800 };
  const left = (x) =>
    placeBeside({ top: 240, bottom: 260, left: x, lane: lane(half, x) }, { width: 450, height: 400 }, high).left;
  assert.deepEqual([380, 700, 1300].map(left), [380, 414, 414]);
});

test("where a text goes off another one is said with both tokens", () => {
  assert.equal(branchedText({}), "");
  const by = branchedText({ step: 3, hex: "2061", was: "207468" });
  assert.equal(by, "Branched at step 3: ·a by hand instead of ·th");
  assert.match(branchedText({ step: 3, hex: "2061", was: "" }), /^Goes on after step 3/);
});

test("the mark of a card goes up and down from the token that was chosen, and the ends hold", () => {
  const rows = [0, 1, 2, 3, 4, 5].map((rank) => ({ rank, chosen: rank === 4 }));
  assert.equal(markAfter(rows, -1, -1), 3);
  assert.equal(markAfter(rows, -1, 1), 5);
  assert.equal(markAfter(rows, 3, -1), 2);
  assert.equal(markAfter(rows, 5, 1), 5);
  assert.equal(markAfter(rows, 0, -1), 0);
});

/** Columns whose tokens cost this: [at least, at most, piece that was wanted, its logprob]. */
function pricedColumns(...costs) {
  const columns = columnsOf(...costs.map(() => -1));
  columns.take("grammar", costBuffers(costs));
  return columns;
}

const CERTAIN = [2.6, 2.6, "\n", Math.log(0.8)]; // 92.6% gone

test("a token says what the grammar removed, and the wanted one where it was likelier than what was left", () => {
  const said = (...cost) => removedText(pricedColumns(cost), 0);
  assert.equal(said(...CERTAIN), "the grammar removed 92.6%; the model wanted `↵`");
  const unlikely = said(0.1, 0.1, "Sure", Math.log(0.04));
  assert.equal(unlikely, "the grammar removed 9.5%; most of all `Sure`, 4.0%");
  assert.equal(said(0, 0, "", NaN), "the grammar removed nothing");
  assert.equal(said(0.1, Infinity, "", NaN), "the grammar removed 9.5% to 100%");
  assert.match(said(0, Infinity, "", NaN), /not known/);
  assert.equal(removedText(columnsOf(-1), 0), "");
});

test("the grammar's layer is offered with its costs, and colours what bounds leave no doubt of", () => {
  const costs = [[0, 0.01], [0.2, 0.2], [0.6, 0.6], [1, 1.5], [1, 2], [4, Infinity], [9, 9]];
  const priced = pricedColumns(...costs.map(([low, high]) => [low, high, "", NaN]));
  assert.deepEqual(
    costs.map((_, i) => lookOf("grammar", priced, i)),
    ["violet-0", "violet-1", "violet-2", "violet-3", "unknown", "violet-5", "violet-5"],
  );
  assert.deepEqual([offers("grammar", {}), offers("grammar", { grammar: "" })], [false, true]);
  priced.clear();
  assert.equal(lookOf("grammar", priced, 0), "unknown");
});

test("the table has what the grammar cost at each token, once that is known", () => {
  assert.equal(tableColumns(columnsOf(-1)).at(-1), "time");
  const priced = pricedColumns(CERTAIN, [1, 1.5, "", NaN], [1, Infinity, "", NaN], [0, Infinity, "", NaN]);
  assert.equal(tableColumns(priced).at(-1), "grammar cost");
  const cells = tableRows(priced).map((row) => row.at(-1));
  assert.deepEqual(cells, ["2.6 nats", "1 to 1.5 nats", "at least 1 nats", "n/a"]);
  assert.equal(tableRows(priced)[0].length, tableColumns(priced).length);
  assert.equal(tableRows(columnsOf(-1))[0].length, tableColumns(columnsOf(-1)).length);
});

test("what a grammar would have forbidden, and other tokens than the tokenizer's, are told in words", () => {
  const columns = columnsOf(-1, -1, -1, -1);
  columns.take("forbidden", wordBuffers([[0.2, ""], [0.2, "forbidden: expected `{`"], [3, "no"], [NaN, "no"]]));
  columns.take("tokenizer", wordBuffers([[0, ""], [0.6, "the tokenizer has `ab`"], [NaN, "b"], [0, ""]]));
  const looks = (layer) => [0, 1, 2, 3].map((i) => lookOf(layer, columns, i));
  assert.deepEqual(looks("forbidden"), ["violet-0", "violet-1", "violet-4", "violet-1"]);
  assert.deepEqual(looks("tokenizer"), ["teal-0", "teal-4", "teal-1", "teal-0"]);
  assert.equal(layerText(columns, 0), "");
  assert.equal(layerText(columns, 1), "forbidden: expected `{`\nthe tokenizer has `ab`");
  assert.deepEqual(tableColumns(columns).slice(-2), ["forbidden", "tokenizer"]);
  assert.deepEqual(tableRows(columns)[1].slice(-2), ["forbidden: expected `{`", "the tokenizer has `ab`"]);
  assert.deepEqual(headings(columns).slice(-4, -2), ["forbidden_nats", "forbidden"]);
  assert.deepEqual(csvRows(columns)[0].slice(-4), [null, null, null, null]);
  assert.equal(csvRows(columns)[2].at(-3), "no");
  assert.equal(csvRows(columns)[0].length, headings(columns).length);
  assert.deepEqual(saidOf({ effect: "e", forbidden: "f", tokenizer: "t" }, "forbidden"), ["e", "f"]);
  columns.keep({ tokenizer: "" });
  assert.deepEqual(looks("forbidden"), ["unknown", "unknown", "unknown", "unknown"]);
  assert.equal(layerText(columns, 1), "the tokenizer has `ab`");
});
