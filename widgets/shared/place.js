/** Where a card or a menu stands: under what it belongs to or over it, never on it, and inside the window. */

const GAP = 6; // pixels between the card and what it describes
const EDGE = 4; // pixels between the card and the window's edge
const READABLE = 240; // pixels of height in which a card can be read

/**
 * Where a card of a size stands beside a box: under it if it fits there, else where there is more room. A box may
 * have a `lane`, from left to right, that the card keeps to; a `text`, from top to bottom, that the card leaves free
 * where it can be read over or under it; and stand `above` what the card leaves free, where it can be read there.
 * A card over its box is held at its `bottom`, as far from the window's: it grows away from the box.
 */
export function placeBeside(box, size, { wide, high }) {
  const rooms = ({ top, bottom }) => [top - GAP - EDGE, high - bottom - GAP - EDGE];
  const readable = Math.min(size.height, READABLE);
  const kept = box.text && Math.max(...rooms(box.text)) >= readable ? box.text : box;
  const [over, under] = rooms(kept);
  const isOver = (box.above && over >= readable) || (size.height > under && (size.height <= over || over > under));
  const room = Math.max(0, isOver ? over : under);
  const { left, right } = box.lane ?? { left: EDGE, right: wide - EDGE };
  return {
    left: Math.max(left, Math.min(box.left, right - size.width)),
    top: isOver ? kept.top - GAP - Math.min(size.height, room) : kept.bottom + GAP,
    bottom: isOver ? high - kept.top + GAP : null,
    room,
  };
}

/** Put a card beside a box. */
export function place(card, box) {
  const { left, top } = placeBeside(box, card.getBoundingClientRect(), { wide: innerWidth, high: innerHeight });
  Object.assign(card.style, { left: `${left}px`, top: `${top}px` });
}
