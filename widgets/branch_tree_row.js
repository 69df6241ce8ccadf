/** A row of a branch tree: its segment, its chances, and what is said of it. */
import { glyphs, h } from "./shared/dom.js";
import { count, percent, pieceCells, plainParts, readable } from "./shared/text.js";
import { unhex } from "./shared/tokens.js";

const SUPER = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const HEADS = [
  ["segment", ""],
  ["first token", "chance of the segment's first token, before the chain"],
  ["per token", "geometric mean of the chances along the path, before the chain"],
  ["path before", "chance of the whole path from the prompt, before the chain"],
  ["path after", "chance of the whole path from the prompt, after the chain"],
  ["tokens", "tokens from the prompt to the segment's end"],
];

/** A probability given as a logarithm: "12.3%", "4.6·10⁻⁸", "0" where a chain had removed it, "n/a". */
export function chance(logprob) {
  if (logprob === "-inf") return "0";
  if (typeof logprob !== "number" || !Number.isFinite(logprob)) return "n/a";
  if (logprob >= Math.log(1e-4)) return percent(Math.exp(logprob));
  const tenths = logprob / Math.LN10;
  const power = Math.floor(tenths + Math.log10(20 / 19.9));
  const digits = [...String(-power)].map((digit) => SUPER[digit]).join("");
  return `${(10 ** (tenths - power)).toFixed(1)}·10⁻${digits}`;
}

/** The geometric mean of a path's chances, which does not shrink with its length. */
export const perToken = ({ logprob, stop }) =>
  typeof logprob === "number" && stop > 0 ? Math.exp(logprob / stop) : null;

/** A segment's text, its first token apart: that is where it turned off. */
export function segment(row) {
  const { cells } = pieceCells([unhex(row.first), unhex(row.rest)]);
  return cells.map((parts) => parts.filter((part) => part.kind !== "tick"));
}

export const labelOf = (row) => (row.branch ? readable(row.name) || `branch ${row.branch}` : "");

/** What a screen reader says of a row. */
export function spoken(row, prompt = "") {
  if (row.parent === null) return `prompt: ${prompt}`;
  const where = row.branch ? `${labelOf(row)}, ${row.stop} tokens` : `${row.branches} branches`;
  const text = plainParts(segment(row).flat()) + (row.cut ? "…" : "");
  return `${text}, ${where}, path ${chance(row.logprob)} before the chain, ${chance(row.logprob_after)} after`;
}

export const branchHeads = () =>
  h(
    "div",
    { class: "mll-bt-heads", "aria-hidden": "true" },
    HEADS.map(([text, hint]) => h("span", { title: hint }, text)),
  );

/** The cells of a row; the prompt has one. */
export function branchCells(row, { prompt, prompt_tokens, prompt_shown }, compared) {
  if (row.parent === null) {
    const shown = pieceCells([unhex(prompt)]).cells[0];
    return h(
      "span",
      { class: "mll-bt-text mll-bt-prompt", dir: "auto" },
      prompt_shown < prompt_tokens ? "…" : "",
      shown.length ? glyphs(shown) : "(prompt)",
    );
  }
  const [first, rest] = segment(row);
  const share = perToken(row);
  const tick = row.branch
    ? h("input", { type: "checkbox", tabindex: -1, "aria-label": `Compare ${labelOf(row)}`, title: "Compare (c)" })
    : null;
  if (tick) tick.checked = compared.includes(row.branch);
  return [
    h(
      "span",
      { class: "mll-bt-text", dir: "auto", title: `${plainParts([...first, ...rest])}${row.cut ? "…" : ""}` },
      h("b", {}, glyphs(first)),
      glyphs(rest),
      row.cut ? "…" : "",
    ),
    h("span", { class: "mll-bt-name" }, tick, row.branch ? h("bdi", { title: row.finish }, labelOf(row)) : null),
    h("span", { class: "mll-bt-first" }, percent(row.p)),
    h(
      "span",
      { class: "mll-bt-share" },
      h("i", { style: { width: `${(share ?? 0) * 100}%` } }),
      h("span", {}, percent(share)),
    ),
    h("span", { class: "mll-bt-path" }, chance(row.logprob)),
    h("span", { class: "mll-bt-after" }, chance(row.logprob_after)),
    h("span", { class: "mll-bt-n" }, count(row.stop)),
  ];
}
