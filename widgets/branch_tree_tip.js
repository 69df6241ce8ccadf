/** What is said of a heading or a segment, in a card beside it, on hover and on focus alike. */
import { h } from "./shared/dom.js";
import { floating } from "./shared/floating.js";

const PATIENCE = 450; // ms that a pointer or the focus rests before a card comes

/** What a card would describe: a heading, or the row whose segment is pointed at or that has the focus. */
export const describedBy = (target) =>
  target?.closest?.("[data-tip]") ??
  (target?.matches?.(".mll-row") ? target : target?.closest?.(".mll-bt-text")?.closest(".mll-row")) ??
  null;

/** Where its card stands: under a segment no wider than that, so that it never covers a tick or a figure. */
export const segmentBox = (node) => (node.querySelector(".mll-bt-text") ?? node).getBoundingClientRect();

const LEAST = 160; // pixels that a card is wide

/**
 * Cards for the nodes of `root` that `find(target)` picks, under the `box(node)` and no wider.
 * `fill(node)` gives what stands in the card, or a promise of it, or null for none. The pointer
 * goes through a card to what is under it.
 */
export function tips(root, { find, box, fill }) {
  const card = h("div", { class: "mll-bt-tip", role: "tooltip" });
  let at = null;
  let timer = null;
  const floats = floating(card, () => (at ? box(at) : null));
  const hide = () => {
    clearTimeout(timer);
    at = null;
    floats.hide();
  };
  const show = async (node) => {
    const content = await fill(node);
    if (at !== node || !content || !node.isConnected) return;
    card.replaceChildren(...content);
    if (!node.dataset.tip) card.style.width = `${Math.max(LEAST, box(node).width)}px`;
    else card.style.width = "";
    floats.show();
  };
  const rest = ({ target }) => {
    const node = find(target);
    if (node === at) return;
    hide();
    at = node;
    if (node) timer = setTimeout(show, PATIENCE, node);
  };
  const byKey = (event) => event.target.matches(":focus-visible") && rest(event); // a click is no question
  const leave = ({ relatedTarget }) => find(relatedTarget) !== at && hide();
  const acts = { pointerover: rest, focusin: byKey, pointerdown: hide, wheel: hide };
  for (const type of ["pointerout", "focusout"]) acts[type] = leave;
  for (const [type, act] of Object.entries(acts)) root.addEventListener(type, act, { passive: true });
  return {
    node: card,
    hide,
    get open() {
      return floats.open;
    },
  };
}
