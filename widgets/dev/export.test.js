import assert from "node:assert/strict";
import { test } from "node:test";

import { csvOf as boardCsv, picture as boardPicture } from "../rank_board_file.js";
import { bars, ranked } from "../rank_board_ranking.js";
import { csv, fileName, save } from "../shared/export.js";
import { csvRows as gridRows } from "../similarity_grid_match.js";
import { picture as gridPicture } from "../similarity_grid_picture.js";

test("a cell of CSV is quoted where its text would break the table, and only there", () => {
  const rows = [
    ["token", "p"],
    ['say "hi"', 0.5],
    ["a,b", -1e-7],
    ["two\nlines", null],
    [" edge", undefined],
  ];
  const lines = ["token,p", '"say ""hi""",0.5', '"a,b",-1e-7', '"two\nlines",', '" edge",'];
  assert.equal(csv(rows), lines.map((line) => `${line}\r\n`).join(""));
});

test("rows of CSV may be typed arrays", () => {
  assert.equal(csv([Float32Array.of(0.5, 2)]), "0.5,2\r\n");
});

test("any text names a file that every system takes", () => {
  assert.equal(fileName("what is a/b: “x”?", "CSV"), "what-is-a-b-x.csv");
  assert.equal(fileName("../../etc", "PNG"), "etc.png");
  assert.equal(fileName("", "SVG"), "export.svg");
  assert.equal(fileName("שלום 你好", "CSV"), "שלום-你好.csv");
  assert.equal(fileName("😀".repeat(500) + "a".repeat(500), "CSV").length, 84);
});

test("a text becomes a file of its kind, and no link stays on the page", async () => {
  const page = { links: [], clicked: [] };
  const link = {
    setAttribute: (name, value) => (link[name] = value),
    append() {},
    click: () => page.clicked.push([link.download, link.href]),
    remove: () => page.links.pop(),
  };
  const before = [globalThis.document, globalThis.setTimeout, URL.createObjectURL, URL.revokeObjectURL];
  globalThis.document = { createElement: () => link, body: { append: (one) => page.links.push(one) } };
  let blob = null;
  URL.createObjectURL = (made) => ((blob = made), "blob:here");
  const freed = [];
  URL.revokeObjectURL = (url) => freed.push(url);
  globalThis.setTimeout = (act) => act();
  try {
    save("a,b\r\n", "CSV", "my table");
  } finally {
    [globalThis.document, globalThis.setTimeout, URL.createObjectURL, URL.revokeObjectURL] = before;
  }
  assert.deepEqual(freed, ["blob:here"]);
  assert.deepEqual(page, { links: [], clicked: [["my-table.csv", "blob:here"]] });
  assert.equal(await blob.text(), "a,b\r\n");
  assert.match(blob.type, /^text\/csv/);
});

const BOARD = { values: Float32Array.of(0.5, 0.25, 0.75, 1), rows: 2, cols: 2, before: null };
Object.assign(BOARD, { labels: ["a", "b"], names: ["one", "two"] });
const COLOURS = { paper: "#ffffff", ink: "#000000", "ink-2": "#555555", line: "#dddddd" };
const wordsOf = (picture) => [...picture.matchAll(/<text [^>]*>([^<]*)</g)].map(([, text]) => text).filter(Boolean);
const measure = (text) => 6 * text.length;

test("the list in a file has every part of every score, zero where a token is off", () => {
  const table = boardCsv({ board: BOARD, now: ranked(BOARD, [1]), off: [1] });
  assert.deepEqual(table.split("\r\n"), ["document,score,0 a,1 b", "two,0.75,0.75,0", "one,0.5,0.5,0", ""]);
});

test("a score in a file has the digits that are sure, and an empty list is no file", () => {
  const board = { ...BOARD, values: Float32Array.of(0.1, 0.2, 0.3, 0.4) };
  const table = boardCsv({ board, now: ranked(board, []), off: [] });
  assert.deepEqual(table.split("\r\n").slice(1), ["two,0.7,0.3,0.4", "one,0.3,0.1,0.2", ""]);
  const none = { ...BOARD, values: Float32Array.of(), rows: 0, names: [] };
  assert.equal(boardCsv({ board: none, now: ranked(none, []), off: [] }), null);
});

test("the list in a picture has its documents in order, with the numbers of the tokens in their parts", () => {
  const [off, kind, order] = [[], "whole", [1, 0]];
  const facts = { board: BOARD, now: ranked(BOARD, off), axis: bars(BOARD, off, kind), off, kind, order };
  const hues = { "hue-0": "#0000ff", "hue-1": "#ff0000" };
  const drawn = boardPicture({ ...facts, says: ["results"], measure }, { ...COLOURS, ...hues });
  const heads = ["rank", "document", "what each adds", "score"];
  const rows = ["1st", "two", "0", "1", "1.750", "2nd", "one", "0", "1", "0.750"];
  const said = ["results", "bars: score from 0.000 to 1.750, one part a query token", "query tokens: 0 a, 1 b"];
  assert.deepEqual(wordsOf(drawn), [...said, ...heads, ...rows]);
  const wide = [...drawn.matchAll(/width="([\d.]+)" height="16" fill="#0000ff"/g)].map(([, x]) => Number(x));
  assert.ok(Math.abs(wide[0] / wide[1] - 1.5) < 0.01);
});

test("no name is cut in the picture of a matrix: its cells stand farther from the edge", () => {
  const name = "incomprehensibilities".repeat(3);
  const cells = { href: "data:,x", wide: 52, high: 44 };
  const at = [{ name: "0 a", at: 11 }, { name, at: 33 }]; // prettier-ignore
  const place = (more) => {
    const given = { says: ["grid"], cells, rows: at, columns: at, upright: true, measure };
    const drawn = gridPicture({ ...given, ...more }, COLOURS);
    return { drawn, corner: drawn.match(/<image x="(\d+)" y="(\d+)"/).slice(1).map(Number) };
  };
  const { drawn, corner } = place({});
  assert.deepEqual(wordsOf(drawn), ["grid", "0 a", name, "0 a", name]);
  assert.ok(corner[0] >= 12 + measure(name) && corner[1] >= 12 + measure(name));
  assert.ok(place({ upright: false, rows: [] }).corner.every((x) => x < 60));
});

test("the matrix in a file has every similarity", () => {
  const view = { rowLabels: ["q"], colLabels: ["x", "y"], values: Float32Array.of(0.1, 0.25), cols: 2 };
  assert.deepEqual(
    gridRows(view).map((row) => row.slice(1)),
    [
      ["0 x", "1 y"],
      [0.1, 0.25],
    ],
  );
});
