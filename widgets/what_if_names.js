/** The tokens under their bars, as far as there is room: across, on their side, or not at all. */
import { glyphs, h } from "./shared/dom.js";
import { visible } from "./shared/text.js";

const ACROSS = 36; // pixels of a bar from which on a token of a few letters stands under it
const DOWN = 13; // from which on it stands there on its side

/** How tokens stand under bars of a width: "across", "down", or "none" where no letter has room. */
export const namesFit = (pixels) => (pixels >= ACROSS ? "across" : pixels >= DOWN ? "down" : "none");

/** `plot` has the bars; `chart`, which holds both, is told how the tokens stand. */
export function tokenNames(plot, chart) {
  const node = h("div", { class: "mll-wi-names", "aria-hidden": "true" });
  const fit = () => {
    if (node.children.length) chart.dataset.names = namesFit(plot.clientWidth / node.children.length);
  };
  const sized = globalThis.ResizeObserver ? new ResizeObserver(fit) : null;
  sized?.observe(plot);
  chart.append(node);
  return {
    node,
    draw(texts) {
      node.replaceChildren(...texts.map((text) => h("span", {}, glyphs(visible(text)))));
      fit();
    },
    close: () => sized?.disconnect(),
  };
}
