import assert from "node:assert/strict";
import { test } from "node:test";

import { csvOf as mapCsv, picture as mapPicture } from "../blend_pad_file.js";
import { csvOf as effectCsv, picture as effectPicture } from "../shared/effect_file.js";
import { tablePicture } from "../shared/table_picture.js";

const hex = (text) => [...new TextEncoder().encode(text)].map((b) => b.toString(16).padStart(2, "0")).join("");
const PAPER = { paper: "#ffffff", ink: "#000000", "ink-2": "#555555", line: "#dddddd" };
const COLOURS = { ...PAPER, kept: "#0000ff", removed: "#bbbbbb" };
const measure = (text) => 6 * text.length;
/** The words of a picture as [x, y, text]. */
const wordsOf = (picture) =>
  [...picture.matchAll(/<text x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</g)].map(([, x, y, text]) => [+x, +y, text]);
const boxes = (picture, colour) => picture.split("\n").filter((one) => one.startsWith("<rect") && one.includes(colour));

test("a long cell of a table in a picture goes on in more lines, and the rows below make room", () => {
  const long = "word ".repeat(80).trim();
  const rows = [[{ text: "1" }, { text: long }], [{ text: "2" }, { text: "short" }]];
  const columns = [{ name: "step" }, { name: "text" }];
  const words = wordsOf(tablePicture({ says: ["what it is"], columns, rows, measure }, COLOURS));
  const said = words.map(([, , text]) => text);
  assert.deepEqual(said.slice(0, 3), ["what it is", "step", "text"]);
  assert.equal(said.slice(4, -2).join(" "), long);
  const [one, two] = ["1", "2"].map((text) => words.find((word) => word[2] === text)[1]);
  assert.equal(two - one, 5 + 15 * (said.length - 6));
});

test("a cell can stand further in, with bars under its words as shares of its width", () => {
  const bars = [{ from: 0.25, to: 0.75, fill: COLOURS.kept }, { from: 1, to: 1, fill: COLOURS.kept }];
  const rows = [[{ text: "a", indent: 20 }, { text: "b", bars }]];
  const drawn = tablePicture({ says: [], columns: [{ name: "x" }, { name: "y", least: 100 }], rows, measure }, COLOURS);
  const at = (text) => wordsOf(drawn).find((word) => word[2] === text)[0];
  assert.equal(at("a") - at("x"), 20);
  const [bar, ...more] = boxes(drawn, COLOURS.kept);
  assert.equal(more.length, 0);
  assert.match(bar, / width="56"/); // half of the 100 and both pads, less a line at either side
});

const ROWS = [
  [hex(" a"), 10, 0.5, 0.25],
  [hex("<b>"), 11, 0.25, 0.75],
];

test("the file of an effect has both chances of every token, under the names of both", () => {
  const shown = { rows: ROWS, heads: ["at 0", "at −1"] };
  assert.equal(effectCsv(shown), "token,id,at 0,at −1\r\n\" a\",10,0.5,0.25\r\n<b>,11,0.25,0.75\r\n");
  assert.equal(effectCsv({ rows: [], heads: [] }), null);
});

test("the picture of an effect marks the likeliest token of each", () => {
  const drawn = effectPicture({ rows: ROWS, heads: ["at 0", "at 1"], says: ["Dial"], measure }, COLOURS);
  const words = wordsOf(drawn).map(([, , text]) => text);
  const table = ["token", "at 0", "at 1", "·a", "50.0% ◆", "25.0%", "&#60;b&#62;", "25.0%", "75.0% ◆"];
  assert.deepEqual(words, ["Dial", ...table]);
  assert.equal(boxes(drawn, COLOURS.kept).length, 2);
});

const AXES = [
  { name: "happy", reach: 2 },
  { name: "pirate", reach: 4 },
];

test("the file of a map has a row a cell with numbers as numbers", () => {
  const lines = mapCsv({ n: 2, values: [0.1, 1, null, 2], of: "KL" }, AXES).split("\r\n");
  assert.deepEqual(lines.slice(0, 4), ['pirate,happy,"KL, nats"', "-4,-2,0.1", "-4,2,1", "4,-2,"]);
  assert.equal(mapCsv({}, AXES), null);
});

test("the picture of a map has its axes, its point where it stands, and its scale", () => {
  const colours = { bands: [[1, 2, 3], [4, 5, 6]], levels: [0.5] }; // prettier-ignore
  const map = { href: "data:,x", wide: 440, high: 200, ...colours, isLogprob: false };
  const drawn = mapPicture({ map, axes: AXES, at: [1, -2], place: [0.75, 0.75], says: ["Blend"] }, COLOURS);
  const words = wordsOf(drawn).map(([, , text]) => text);
  assert.deepEqual(words.slice(0, 2), ["Blend", "the point: happy 1, pirate −2"]);
  for (const said of ["↑ pirate", "→ happy", "4", "−4", "−2", "2", "KL, nats:", "0.5"])
    assert.ok(words.includes(said), said);
  const image = drawn.match(/<image x="(\d+)" y="(\d+)" width="440" height="200" href="data:,x"/).slice(1).map(Number);
  assert.ok(boxes(drawn, 'rx="6"')[0].startsWith(`<rect x="${image[0] + 330 - 6}" y="${image[1] + 150 - 6}"`));
  assert.equal(boxes(drawn, "rgb(").length, 2);
});
