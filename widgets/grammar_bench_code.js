/** A grammar while it is written: a field whose text is coloured, with line numbers and a mark where it is wrong. */
import { h } from "./shared/dom.js";

// A quote is written by its number: what packs the scripts would take it for the beginning of a text.
const GBNF = new RegExp(
  [
    /(?<comment>#[^\n]*)/,
    /(?<string>\x22(?:[^\x22\\\n]|\\.)*\x22?)/,
    /(?<set>\[(?:[^\]\\\n]|\\.)*\]?)/,
    /(?<token>!?<[^>\n]*>?)/,
    /(?<rule>[A-Za-z][\w-]*)(?=\s*::=)/,
    /(?<sign>::=|[|*+?(){}.])/,
  ]
    .map((one) => one.source)
    .join("|"),
  "g",
);
const JSONS = new RegExp(
  [
    /(?<rule>\x22(?:[^\x22\\\n]|\\.)*\x22)(?=\s*:)/,
    /(?<string>\x22(?:[^\x22\\\n]|\\.)*\x22?)/,
    /(?<sign>[{}[\],:])/,
  ]
    .map((one) => one.source)
    .join("|"),
  "g",
);

/** What somebody types, by its beginning; as `engine/grammar/typed.py` reads it. */
export function kindOf(text) {
  const typed = text.trim();
  if (typed.startsWith("{")) return "JSON Schema";
  if (typed.length > 1 && typed.startsWith("/") && typed.endsWith("/")) return "regular expression";
  return "GBNF";
}

/** The text in spans {kind, text}; kinds: plain, comment, string, set, token, rule, sign. */
export function spansOf(text) {
  const kind = kindOf(text);
  if (kind === "regular expression") return [{ kind: "set", text }];
  const spans = [];
  let end = 0;
  for (const match of text.matchAll(kind === "GBNF" ? GBNF : JSONS)) {
    if (match.index > end) spans.push({ kind: "plain", text: text.slice(end, match.index) });
    const [name] = Object.entries(match.groups).find(([, found]) => found !== undefined);
    spans.push({ kind: name, text: match[0] });
    end = match.index + match[0].length;
  }
  if (end < text.length) spans.push({ kind: "plain", text: text.slice(end) });
  return spans;
}

/** Where a line and a column, both from 1, are in a text; its end if it is shorter. */
export function placeIn(text, line, column) {
  const before = text.split("\n").slice(0, line - 1);
  const start = before.reduce((sum, one) => sum + one.length + 1, 0);
  return Math.min(text.length, start + column - 1);
}

/** Spans with the one cut out that begins at a place: it is marked. */
export function marked(spans, place) {
  let start = 0;
  return spans.flatMap((span) => {
    const at = place - start;
    start += span.text.length;
    if (at < 0 || at >= span.text.length) return [span];
    const [before, rest] = [span.text.slice(0, at), span.text.slice(at)];
    const [wrong] = rest.match(/^(?:\w+|[^\w\s]+|\s)/);
    const parts = [{ text: before }, { text: wrong, wrong: true }, { text: rest.slice(wrong.length) }];
    return parts.filter(({ text }) => text).map((part) => ({ kind: span.kind, ...part }));
  });
}

/** Spans as the lines they make, one list each. */
export function linesOf(spans) {
  const lines = [[]];
  for (const span of spans) {
    const [first, ...more] = span.text.split("\n");
    for (const [i, text] of [first, ...more].entries()) {
      if (i) lines.push([]);
      if (text) lines.at(-1).push({ ...span, text });
    }
  }
  return lines;
}

/** The field; `typed(text)` is told of each change by hand. */
export function codeField({ label, typed }) {
  const under = h("pre", { class: "mll-gb-under", "aria-hidden": "true" });
  const input = h("textarea", {
    class: "mll-gb-input",
    maxlength: 20000,
    spellcheck: "false",
    autocomplete: "off",
    autocapitalize: "off",
    "aria-label": label,
    on: {
      input: () => {
        paint();
        typed(input.value);
      },
      scroll: () => follow(),
    },
  });
  let wrong = null;
  function follow() {
    under.scrollTop = input.scrollTop;
  }
  function paint() {
    const text = input.value;
    const place = wrong && wrong.line ? placeIn(text, wrong.line, wrong.column) : -1;
    const spans = marked(spansOf(text), place);
    const lines = linesOf(spans);
    if (place === text.length) lines.at(-1).push({ text: " ", wrong: true });
    const span = (one) => h("span", { "data-kind": one.kind, "data-wrong": one.wrong }, one.text);
    under.replaceChildren(...lines.map((line) => h("div", { class: "mll-gb-line" }, line.map(span))));
    follow();
  }
  return {
    node: h("div", { class: "mll-gb-code" }, under, input),
    get text() {
      return input.value;
    },
    /** Show a text that the kernel has; what is being typed stays. */
    show(text) {
      if (input.value !== text) input.value = text;
      paint();
    },
    mark(place) {
      wrong = place;
      input.setAttribute("aria-invalid", String(Boolean(place)));
      paint();
    },
    go(line, column) {
      const at = placeIn(input.value, line, column);
      input.focus();
      input.setSelectionRange(at, at);
    },
    disable: (off) => (input.disabled = off),
  };
}
