/** The prompt as a text area. */
import { h } from "./shared/dom.js";
import { typedSetting } from "./run_panel_typed.js";

/** `attempt(op, args)` asks the kernel; its promise is of nothing where the kernel refused. */
export function promptField({ model, attempt }) {
  const get = () => model.get("prompt");
  const setting = typedSetting({ name: "prompt", held: get(), value: () => node.value, attempt, draw });
  const node = h("textarea", {
    class: "mll-field mll-rp-prompt",
    rows: 2,
    maxlength: 100000,
    spellcheck: "false",
    dir: "auto",
    "aria-label": "Prompt",
    placeholder: "A prompt for the model to go on from · Ctrl+Enter runs it",
    on: { input: setting.typed, change: setting.save },
  });
  node.value = get();
  function draw() {
    if (setting.shows(get()) && node.value !== get()) node.value = get();
  }
  return { node, draw, run: setting.run, close: setting.close };
}
