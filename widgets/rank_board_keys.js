/** The keys of a board: what a person is told of them, and what they do. */

export const HELP = [
  ["↑ ↓", "another document; it opens when no two are compared"],
  ["Home End", "first, last document"],
  ["← →", "what each query token adds"],
  ["Enter", "open it"],
  ["a b", "compare: this one as A, as B"],
  ["Space", "the query token at hand off or on"],
  ["d", "what differs or whole bars"],
  ["Esc", "close"],
  ["?", "these keys"],
];

const SOON = 150; // milliseconds that a document has the focus before it opens

export function bindings(list, help, { open, compare, part, put, get, tokenAtHand }) {
  let waiting = 0;
  const move = (to) => () => {
    if (list.go(to()) === false) return false;
    clearTimeout(waiting);
    if (!get("pair").length) waiting = setTimeout(() => get("selected") !== list.focus() && open(list.focus()), SOON);
  };
  const here = (act) => () => (list.focus() < 0 ? false : act(list.focus()));
  const closePair = () => (get("pair").length ? put("pair", []) : false);
  return {
    ArrowDown: move(() => list.place() + 1),
    ArrowUp: move(() => list.place() - 1),
    Home: move(() => 0),
    End: move(() => Infinity),
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
