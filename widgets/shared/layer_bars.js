/**
 * A control vector layer by layer: a bar for its length in each, over it one for how far apart the layer puts
 * pairs that were held out, where that is known. A range of layers is brushed, or set by the keys of its two ends.
 * `rows` holds `layers`, `norms`, `n_held_out`, and of a training `separation` and `accuracy`.
 */
import { h, keys } from "./dom.js";
import { exportMenu } from "./export.js";
import { settle, fieldState } from "./field.js";
import { COLOURS, csvOf, picture } from "./layer_bars_file.js";
import { lanesOf, layerText, rangeText, span } from "./layer_bars_words.js";
import { newestWins } from "./newest_wins.js";
import { palette } from "./svg.js";

const HINT = "Drag over layers to choose them; click takes one, double-click all";

/** The range after one of its ends (0 or 1) went by some layers that there are; it stays one layer at least. */
export function moved(layers, range, end, by) {
  const places = range.map((layer) => layers.indexOf(layer));
  const [low, high] = end ? [places[0], layers.length - 1] : [0, places[1]];
  const to = Math.min(high, Math.max(low, places[end] + by));
  return end ? [range[0], layers[to]] : [layers[to], range[1]];
}

/** The range between the places at which a brush began and is. */
export const brushed = (layers, from, to) => [layers[Math.min(from, to)], layers[Math.max(from, to)]];

function laneOf({ name, shares, scale }) {
  const bar = (share) => {
    const style = { "--mll-share": share === null ? 0 : Math.abs(share).toFixed(4) };
    return h("i", { style, "data-against": share < 0, "data-none": share === null });
  };
  const says = h("span", { class: "mll-lb-name" }, h("span", {}, name), " ", h("span", {}, scale));
  return h("div", { class: "mll-lb-lane" }, says, h("div", { class: "mll-lb-bars" }, shares.map(bar)));
}

function endOf(title, end) {
  const label = `${title}, ${end ? "last" : "first"} layer`;
  return h("span", { class: "mll-lb-end", role: "slider", tabindex: 0, "aria-label": label, "data-end": end });
}

/** A message from the hand to the kernel: the newest range wins, and the kernel's is shown when it is settled. */
function sender({ send, held, show, complain }) {
  const state = fieldState("");
  const text = (range) => (range ? span(range) : undefined);
  const arrived = () => {
    if (held() && state.shows(text(held()))) show(held());
  };
  const deliver = settle({ state, send, held: () => text(held()), complain, show: arrived });
  const queue = newestWins((range, seq) => {
    unsent = null;
    deliver(range, seq).then(() => queue.accept(seq));
  });
  let unsent = null;
  return {
    arrived,
    push(range) {
      unsent = range;
      state.moved();
      queue.push(range);
    },
    /** The hand is away: what a slow line has put off goes now. */
    release: () => unsent && queue.push(unsent, { released: true }),
  };
}

function elements(title, files) {
  const lanes = h("div", { class: "mll-lb-lanes" });
  const ends = [0, 1].map((end) => endOf(title, end));
  const frame = h("div", { class: "mll-lb-frame" }, ends);
  const over = h("div", { class: "mll-lb-over" }, frame);
  const field = h("div", { class: "mll-lb-field", title: HINT }, lanes, over);
  const said = h("p", { class: "mll-quiet mll-figures mll-lb-said" });
  const problem = h("p", { class: "mll-problem", role: "alert" });
  const group = { class: "mll-lb", role: "group", "aria-label": `${title}, layers` };
  const line = h("div", { class: "mll-lb-line" }, said, exportMenu("layers", files).node);
  const node = h("div", group, field, line, problem);
  return { lanes, ends, frame, over, field, said, problem, node };
}

/** `send(range, seq)` returns a promise; `held()` is the range that the kernel has, `about()` heads a picture of it. */
export function layerBars({ title, send, held, about = () => title }) {
  let rows = null;
  let range = [];
  let from = -1; // where the brush began
  const { lanes, ends, frame, over, field, said, problem, node } = elements(title, {
    CSV: () => csvOf(rows, range),
    SVG: (node) => picture({ title: about(), rows, range }, palette(node, COLOURS)),
  });
  const complain = (text) => (problem.textContent = text);
  const line = sender({ send, held, show: mark, complain });
  const isOff = () => node.hasAttribute("data-off");
  const pick = (next, released) => {
    if (String(next) !== String(range)) {
      mark(next);
      line.push(next);
    }
    if (released) line.release();
  };

  function mark(next) {
    range = next;
    const { layers } = rows;
    const [low, high] = range.map((layer) => layers.indexOf(layer));
    frame.style.left = `${(100 * low) / layers.length}%`;
    frame.style.width = `${(100 * (high - low + 1)) / layers.length}%`;
    for (const bars of lanes.querySelectorAll(".mll-lb-bars"))
      [...bars.children].forEach((bar, i) => bar.toggleAttribute("data-in", i >= low && i <= high));
    said.textContent = rangeText(rows, range);
    ends.forEach((end, k) => {
      end.setAttribute("aria-valuemin", layers[0]);
      end.setAttribute("aria-valuemax", layers.at(-1));
      end.setAttribute("aria-valuenow", range[k]);
      end.setAttribute("aria-valuetext", layerText(rows, k ? high : low));
    });
  }
  function placeAt({ clientX }) {
    const { left, width } = over.getBoundingClientRect();
    const n = rows.layers.length;
    return Math.min(n - 1, Math.max(0, Math.floor(((clientX - left) / width) * n)));
  }
  const inBars = (event) => event.clientX >= over.getBoundingClientRect().left;
  const acts = {
    pointerdown(event) {
      if (event.button || isOff() || !inBars(event)) return;
      const end = event.target.dataset.end;
      from = end === undefined ? placeAt(event) : rows.layers.indexOf(range[1 - end]);
      field.setPointerCapture(event.pointerId);
      if (end === undefined) pick(brushed(rows.layers, from, from));
    },
    pointermove(event) {
      if (from >= 0) return pick(brushed(rows.layers, from, placeAt(event)));
      said.textContent = inBars(event) ? layerText(rows, placeAt(event)) : rangeText(rows, range);
    },
    pointerup() {
      if (from >= 0) pick(range, true);
      from = -1;
    },
    pointercancel: () => acts.pointerup(),
    pointerleave: () => (said.textContent = rangeText(rows, range)),
    dblclick: () => !isOff() && pick([rows.layers[0], rows.layers.at(-1)], true),
  };
  for (const [type, act] of Object.entries(acts)) field.addEventListener(type, act);
  const go = (by) => (event) => {
    const end = event.target.dataset?.end;
    if (end === undefined || isOff()) return false;
    pick(moved(rows.layers, range, Number(end), by), true);
  };
  const steps = { ArrowLeft: go(-1), ArrowDown: go(-1), ArrowRight: go(1), ArrowUp: go(1) };
  const unbind = keys(node, { ...steps, Home: go(-Infinity), End: go(Infinity) });
  return {
    node,
    close: unbind,
    disable: (off) => node.toggleAttribute("data-off", off),
    /** Show these layers, and of them the range that the kernel has. */
    show(next) {
      if (next !== rows) {
        rows = next;
        lanes.replaceChildren(...lanesOf(rows).map(laneOf));
        mark(held());
      }
      line.arrived();
    },
  };
}
