import assert from "node:assert/strict";
import { test } from "node:test";

import { ordinal } from "../rank_board_ranking.js";
import { moveWords } from "../rank_board_result.js";
import { verdict } from "../rank_board_versus.js";
import { axisText, barsText, detailsText, movesText, searchText, tableRows } from "../rank_board_words.js";

test("each state has a line of its own", () => {
  const some = { listed: 50, all: 412, tokens: 7 };
  assert.equal(searchText("indexing", [120, 1412], some), "reading the documents: 120 of 1,412; the list is of those");
  assert.equal(searchText("indexing", [120, 1412], { ...some, listed: 0 }), "reading the documents: 120 of 1,412");
  assert.equal(searchText("stopped", [120, 1412], some), "stopped: 120 of 1,412 documents are in the index");
  assert.equal(searchText("ready", [0, 0], some), "the 50 best of 412 documents");
  assert.equal(searchText("ready", [0, 0], { listed: 1, all: 1, tokens: 7 }), "1 document");
  assert.match(searchText("ready", [0, 0], { ...some, tokens: 0 }), /no tokens/);
  assert.equal(searchText("failed", [0, 0], { ...some, tokens: 0 }), "");
  assert.match(searchText("empty", [0, 0], { ...some, all: 0 }), /No documents yet/);
});

test("moves say what they are measured against, and what was not ranked", () => {
  const some = { listed: 50, all: 412 };
  assert.equal(movesText({ moved: 3 }, [], "int8 storage", some), "3 moved against int8 storage");
  assert.equal(movesText({ moved: 3 }, [], "", some), "");
  assert.equal(
    movesText({ moved: 3 }, [1], "", some),
    "3 moved against all query tokens on; ranked among these 50 only",
  );
  assert.equal(movesText({ moved: 3 }, [1], "", { listed: 12, all: 12 }), "3 moved against all query tokens on");
});

test("bars say where they begin", () => {
  assert.equal(
    barsText("whole", { start: 0, low: 0, high: 8.2 }),
    "bars: score from 0.000 to 8.200, one part a query token",
  );
  assert.match(
    barsText("difference", { start: 2.5, low: 2.5, high: 8 }),
    /from 2\.500, which every document of this list has, to 8\.000/,
  );
});

test("the ends of the axis stand beside the bars", () => {
  const axis = { start: 2.5, low: 2.5, high: 8 };
  assert.equal(axisText("difference", axis), "bars 2.500 to 8.000");
  assert.equal(axisText("whole", { start: 0, low: -1, high: 8 }), "bars −1.000 to 8.000");
});

test("a rank is an ordinal, also where English has an ending of its own", () => {
  const said = [1, 2, 3, 4, 10, 11, 12, 13, 21, 22, 111, 113, 123].map(ordinal);
  assert.equal(said.join(" "), "1st 2nd 3rd 4th 10th 11th 12th 13th 21st 22nd 111th 113th 123rd");
});

test("a verdict adds up what speaks for and against", () => {
  const rows = [{ by: 0.5 }, { by: 0.25 }, { by: 0 }, { by: -0.125 }];
  assert.equal(
    verdict({ rows, by: 0.625 }),
    "A is 0.625 ahead of B: +0.750 from 2 query tokens, −0.125 from 1 query token",
  );
  assert.match(verdict({ rows: [{ by: -0.25 }], by: -0.25 }), /^A is 0\.250 behind B: −0\.250 from 1/);
  assert.equal(verdict({ rows: [], by: 0 }), "A and B have the same score");
});

test("a move is also said in words", () => {
  assert.deepEqual(["▲2", "▼1", "=", "new"].map(moveWords), ["up 2", "down 1", "as before", "new"]);
});

const two = {
  board: { values: Float32Array.of(2, 1, 1, 3), rows: 2, cols: 2, labels: ["x", "y"], names: ["one", "two"] },
  now: { order: [1, 0], rank: [2, 1], move: ["▼1", "▲1"] },
  off: [],
};

test("a document and a query token are read out with what is off", () => {
  const off = { ...two, off: [0] };
  assert.match(detailsText(two, -1, -1), /^Point at a part/);
  assert.equal(detailsText(off, -1, 0), "query token 0 “x” is off");
  assert.equal(detailsText(two, -1, 0), "query token 0 “x”");
  assert.equal(detailsText(two, 1, -1), "1st two · score 4.000");
  assert.equal(detailsText(two, 1, 1), "1st two · score 4.000 · query token 1 “y” adds 3.000 of 4.000");
  assert.equal(detailsText(off, 1, 0), "1st two · score 3.000 · query token 0 “x” is off");
});

test("the table has the documents in their order, with their largest part", () => {
  assert.deepEqual(tableRows(two), [
    ["1st", "▲1", "two", "4.000", "1 y 3.000"],
    ["2nd", "▼1", "one", "3.000", "0 x 2.000"],
  ]);
});
