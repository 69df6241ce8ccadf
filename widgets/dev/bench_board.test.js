import assert from "node:assert/strict";
import { test } from "node:test";
import { stateText } from "../bench_board.js";
import { placesIn, plotText, scalesOf, ticksTo } from "../bench_board_plot.js";

const lines = [
  { name: "pp128", points: [[1, 1, 0.9, 1.1], [2, 1.9, 1.8, 2]] },
  { name: "tg32", points: [[1, 1, 1, 1], [4, 1.5, 1.4, 4.5]] },
];

test("what the benchmark does is a line", () => {
  assert.equal(stateText("idle", 0), "");
  assert.equal(stateText("waiting", 0), "Waits for the end of what is generated…");
  assert.equal(stateText("running", 0.25), "Measures… 25.0%");
  assert.equal(stateText("stopped", 0.25), "Stopped");
});

test("the plot has room for what is in proportion, and for each repeat", () => {
  assert.deepEqual(scalesOf(lines), { threads: [1, 2, 4], top: 4.5 });
  assert.deepEqual(scalesOf(lines.slice(0, 1)), { threads: [1, 2], top: 2 });
  const { x, y } = placesIn({ threads: [1, 2, 4], top: 4 });
  assert.ok(x(1) < x(2) && x(4) - x(2) === 2 * (x(2) - x(1)));
  assert.ok(y(4) === 8 && y(0) === 160 && y(2) === 84, "nothing at the bottom, all at the top");
});

test("speedups on the axis are whole", () => {
  assert.deepEqual(ticksTo(2.2), [0, 1, 2]);
  assert.deepEqual(ticksTo(64), [0, 13, 26, 39, 52]);
});

test("the plot is said in words", () => {
  const said = "pp128 1.9 times as fast with 2 threads as with 1; tg32 1.5 times as fast with 4 threads as with 1";
  assert.equal(plotText(lines), `Speed against threads: ${said}`);
});
