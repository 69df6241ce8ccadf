/** The keys of a grid: what a person is told of them, and what they do. */

export const HELP = [
  ["← → ↑ ↓", "another cell"],
  ["Home End", "first, last document token"],
  ["Ctrl+Home Ctrl+End", "first, last cell"],
  ["m", "the best match of the row"],
  ["Space", "query token off or on"],
  ["a", "all query tokens on"],
  ["n", "one scale, or each row on its own"],
  ["w", "pieces or words"],
  ["+ − 0", "larger, smaller, all of it"],
  ["?", "these keys"],
];

export function bindings(heat, { toggle, best, put, get, help }) {
  const at = () => heat.cursor() ?? [0, 0];
  const move = (down, right) => () => heat.go([at()[0] + down, at()[1] + right]);
  const flip = (trait, [one, two]) => put(trait, get(trait) === one ? two : one);
  return {
    ArrowUp: move(-1, 0),
    ArrowDown: move(1, 0),
    ArrowLeft: move(0, -1),
    ArrowRight: move(0, 1),
    PageUp: move(-10, 0),
    PageDown: move(10, 0),
    Home: () => heat.go([at()[0], 0]),
    End: () => heat.go([at()[0], Infinity]),
    "Ctrl+Home": () => heat.go([0, 0]),
    "Ctrl+End": () => heat.go([Infinity, Infinity]),
    m: () => heat.go([at()[0], best(at()[0])]),
    " ": () => toggle(at()[0]),
    a: () => put("off", []),
    n: () => flip("scale", ["raw", "by query"]),
    w: () => flip("unit", ["pieces", "words"]),
    "+": () => heat.zoom(1),
    "=": () => heat.zoom(1),
    "-": () => heat.zoom(-1),
    "−": () => heat.zoom(-1),
    0: () => heat.zoom(0),
    ...help.keys,
  };
}
