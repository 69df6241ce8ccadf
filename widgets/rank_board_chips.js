/** The tokens of a query as buttons that switch them off and on: one tab stop, arrows between them. */
import { h, keys } from "./shared/dom.js";
import { badge, HUES } from "./shared/hues.js";
import { tokenName } from "./shared/special.js";

/** `act`: toggle(i), point(i) with -1 for none. */
export function tokenChips(act) {
  const node = h("div", { class: "mll-rb-chips", role: "group", "aria-label": "Query tokens" });
  let names = [];
  let at = 0;
  const chip = (label, i, special) =>
    h(
      "button",
      {
        type: "button",
        class: "mll-rb-chip",
        "data-hue": i % HUES,
        title: special[i] ? `${special[i]}. Off or on` : "Off or on",
        on: {
          click: () => act.toggle(i),
          pointerenter: () => act.point(i),
          pointerleave: () => act.point(-1),
          focus: () => reach(i),
        },
      },
      badge(i),
      h("span", { dir: "auto" }, tokenName(label, special[i])),
    );
  const reach = (i) => {
    at = i;
    [...node.children].forEach((one, k) => {
      one.tabIndex = k === at ? 0 : -1;
    });
    act.point(at);
  };
  const go = (to) => () => node.children[Math.max(0, Math.min(names.length - 1, to()))]?.focus();
  const undo = keys(node, {
    ArrowLeft: go(() => at - 1),
    ArrowRight: go(() => at + 1),
    Home: go(() => 0),
    End: go(() => Infinity),
  });
  return {
    node,
    close: undo,
    show(labels, special) {
      [names, at] = [labels, 0];
      node.replaceChildren(...labels.map((label, i) => chip(label, i, special)));
    },
    mark(off) {
      [...node.children].forEach((one, i) => {
        const out = off.includes(i);
        one.setAttribute("aria-pressed", String(!out));
        one.setAttribute("aria-label", `query token ${i} ${names[i]}, ${out ? "off" : "on"}`);
        one.tabIndex = i === at ? 0 : -1;
      });
    },
  };
}
