/** Hues for things that are numbered; hues.css has the colours. */
import { h } from "./dom.js";

export const HUES = 8;
/** The number of a query token, underlined in its hue; `i` counts from 0. */
export const badge = (i) => h("span", { class: "mll-badge", "data-hue": i % HUES }, String(i));
