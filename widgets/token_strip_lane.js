/** Where a token's card may stand in its lab: beside the view that shows what a pick changes, so that both are seen. */

const GAP = 6; // pixels between the card and that view
const EDGE = 4; // pixels between the card and the window's edge
const LEAST = 300; // pixels that a card needs
const MARGIN = 90; // pixels of a notebook's margin that it may lie on

/**
 * From where to where a card may reach: on one side of `kept`, inside the lab's box, that of the token (which begins
 * at `x`) if there is room; undefined where there is on neither.
 */
export function laneBeside(kept, lab, x, wide) {
  const away = ([from, to]) => Math.max(from - x, x - to);
  const [left, right] =
    [
      [Math.max(EDGE, lab.left - MARGIN), kept.left - GAP],
      [kept.right + GAP, Math.min(wide - EDGE, lab.right + MARGIN)],
    ]
      .filter(([from, to]) => to - from >= LEAST)
      .sort((a, b) => away(a) - away(b))[0] ?? [];
  return right && { left, right };
}

/** The lane of a card in its lab, or that its text stands above that view; nothing where no such view is shown. */
export function roomIn(lab, x) {
  const views = [...(lab?.querySelectorAll(".mll-nt, .mll-dl") ?? [])];
  const kept = views.map((view) => view.getBoundingClientRect()).find(({ width }) => width);
  if (!kept) return {};
  const lane = laneBeside(kept, lab.getBoundingClientRect(), x, innerWidth);
  return { lane, above: !lane };
}
