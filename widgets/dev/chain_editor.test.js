import assert from "node:assert/strict";
import { test } from "node:test";
import { tally } from "../chain_editor.js";
import { dropPlace } from "../chain_editor_drag.js";
import { savingAs } from "../chain_editor_presets.js";
import { fullNoteOf, noteOf } from "../chain_editor_stage.js";
import { fieldState } from "../shared/field.js";

test("a card is dropped after the cards whose middle is above the pointer", () => {
  assert.equal(dropPlace([10, 30, 50], 5), 0);
  assert.equal(dropPlace([10, 30, 50], 31), 2);
  assert.equal(dropPlace([10, 30, 50], 99), 3);
  assert.equal(dropPlace([], 7), 0);
});

test("a card says first that it is off, then why it has no effect, then what it did", () => {
  assert.equal(noteOf({ on: false, inert: "k is 0" }, "keeps 3"), "off: not part of the chain");
  assert.equal(noteOf({ on: true, inert: "k is 0" }, "keeps 3"), "no effect: k is 0");
  assert.equal(noteOf({ on: true, inert: "" }, "keeps 3"), "keeps 3");
});

test("a card says that what is typed in it is not in force, and why, before that it has no effect", () => {
  const card = { on: true, inert: "the grammar allows every text", each_token: "" };
  const said = "what is typed is not in force: Ctrl+Enter applies it";
  assert.equal(noteOf(card, "", "Ctrl+Enter applies it"), said);
  assert.equal(fullNoteOf(card, "", "Ctrl+Enter applies it"), said);
  assert.equal(noteOf(card, "", ""), "no effect: the grammar allows every text");
});

test("a line says to which tokens something happens, and where there is room their ids", () => {
  const card = { on: true, inert: "", tokens: "bans ·leg", each_token: "5: bans ·leg" };
  assert.equal(noteOf(card, "keeps 3"), "bans ·leg; keeps 3");
  assert.equal(noteOf(card, ""), "bans ·leg");
  assert.equal(fullNoteOf(card, "keeps 3"), "5: bans ·leg; keeps 3");
  assert.equal(noteOf({ ...card, on: false }, ""), "off: not part of the chain");
});

test("the tally counts what is off and what has no effect", () => {
  assert.equal(tally([{ on: true, inert: "" }]), "1 stage");
  assert.equal(
    tally([
      { on: true, inert: "x" },
      { on: false, inert: "x" },
    ]),
    "2 stages · 1 off · 1 without effect",
  );
  assert.match(tally([]), /own distribution/);
});

test("while an answer is due, no older value pulls the slider back", () => {
  const field = fieldState(1);
  field.moved();
  assert.equal(field.shows(1), false);
  field.sent(3);
  assert.equal(field.answered(2, true), false);
  assert.equal(field.shows(2), false);
  assert.equal(field.answered(3, true), true);
  assert.equal(field.shows(5), true);
});

test("a refused value stays in the box until the kernel holds another one", () => {
  const field = fieldState(0.95);
  field.sent(1);
  assert.equal(field.answered(1, false), true);
  assert.equal(field.shows(0.95), false);
  assert.equal(field.shows(0.5), true);
  assert.equal(field.shows(0.5), true);
});

test("a value from Python shows after a refused one even when it is the one before", () => {
  const field = fieldState(0.95);
  field.sent(1);
  field.answered(1, false);
  field.sent(2);
  field.answered(2, true);
  assert.equal(field.shows(0.95), true);
});

const presets = [
  { name: "greedy", own: false, code: "ml.Chain([ml.Greedy()])" },
  { name: "mine", own: true, code: "ml.Chain([ml.TopK(9)])" },
];

test("a name is new, or replaces one's own chain, but never a built-in one", () => {
  assert.equal(savingAs("", presets), "empty");
  assert.equal(savingAs("  ", presets), "empty");
  assert.equal(savingAs("other", presets), "new");
  assert.equal(savingAs(" mine ", presets), "replace");
  assert.equal(savingAs("greedy", presets), "builtin");
});
