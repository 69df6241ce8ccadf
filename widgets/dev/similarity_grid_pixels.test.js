import assert from "node:assert/strict";
import { test } from "node:test";

import { matrixPixels, ramp } from "../similarity_grid_pixels.js";

const table = Uint32Array.from({ length: 256 }, (_, level) => 1000 + level);
const cells = { levels: Uint8Array.of(10, 20, 30, 40, 50, 60), rows: 2, cols: 3 };
const view = (more) => ({ left: 0, top: 0, width: 3, height: 2, w: 1, h: 1, ratio: 1, ...more });
const shown = (more, matrix = cells) => {
  const { pixels, wide, high } = matrixPixels(matrix, view(more), table);
  return Array.from({ length: high }, (_, y) =>
    [...pixels.subarray(y * wide, (y + 1) * wide)].map((p) => (p ? p - 1000 : 0)),
  );
};

test("a pixel a cell shows the matrix", () => {
  assert.deepEqual(shown(), [
    [10, 20, 30],
    [40, 50, 60],
  ]);
});

test("a cell of several pixels fills them, at any ratio and scroll", () => {
  assert.deepEqual(shown({ w: 2, h: 2, width: 4, height: 2, left: 2, top: 1 }), [
    [20, 20, 30, 30],
    [50, 50, 60, 60],
  ]);
  assert.deepEqual(shown({ ratio: 2, height: 1 }), [
    [10, 10, 20, 20, 30, 30],
    [10, 10, 20, 20, 30, 30],
  ]);
});

test("a pixel of several cells shows the highest, so no match gets lost", () => {
  assert.deepEqual(shown({ w: 1 / 3, h: 0.5, width: 1, height: 1 }), [[60]]);
  assert.deepEqual(shown({ w: 0.5, width: 2 }), [
    [20, 30],
    [50, 60],
  ]);
});

test("beyond the matrix there is paper", () => {
  assert.deepEqual(shown({ width: 4, height: 3 }), [
    [10, 20, 30, 0],
    [40, 50, 60, 0],
    [0, 0, 0, 0],
  ]);
  assert.deepEqual(shown({}, { levels: new Uint8Array(0), rows: 0, cols: 0 }), [
    [0, 0, 0],
    [0, 0, 0],
  ]);
});

test("a ramp ends on its stops", () => {
  const bytes = (packed) => [...new Uint8Array(Uint32Array.of(packed).buffer)];
  const colours = ramp(
    [
      [0, 0, 0],
      [100, 50, 200],
    ],
    [9, 8, 7],
  );
  assert.deepEqual(bytes(colours[0]), [9, 8, 7, 255]);
  assert.deepEqual(bytes(colours[1]), [0, 0, 0, 255]);
  assert.deepEqual(bytes(colours[128]), [50, 25, 100, 255]);
  assert.deepEqual(bytes(colours[255]), [100, 50, 200, 255]);
});

test("512 by 2048 cells in a window take less than a frame or two", () => {
  const big = { levels: Uint8Array.from({ length: 512 * 2048 }, (_, i) => i % 256), rows: 512, cols: 2048 };
  const times = Array.from({ length: 5 }, () => {
    const start = performance.now();
    matrixPixels(big, view({ width: 900, height: 360, w: 900 / 2048, h: 360 / 512 }), table);
    return performance.now() - start;
  });
  assert.ok(Math.min(...times) < 60, String(times));
});
