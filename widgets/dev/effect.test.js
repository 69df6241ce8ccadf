import assert from "node:assert/strict";
import { test } from "node:test";
import { effectText } from "../shared/effect.js";

const hex = (text) => [...new TextEncoder().encode(text)].map((b) => b.toString(16).padStart(2, "0")).join("");
const effect = (more) => ({ kl: 0.31257, noise: null, changed: false, tops: [hex(" a"), hex(" a")], ...more });

test("the effect is the divergence and what became of the likeliest token", () => {
  assert.equal(effectText(effect()), "KL 0.313 nats: “·a” stays the likeliest");
  const other = effect({ changed: true, tops: [hex(" a"), hex("\n")] });
  assert.equal(effectText(other), "KL 0.313 nats: “·a” was the likeliest token, now “↵”");
  assert.equal(effectText(effect({ kl: 0, noise: true })), "KL 0 nats (within noise): “·a” stays the likeliest");
});
