/** Lines below each other: the box that they scroll in, and the name of one, which is a button too. */
import { h } from "./dom.js";

export const scrollBox = (className, ...inside) => h("div", { class: `mll-scroll ${className} mll-live` }, ...inside);

export const lineName = (className, more, ...inside) =>
  h("button", { type: "button", class: `mll-line-name ${className}`, ...more }, ...inside);
