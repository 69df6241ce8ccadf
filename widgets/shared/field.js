/** A setting that lives in the kernel: the hand leads, the kernel confirms or says what is wrong. */
import { h } from "./dom.js";

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

/** What is in force after a value was refused, as the end of a message; of a long text only that it is. */
function inForce(held) {
  if (String(held).length > 80 || String(held).includes("\n")) return "\nWhat was there before is in force.";
  return `. In force: ${held === "" ? "empty" : held}.`;
}

/** `send(value, seq)` returns a promise; `held()` is what the kernel has when it is settled. */
export function settle({ state, send, held, complain, show }) {
  return (value, seq) => {
    state.sent(seq);
    const told = (ok, error) => {
      if (!state.answered(seq, ok)) return;
      if (ok) complain("");
      else complain(`${error.message.replace(/\.?$/, "")}${inForce(held())}`);
      if (held() !== undefined) show(held());
    };
    return send(value, seq).then(
      () => told(true),
      (error) => told(false, error),
    );
  };
}

/** How a text is typed: on one line that Enter sends, or on several that Ctrl+Enter sends. */
function inputOf({ lines, longest, label, hint, commit }) {
  const sends = (event) => event.key === "Enter" && (!lines || event.ctrlKey || event.metaKey);
  return h(lines ? "textarea" : "input", {
    ...(lines ? { rows: 1 } : { type: "text" }),
    class: "mll-field mll-code",
    maxlength: longest,
    spellcheck: "false",
    autocomplete: "off",
    "aria-label": label,
    "aria-describedby": hint.id,
    on: {
      change: commit,
      keydown: (event) => {
        if (!sends(event)) return;
        event.preventDefault();
        commit();
      },
    },
  });
}

/**
 * A text bound to the kernel: sent on Enter or when it is left. null is read-only. `typed()` is called when there
 * may be something new in `unapplied()`: why what stands in the field is not in force.
 */
export function kernelText({ name, title, label, value, send, held, ...more }) {
  const { syntax = "", shortened = "", longest = 1000, lines = false, typed } = more;
  const says = lines ? `${syntax}; Ctrl+Enter applies it` : syntax;
  const state = fieldState(value);
  let count = 0;
  const message = h("div", { class: "mll-problem", role: "alert" });
  const hint = h("span", { class: "mll-quiet mll-syntax", id: `mll-syntax-${Math.random().toString(36).slice(2)}` });
  const input = inputOf({ lines, longest, label: `${title}, ${label}`, hint, commit: () => commit() });
  let committed = value;
  const commit = () => {
    if (input.readOnly || input.value === committed) return;
    committed = input.value;
    deliver(committed, ++count);
  };
  const complain = (text) => {
    message.textContent = text;
    input.setAttribute("aria-invalid", String(Boolean(text)));
    typed?.();
  };
  const unapplied = () => {
    if (input.readOnly || input.value === held()) return "";
    if (input.value === committed) return message.textContent.split("\n")[0];
    return `${lines ? "Ctrl+Enter" : "Enter"} applies it`;
  };
  input.addEventListener("input", () => typed?.());
  const write = (now) => {
    input.readOnly = now === null;
    hint.textContent = now === null ? "set in Python: it is too long to edit here, or no such text" : says;
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
  return { node, label, show, unapplied, disable: (off) => (input.disabled = off) };
}
