/** A small sign with a text behind it: on hover, on focus, and to stay on a click. */
import { h } from "./dom.js";
import { place } from "./place.js";

let tips = 0;

/** `sign` is a text or a node; one that is no words needs a `name`. Without a text, and at first, it is not there. */
export function tip(sign, name = null) {
  const card = h("div", { class: "mll-floating mll-tip", role: "tooltip", id: `mll-tip-${++tips}`, popover: "manual" });
  const shows = { class: "mll-tip-sign", "aria-label": name, "aria-describedby": card.id };
  let pinned = false;
  const show = () => {
    if (!card.matches(":popover-open")) card.showPopover();
    place(card, button.getBoundingClientRect());
  };
  const hide = () => {
    pinned = false;
    if (card.matches(":popover-open")) card.hidePopover();
  };
  const on = {
    pointerenter: show,
    pointerleave: () => pinned || hide(),
    focus: () => button.matches(":focus-visible") && show(),
    blur: hide,
    keydown: ({ key }) => key === "Escape" && hide(),
    click: () => {
      pinned = !pinned;
      if (pinned) show();
      else hide();
    },
  };
  const button = h("button", { type: "button", ...shows, on }, sign);
  const node = h("span", { class: "mll-tip-box", hidden: true }, button, card);
  /** What stands behind the sign: lines of text. */
  function say(...lines) {
    const said = lines.filter(Boolean);
    card.replaceChildren(...said.map((line) => h("p", {}, line)));
    node.hidden = !said.length;
  }
  return { node, say };
}
