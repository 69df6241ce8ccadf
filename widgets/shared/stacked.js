/**
 * A whole as a bar of its parts. A whole has `title`, `total` (null is not known), `words` and `parts`: `label`,
 * `bytes`, `words`, and in `look` the number of a hue, "shared", "others" or "free".
 */
import { h } from "./dom.js";
import { HUES } from "./hues.js";

/** The share of a part in its whole; null where that is nothing. */
export const shareOf = (part, whole) => (whole.total ? part.bytes / whole.total : null);

/** What a screen reader says of a bar. */
export function barText(whole) {
  const held = whole.parts.map((part) => `${part.label} ${part.words}`);
  return `${whole.title}, ${whole.words}: ${held.join(", ")}`;
}

const looks = ({ look }) => (typeof look === "number" ? { "data-hue": look % HUES } : { "data-look": look });

/** The sign of a part, for a legend. */
export const swatch = (part) => h("i", { class: "mll-sb-swatch", ...looks(part) });

export function stackedBar(whole) {
  const segment = (part) => {
    const style = { "--mll-share": shareOf(part, whole) };
    return h("i", { ...looks(part), title: `${part.label}: ${part.words}`, style });
  };
  const held = whole.parts.filter((part) => part.bytes);
  return h("div", { class: "mll-sb", role: "img", "aria-label": barText(whole) }, held.map(segment));
}
