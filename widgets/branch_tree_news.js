/** What is new in a tree: found, brought into view, and marked for a moment. */

const MOMENT = 4000; // ms

const lowest = ({ key }) => Number(key.split(".")[0]); // of the branches through a segment

/** Keys of the segments that only new branches go through, in reading order; none in another tree. */
export function newKeys(before, after) {
  if (before.tree !== after.tree) return [];
  const known = new Set(before.rows.map((row) => row.branch));
  const fresh = new Set(after.rows.map((row) => row.branch).filter((branch) => branch && !known.has(branch)));
  return after.rows.filter((row) => row.parent !== null && fresh.has(lowest(row))).map((row) => row.key);
}

/** How far to scroll so that a row out of sight stands under the headings, with the row over it. */
export function scrollTo({ top, bottom }, { from, to }) {
  return top >= from && bottom <= to ? 0 : top - from - (bottom - top);
}

/** Scroll a node into view inside its box, under the headings; the page stays where it is. */
export function reveal(node, box, heads) {
  const { top, bottom } = node.getBoundingClientRect();
  const edges = box.getBoundingClientRect();
  const by = scrollTo({ top, bottom }, { from: edges.top + heads.offsetHeight, to: edges.top + box.clientHeight });
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (by) box.scrollBy({ top: by, behavior: still ? "instant" : "smooth" });
}

/** Marks that go by themselves, also over a redrawing: `keys` are marked until a moment has passed. */
export function news() {
  let keys = new Set();
  let timer = null;
  const draw = (item) => {
    for (const key of keys) item(key)?.setAttribute("data-new", "");
  };
  return {
    draw,
    mark(fresh, item) {
      clearTimeout(timer);
      keys = new Set(fresh);
      draw(item);
      timer = setTimeout(() => {
        for (const key of keys) item(key)?.removeAttribute("data-new");
        keys.clear();
      }, MOMENT);
    },
    close: () => clearTimeout(timer),
  };
}
