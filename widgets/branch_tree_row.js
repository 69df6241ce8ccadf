/** A row of a branch tree: its segment, its chances, and what is said of it. */
import { glyphs, h } from "./shared/dom.js";
import { count, percent, pieceCells, plainParts, readable } from "./shared/text.js";
import { unhex } from "./shared/tokens.js";

const SUPER = "⁰¹²³⁴⁵⁶⁷⁸⁹";
export const STAR = "★ "; // before the chance of the likeliest path
const SHARED = 14; // characters of the text before the place where paths part
const ELLIPSIS = "e280a6";
const ENDING = 14; // of the end of a segment at which paths part

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

const partsOf = (...hexes) =>
  pieceCells(hexes.map(unhex)).cells.map((parts) => parts.filter((part) => part.kind !== "tick"));

/** The last parts, at most so many characters of them; at least some of the last one. */
export function endOf(parts, most) {
  let from = parts.length;
  for (let left = most; from > 0; from--) {
    left -= [...parts[from - 1].text].length;
    if (left < 0) break;
  }
  const last = parts.at(-1);
  if (from < parts.length || !last) return parts.slice(from);
  return [{ ...last, text: [...last.text].slice(-most).join("") }];
}

/** All parts but those that `endOf` gives. */
function startOf(parts, ending) {
  const whole = parts.slice(0, parts.length - ending.length);
  const [last, cut] = [parts.at(-1), ending[0]];
  if (ending.length !== 1 || last.text === cut.text) return whole;
  return [...whole, { ...last, text: last.text.slice(0, -cut.text.length) }];
}

/**
 * A segment's text: its first token apart, for there paths parted, and the end of one at which
 * paths part again, so that both are seen of a long one.
 */
export function segment(row) {
  const [first, rest] = partsOf(row.first, row.rest);
  if (!row.children) return { first, rest, end: [] };
  if (row.cut) return { first, rest, end: endOf(partsOf(row.tail)[0], ENDING) };
  const end = endOf(rest, ENDING);
  return { first, rest: startOf(rest, end), end };
}

/** A segment's text as a string. */
export function segmentText(row) {
  const { first, rest, end } = segment(row);
  return [plainParts([...first, ...rest]), row.cut ? "…" : "", plainParts(end)].join("");
}

/** The text of the whole path to a segment's end, without the prompt. */
export function pathText(row, byKey) {
  let text = "";
  for (let one = row; one?.parent; one = byKey.get(one.parent))
    text = one.first + one.rest + (one.cut ? ELLIPSIS + one.tail : "") + text;
  return plainParts(partsOf(text)[0]);
}

/** The end of the text that a segment's path shares with those that part from it there. */
export function sharedEnd(row, byKey, prompt) {
  let text = "";
  for (let one = byKey.get(row.parent); one && text.length < 4 * SHARED; one = byKey.get(one.parent)) {
    text = (one.parent === null ? prompt : one.cut ? one.tail : one.first + one.rest) + text;
    if (one.cut) break; // what stands before its end was not sent
  }
  return endOf(partsOf(text)[0], SHARED);
}

const STALE = "Steps of it were made over a cache that other weights had computed";

export const labelOf = (row) => (row.branch ? readable(row.name) || row.called : "");

/** What a screen reader says of a row. */
export function spoken(row, prompt = "", best = "") {
  if (row.parent === null) return `prompt: ${prompt}`;
  const where = row.branch ? `${labelOf(row)}, ${row.stop} tokens, ${row.ended}` : `${row.branches} branches`;
  const path = `path ${chance(row.logprob)} before the chain, ${chance(row.logprob_after)} after`;
  const first = row.key === best ? ", the likeliest path" : "";
  const stale = row.stale ? `, ${row.stale}` : "";
  return `step ${row.start}: ${segmentText(row)}, ${where}, ${path}${first}${stale}`;
}

/** The step of a segment's first token, as in `trace[step]`. */
export const stepCell = (row) => h("span", { class: "mll-bt-step" }, row.parent === null ? "" : count(row.start));

