import assert from "node:assert/strict";
import { test } from "node:test";
import { answered, runText, sends, withNext, written } from "../run_panel_chat.js";

const user = { role: "user", content: "Hi" };
const answer = { role: "assistant", content: "Hello" };

test("after an answer there is an empty turn to write the next in", () => {
  assert.deepEqual(withNext([user, answer]).at(-1), { role: "user", content: "" });
  assert.deepEqual(withNext([]), [{ role: "user", content: "" }]);
  assert.deepEqual(withNext([user]), [user]);
});

test("an empty turn at the end is not sent, one before it is", () => {
  assert.deepEqual(written(withNext([user, answer])), [user, answer]);
  assert.deepEqual(written([{ role: "user", content: "" }, answer]).length, 2);
  assert.deepEqual(written([]), []);
});

const next = { role: "user", content: "And?" };
const system = { role: "system", content: "Be brief." };

test("an empty turn that nothing was answered before stays to be written in", () => {
  const empty = { role: "user", content: "" };
  assert.deepEqual(written([empty]), [empty]);
  assert.deepEqual(written([system, empty]), [system, empty]);
});

test("a turn that was changed is answered anew, and what came after it is dropped", () => {
  const all = [system, user, answer, next, answer];
  assert.deepEqual(answered(all, -1), all);
  assert.deepEqual(answered(all, 1), [system, user]);
  assert.deepEqual(answered(all, 3), all.slice(0, 4));
  assert.deepEqual(answered(all, 0), [system, user], "the turn of the user that it is for");
  assert.deepEqual(answered(all, 2), all.slice(0, 4), "the next turn of the user");
  assert.deepEqual(answered(all, 4), all, "a changed answer is gone on with");
});

test("the button goes on only with an answer that nothing was changed around", () => {
  assert.deepEqual(
    [-1, 0, 1, 2].map((at) => runText([system, user, answer], at)[0]),
    ["Go on", "Run", "Run", "Go on"],
  );
  assert.match(runText([user, answer, next, answer], 0)[1], /^Answer turn 0 anew; .*dropped \(3 of the turns\)/);
  assert.match(runText([user], 0)[1], /^Answer turn 0 \(Enter/);
});

test("Enter alone sends a turn, but not the one that ends a composition", () => {
  assert.ok(sends({ key: "Enter" }));
  for (const held of ["shiftKey", "ctrlKey", "altKey", "metaKey", "isComposing"])
    assert.ok(!sends({ key: "Enter", [held]: true }), held);
  assert.ok(!sends({ key: "Enter", keyCode: 229 }), "Safari ends a composition before it says so");
  assert.ok(!sends({ key: "a" }));
});
