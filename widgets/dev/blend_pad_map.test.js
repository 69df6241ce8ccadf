import assert from "node:assert/strict";
import { test } from "node:test";
import { bandColours, levelsOf, mapPixels, placeOf, strengthsAt } from "../blend_pad_map.js";

const colours = {
  bands: bandColours([1], [[0, 0, 0], [200, 200, 200]]), // prettier-ignore
  ink: [255, 0, 0],
  paper: [9, 9, 9],
};
const at = (pixels, wide, x, y) => [...pixels.slice(4 * (y * wide + x), 4 * (y * wide + x) + 3)];

test("lines of a divergence grow with it, those of a log-probability are even", () => {
  assert.deepEqual(levelsOf([0, 3, null], false), [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2]);
  assert.deepEqual(levelsOf([0, 0], false), []);
  assert.deepEqual(levelsOf([-31, -9.5, null], true), [-30, -25, -20, -15, -10]);
  assert.deepEqual(levelsOf([-19.5, -4.7], true), [-17.5, -15, -12.5, -10, -7.5, -5]);
  assert.deepEqual(levelsOf([-2, -2], true), []);
});

test("each band has one colour, and a line runs where it ends", () => {
  const grid = { n: 2, values: [0, 2, 0, 2] }; // 0 at the left, 2 at the right
  const pixels = mapPixels(grid, 101, 3, [1], colours);
  assert.deepEqual(at(pixels, 101, 10, 1), [0, 0, 0]);
  assert.deepEqual(at(pixels, 101, 90, 1), [200, 200, 200]);
  const [red, green] = at(pixels, 101, 50, 1);
  assert.ok(red > 200 && green < 200);
});

test("the first row of values is at the bottom, and what is not known is paper", () => {
  const pixels = mapPixels({ n: 2, values: [0, 0, 2, 2] }, 3, 101, [1], colours);
  assert.deepEqual(at(pixels, 3, 1, 5), [200, 200, 200]);
  assert.deepEqual(at(pixels, 3, 1, 95), [0, 0, 0]);
  assert.deepEqual(at(mapPixels({ n: 2, values: [0, null, 2, 2] }, 3, 3, [1], colours), 3, 1, 1), [9, 9, 9]);
});

test("a place and its strengths are one, in steps and on the axes", () => {
  assert.deepEqual(strengthsAt([0.5, 0.5], [2, 4]), [0, 0]);
  assert.deepEqual(strengthsAt([0.701, 0.25], [2, 4]), [0.8, 2]);
  assert.deepEqual(strengthsAt([7, -3], [2, 4]), [2, 4]);
  assert.deepEqual(placeOf([0.8, 2], [2, 4]), [0.7, 0.25]);
  assert.deepEqual(placeOf([3, -9], [2, 4]), [1, 1]);
});
