/** Dragging one of several items in a column to another place. */

/** Where what is dropped at height `y` lands, counted without itself; `middles` are the others'. */
export const dropPlace = (middles, y) => middles.filter((middle) => middle < y).length;

/**
 * Drag `mine` by the handle of `event` among `others`: they are marked (data-drop-above, -below)
 * where it would land, `drop(place)` says where it did; Escape gives up.
 */
export function drag(event, mine, others, drop) {
  event.preventDefault();
  const grip = event.currentTarget;
  let to = null;
  const mark = (place) =>
    others.forEach((node, i) => {
      node.toggleAttribute("data-drop-above", i === place);
      node.toggleAttribute("data-drop-below", i === place - 1 && place === others.length);
    });
  const moving = (now) => {
    const middles = others.map((node) => {
      const box = node.getBoundingClientRect();
      return box.top + box.height / 2;
    });
    mark((to = dropPlace(middles, now.clientY)));
  };
  const finish = (keep) => {
    for (const [type, does] of Object.entries(during)) grip.removeEventListener(type, does);
    mine.removeAttribute("data-dragged");
    mark(-1);
    if (keep && to !== null) drop(to);
  };
  const during = {
    pointermove: moving,
    pointerup: () => finish(true),
    pointercancel: () => finish(false),
    keydown: (now) => {
      if (now.key !== "Escape") return;
      now.stopPropagation();
      finish(false);
    },
  };
  for (const [type, does] of Object.entries(during)) grip.addEventListener(type, does);
  grip.setPointerCapture?.(event.pointerId);
  mine.setAttribute("data-dragged", "");
  grip.focus();
}
