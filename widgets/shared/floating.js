/** A card that floats beside what it describes: under it or over it, never on it, and inside the window. */
import { place, placeBeside } from "./place.js";

/** What is in sight of a node's box in all that could clip it, from top to bottom; null if nothing is. */
export function inSight(node, box) {
  let [top, bottom] = [Math.max(0, box.top), Math.min(window.innerHeight, box.bottom)];
  for (let around = node; around && around !== document.body; around = around.parentElement) {
    if (getComputedStyle(around).overflowY === "visible") continue;
    const edges = around.getBoundingClientRect();
    [top, bottom] = [Math.max(top, edges.top), Math.min(bottom, edges.bottom)];
  }
  return bottom > top ? { top, bottom } : null;
}

/**
 * Let a card float beside the box that `boxOf()` gives, above all that could clip it; null hides it for now.
 * While it is open it is placed anew in each frame: the box moves, and the card grows, for many reasons.
 * Where the box has a lane (see `placeBeside`), the card is no wider.
 */
export function floating(card, boxOf) {
  card.classList.add("mll-floating");
  card.setAttribute("popover", "manual");
  let open = false;
  let frame = 0;
  function stand() {
    const box = boxOf();
    card.style.visibility = box ? "" : "hidden";
    if (!box) return;
    card.style.maxWidth = box.lane ? `${box.lane.right - box.lane.left}px` : "";
    const size = { width: card.offsetWidth, height: card.scrollHeight + card.offsetHeight - card.clientHeight };
    const { left, top, bottom, room } = placeBeside(box, size, { wide: window.innerWidth, high: window.innerHeight });
    const held = bottom === null ? { top: `${top}px`, bottom: "auto" } : { top: "auto", bottom: `${bottom}px` };
    Object.assign(card.style, { left: `${left}px`, maxHeight: `${room}px`, ...held });
  }
  function follow() {
    if (!card.isConnected) return hide();
    stand();
    frame = requestAnimationFrame(follow);
  }
  function hide() {
    if (!open) return;
    if (card.isConnected) card.hidePopover?.();
    cancelAnimationFrame(frame);
    open = false;
  }
  return {
    get open() {
      return open;
    },
    show() {
      if (open) return stand();
      card.showPopover?.();
      open = true;
      follow();
    },
    hide,
  };
}

/**
 * Have a menu that the browser opens stand beside the button that opens it, whatever scrolls meanwhile; where that
 * button is out of sight the menu closes.
 */
export function besideOpener(menu, opener) {
  function follow() {
    if (!menu.matches(":popover-open")) return;
    const box = opener.getBoundingClientRect();
    if (!inSight(opener, box)) return void menu.hidePopover();
    place(menu, box);
    requestAnimationFrame(follow);
  }
  menu.addEventListener("toggle", ({ newState }) => newState === "open" && follow());
}
