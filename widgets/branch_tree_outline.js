/**
 * A tree as rows, in the reading order they come in: which are seen, where a key leads.
 * It knows keys, parents and levels; what stands in a row is the view's.
 */
import { markPath, pathTo, rails } from "./branch_tree_rails.js";
import { h } from "./shared/dom.js";

/** Rows that no collapsed row hides. A row is {key, parent, children, ...}, parents come first. */
export function seenRows(rows, collapsed) {
  const hidden = new Set();
  return rows.filter(({ key, parent }) => {
    if (!hidden.has(parent) && !collapsed.has(parent)) return true;
    hidden.add(key);
    return false;
  });
}

/** Where an arrow, Home or End leads from a row: {key}, {open: key} or {close: key}. */
export function outlineMove(rows, collapsed, from, name) {
  const seen = seenRows(rows, collapsed);
  const i = seen.findIndex((row) => row.key === from);
  const now = seen[i];
  const last = seen.length - 1;
  if (!now) return { key: seen[0]?.key ?? "" };
  const shut = now.children > 0 && collapsed.has(now.key);
  if (name === "ArrowRight" && shut) return { open: now.key };
  if (name === "ArrowLeft" && now.children > 0 && !shut) return { close: now.key };
  if (name === "ArrowLeft") return { key: now.parent ?? now.key };
  if (name === "ArrowRight") return { key: rows.find((row) => row.parent === now.key)?.key ?? now.key };
  const to = { ArrowUp: i - 1, ArrowDown: i + 1, Home: 0, End: last }[name];
  return { key: seen[Math.max(0, Math.min(last, to))].key };
}

/**
 * The rows as a tree for eyes, keys and screen readers. `lead(row)` stands before the lines of a
 * row, `cells(row)` behind them, `say(row)` names it.
 */
export function outline({ label, lead, cells, say, ends = () => false, onPick = () => {} }) {
  const node = h("div", { class: "mll-outline", role: "tree", "aria-label": label, tabindex: -1 });
  const collapsed = new Set();
  let rows = [];
  let at = "";
  let byKey = new Map();
  const focused = () => node.contains(node.ownerDocument.activeElement);
  const mark = (key, { focus = true, into = focus } = {}) => {
    byKey.get(at)?.setAttribute("tabindex", "-1");
    at = key;
    const item = byKey.get(at);
    item?.setAttribute("tabindex", "0");
    if (focus) item?.focus({ preventScroll: true });
    if (into) item?.scrollIntoView({ block: "nearest" });
  };
  const item = (row, selected) => {
    const shut = row.children > 0 && collapsed.has(row.key);
    return h(
      "div",
      {
        class: "mll-row",
        role: "treeitem",
        tabindex: -1,
        "data-key": row.key,
        "aria-label": say(row),
        "aria-level": row.level,
        "aria-setsize": row.family,
        "aria-posinset": row.place,
        "aria-expanded": row.children ? String(!shut) : null,
        "aria-selected": String(row.key === selected),
      },
      lead(row),
      rails({ ...row, end: ends(row) }, shut),
      cells(row),
    );
  };
  const view = {
    node,
    get at() {
      return rows.find((row) => row.key === at) ?? null;
    },
    item: (key) => byKey.get(key) ?? null,
    /** Draw rows; whoever has the focus keeps it, on the nearest row that is left. */
    draw(next, selected) {
      const had = focused();
      const place = seenRows(rows, collapsed).findIndex((row) => row.key === at);
      rows = next;
      for (const key of collapsed) if (!rows.some((row) => row.key === key)) collapsed.delete(key);
      const seen = seenRows(rows, collapsed);
      byKey = new Map(seen.map((row) => [row.key, item(row, selected)]));
      node.replaceChildren(...byKey.values());
      markPath(rows, byKey, selected);
      const stay = byKey.has(at) ? at : (seen[Math.min(Math.max(0, place), seen.length - 1)]?.key ?? "");
      mark(stay, { focus: had, into: false });
    },
    select(key) {
      for (const [name, one] of byKey) one.setAttribute("aria-selected", String(name === key));
      markPath(rows, byKey, key);
    },
    /** Unfold what hides a row. */
    unfold(key, selected) {
      for (const row of pathTo(rows, key).slice(0, -1)) collapsed.delete(row.key);
      view.draw(rows, selected);
    },
    fold(key, shut, selected) {
      if (shut) collapsed.add(key);
      else collapsed.delete(key);
      view.draw(rows, selected);
    },
    folded: (key) => collapsed.has(key),
    /** Follow an arrow, Home or End. */
    move(name, selected) {
      const to = outlineMove(rows, collapsed, at, name);
      if (to.key !== undefined) return mark(to.key);
      view.fold(to.open ?? to.close, Boolean(to.close), selected);
    },
    go: (key) => byKey.has(key) && mark(key),
  };
  const keyOf = ({ target }) => target.closest?.(".mll-row")?.dataset.key;
  node.addEventListener("click", (event) => {
    const key = keyOf(event);
    if (!key) return;
    mark(key);
    onPick(view.at, event.target);
  });
  node.addEventListener("focusin", (event) => {
    const key = keyOf(event);
    if (key && key !== at) mark(key, { focus: false });
  });
  return view;
}
