/** One document of a result as a row: rank, move, name, a bar of parts, score, A and B. */
import { ordinal, printed } from "./rank_board_ranking.js";
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

/** One part of a bar for each query token; it has the token's number and its colour. */
function barParts(board, k, act) {
  const part = (_, i) => {
    const on = { pointerenter: () => act.point(k, i), pointerleave: () => act.point(-1, -1) };
    return h("span", { "data-hue": i % HUES, on }, String(i));
  };
  return board.labels.map(part);
}

/** A button that makes the document A or B of the comparison. */
function sideButton(side, board, k, act) {
  const name = side.toUpperCase();
  const says = { title: `Compare as ${name}`, "aria-label": `compare ${board.names[k]} as ${name}` };
  const click = (event) => {
    event.stopPropagation();
    act.compare(side, k);
  };
  return h("button", { type: "button", class: "mll-rb-side", tabindex: -1, ...says, on: { click } }, name);
}

/** `act`: focus(k), open(k), compare(side, k), point(k, i) with -1 for nothing pointed at. */
export function resultRow(board, k, act) {
  const [rank, move, score] = ["rank", "move", "score"].map((name) => h("span", { class: `mll-rb-${name}` }));
  const parts = barParts(board, k, act);
  const track = h("div", { class: "mll-rb-bar", "aria-hidden": "true" }, parts);
  const sides = ["a", "b"].map((side) => sideButton(side, board, k, act));
  const name = h("span", { class: "mll-rb-name", dir: "auto", title: board.names[k] }, board.names[k]);
  const text = h("span", { class: "mll-rb-text mll-quiet", dir: "auto" }, board.snippets[k]);
  const what = h("div", { class: "mll-rb-what" }, name, text);
  const on = { focus: () => act.focus(k), click: () => act.open(k) };
  const row = { class: "mll-rb-row", role: "listitem", tabindex: -1, "data-document": k, on };
  const node = h("div", row, rank, move, what, track, score, h("span", { class: "mll-rb-sides" }, sides));
  /** `now` from `ranked`, `axis` from `bars`. */
  function update({ now, axis, off, pair, selected }) {
    const { total } = printed(board, k, off);
    const moved = now.move[k];
    [rank.textContent, move.textContent, score.textContent] = [ordinal(now.rank[k]), moved, shown(total)];
    move.dataset.way = WAYS[moved[0]] ?? "same";
    layParts(track, parts, axis.segments(k), axis);
    sides.forEach((side, at) => side.setAttribute("aria-pressed", String(pair[at] === k)));
    node.setAttribute("aria-current", String(selected === k));
    const said = moved ? `, ${moveWords(moved)}` : "";
    node.setAttribute("aria-label", `${ordinal(now.rank[k])}${said}: ${board.names[k]}, score ${shown(total)}`);
  }
  return { node, update };
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
