/** One document of a result as a row: rank, move, name, a bar of parts, score, A and B. */
import { printed } from "./rank_board_ranking.js";
import { h } from "./shared/dom.js";
import { HUES } from "./shared/hues.js";
import { shown } from "./shared/text.js";

const NARROW = 15; // pixels of a part below which its number does not fit
const WAYS = { "▲": "up", "▼": "down", n: "new" };

/** "up 2", "down 1", "as before", "new": a move for the ear. */
export const moveWords = (move) => move.replace("▲", "up ").replace("▼", "down ").replace("=", "as before");

/** Put the parts of a document where they belong on the axis of all bars. */
function layParts(track, parts, segments, { start, low, high }) {
  const wide = Math.max(1e-9, high - low);
  const pixels = track.clientWidth || 300;
  for (const part of parts) part.hidden = true;
  for (const { i, from, to, x } of segments) {
    const share = (to - from) / wide;
    parts[i].hidden = share === 0;
    parts[i].style.left = `${((from - low) / wide) * 100}%`;
    parts[i].style.width = `${share * 100}%`;
    parts[i].toggleAttribute("data-minus", x < 0);
    parts[i].toggleAttribute("data-tight", share * pixels < NARROW);
  }
  track.style.setProperty("--mll-zero", `${((start - low) / wide) * 100}%`);
}

/** `act`: focus(k), open(k), compare(side, k), point(k, i) with -1 for nothing pointed at. */
export function resultRow(board, k, act) {
  const [rank, move, score] = ["rank", "move", "score"].map((name) => h("span", { class: `mll-rb-${name}` }));
  const parts = board.labels.map((_, i) =>
    h(
      "span",
      { "data-hue": i % HUES, on: { pointerenter: () => act.point(k, i), pointerleave: () => act.point(-1, -1) } },
      String(i + 1),
    ),
  );
  const track = h("div", { class: "mll-rb-bar", "aria-hidden": "true" }, parts);
  const compare = (side) => (event) => {
    event.stopPropagation();
    act.compare(side, k);
  };
  const sides = ["a", "b"].map((side) =>
    h(
      "button",
      {
        type: "button",
        class: "mll-rb-side",
        tabindex: -1,
        title: `Compare as ${side.toUpperCase()}`,
        "aria-label": `compare ${board.names[k]} as ${side.toUpperCase()}`,
        on: { click: compare(side) },
      },
      side.toUpperCase(),
    ),
  );
  const node = h(
    "div",
    {
      class: "mll-rb-row",
      role: "listitem",
      tabindex: -1,
      "data-document": k,
      on: { focus: () => act.focus(k), click: () => act.open(k) },
    },
    rank,
    move,
    h(
      "div",
      { class: "mll-rb-what" },
      h("span", { class: "mll-rb-name", dir: "auto", title: board.names[k] }, board.names[k]),
      h("span", { class: "mll-rb-text mll-quiet", dir: "auto" }, board.snippets[k]),
    ),
    track,
    score,
    h("span", { class: "mll-rb-sides" }, sides),
  );
  return {
    node,
    /** `now` from `ranked`, `axis` from `bars`. */
    update({ now, axis, off, pair, selected }) {
      const { total } = printed(board, k, off);
      const moved = now.move[k];
      [rank.textContent, move.textContent, score.textContent] = [now.rank[k], moved, shown(total)];
      move.dataset.way = WAYS[moved[0]] ?? "same";
      layParts(track, parts, axis.segments(k), axis);
      sides.forEach((side, at) => side.setAttribute("aria-pressed", String(pair[at] === k)));
      node.setAttribute("aria-current", String(selected === k));
      node.setAttribute(
        "aria-label",
        `rank ${now.rank[k]}${moved ? `, ${moveWords(moved)}` : ""}: ${board.names[k]}, score ${shown(total)}`,
      );
    },
  };
}

/** Put nodes into a list in this order; those that were there slide to their new place. */
export function arrange(list, nodes) {
  if (nodes.length === list.children.length && nodes.every((node, at) => list.children[at] === node)) return false;
  const tops = new Map([...list.children].map((node) => [node, node.offsetTop]));
  list.replaceChildren(...nodes);
  const still = globalThis.matchMedia?.("(prefers-reduced-motion: reduce)").matches;
  for (const node of nodes) {
    const by = (tops.get(node) ?? node.offsetTop) - node.offsetTop;
    if (by && !still)
      node.animate?.([{ transform: `translateY(${by}px)` }, { transform: "none" }], {
        duration: 180,
        easing: "ease-out",
      });
  }
  return true;
}
