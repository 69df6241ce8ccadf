/** What the colours of a grid mean: the ends of the scale in sight, the rest behind it. */
import { h } from "./shared/dom.js";
import { extent } from "./shared/matrix.js";
import { count, shown } from "./shared/text.js";
import { tip } from "./shared/tip.js";
import { scaleWords } from "./similarity_grid_match.js";

export function legend() {
  const ramp = h("span", { class: "mll-sg-ramp", "aria-hidden": "true" });
  const [low, high] = [h("span"), h("span")];
  const { node, say } = tip([low, ramp, high], "What the colours mean");
  let [measure, under, hint] = ["", "", ""];
  const tell = () => say(`colours: ${measure}`, under, "a ring: the best of its row", hint);
  /** `ends` are those of the raw scale. */
  function showScale(scale, ends, values) {
    [low.textContent, high.textContent, measure] = scaleWords(scale, ...ends);
    if (scale !== "raw") [low.textContent, high.textContent] = ["row’s low", "high"];
    const least = extent(values)[0];
    under = scale === "raw" && least < ends[0] ? `below it: a colour of its own, down to ${shown(least)}` : "";
    tell();
  }
  /** `cells` is how many cells a pixel covers in one direction. */
  function showZoom({ readable, cells }) {
    const several = cells > 1 ? `a pixel shows the highest of its ${count(cells + 0.499)} cells a side` : "";
    hint = [several, readable ? "" : "enlarge (+) to read the query tokens"].filter(Boolean).join(" · ");
    tell();
  }
  return { node, showScale, showZoom };
}
