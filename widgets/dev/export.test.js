import assert from "node:assert/strict";
import { test } from "node:test";

import { csvRows as boardRows } from "../rank_board_words.js";
import { ranked } from "../rank_board_ranking.js";
import { csv, fileName, save } from "../shared/export.js";
import { csvRows as gridRows } from "../similarity_grid_match.js";
import { png } from "../similarity_grid_picture.js";

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

test("a canvas that the browser cannot draw says so", async () => {
  await assert.rejects(png({ toBlob: (took) => took(null) }), /makes no picture/);
  assert.equal(await png({ toBlob: (took, type) => took(type) }), "image/png");
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

test("the list in a file has every part of every score, zero where a token is off", () => {
  const board = { values: Float32Array.of(0.5, 0.25, 0.75, 1), rows: 2, cols: 2, before: null };
  Object.assign(board, { labels: ["a", "b"], names: ["one", "two"] });
  const rows = boardRows({ board, now: ranked(board, [1]), off: [1] });
  assert.deepEqual(rows.slice(1), [
    ["two", 0.75, 0.75, 0],
    ["one", 0.5, 0.5, 0],
  ]);
});

test("the matrix in a file has every similarity", () => {
  const view = { rowLabels: ["q"], colLabels: ["x", "y"], values: Float32Array.of(0.5, 0.25), cols: 2 };
  assert.deepEqual(
    gridRows(view).map((row) => row.slice(1)),
    [
      ["0 x", "1 y"],
      [0.5, 0.25],
    ],
  );
});
