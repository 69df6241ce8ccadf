import assert from "node:assert/strict";
import { test } from "node:test";
import { aboutText, meterText, shapeOf, tableRows } from "../meters.js";

const meter = { name: "tokens/s", now: "40", average: "35", top: "50", values: [0, 0.5, null, 1] };

test("a step a reading, and nothing where it is not known", () => {
  assert.deepEqual(shapeOf([0.5, null]).split(","), [
    ...["0% 100%", "0.00% calc(50.0% - 1px)", "50.00% calc(50.0% - 1px)"],
    ...["50.00% 100%", "100.00% 100%", "100% 100%"],
  ]);
  assert.match(shapeOf([0]), /^0% 100%,0\.00% calc\(100\.0% - 1px\)/, "a zero that was read is a line");
});

test("a meter is said in words", () => {
  assert.equal(meterText(meter), "tokens/s: now 40, average 35, scale 0 to 50");
  assert.deepEqual(tableRows([meter]), [["tokens/s", "40", "35", "0 to 50"]]);
  assert.equal(aboutText(4, 1.5, "running"), "averages over 4 readings, 1.5 s");
  assert.equal(aboutText(1, 0, "stopped"), "averages over 1 reading, 0 µs; stopped");
  assert.equal(aboutText(0, 0, "stopped"), "the monitor was not started");
  assert.equal(aboutText(0, 0, "empty"), "");
});
