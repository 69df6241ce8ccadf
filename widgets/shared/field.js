/** A setting that lives in the kernel: the hand leads, the kernel confirms or says what is wrong. */
import { h } from "./dom.js";
import { newestWins } from "./newest_wins.js";
import { numberControl } from "./number.js";

/**
 * What a field shows, given what the kernel holds and what the hand is doing.
 * While an answer is due the hand is right; a refused value stays until somebody changes it.
 */
export function fieldState(first) {
  let due = 0;
  let refused = false;
  let held = first;
  return {
    /** A change by hand; its number is known when it is sent. */
    moved() {
      due = Infinity;
    },
    sent(seq) {
      due = seq;
    },
    /** An answer to `seq`: true when it is the one that was waited for. */
    answered(seq, ok) {
      if (seq !== due) return false;
      due = 0;
      refused = !ok;
      return true;
    },
    /** Whether a value from the kernel is to be shown now. */
    shows(value) {
      if (due) return false;
      const same = value === held;
      held = value;
      if (refused && same) return false;
      refused = false;
      return true;
    },
  };
}

/** `send(value, seq)` returns a promise; `held()` is what the kernel has when it is settled. */
function settle({ state, send, held, complain, show }) {
  return (value, seq) => {
    state.sent(seq);
    const told = (ok, error) => {
      if (!state.answered(seq, ok)) return;
      if (ok) complain("");
      else complain(`${error.message.replace(/\.?$/, ".")} In force: ${held() === "" ? "empty" : held()}.`);
      if (held() !== undefined) show(held());
    };
    return send(value, seq).then(
      () => told(true),
      (error) => told(false, error),
    );
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

/** A line of text bound to the kernel: sent on Enter or when it is left. null is read-only. */
export function kernelText({ name, title, label, syntax = "", value, send, held, shortened = "" }) {
  const state = fieldState(value);
  let count = 0;
  const message = h("div", { class: "mll-problem", role: "alert" });
  const hint = h("span", { class: "mll-quiet mll-syntax", id: `mll-syntax-${Math.random().toString(36).slice(2)}` });
  const input = h("input", {
    type: "text",
    class: "mll-field mll-code",
    maxlength: 1000,
    spellcheck: "false",
    autocomplete: "off",
    "aria-label": `${title}, ${label}`,
    "aria-describedby": hint.id,
    on: {
      change: () => commit(),
      keydown: (event) => {
        if (event.key === "Enter") commit();
      },
    },
  });
  let committed = value;
  const commit = () => {
    if (input.readOnly || input.value === committed) return;
    committed = input.value;
    deliver(committed, ++count);
  };
  const complain = (text) => {
    message.textContent = text;
    input.setAttribute("aria-invalid", String(Boolean(text)));
  };
  const write = (now) => {
    input.readOnly = now === null;
    hint.textContent = now === null ? "too long to edit here; set it from Python" : syntax;
    input.value = committed = now ?? shortened;
    complain("");
  };
  const typing = () => input.value !== committed && input.ownerDocument.activeElement === input;
  const show = (now) => !typing() && state.shows(now) && write(now);
  const deliver = settle({ state, send, held, complain, show });
  write(value);
  const node = h(
    "div",
    { class: "mll-line", "data-setting": name },
    h("span", { class: "mll-number-label" }, label),
    input,
    hint,
    message,
  );
  return { node, label, show, disable: (off) => (input.disabled = off) };
}
