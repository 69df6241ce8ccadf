/** A setting that is typed: the hand leads, the kernel follows a quarter of a second later. */
import { fieldState } from "./shared/field.js";

/** `value()` is what is written, `held` what the kernel has; `attempt(op, args)` asks it, `draw()` shows it. */
export function typedSetting({ name, held, value, attempt, draw }) {
  const state = fieldState(held);
  let timer = null;
  let seq = 0; // of the last request
  const close = () => clearTimeout(timer);
  function send(op) {
    close();
    const mine = ++seq;
    state.sent(mine);
    const asked = attempt(op, { name, value: value() });
    return asked.then((reply) => state.answered(mine, Boolean(reply)) && draw());
  }
  const save = () => send("set");
  function typed() {
    state.moved();
    close();
    timer = setTimeout(save, 250);
  }
  return { typed, save, run: () => send("run"), shows: state.shows, close };
}
