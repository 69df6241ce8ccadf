/** The prompt as a text area: the hand leads, the kernel follows a quarter of a second later. */
import { h } from "./shared/dom.js";
import { fieldState } from "./shared/field.js";

/** `attempt(op, args)` asks the kernel; its promise is of nothing where the kernel refused. */
export function promptField({ model, attempt }) {
  const state = fieldState(model.get("prompt"));
  let timer = null;
  let seq = 0; // of the last request
  const node = h("textarea", {
    class: "mll-field mll-rp-prompt",
    rows: 3,
    maxlength: 100000,
    spellcheck: "false",
    dir: "auto",
    "aria-label": "Prompt",
    placeholder: "A prompt for the model to go on from",
    on: { input: typed, change: save },
  });
  node.value = model.get("prompt");
  function typed() {
    state.moved();
    clearTimeout(timer);
    timer = setTimeout(save, 250);
  }
  function send(op, args) {
    clearTimeout(timer);
    const mine = ++seq;
    state.sent(mine);
    return attempt(op, args).then((reply) => state.answered(mine, Boolean(reply)) && draw());
  }
  function save() {
    return send("set", { name: "prompt", value: node.value });
  }
  function draw() {
    const now = model.get("prompt");
    if (state.shows(now) && node.value !== now) node.value = now;
  }
  return { node, draw, run: () => send("run", { prompt: node.value }), close: () => clearTimeout(timer) };
}
