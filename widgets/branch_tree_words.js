/** What a tree says around its rows: keys, a foot, a table, and a line for each branch that grows. */
import { chance, pathText, perToken } from "./branch_tree_row.js";
import { glyphs, h } from "./shared/dom.js";
import { count, counted, percent, pieceCells } from "./shared/text.js";
import { unhex } from "./shared/tokens.js";

const NO_PROMPT = { prompt: "", prompt_tokens: 0, prompt_shown: 0 };
/** What is known of the rows before the kernel has sent any. */
export const EMPTY = { ...NO_PROMPT, rows: [], byKey: new Map(), best: "", nodes: 0, mass: 0, revision: -1, tree: 0 };
const NOTHING = "No branches yet. A path appears here when a prompt has run.";
const STATES = { queued: "waiting for the session", prompt: "reading the prompt", running: "generating" };

export const HELP = [
  ["↑ ↓", "the row above, below"],
  ["← →", "fold, unfold; to the parent, the child"],
  ["Home End", "the first, last row"],
  ["Enter", "select the path"],
  ["c Space", "compare it"],
  ["n F2", "name the branch"],
  ["Delete", "prune: take every branch through it away"],
  ["z Ctrl+Z", "undo"],
  ["y Ctrl+Y", "redo"],
  ["?", "these keys"],
];
export const CAPTION = "Branches, the likeliest path first. Chances before the chain unless it says after.";
export const COLUMNS = ["branch", "name", "tokens", "per token", "whole path", "after the chain", "ended", "text"];

const likelihood = ({ logprob }) => (typeof logprob === "number" ? logprob : -Infinity);

/** Of some rows the key of that with the likeliest path, the first one of several; "" of none. */
export const likeliest = (rows) =>
  rows.reduce((best, row) => (!best || likelihood(row) > likelihood(best) ? row : best), null)?.key ?? "";

/** `n` branches; `state` is what the kernel sent of the rows. */
export function footText(n, { nodes, rows, mass }) {
  if (n === 0) return NOTHING;
  const parts = [
    counted(n, "branch", "branches"),
    `together ${chance(Math.log(mass))} of the probability before the chain`,
    nodes > rows.length ? `the first ${count(rows.length)} of ${count(nodes)} segments` : "",
  ];
  return parts.filter(Boolean).join(" · ");
}

/** What can be done with `n` branches. */
export const hintText = (n) => (n > 1 ? " · tick two to four to compare" : "");

/** Branches as rows of a table, the likeliest path first. */
export function tableRows({ rows }) {
  const byKey = new Map(rows.map((row) => [row.key, row]));
  return rows
    .filter((row) => row.branch)
    .sort((a, b) => likelihood(b) - likelihood(a))
    .map((row) => [
      row.called,
      row.name,
      row.stop,
      percent(perToken(row)),
      chance(row.logprob),
      chance(row.logprob_after),
      row.ended,
      pathText(row, byKey),
    ]);
}

/** A branch that is being generated. */
export function growingLine({ from, state, tokens, text, cut }) {
  const parts = pieceCells([unhex(text)]).cells[0].filter((part) => part.kind !== "tick");
  return h(
    "div",
    { class: "mll-bt-new" },
    h("i", { class: "mll-bt-pulse" }),
    h("span", { class: "mll-quiet" }, STATES[state] ?? state),
    h("span", { class: "mll-bt-text", dir: "auto" }, cut ? "…" : "", glyphs(parts)),
    h("span", { class: "mll-quiet mll-figures" }, `from step ${from} · ${count(tokens)} tokens`),
  );
}
