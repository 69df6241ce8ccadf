/** What a tree says below its rows: a foot, a table, and a line for each branch that grows. */
import { chance, perToken, segment } from "./branch_tree_row.js";
import { glyphs, h } from "./shared/dom.js";
import { count, percent, pieceCells, plainParts } from "./shared/text.js";
import { unhex } from "./shared/tokens.js";

const NOTHING = "No branches yet. A path appears here when a prompt has run.";
const STATES = { queued: "waiting for the session", prompt: "reading the prompt", running: "generating" };

export const COLUMNS = ["branch", "name", "tokens", "per token", "whole path", "after the chain", "ended", "text"];

/** `n` branches; `state` is what the kernel sent of the rows. */
export function footText(n, { nodes, rows, mass }) {
  if (n === 0) return NOTHING;
  const parts = [
    `${count(n)} ${n === 1 ? "branch" : "branches"}`,
    `together ${chance(Math.log(mass))} of the model's probability, before the chain`,
    n > 1 ? "tick two to four to compare them" : "",
    nodes > rows.length ? `the first ${count(rows.length)} of ${count(nodes)} segments` : "",
  ];
  return parts.filter(Boolean).join(" · ");
}

/** Branches as rows of a table, the likeliest path first. */
export function tableRows({ rows }) {
  const value = (row) => (typeof row.logprob === "number" ? row.logprob : -Infinity);
  return rows
    .filter((row) => row.branch)
    .sort((a, b) => value(b) - value(a))
    .map((row) => [
      row.branch,
      row.name,
      row.stop,
      percent(perToken(row)),
      chance(row.logprob),
      chance(row.logprob_after),
      row.finish,
      plainParts(segment(row).flat()),
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
    h("span", { class: "mll-quiet mll-figures" }, `from token ${count(from + 1)} · ${count(tokens)} tokens`),
  );
}
