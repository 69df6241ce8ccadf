/** The figures of a run in one line, each whole or left out, some with a small curve; more of them on asking. */
import { h } from "./shared/dom.js";
import { tip } from "./shared/tip.js";
import { figuresInWords, figuresOf } from "./run_panel_words.js";

const [WIDE, HIGH] = [44, 14]; // pixels of a curve
const SHORTEST = 4; // points that are worth a curve
const SVG = "http://www.w3.org/2000/svg";

/** A curve as the points of a line: 0 is at one edge, what is farthest from it at the other. */
export function pointsOf(curve) {
  const most = Math.max(...curve.map(Math.abs)) || 1;
  const edge = curve.some((x) => x > 0) ? HIGH - 1 : 1; // where 0 is: speeds stand on it, logprobs hang off it
  const deep = (x) => edge - (x / most) * (HIGH - 2);
  return curve.map((x, i) => `${((i * WIDE) / (curve.length - 1)).toFixed(1)},${deep(x).toFixed(1)}`).join(" ");
}

function drawn(curve) {
  if (!curve || curve.length < SHORTEST) return null;
  const make = (name, given) => {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(given)) node.setAttribute(key, value);
    return node;
  };
  const size = { width: WIDE, height: HIGH, viewBox: `0 0 ${WIDE} ${HIGH}`, class: "mll-rp-curve" };
  const picture = make("svg", { ...size, "aria-hidden": "true" });
  picture.append(make("polyline", { points: pointsOf(curve) }));
  return picture;
}

/** `draw(meters, state, far)`: the figures there are; `far` is how far the run is, in words. */
export function figureLine() {
  const list = h("span", { class: "mll-rp-figures mll-figures" });
  const more = tip(list);
  more.node.classList.add("mll-rp-about");
  function draw(meters, state, far) {
    const all = [...(far ? [[far, null]] : []), ...figuresOf(meters, state)];
    list.replaceChildren(...all.map(([text, curve]) => h("span", { class: "mll-rp-figure" }, text, drawn(curve))));
    more.say(...(all.length ? figuresInWords(meters) : []));
    more.node.hidden = !all.length;
  }
  return { node: more.node, draw };
}
