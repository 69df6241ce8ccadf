/** The lines beside a row of a tree: the paths it runs beside, where it turns off one, and its own mark. */
import { h } from "./shared/dom.js";

const MOST_RAILS = 8; // a row further in says in a number how often its path turned off
const MOST_NARROW = 3; // the same where there is little room; branch_tree_outline.css hides the others

/** The lines of one row. The outermost one is the trunk's. */
export function rails({ indent, turns, parent, children, end }, shut) {
  const beside = Array.from({ length: Math.min(indent, MOST_RAILS) }, (_, k) =>
    h("i", { class: "mll-rail", "data-trunk": k === 0, "data-turn": turns && k === Math.min(indent, MOST_RAILS) - 1 }),
  );
  const knot = h("i", {
    class: "mll-knot",
    "data-trunk": indent === 0,
    "data-first": turns || parent === null,
    "data-last": !children || shut,
    "data-end": Boolean(end),
    "data-shut": shut,
  });
  const over = indent > MOST_RAILS ? "always" : indent > MOST_NARROW ? "narrow" : null;
  const badge = { class: "mll-depth", "data-over": over, title: `turned off ${indent} times` };
  const depth = over ? h("b", badge, String(indent)) : null;
  return h("span", { class: "mll-rails", "aria-hidden": "true" }, depth, beside, knot);
}

/** The rows of a path, from the first to the one with this key. */
export function pathTo(rows, key) {
  const byKey = new Map(rows.map((row) => [row.key, row]));
  const path = [];
  for (let row = byKey.get(key); row; row = byKey.get(row.parent)) path.unshift(row);
  return path;
}

/** Mark the line of a path through the rows that are seen: `items` are their nodes by key, in reading order. */
export function markPath(rows, items, key) {
  for (const item of items.values())
    for (const node of [item, ...item.querySelectorAll("[data-path]")]) node.removeAttribute("data-path");
  const path = pathTo(rows, key);
  const on = new Map(path.map((row, i) => [row.key, path[i + 1] ? "on" : "end"]));
  let column = -1; // where the path runs down, -1 before and behind it
  for (const [name, item] of items) {
    const lines = item.querySelectorAll(".mll-rail");
    if (column >= 0 && column < lines.length) mark(lines[column], on.has(name) ? "end" : "on");
    if (!on.has(name)) continue;
    item.dataset.path = on.get(name);
    mark(item.querySelector(".mll-knot"), on.get(name));
    const { indent } = path.find((row) => row.key === name);
    column = on.get(name) === "on" ? indent : -1;
  }
}

const mark = (node, how) => {
  node.dataset.path = how;
};
