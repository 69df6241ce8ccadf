/** What a grammar may be typed as, and a small example of each to begin with. */
import { h } from "./shared/dom.js";

const SCHEMA = [
  '{"type": "object",',
  ' "properties": {',
  '   "fruit": {"enum": ["apple", "pear"]},',
  '   "ripe": {"type": "boolean"}},',
  ' "required": ["fruit", "ripe"],',
  ' "additionalProperties": false}',
].join("\n");

export const STARTERS = [
  { name: "Choice of words", text: ["apple", "pear", "plum"].map((word) => JSON.stringify(word)).join(" | ") },
  { name: "JSON Schema", text: SCHEMA },
  { name: "Regex", text: "/[0-9]{4}-[0-9]{2}-[0-9]{2}/" },
];
const FIRST = ['root ::= "yes" | "no"', '"yes" | "no"']; // of a new bench, as `grammar_bench.py` has it

/** Whether a text is nobody's work: it may be replaced without asking. */
export function isUnwritten(text) {
  const typed = text.trim();
  return !typed || FIRST.includes(typed) || STARTERS.some((one) => one.text === typed);
}

/** The line; `put(text)` has a text in place of `text()`, which is asked for once more where somebody wrote it. */
export function startersLine({ text, put }) {
  function press(event, starter) {
    const node = event.currentTarget;
    const asks = !node.hasAttribute("data-asks") && !isUnwritten(text());
    node.toggleAttribute("data-asks", asks);
    node.textContent = asks ? "Replace what is written?" : starter.name;
    if (!asks) put(starter.text);
  }
  function leave(event, starter) {
    event.currentTarget.removeAttribute("data-asks");
    event.currentTarget.textContent = starter.name;
  }
  const starter = (one) => {
    const on = { click: (event) => press(event, one), blur: (event) => leave(event, one) };
    return h("button", { class: "mll-gb-start", type: "button", title: `Begin with ${one.text}`, on }, one.name);
  };
  const takes = "GBNF, a JSON Schema or a /regex/. Begin with:";
  return h("p", { class: "mll-quiet mll-gb-takes" }, takes, STARTERS.map(starter));
}
