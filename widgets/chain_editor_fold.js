/** Which stages are lines of their own: those without effect fold into one line, but for what a hand was on. */
import { counted } from "./shared/text.js";

/** "7 stages have no effect" */
export const foldText = (n) => `${counted(n, "stage has", "stages have")} no effect`;

/** Whether a stage acts on nothing, though it is on. */
const isIdle = (card) => card.on && Boolean(card.inert);

/** The cards that are shown; `touched` are keys that stay, `open` shows all. */
export const shownCards = (cards, touched, open) =>
  cards.filter((card) => open || !isIdle(card) || touched.has(card.key));

/** Where a card goes that is moved by one line up (-1) or down (1) among those that are shown; -1: nowhere. */
export function placeAfterMove(cards, shown, key, by) {
  const beside = shown[shown.findIndex((card) => card.key === key) + by];
  return beside ? cards.indexOf(beside) : -1;
}

/** Where a card goes that is dropped at a place among the others that are shown. */
export function placeAfterDrop(cards, shown, key, to) {
  const rest = cards.filter((card) => card.key !== key);
  const others = shown.filter((card) => card.key !== key);
  return to < others.length ? rest.indexOf(others[to]) : rest.indexOf(others.at(-1)) + 1;
}
