import assert from "node:assert/strict";
import { test } from "node:test";
import { addHint, inForceText } from "../adapter_cards.js";
import { aboutCard } from "../adapter_cards_card.js";
import { readingText, waitedText } from "../adapter_cards_reading.js";

test("what acts is a line, also where nothing does", () => {
  assert.equal(inForceText("happy × 0.8, style × −0.3"), "In force: happy × 0.8, style × −0.3.");
  assert.equal(inForceText(""), "In force: the model as it is.");
});

test("a card says what it is, and why it cannot act", () => {
  const about = "control vector · layer 1";
  assert.equal(aboutCard({ note: "", about }), about);
  assert.equal(aboutCard({ note: "it is for gemma3.", about }), `${about}. Off: it is for gemma3.`);
});

test("a file that is read is named, and after two seconds for how long", () => {
  assert.equal(readingText("style.gguf, 1.2 GB"), "Reading style.gguf, 1.2 GB…");
  assert.equal(readingText(""), "");
  assert.deepEqual([0, 1.9, 2, 61.7].map(waitedText), ["", "", " 2 s", " 61 s"]);
});

test("a field says what it takes: a path, and a name where there are some", () => {
  assert.equal(addHint([]), "a .gguf file");
  assert.equal(addHint(["certain", "happy"]), "a name such as “certain”, or a .gguf file");
});