function textCell(row, shared) {
  const { first, rest, end } = segment(row);
  const middle = [...rest, { kind: "text", text: row.cut ? "…" : "" }];
  const least = Math.min(plainParts(middle).length, 4); // characters, of which one is an ellipsis
  const ways = `${count(row.children + (row.branch > 0))} ways from here`;
  const part = row.children ? h("i", { class: "mll-bt-part", title: ways }) : null;
  return h(
    "span",
    { class: "mll-bt-text", dir: "auto" },
    shared.length ? h("span", { class: "mll-bt-shared" }, h("span", {}, glyphs(shared))) : null,
    h("b", {}, glyphs(first)),
    least ? h("span", { class: "mll-bt-rest", style: { "min-width": `${least}ch` } }, glyphs(middle)) : null,
    end.length ? h("span", { class: "mll-bt-end" }, h("span", {}, glyphs(end))) : null,
    row.stale && h("span", { class: "mll-g-special", title: STALE }, row.stale),
    row.finish === "eog" && h("span", { class: "mll-g-special", title: row.ended }, "end of text"),
    part,
  );
}

function promptCell({ prompt, prompt_tokens, prompt_shown }) {
  const shown = partsOf(prompt)[0];
  const text = shown.length ? glyphs(shown) : "(prompt)";
  return h(
    "span",
    { class: "mll-bt-text mll-bt-prompt", dir: "auto" },
    h("span", { class: "mll-bt-end" }, h("span", {}, prompt_shown < prompt_tokens ? "…" : "", text)),
  );
}

/** The cells of a row; the prompt has one. */
export function branchCells(row, state, compared) {
  const best = row.key === state.best;
  if (row.parent === null) return promptCell(state);
  const share = perToken(row);
  const tick = row.branch
    ? h("input", { type: "checkbox", tabindex: -1, "aria-label": `Compare ${labelOf(row)}`, title: "Compare (c)" })
    : null;
  if (tick) tick.checked = compared.includes(row.branch);
  const [word, number] = row.called.split(/ (.*)/); // "run", "5"
  const called = [h("span", { class: "mll-bt-word" }, `${word} `), number];
  const title = [labelOf(row), row.ended].filter(Boolean).join(" · ");
  const name = row.branch ? h("bdi", { title }, readable(row.name) || called) : null;
  return [
    textCell(row, row.family > 1 ? sharedEnd(row, state.byKey, state.prompt) : []),
    h("span", { class: "mll-bt-name" }, tick, name),
    h("span", { class: "mll-bt-first" }, percent(row.p)),
    h(
      "span",
      { class: "mll-bt-share" },
      h("i", { style: { width: `${(share ?? 0) * 100}%` } }),
      h("span", {}, percent(share)),
    ),
    h("span", { class: "mll-bt-path", title: best && "The likeliest path" }, best && STAR, chance(row.logprob)),
    h("span", { class: "mll-bt-after" }, chance(row.logprob_after)),
    h("span", { class: "mll-bt-n" }, count(row.stop)),
  ];
}

/** Whether a row, drawn as `node`, shows less than all of its segment. */
export function isShortened(node, row) {
  const isCut = (part) => part.scrollWidth > part.clientWidth;
  return row.cut || [...node.querySelectorAll("b, .mll-bt-rest, .mll-bt-end")].some(isCut);
}

/** A segment to be read: its text in full with what stands before it, and which steps it has. */
export function wholeText(row, { before, text, cut }) {
  const [shared, own] = [partsOf(before)[0], partsOf(text)[0]];
  const last = row.stop - 1;
  const steps = row.start < last ? `steps ${count(row.start)} to ${count(last)}` : `step ${count(row.start)}`;
  const said = [row.parent === null ? "the prompt" : steps, row.ended];
  return [
    h(
      "p",
      { class: "mll-bt-whole", dir: "auto" },
      shared.length ? h("span", { class: "mll-bt-shared" }, "…", glyphs(shared, { flow: true })) : null,
      glyphs(own, { flow: true }),
      cut ? "…" : "",
    ),
    h("p", { class: "mll-quiet mll-figures" }, said.filter(Boolean).join(" · ")),
  ];
}
