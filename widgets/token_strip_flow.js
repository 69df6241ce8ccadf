/**
 * Tokens as running text: one node a token, in blocks, so that thousands of them stay smooth.
 * It appends and recolours; it does not know where tokens come from or what a click means.
 */
import { glyphs, h } from "./shared/dom.js";
import { counted, pieceCells, plainParts } from "./shared/text.js";
import { LAYERS } from "./token_strip_columns.js";

const BLOCK = 64; // tokens before a line end may close a block
const LONGEST_BLOCK = 600;
let made = 0;

/** Whether a block of `size` tokens ends after this piece. */
export const endsBlock = (size, piece) => (size >= BLOCK && piece.at(-1) === 10) || size >= LONGEST_BLOCK;

/** The look of a step in a layer: the ramp and a level from 0 (calm) to 5, or "unknown". */
export function lookOf(layer, columns, i) {
  const level = LAYERS[layer].level(LAYERS[layer].value(columns, i), columns.usual);
  return level < 0 ? "unknown" : `${LAYERS[layer].ramp}-${level}`;
}

/** Write parts into a token: a leading space is a mark on the node, so most tokens are one text node. */
function fillToken(node, parts, { special = "" } = {}) {
  if (special || parts.length === 0) {
    node.toggleAttribute("data-space", false);
    node.replaceChildren(...glyphs([{ kind: "special", text: special || "∅" }]));
    return;
  }
  const spaced = parts.length === 2 && parts[0].kind === "space" && parts[1].kind === "text";
  node.toggleAttribute("data-space", spaced);
  if (spaced) node.textContent = ` ${parts[1].text}`;
  else if (parts.length === 1 && parts[0].kind === "text") node.textContent = parts[0].text;
  else node.replaceChildren(...glyphs(parts, { flow: true }));
}

export function tokenFlow(columns, label) {
  const id = `mll-flow-${++made}`;
  const before = h("span", { class: "mll-flow-prompt", role: "presentation" });
  const node = h("div", { class: "mll-flow", role: "listbox", tabindex: 0, "aria-label": label });
  const steps = new WeakMap();
  const byNode = new WeakMap();
  let nodes = [];
  let open = 0; // tokens from here on may still change their looks
  let blocks = [];
  let size = 0;
  let layer = "probability";
  let at = -1;
  const addBlock = () => {
    size = 0;
    const block = {
      node: h("div", { class: "mll-flow-block", role: "presentation" }),
      first: nodes.length,
      seen: false,
      fresh: true,
    };
    blocks.push(block);
    byNode.set(block.node, block);
    node.append(block.node);
    sight?.observe(block.node);
  };
  const paintOne = (i) => {
    const look = lookOf(layer, columns, i);
    if (nodes[i].dataset.level !== look) nodes[i].dataset.level = look;
  };
  /** Blocks out of sight get their colours when they come into sight. */
  const paintBlock = (block) => {
    const next = blocks[blocks.indexOf(block) + 1];
    for (let i = block.first; i < (next?.first ?? nodes.length); i++) paintOne(i);
    block.fresh = true;
  };
  const seen = (entries) => {
    for (const { target, isIntersecting } of entries) {
      const block = byNode.get(target);
      block.seen = isIntersecting;
      if (isIntersecting && !block.fresh) paintBlock(block);
    }
  };
  const sight = globalThis.IntersectionObserver
    ? new IntersectionObserver(seen, { root: node, rootMargin: "200px" })
    : null;
  const flow = {
    node,
    get length() {
      return nodes.length;
    },
    clear() {
      nodes = [];
      blocks = [];
      open = 0;
      at = -1;
      sight?.disconnect();
      node.removeAttribute("aria-activedescendant");
      node.replaceChildren();
      before.replaceChildren();
      addBlock();
      blocks[0].node.append(before);
    },
    /** The text before the first token; `skipped` tokens of it are not shown, `marks` are those of a template. */
    prompt(pieces, skipped, marks = []) {
      const { cells } = pieceCells(pieces);
      for (const i of marks) cells[i] = [{ kind: "special", text: plainParts(cells[i]) }];
      const parts = cells.flat().filter((part) => part.kind !== "tick");
      const earlier = [h("span", { class: "mll-g-special" }, counted(skipped, "earlier token")), " "];
      before.replaceChildren(...(skipped ? earlier : []), ...glyphs(parts, { flow: true }));
    },
    /** Scroll to where the prompt ends and the first token stands. */
    showStart() {
      const first = nodes[0];
      if (first) node.scrollTop = Math.max(0, first.offsetTop - node.offsetTop - 28);
    },
    /** Append what the columns have more, and mend the pieces that were half a character. */
    sync() {
      const first = open;
      const { cells, open: still } = pieceCells(columns.piece.slice(first));
      cells.forEach((parts, k) => {
        const i = first + k;
        if (i === nodes.length) {
          const says = { role: "option", "aria-selected": "false", "data-stale": columns.stale[i] > 0 };
          const token = h("span", { class: "mll-token", ...says });
          steps.set(token, i);
          nodes.push(token);
          blocks.at(-1).node.append(token);
          size += 1;
          if (endsBlock(size, columns.piece[i])) addBlock();
        }
        fillToken(nodes[i], parts);
        paintOne(i);
      });
      open = first + still;
    },
    /** Show the last token as the one that ended the text. */
    end(text) {
      if (nodes.length) fillToken(nodes.at(-1), [], { special: text || "end" });
    },
    paint(next) {
      layer = next;
      for (const block of blocks) block.fresh = false;
      for (const block of blocks) if (block.seen || !sight) paintBlock(block);
    },
    close: () => sight?.disconnect(),
    /** Mark one token; `label` is what a screen reader says of it. */
    mark(i, spoken = "") {
      const old = nodes[at];
      old?.setAttribute("aria-selected", "false");
      old?.removeAttribute("id");
      at = i;
      const now = nodes[at];
      if (!now) return node.removeAttribute("aria-activedescendant");
      now.setAttribute("aria-selected", "true");
      now.id = `${id}-now`;
      if (spoken) now.setAttribute("aria-label", spoken);
      node.setAttribute("aria-activedescendant", now.id);
    },
    /** Mark the token whose distribution another view shows; -1 for none. */
    lookedAt(i) {
      node.querySelector("[data-looked]")?.removeAttribute("data-looked");
      nodes[i]?.setAttribute("data-looked", "");
    },
    reveal: (i) => nodes[i]?.scrollIntoView({ block: "nearest", inline: "nearest" }),
    /** The step of the token under an event, or -1. */
    stepOf: (target) => steps.get(target.closest?.(".mll-token")) ?? -1,
    /** Where a token is, all its lines; `left` is where it begins. Null if there is no such token. */
    box(i) {
      if (!nodes[i]) return null;
      const { top, bottom, left } = nodes[i].getBoundingClientRect();
      return { top, bottom, left: nodes[i].getClientRects()[0]?.left ?? left };
    },
    text: (i) => plainParts(pieceCells([columns.piece[i]]).cells[0]) || "(empty)",
  };
  flow.clear();
  return flow;
}
