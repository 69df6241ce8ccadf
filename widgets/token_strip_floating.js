/** A card that floats beside what it describes. */

/** Let a card float beside what it describes, above all that could clip it. */
export function floating(card) {
  card.classList.add("mll-floating");
  card.setAttribute("popover", "manual");
  let open = false;
  return {
    get open() {
      return open;
    },
    show(box) {
      if (!open) card.showPopover?.();
      open = true;
      const { innerWidth: wide, innerHeight: high } = window;
      const size = card.getBoundingClientRect();
      const below = box.bottom + 6;
      const above = box.top - size.height - 6;
      const top = below + size.height > high && above >= 0 ? above : below;
      card.style.left = `${Math.max(4, Math.min(box.left, wide - size.width - 4))}px`;
      card.style.top = `${Math.max(4, Math.min(top, high - size.height - 4))}px`;
    },
    hide() {
      if (open) card.hidePopover?.();
      open = false;
    },
  };
}
