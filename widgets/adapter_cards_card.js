/** One adapter or control vector as a line: its switch, its name, its kind, its strength. */
import { h, icon } from "./shared/dom.js";
import { lineName } from "./shared/lines.js";
import { kernelNumber } from "./shared/number.js";
import { switchBox } from "./shared/switch.js";

/** What stands under a card: why it cannot act, or what it is. */
export const aboutCard = ({ note, about }) => (note ? `${about}. Off: ${note}` : about);

/** A card as a line; what it is unfolds where it is looked at. */
export function cardLine(card, [low, high], { ask, act, held, look, remove }) {
  const { key, name } = card;
  const toggle = switchBox((on) => act("toggle", { key, on }), { "aria-label": `${name}, on or off` });
  const kind = h("span", { class: "mll-quiet" }, card.kind);
  const looks = { title: `${name}: what it is`, on: { click: () => look(key) } };
  const label = lineName("mll-ac-name", looks, h("bdi", {}, name));
  const scale = kernelNumber({
    name: "scale",
    label: "scale",
    title: name,
    help: "How strongly it acts: 1 as it was made, 0 not at all, below 0 the other way. The box takes more.",
    ...{ low, high, step: 0.01, value: card.scale },
    held: () => held(key)?.scale,
    send: (value, seq) => ask("set", { key, value, seq }),
  });
  const cross = icon("✕", `Remove ${name}`, () => remove(key));
  const about = h("p", { class: "mll-quiet mll-ac-about", hidden: true });
  const line = h("div", { class: "mll-ac-line" }, toggle.node, label, kind, scale.node, cross);
  const lookAt = () => {
    if (!node.matches(":active")) return look(key);
    window.addEventListener("pointerup", () => setTimeout(look, 0, key), { once: true }); // nothing moves under a press
  };
  const node = h("li", { class: "mll-ac-card", "data-key": key, on: { focusin: lookAt } }, line, about);
  return {
    node,
    focus: () => label.focus(),
    slow: () => scale.slow,
    /** Have its layers under it, in place of what it is in words, unless that says why it cannot act. */
    unfold(layers) {
      if (layers.parentElement !== node) node.append(layers);
      about.hidden = !held(key).note;
    },
    update(next, isChosen) {
      toggle.show(next.on);
      scale.show(next.scale);
      node.toggleAttribute("data-off", !next.on);
      node.toggleAttribute("data-chosen", isChosen);
      label.setAttribute("aria-expanded", String(isChosen));
      about.hidden = !isChosen;
      about.textContent = aboutCard(next);
    },
  };
}
