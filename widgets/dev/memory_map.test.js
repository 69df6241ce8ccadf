import assert from "node:assert/strict";
import { test } from "node:test";
import { tableRows } from "../memory_map.js";
import { barText, shareOf } from "../shared/stacked.js";

const part = (label, bytes, look = 0) => ({ label, bytes, words: `${bytes} bytes`, look });
const cache = {
  title: "KV cache",
  total: 2000,
  words: "2 kB",
  parts: [part("shared by several", 500, "shared"), part("sequence 0", 100), part("free", 1400, "free")],
  note: "",
};
const unknown = { title: "Process", total: null, words: "n/a", parts: [], note: "the system does not tell" };

test("the table has a row a part, in bytes and as a share of its whole", () => {
  assert.deepEqual(tableRows([cache, unknown]), [
    ["KV cache", "shared by several", "500", "25.0%"],
    ["KV cache", "sequence 0", "100", "5.0%"],
    ["KV cache", "free", "1,400", "70.0%"],
  ]);
});

test("a part of nothing has no share", () => {
  assert.equal(shareOf(part("free", 0), { ...cache, total: 0 }), null);
});

test("a bar is said in words", () => {
  assert.equal(barText(cache), "KV cache, 2 kB: shared by several 500 bytes, sequence 0 100 bytes, free 1400 bytes");
  assert.equal(barText(unknown), "Process, n/a: ");
});
