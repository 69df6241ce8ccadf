/** The quiet mark behind which a view says what is to be known of its vectors. */
import { h } from "./dom.js";
import { tip } from "./tip.js";

export const aboutVectors = () => tip(h("span", { class: "mll-tip-mark" }, "i"), "About the vectors");
