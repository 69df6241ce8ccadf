/** The name of a row: a query token with its number, its switch, and what it adds to the score. */
import { h } from "./shared/dom.js";
import { badge } from "./shared/hues.js";
import { tokenName } from "./shared/special.js";
import { shown } from "./shared/text.js";
import { rowState } from "./similarity_grid_match.js";

/** `toggle(i)` when it is switched, `point(cell)` with its best cell under the pointer, else null. */
export function rowName(view, i, { toggle, point }) {
  const label = view.rowLabels[i];
  const box = h("input", {
    type: "checkbox",
    tabindex: -1,
    "aria-label": `query token ${i} ${label}`,
    on: { change: () => toggle(i) },
  });
  const figure = h("span", { class: "mll-sg-adds" });
  const pointed = { pointerenter: () => point([i, Math.max(0, view.best[i])]), pointerleave: () => point(null) };
  const says = view.rowSpecial[i];
  const token = h("span", { class: "mll-sg-token", dir: "auto", title: says || label }, tokenName(label, says));
  const node = h("div", { class: "mll-sg-name", on: pointed }, box, badge(i), token, figure);
  /** `adds` is from `contributions`, `off` the places of the query tokens that are off. */
  function update(adds, off) {
    const state = rowState(view, i, off);
    box.checked = state !== "off";
    box.indeterminate = state === "part";
    node.dataset.state = state;
    figure.textContent = adds.row[i] === null ? "off" : shown(adds.row[i]);
  }
  return { node, update };
}
