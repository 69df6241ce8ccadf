import assert from "node:assert/strict";
import { test } from "node:test";
import { effectText, placeText, strengthText } from "../dial.js";

const hex = (text) => [...new TextEncoder().encode(text)].map((b) => b.toString(16).padStart(2, "0")).join("");
const effect = (more) => ({ kl: 0.31257, noise: null, changed: false, tops: [hex(" a"), hex(" a")], ...more });

test("the effect is the divergence and what became of the likeliest token", () => {
  assert.equal(effectText(effect()), "KL 0.313 nats: “·a” stays the likeliest");
  const other = effect({ changed: true, tops: [hex(" a"), hex("\n")] });
  assert.equal(effectText(other), "KL 0.313 nats: “·a” was the likeliest token, now “↵”");
  assert.equal(effectText(effect({ kl: 0, noise: true })), "KL 0 nats (within noise): “·a” stays the likeliest");
});

test("a strength has a real minus", () => {
  assert.equal(strengthText(-0.25), "at −0.25");
});

test("the row that is shown is that of a step, or of the prompt's end", () => {
  assert.equal(placeText(""), "before the chain, at the end of the prompt; bars 0% to 100%");
  assert.match(placeText("step 5"), /, at step 5; /);
});
