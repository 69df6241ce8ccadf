/** A bar that fills, and says in words how far it is. */
import { h } from "./dom.js";

export function progressBar({ className, label }) {
  const range = { "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100 };
  const node = h("div", { class: `mll-progress ${className}`, role: "progressbar", ...range }, h("i"));
  /** `share` is 0 to 1. */
  const show = (share, text) => {
    node.firstChild.style.transform = `scaleX(${share.toFixed(4)})`;
    node.setAttribute("aria-valuenow", String(Math.round(share * 100)));
    node.setAttribute("aria-valuetext", text);
  };
  return { node, show };
}
