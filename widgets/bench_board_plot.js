/**
 * How speed grows with threads, as SVG: a line a test, the range of its repeats, and dashed what would be in
 * proportion. A line has `name` and `points`: [threads, speedup, the least of its repeats, the most].
 */
import { h } from "./shared/dom.js";
import { HUES } from "./shared/hues.js";
import { number } from "./shared/text.js";

const [WIDE, HIGH] = [300, 190];
const EDGE = { left: 34, right: 10, top: 8, bottom: 30 };
const ABOUT = "threads; speed is times that with the fewest";
const SVG = "http://www.w3.org/2000/svg";

/** The numbers of threads, and the highest that is drawn: what is in proportion, or a repeat above that. */
export function scalesOf(lines) {
  const points = lines.flatMap((line) => line.points);
  const threads = [...new Set(points.map(([n]) => n))].sort((a, b) => a - b);
  const ideal = lines.map(({ points }) => points.at(-1)[0] / points[0][0]);
  return { threads, top: Math.max(...ideal, ...points.map(([, , , most]) => most)) };
}

/** Where a number of threads and a speedup are, in pixels. */
export function placesIn({ threads, top }) {
  const [first, last] = [threads[0], threads.at(-1)];
  const width = WIDE - EDGE.left - EDGE.right;
  const height = HIGH - EDGE.top - EDGE.bottom;
  const x = (n) => EDGE.left + 8 + ((n - first) / Math.max(1, last - first)) * (width - 16);
  return { x, y: (speedup) => EDGE.top + height * (1 - speedup / top) };
}

/** Whole speedups on the axis, five at most. */
export function ticksTo(top) {
  const step = Math.max(1, Math.ceil(top / 5));
  return Array.from({ length: Math.floor(top / step) + 1 }, (_, k) => k * step);
}

/** What the plot shows, in words. */
export function plotText(lines) {
  const said = lines.map(({ name, points }) => {
    const last = points.at(-1);
    return `${name} ${number(last[1])} times as fast with ${last[0]} threads as with ${points[0][0]}`;
  });
  return `Speed against threads: ${said.join("; ")}`;
}

function draw(name, given, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(given)) node.setAttribute(key, String(value));
  if (text !== undefined) node.textContent = text;
  return node;
}

const path = (places) => places.map(([x, y], k) => `${k ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

function axes(scales, { x, y }) {
  const [left, bottom] = [EDGE.left, HIGH - EDGE.bottom];
  const frame = draw("path", { class: "mll-bb-axis", d: path([[left, EDGE.top], [left, bottom], [WIDE, bottom]]) });
  const below = scales.threads.map((n) => draw("text", { x: x(n), y: bottom + 13, "text-anchor": "middle" }, n));
  const beside = ticksTo(scales.top).map((k) =>
    draw("text", { x: left - 5, y: y(k) + 4, "text-anchor": "end" }, `${k}x`),
  );
  const name = draw("text", { x: (WIDE + left) / 2, y: HIGH - 4, "text-anchor": "middle" }, ABOUT);
  return [frame, ...below, ...beside, name];
}

function lineOf({ points }, hue, { x, y }) {
  const group = draw("g", { "data-hue": hue });
  const [[first], [last]] = [points[0], points.at(-1)];
  const ideal = path([[x(first), y(1)], [x(last), y(last / first)]]);
  group.append(draw("path", { class: "mll-bb-ideal", d: ideal }));
  group.append(draw("path", { d: path(points.map(([n, speedup]) => [x(n), y(speedup)])) }));
  for (const [n, speedup, least, most] of points) {
    group.append(draw("path", { d: path([[x(n), y(least)], [x(n), y(most)]]) }));
    group.append(draw("circle", { cx: x(n), cy: y(speedup), r: 3 }));
  }
  return group;
}

/** The plot and its legend. */
export function plotOf(lines) {
  const scales = scalesOf(lines);
  const places = placesIn(scales);
  const picture = draw("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": plotText(lines) });
  picture.append(...axes(scales, places), ...lines.map((line, k) => lineOf(line, k % HUES, places)));
  const key = lines.map(({ name }, k) => h("li", { "data-hue": k % HUES }, h("i"), name));
  const legend = h("ul", { class: "mll-legend" }, key, h("li", { class: "mll-bb-dashed" }, h("i"), "in proportion"));
  return h("figure", { class: "mll-bb-plot mll-figures" }, picture, h("figcaption", {}, legend));
}
