/** What the colours of a grid mean: the ends of the scale, and what a small picture hides. */
import { h } from "./shared/dom.js";
import { extent } from "./shared/matrix.js";
import { count, shown } from "./shared/text.js";
import { scaleWords } from "./similarity_grid_match.js";

export function legend() {
  const ramp = h("span", { class: "mll-sg-ramp", "aria-hidden": "true" });
  const [low, high, measure, under, hint] = Array.from({ length: 5 }, () => h("span"));
  const ring = h("i", { class: "mll-sg-ring", "aria-hidden": "true" });
  const node = h(
    "div",
    { class: "mll-sg-legend mll-quiet mll-figures" },
    h("span", { class: "mll-sg-scale" }, low, ramp, high),
    measure,
    under,
    h("span", { class: "mll-sg-key" }, ring, "best of its row"),
    hint,
  );
  /** `ends` are those of the raw scale. */
  function showScale(scale, ends, values) {
    [low.textContent, high.textContent, measure.textContent] = scaleWords(scale, ...ends);
    const least = extent(values)[0];
    const lower = scale === "raw" && least < ends[0];
    under.textContent = lower ? `below it: a colour of its own, down to ${shown(least)}` : "";
  }
  /** `cells` is how many cells a pixel covers in one direction. */
  function showZoom({ readable, cells }) {
    const several = cells > 1 ? `a pixel shows the highest of its ${count(cells + 0.499)} cells a side` : "";
    hint.textContent = [several, readable ? "" : "enlarge (+) to read the query tokens"].filter(Boolean).join(" · ");
  }
  return { node, showScale, showZoom };
}
