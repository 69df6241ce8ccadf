/** Two to four texts side by side, aligned by token: where they part, and how far apart there. */
import { filesOf } from "./comparison_file.js";
import {
  alikeText,
  costTexts,
  differsText,
  exactText,
  klText,
  marked,
  nats,
  noiseText,
  partingText,
  REMOVED,
  removedText,
  sameRow,
  SCALE,
} from "./comparison_words.js";
import { glyphs, h } from "./dom.js";
import { exportMenu } from "./export.js";
import { count, percent, readable } from "./text.js";
import { pieceParts, unhex } from "./tokens.js";

const MOST_COMPARED = 4;
/** What is ticked after ticking `n`: the oldest tick gives way when there are too many. */
export const ticked = (now, n) => (now.includes(n) ? now.filter((x) => x !== n) : [...now, n].slice(-MOST_COMPARED));

/** What stands beside a token or over it, each in its column. */
const figures = (p, kl, removed) => [
  ...[" ", h("span", { class: "mll-cmp-p" }, p)],
  ...(kl ? [" ", h("span", { class: "mll-cmp-kl" }, kl)] : []),
  ...(removed ? [" ", h("span", { class: "mll-cmp-removed" }, removed)] : []),
];

function cell(row, k, alike, same) {
  if (!row) return h("td", { class: "mll-cmp-none" }, "–");
  const [hex, p, after, kl, noise, cost] = row;
  const measured = k && kl && !same ? `; KL ${nats(kl)}${noise ? ", within noise" : ""}` : "";
  return h(
    "td",
    { "data-alike": alike, title: `${percent(p)} before the chain, ${percent(after)} after${measured}` },
    h("span", { class: "mll-cmp-piece", dir: "auto" }, glyphs(pieceParts(unhex(hex)))),
    figures(percent(p), k && klText(row, same), cost && removedText(row)),
  );
}

const CAPTION =
  "Token by token: the model's chance of it, before the chain. KL, in nats: how far the first one's chances of all " +
  "tokens are from this one's, 0 for the same.";

function alignedRow(c, [step, cells]) {
  const same = cells.every((other) => other?.[0] === cells[0]?.[0]);
  const side = (one, k) => cell(one, k, same, sameRow(c.sides[k], step, one?.[3], one?.[4]));
  return h("tr", { "data-part": step === c.first }, h("th", { scope: "row" }, String(step)), cells.map(side));
}

function aligned(c) {
  const heads = c.sides.map((side, k) => {
    const name = h("bdi", { class: "mll-cmp-name", title: side.label }, side.label);
    return h("th", { scope: "col" }, name, figures("chance", k && "KL", side.cost && "removed"));
  });
  const table = h(
    "table",
    { class: "mll-figures" },
    h("caption", {}, CAPTION, costTexts(c).length ? ` ${REMOVED}` : ""),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "step"), heads)),
    h(
      "tbody",
      {},
      c.rows.map((row) => alignedRow(c, row)),
    ),
  );
  const region = { class: "mll-cmp-scroll", tabindex: 0, role: "region", "aria-label": "Token by token" };
  const last = c.rows.at(-1)?.[0] ?? -1;
  const rest = h("p", { class: "mll-quiet" }, `The first ${count(last + 1)} of ${count(c.n)} tokens.`);
  return h("div", { class: "mll-cmp-aligned" }, h("div", region, table), last + 1 < c.n ? rest : null);
}

function sideView(c, one) {
  return h(
    "section",
    { class: "mll-cmp-side", "aria-label": one.label },
    h("h4", { class: "mll-quiet" }, h("bdi", {}, one.label)),
    h(
      "p",
      { class: "mll-cmp-text", dir: "auto" },
      h("span", { class: "mll-cmp-common" }, readable(c.common, { lines: true })),
      one.token || c.first !== null ? h("mark", { class: "mll-cmp-diff" }, marked(one.token)) : null,
      readable(one.rest, { lines: true }),
    ),
  );
}

/** The whole comparison as a node. */
export function comparisonView(c) {
  const others = c.sides.slice(1);
  const [noise, code] = noiseText(c);
  const labels = c.sides.map((one) => one.label).join(", ");
  const saving = exportMenu("comparison", filesOf(c), () => `comparison of ${labels}`);
  const apartOnes = others.filter((one) => one.first !== null);
  const exact = apartOnes.map((one) => h("p", {}, exactText(c, one)));
  return h(
    "div",
    { class: "mll-cmp" },
    h("div", { class: "mll-cmp-head" }, h("p", {}, h("bdi", {}, labels), `: ${alikeText(c)}.`), saving.node),
    h(
      "ul",
      { class: "mll-cmp-differs" },
      others.map((one) => h("li", { dir: "auto" }, differsText(c.sides, one))),
    ),
    h("div", { class: "mll-cmp-sides", "data-n": c.sides.length }, c.sides.map((one) => sideView(c, one))),
    h(
      "ul",
      { class: "mll-cmp-parts mll-quiet" },
      others.map((one) => h("li", { dir: "auto" }, partingText(c, one))),
      costTexts(c).map((text) => h("li", { class: "mll-cmp-cost", dir: "auto" }, text)),
      noise ? h("li", {}, noise, code ? h("code", {}, code) : null) : null,
      exact.length ? h("li", {}, h("details", {}, h("summary", {}, "In figures"), exact, h("p", {}, SCALE))) : null,
    ),
    aligned(c),
  );
}
