/** The rows of a picker, of which one is chosen: a group of radio buttons with one tab stop. */
import { h } from "./shared/dom.js";
import { facts, nameOf } from "./model_picker_words.js";

const OPEN = "Open in this kernel";
const HEADS = { session: OPEN, model: OPEN, before: "Before on this bench", catalogue: "Catalogue" };

function rowOf(row, { choose, load }) {
  const [what, size, where, licence] = facts(row);
  const cells = [
    h("bdi", { class: "mll-mp-name" }, nameOf(row)),
    h("span", { class: "mll-mp-what", title: what }, what),
    h("span", { class: "mll-mp-size" }, size),
    h("span", { class: "mll-mp-where", "data-here": row.kind !== "catalogue" || row.cached }, where),
    h("span", { class: "mll-mp-licence", title: licence }, licence),
  ];
  const on = { click: () => choose(row.key), dblclick: load };
  const is = { class: "mll-mp-row", "data-kind": row.kind, "data-key": row.key };
  return h("button", { type: "button", role: "radio", ...is, on }, cells);
}

/** The key of the row beside another one; the ends stay where they are. */
export function beside(rows, key, by) {
  const at = rows.findIndex((row) => row.key === key) + by;
  return rows[Math.max(0, Math.min(rows.length - 1, at))]?.key ?? "";
}

/** `draw(rows, key)` shows them with one chosen, and `mark(key)` another one; `focus()` goes to it. */
export function rowList(acts) {
  const node = h("div", { class: "mll-mp-rows", role: "radiogroup", "aria-label": "Model or session" });
  const all = () => [...node.querySelectorAll("button")];
  const mark = (key) => {
    const isThere = all().some(({ dataset }) => dataset.key === key);
    for (const [i, one] of all().entries()) {
      const on = one.dataset.key === key;
      one.setAttribute("aria-checked", String(on));
      one.tabIndex = on || (!isThere && i === 0) ? 0 : -1;
    }
  };
  const focus = () =>
    all()
      .find((one) => one.tabIndex === 0)
      ?.focus();
  const draw = (rows, key) => {
    const had = node.contains(node.ownerDocument.activeElement);
    let last = "";
    const nodes = rows.flatMap((row) => {
      const head = HEADS[row.kind] === last ? [] : [h("div", { class: "mll-mp-kind" }, HEADS[row.kind])];
      last = HEADS[row.kind];
      return [...head, rowOf(row, acts)];
    });
    node.replaceChildren(...nodes);
    mark(key);
    if (had) focus();
  };
  const disable = (off) => {
    for (const one of all()) one.disabled = off;
  };
  return { node, draw, mark, focus, disable };
}
