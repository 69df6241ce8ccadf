/**
 * A control vector layer by layer: a bar for its length in each, over it one for how far apart the layer puts
 * pairs that were held out, where that is known. A range of layers is brushed, or set by the keys of its two ends.
 * `rows` holds `layers`, `norms`, `n_held_out`, and of a training `separation` and `accuracy`.
 */
import { brush } from "./brush.js";
import { h } from "./dom.js";
import { exportMenu } from "./export.js";
import { COLOURS, csvOf, picture } from "./layer_bars_file.js";
import { lanesOf, layerText, rangeText } from "./layer_bars_words.js";
import { palette } from "./svg.js";

function laneOf({ name, shares, scale }) {
  const bar = (share) => {
    const style = { "--mll-share": share === null ? 0 : Math.abs(share).toFixed(4) };
    return h("i", { style, "data-against": share < 0, "data-none": share === null });
  };
  const says = h("span", { class: "mll-br-name" }, h("span", {}, name), " ", h("span", {}, scale));
  return h("div", { class: "mll-lb-lane" }, says, h("div", { class: "mll-lb-bars" }, shares.map(bar)));
}

/** `send(range, seq)` returns a promise; `held()` is the range that the kernel has, `about()` heads a picture of it. */
export function layerBars({ title, send, held, about = () => title }) {
  let rows = null;
  const lanes = h("div", { class: "mll-lb-lanes" });
  const files = {
    CSV: () => csvOf(rows, range.chosen()),
    SVG: (node) => picture({ title: about(), rows, range: range.chosen() }, palette(node, COLOURS)),
  };
  const range = brush({
    ...{ title, noun: "layer", lanes, send, held },
    beside: exportMenu("layers", files).node,
    idText: (place) => layerText(rows, place),
    rangeText: (chosen) => rangeText(rows, chosen),
    marked(low, high) {
      for (const bars of lanes.querySelectorAll(".mll-lb-bars"))
        [...bars.children].forEach((bar, i) => bar.toggleAttribute("data-in", i >= low && i <= high));
    },
  });
  return {
    ...range,
    /** Show these layers, and of them the range that the kernel has. */
    show(next) {
      if (next === rows) return range.arrived();
      rows = next;
      lanes.replaceChildren(...lanesOf(rows).map(laneOf));
      range.show(rows.layers);
    },
  };
}
