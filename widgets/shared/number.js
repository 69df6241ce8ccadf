/** A number to set: its label, a native slider, a box for the exact value, and what is wrong with it. */
import { h } from "./dom.js";
import { fieldState, settle } from "./field.js";
import { newestWins } from "./newest_wins.js";

/** What was typed, as a number: "0,8" is 0.8, and where numbers are whole "49,152" is 49152. */
export function typedAs(text, integer = false) {
  if (text.trim() === "") return NaN;
  const grouped = integer && /^\s*\d{1,3}(,\d{3})+\s*$/.test(text);
  return Number(grouped ? text.replaceAll(",", "") : text.replace(",", "."));
}

/** A labelled slider with a number box; what is wrong with a value is said below it. */
function numberControl(options) {
  const { label, low, high, step = 0, scale = "linear", unit = "", help = "", integer = false } = options;
  const { onInput = () => {}, check = () => "" } = options;
  const log = scale === "log" && low > 0;
  const place = (x) => (log ? Math.log(x / low) / Math.log(high / low) : (x - low) / (high - low)) * 1000;
  const at = (r) => {
    const x = log ? low * (high / low) ** (r / 1000) : low + ((high - low) * r) / 1000;
    if (integer) return Math.round(x);
    return step > 0 && !log ? Number((Math.round(x / step) * step).toFixed(10)) : Number(x.toPrecision(3));
  };
  let value = options.value;
  const message = h("div", { class: "mll-problem", role: "alert" });
  const range = h("input", { type: "range", class: "mll-range", min: 0, max: 1000, step: "any", "aria-label": label });
  const box = h("input", {
    type: "text",
    inputmode: "decimal",
    class: "mll-field mll-box",
    "aria-label": `${label}, exact`,
    spellcheck: "false",
  });
  const node = h(
    "div",
    { class: "mll-number" },
    h("span", { class: "mll-number-label", title: help }, label),
    range,
    box,
    h("span", { class: "mll-unit" }, unit),
    message,
  );
  let refusal = ""; // what the kernel said of this value
  const write = (text) => {
    message.textContent = text;
    box.setAttribute("aria-invalid", String(Boolean(text)));
  };
  const complain = (text) => write((refusal = text));
  const show = (keepBox = false) => {
    const clear = Math.min(1000, Math.max(0, place(value)));
    range.value = String(Number.isFinite(clear) ? clear : 0);
    range.setAttribute("aria-valuetext", `${value} ${unit}`.trim());
    range.style.setProperty("--mll-fill", `${clear / 10}%`);
    if (!keepBox) box.value = String(value);
  };
  const take = (next, released, keepBox) => {
    const text = !Number.isFinite(next)
      ? `${label} must be a number`
      : integer && !Number.isInteger(next)
        ? `${label} must be a whole number`
        : check(next);
    if (text) return write(text);
    const changed = next !== value;
    if (changed) refusal = "";
    write(refusal);
    value = next;
    show(keepBox);
    if (changed || released) onInput(value, { released });
  };
  const typedNumber = () => typedAs(box.value, integer);
  range.addEventListener("input", () => take(at(Number(range.value)), false));
  range.addEventListener("change", () => take(value, true));
  range.addEventListener("keydown", (event) => {
    const sign = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[event.key];
    if (!sign || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const one = step || (integer ? 1 : (high - low) / 100);
    const next = log && !integer ? at(Number(range.value) + sign * 10) : Number((value + sign * one).toFixed(10));
    take(Math.min(high, Math.max(low, next)), true);
  });
  box.addEventListener("input", () => take(typedNumber(), false, true));
  box.addEventListener("change", () => take(typedNumber(), true));
  show();
  return {
    node,
    complain,
    get value() {
      return value;
    },
    /** Show a value that came from Python, unless it is being typed right now. */
    set(next) {
      if (next === value) return;
      const typing = box.ownerDocument.activeElement === box && box.value !== String(value);
      value = next;
      show(typing);
      complain("");
    },
    disable(off) {
      range.disabled = box.disabled = off;
    },
  };
}

/** A slider with a box, bound to the kernel. Options of `numberControl`, and `title`, `send`, `held`. */
export function kernelNumber({ name, title, send, held, ...options }) {
  const state = fieldState(options.value);
  let known = options.value; // what the kernel was told, or told us
  let unsent = false;
  const show = (value) => {
    if (!state.shows(value)) return;
    known = value;
    control.set(value);
  };
  const deliver = settle({ state, send, held, show, complain: (text) => control.complain(text) });
  const queue = newestWins((value, seq) => {
    known = value;
    unsent = false;
    deliver(value, seq).then(() => queue.accept(seq));
  });
  const control = numberControl({
    ...options,
    onInput: (value, { released }) => {
      // leaving a field says its value once more; by then Python may hold another one
      if (released && !unsent && value === known) return;
      unsent = true;
      state.moved();
      queue.push(value, { released });
    },
  });
  const [range, box] = control.node.querySelectorAll("input");
  range.setAttribute("aria-label", `${title}, ${options.label}`);
  box.setAttribute("aria-label", `${title}, ${options.label}, exact`);
  box.title = options.help ?? "";
  control.node.dataset.setting = name;
  return {
    node: control.node,
    label: options.label,
    show,
    disable: control.disable,
    get slow() {
      return queue.slow;
    },
  };
}
