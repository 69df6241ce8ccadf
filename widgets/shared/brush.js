/**
 * A range that is brushed over bars, or set by the keys of its two ends. What stands side by side is numbered, such
 * as layers or steps: `ids`, in order. The newest range wins, and the kernel's is shown when it is settled.
 */
import { h, keys } from "./dom.js";
import { settle, fieldState } from "./field.js";
import { newestWins } from "./newest_wins.js";

export const span = ([first, last], one) => (first === last ? `${one} ${first}` : `${one}s ${first}–${last}`);

/** The range after one of its ends (0 or 1) went by some of the ids that there are; it stays one at least. */
export function moved(ids, range, end, by) {
  const places = range.map((id) => ids.indexOf(id));
  const [low, high] = end ? [places[0], ids.length - 1] : [0, places[1]];
  const to = Math.min(high, Math.max(low, places[end] + by));
  return end ? [range[0], ids[to]] : [ids[to], range[1]];
}

/** The range between the places at which a brush began and is. */
export const brushed = (ids, from, to) => [ids[Math.min(from, to)], ids[Math.max(from, to)]];

function sender({ noun, send, held, show, complain }) {
  const state = fieldState("");
  const text = (range) => (range ? span(range, noun) : undefined);
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

function elements(title, noun, lanes, beside) {
  const endOf = (end) => {
    const label = `${title}, ${end ? "last" : "first"} ${noun}`;
    return h("span", { class: "mll-br-end", role: "slider", tabindex: 0, "aria-label": label, "data-end": end });
  };
  const ends = [0, 1].map(endOf);
  const frame = h("div", { class: "mll-br-frame" }, ends);
  const over = h("div", { class: "mll-br-over" }, frame);
  const hint = `Drag over ${noun}s to choose them; click takes one, double-click all`;
  const field = h("div", { class: "mll-br-field", title: hint }, lanes, over);
  const said = h("p", { class: "mll-quiet mll-figures mll-br-said" });
  const problem = h("p", { class: "mll-problem", role: "alert" });
  const group = { class: "mll-br", role: "group", "aria-label": `${title}, ${noun}s` };
  const node = h("div", group, field, h("div", { class: "mll-br-line" }, said, beside), problem);
  return { ends, frame, over, field, said, problem, node };
}

/**
 * `send(range, seq)` returns a promise; `held()` is the range that the kernel has. `idText(place)` and
 * `rangeText(range)` say what is there; `marked(low, high)` is told the places that are chosen; `beside`
 * stands beside what is said.
 */
export function brush({ title, noun, lanes, send, held, idText, rangeText, ...more }) {
  const { marked = () => {}, beside = null } = more;
  let ids = [];
  let range = [];
  let from = -1; // where the brush began
  const { ends, frame, over, field, said, problem, node } = elements(title, noun, lanes, beside);
  const complain = (text) => (problem.textContent = text);
  const line = sender({ noun, send, held, show: mark, complain });
  const isOff = () => node.hasAttribute("data-off") || !ids.length;
  const pick = (next, released) => {
    if (String(next) !== String(range)) {
      mark(next);
      line.push(next);
    }
    if (released) line.release();
  };

  function mark(next) {
    range = next;
    const [low, high] = range.map((id) => ids.indexOf(id));
    frame.style.left = `${(100 * low) / ids.length}%`;
    frame.style.width = `${(100 * (high - low + 1)) / ids.length}%`;
    marked(low, high);
    said.textContent = rangeText(range);
    ends.forEach((end, k) => {
      end.setAttribute("aria-valuemin", ids[0]);
      end.setAttribute("aria-valuemax", ids.at(-1));
      end.setAttribute("aria-valuenow", range[k]);
      end.setAttribute("aria-valuetext", idText(k ? high : low));
    });
  }
  function placeAt({ clientX }) {
    const { left, width } = over.getBoundingClientRect();
    return Math.min(ids.length - 1, Math.max(0, Math.floor(((clientX - left) / width) * ids.length)));
  }
  const inBars = (event) => event.clientX >= over.getBoundingClientRect().left;
  const acts = {
    pointerdown(event) {
      if (event.button || isOff() || !inBars(event)) return;
      const end = event.target.dataset.end;
      from = end === undefined ? placeAt(event) : ids.indexOf(range[1 - end]);
      field.setPointerCapture(event.pointerId);
      if (end === undefined) pick(brushed(ids, from, from));
    },
    pointermove(event) {
      if (from >= 0) return pick(brushed(ids, from, placeAt(event)));
      if (ids.length) said.textContent = inBars(event) ? idText(placeAt(event)) : rangeText(range);
    },
    pointerup() {
      if (from >= 0) pick(range, true);
      from = -1;
    },
    pointercancel: () => acts.pointerup(),
    pointerleave: () => ids.length && (said.textContent = rangeText(range)),
    dblclick: () => !isOff() && pick([ids[0], ids.at(-1)], true),
  };
  for (const [type, act] of Object.entries(acts)) field.addEventListener(type, act);
  const go = (by) => (event) => {
    const end = event.target.dataset?.end;
    if (end === undefined || isOff()) return false;
    pick(moved(ids, range, Number(end), by), true);
  };
  const steps = { ArrowLeft: go(-1), ArrowDown: go(-1), ArrowRight: go(1), ArrowUp: go(1) };
  const unbind = keys(node, { ...steps, Home: go(-Infinity), End: go(Infinity) });
  return {
    node,
    close: unbind,
    chosen: () => range,
    disable: (off) => node.toggleAttribute("data-off", off),
    /** These stand there now, and the range is the one that the kernel has. */
    show(next) {
      ids = next;
      if (from >= ids.length) from = -1;
      if (ids.length) mark(from < 0 ? held() : range);
      line.arrived();
    },
    /** The kernel may have another range. */
    arrived: line.arrived,
  };
}
