/** The keys of a board: what a person is told of them, and what they do. */

export const HELP = [
  ["↑ ↓", "another document"],
  ["Home End", "first, last document"],
  ["← →", "what each query token adds"],
  ["Enter", "open it in the grid"],
  ["a b", "compare: this one as A, as B"],
  ["Space", "the query token at hand off or on"],
  ["d", "whole bars or what differs"],
  ["Esc", "close"],
  ["?", "these keys"],
];

export function bindings(list, help, { open, compare, part, put, get, tokenAtHand }) {
  const here = (act) => () => (list.focus() < 0 ? false : act(list.focus()));
  const closePair = () => (get("pair").length ? put("pair", []) : false);
  return {
    ArrowDown: () => list.go(list.place() + 1),
    ArrowUp: () => list.go(list.place() - 1),
    Home: () => list.go(0),
    End: () => list.go(Infinity),
    ArrowLeft: () => part(-1),
    ArrowRight: () => part(1),
    Enter: here(open),
    a: here((k) => compare("a", k)),
    b: here((k) => compare("b", k)),
    " ": tokenAtHand,
    d: () => put("bars", get("bars") === "whole" ? "difference" : "whole"),
    "?": help.toggle,
    Escape: () => (help.open ? help.hide() : closePair()),
  };
}
