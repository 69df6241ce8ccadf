import assert from "node:assert/strict";
import { test } from "node:test";
import { columnsOf, tableRows } from "../layer_strip.js";
import { brushed, moved } from "../shared/brush.js";
import { csvOf, picture } from "../shared/layer_bars_file.js";
import { lanesOf, layerText, rangeText } from "../shared/layer_bars_words.js";

const vector = { layers: [3, 4, 6], norms: [1, 2, 4], n_held_out: 0 };
const learnt = { ...vector, n_held_out: 4, separation: [0.5, 2, -1], accuracy: [0.5, 1, 0.25] };
const one = { ...vector, n_held_out: 1, separation: [null, null, null], accuracy: [1, 1, 0] };

test("a vector alone has its lengths, a training what held-out pairs say over them", () => {
  assert.deepEqual(lanesOf(vector), [{ name: "length", shares: [0.25, 0.5, 1], scale: "to 4" }]);
  const lanes = lanesOf(learnt);
  assert.deepEqual(lanes[0], { name: "held out", shares: [0.25, 1, -0.5], scale: "to 2 sd" });
  assert.equal(lanes.length, 2);
  assert.equal(lanesOf(one).length, 1, "one pair alone says nothing");
  assert.deepEqual(lanesOf({ ...vector, norms: [0, 0, 0] })[0].shares, [0, 0, 0]);
});

test("a layer and a range are said in words", () => {
  assert.equal(layerText(vector, 1), "layer 4: length 2");
  assert.equal(layerText(learnt, 1), "layer 4: length 2, 2 sd apart, 100% in order");
  assert.equal(layerText(one, 2), "layer 6: length 4, 0% in order");
  assert.equal(rangeText(vector, [3, 6]), "layers 3–6 of 3–6");
  assert.equal(rangeText(vector, [4, 4]), "layer 4 of 3–6");
  const said = "layers 3–4 of 3–6: 75.0% of 4 held-out pairs in order, 1.25 sd apart";
  assert.equal(rangeText(learnt, [3, 4]), said);
  assert.equal(rangeText(one, [3, 4]), "layers 3–4 of 3–6: 100% of 1 held-out pair in order");
});

test("an end goes by layers that there are, and not past the other", () => {
  const { layers } = vector;
  assert.deepEqual(moved(layers, [3, 6], 0, 1), [4, 6]);
  assert.deepEqual(moved(layers, [4, 6], 1, -1), [4, 4]);
  assert.deepEqual(moved(layers, [4, 4], 1, -1), [4, 4]);
  assert.deepEqual(moved(layers, [4, 4], 0, 1), [4, 4]);
  assert.deepEqual(moved(layers, [6, 6], 0, -Infinity), [3, 6]);
  assert.deepEqual(moved(layers, [3, 3], 1, Infinity), [3, 6]);
});

test("a brush goes either way", () => {
  assert.deepEqual(brushed(vector.layers, 2, 0), [3, 6]);
  assert.deepEqual(brushed(vector.layers, 1, 1), [4, 4]);
});

test("the table has a row a layer, and says which are chosen", () => {
  assert.deepEqual(columnsOf(vector), ["layer", "length", "chosen"]);
  assert.deepEqual(tableRows(vector, [4, 6])[0], [3, "1", ""]);
  assert.deepEqual(columnsOf(learnt), ["layer", "length", "sd apart", "in order", "chosen"]);
  assert.deepEqual(tableRows(learnt, [4, 6])[2], [6, "4", "-1", "25.0%", "yes"]);
  assert.deepEqual(tableRows(one, [3, 3])[0], [3, "1", "n/a", "100%", "yes"]);
  assert.deepEqual(tableRows({}, []), []);
});

test("the file has a row a layer with numbers as numbers, and what a training knows where it is known", () => {
  const lines = (rows, range) => csvOf(rows, range).split("\r\n");
  assert.deepEqual(lines(vector, [4, 6]), ["layer,length,chosen", "3,1,", "4,2,yes", "6,4,yes", ""]);
  const [head, first] = lines(learnt, [3, 3]);
  assert.deepEqual([head, first], ["layer,length,sd apart,share in order,chosen", "3,1,0.5,0.5,yes"]);
  assert.equal(csvOf({}, []), null);
});

test("the picture has a bar a layer and lane, those that are chosen in another colour, and their numbers", () => {
  const base = { paper: "#ffffff", ink: "#000000", "ink-2": "#555555", line: "#dddddd" };
  const colours = { ...base, kept: "#0000ff", removed: "#bbbbbb", bad: "#aa0000", accent: "#00aa00" };
  const drawn = picture({ title: "mine", rows: learnt, range: [3, 4] }, colours);
  const rects = drawn.split("\n").filter((line) => line.startsWith("<rect"));
  const boxes = (colour) => rects.filter((line) => line.includes(colour)).length;
  assert.deepEqual([boxes(colours.kept), boxes(colours.removed), boxes(colours.bad)], [4, 1, 1]);
  const words = [...drawn.matchAll(/>([^<>]+)<\/text>/g)].map(([, text]) => text);
  const lanes = ["held out", "to 2 sd", "length", "to 4"];
  assert.deepEqual(words, ["mine", rangeText(learnt, [3, 4]), ...lanes, "3", "4", "6"]);
});
