/** Which of several views stands beside the cards. */
import { h } from "./shared/dom.js";

/** What stands beside the cards, as tabs; nothing where there is no choice. */
export function sideTabs(pick) {
  const node = h("div", { class: "mll-tabs", role: "group", "aria-label": "What is shown beside" });
  const tab = ([key, title], side) => {
    const more = { type: "button", "aria-pressed": String(key === side), title: `Show the ${title} beside` };
    return h("button", { ...more, "data-side": key, on: { click: () => pick(key) } }, title);
  };
  const show = (sides, side) => {
    const at = node.contains(node.ownerDocument.activeElement) ? node.ownerDocument.activeElement.dataset.side : "";
    node.replaceChildren(...Object.entries(sides).map((one) => tab(one, side || Object.keys(sides)[0])));
    node.hidden = node.childElementCount < 2;
    if (at) node.querySelector(`[data-side="${at}"]`)?.focus();
  };
  return { node, show };
}
