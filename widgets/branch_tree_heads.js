/** The headings of a branch tree: what each column is, and by which one siblings stand. */
import { h } from "./shared/dom.js";

const WHOLE = "Chance of the whole path from the prompt: the product of its tokens' chances";
const UNIT = "in %, or as a power of ten below 0.01%";
const HEADS = [
  ["step", "step", "Where the segment begins: its first token is trace[step], counted from 0."],
  ["segment", "segment", "Tokens that the same paths share. It ends where paths part or one ends."],
  ["name", "branch", "The path that ends here. Ticked ones are compared (c); n names it."],
  ["first", "first token", "Chance of the segment's first token, before the chain, in %."],
  ["share", "per token", "Geometric mean of the chances along the path, before the chain, in %."],
  ["path", "path before", `${WHOLE} before the chain, ${UNIT}. ★ marks the likeliest path.`],
  ["after", "path after", `${WHOLE} after the chain, ${UNIT}; 0 where the chain had removed one of them.`],
  ["n", "tokens", "Tokens from the prompt to the segment's end."],
];
export const NAMES = HEADS.map(([, text]) => text);

const FIGURES = 3; // from this one on they are figures
/** What the figures are, as `?` lists them: also those that have no room for a column. */
export const FIGURE_HELP = HEADS.slice(FIGURES).map(([, text, hint]) => [text.replaceAll(" ", "\u00a0"), hint]);
const SORTS = " A click sorts by it what parts at one place: the largest first, the smallest first, as before.";

/** One tab stop; left and right go through the headings that are seen. `sort(name)` when a figure's is pressed. */
export function branchHeads(sort) {
  const head = ([name, text, hint], k) => {
    const says = k < FIGURES ? hint : hint + SORTS;
    const is = { class: `mll-bt-${name}`, role: "columnheader", tabindex: k ? -1 : 0, "data-sorts": k >= FIGURES };
    const on = k < FIGURES ? {} : { click: () => sort(name) };
    return h("button", { type: "button", ...is, "data-tip": says, "aria-description": says, on }, text);
  };
  const row = h("div", { role: "row" }, HEADS.map(head));
  const node = h("div", { class: "mll-bt-heads", role: "grid", "aria-label": "Columns" }, row);
  const go = (by) => {
    const seen = [...row.children].filter((one) => one.offsetParent);
    const to = seen[seen.indexOf(node.ownerDocument.activeElement) + by];
    to?.focus();
    for (const one of row.children) if (to) one.tabIndex = one === to ? 0 : -1;
  };
  const draw = (by, ascending) => {
    const sorted = (name) => (name !== by ? "none" : ascending ? "ascending" : "descending");
    HEADS.slice(FIGURES).forEach(([name], k) => row.children[FIGURES + k].setAttribute("aria-sort", sorted(name)));
  };
  return { node, draw, bindings: { ArrowLeft: () => go(-1), ArrowRight: () => go(1) } };
}
