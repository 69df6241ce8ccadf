/** Tokens that stand for no text: a marker of queries or documents, [CLS], [MASK]. */
import { h } from "./dom.js";

/** A token's text, or a badge where `says` tells in a sentence which special token it is. */
export const tokenName = (label, says) =>
  says ? h("span", { class: "mll-g-special", title: says }, label.replace(/^\W+|\W+$/g, "") || label) : label;
