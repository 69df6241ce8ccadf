/** The map of a blend pad as it stands on the page: its pixels, the point on it, its axes, what the colours mean. */
import { bandColours, levelsOf, mapPixels, placeOf, strengthsAt } from "./blend_pad_map.js";
import { pointText, signed } from "./blend_pad_words.js";
import { colours } from "./shared/colours.js";
import { h } from "./shared/dom.js";
import { HEAT, onTheme } from "./shared/heat.js";

/** The map itself: paints `grid`, and calls `move(at, released)` while a hand drags. */
export function mapArea({ grid, axes, move }) {
  const canvas = h("canvas", { "aria-hidden": "true" });
  const range = { role: "slider", "aria-label": "Strengths of both", "aria-valuemin": 0, "aria-valuemax": 1 };
  const point = h("div", { class: "mll-bp-point", tabindex: 0, ...range });
  const node = h("div", { class: "mll-bp-map" }, canvas, point);
  const where = "After the prompt, before the chain";
  const legend = h("span", { class: "mll-bp-legend mll-quiet mll-figures", title: where });
  let painted = null; // the colours of what is there
  function paint() {
    painted = null;
    const { n, values, of } = grid();
    const [wide, high] = [canvas.clientWidth, canvas.clientHeight].map((x) => Math.round(x * devicePixelRatio));
    if (!wide || !high) return;
    [canvas.width, canvas.height] = [wide, high];
    legend.replaceChildren();
    if (!n) return;
    const [paper, ink, ...stops] = colours(node, ["--mll-paper", "--mll-ink", ...HEAT]);
    const isLogprob = of === "logprob";
    const levels = levelsOf(values, isLogprob);
    const bands = bandColours(levels, stops);
    const pixels = mapPixels({ n, values }, wide, high, levels, { bands, ink, paper });
    canvas.getContext("2d").putImageData(new ImageData(pixels, wide, high), 0, 0);
    painted = { bands, levels, isLogprob };
    const swatch = (k) => h("i", { style: { background: `rgb(${bands[k].join(" ")})` } });
    legend.append(isLogprob ? "logprob, nats:" : "KL, nats:", swatch(0));
    legend.append(...levels.flatMap((level, k) => [h("span", {}, signed(level)), swatch(k + 1)]));
  }
  const reaches = () => axes().map(({ reach }) => reach);
  const drag = (event, released) => {
    const box = node.getBoundingClientRect();
    const share = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    move(strengthsAt(share, reaches()), released);
  };
  node.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !axes().length || node.hasAttribute("data-off")) return;
    event.preventDefault();
    node.setPointerCapture(event.pointerId);
    point.focus({ focusVisible: false });
    drag(event, false);
  });
  node.addEventListener("pointermove", (event) => node.hasPointerCapture(event.pointerId) && drag(event, false));
  node.addEventListener("pointerup", (event) => node.hasPointerCapture(event.pointerId) && drag(event, true));
  const resized = new ResizeObserver(paint);
  resized.observe(canvas);
  const undoTheme = onTheme(() => requestAnimationFrame(paint)); // the page has the new colours then
  function put(at) {
    const [x, y] = placeOf(at, reaches());
    Object.assign(point.style, { left: `${100 * x}%`, top: `${100 * y}%` });
    point.setAttribute("aria-valuenow", String(x));
    point.setAttribute("aria-valuetext", pointText(axes(), at));
  }
  /** What is painted, for a file; null where nothing is. */
  function image() {
    const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
    return painted && { ...painted, wide, high, href: canvas.toDataURL("image/png") };
  }
  const close = () => [() => resized.disconnect(), undoTheme].forEach((act) => act());
  return { node, point, legend, paint, put, image, close };
}

/** The ends of the axes and their names around a map. */
export function framed(map) {
  const ends = [0, 1].map(() => [h("span"), h("bdi", { class: "mll-bp-name" }), h("span")]);
  const [[left, first, right], [bottom, second, top]] = ends;
  const side = h("div", { class: "mll-bp-y mll-quiet", "aria-hidden": "true" }, top, second, bottom);
  const under = h("div", { class: "mll-bp-x mll-quiet", "aria-hidden": "true" }, left, first, right);
  const show = (axes) =>
    axes.forEach(({ name, reach }, k) => {
      const [low, called, high] = ends[k];
      [low.textContent, called.textContent, high.textContent] = [signed(-reach), name, signed(reach)];
    });
  return { node: h("div", { class: "mll-bp-frame mll-live" }, side, map, under), show };
}
