/** A switch: on or off. It is a check box; `change(on)` is told when a hand moves it. */
import { h } from "./dom.js";

/** What a switch shows, by `draw(on)`: what it was told last, but while an answer is due the hand's word stands. */
export function switchState(draw) {
  let told = false;
  let due = 0;
  function show(on) {
    told = on;
    if (!due) draw(on);
  }
  async function moved(answer) {
    due += 1;
    try {
      await answer;
    } finally {
      due -= 1;
      show(told);
    }
  }
  return { show, moved };
}

export function switchBox(change, more = {}) {
  const on = { change: () => state.moved(change(node.checked)) };
  const node = h("input", { type: "checkbox", role: "switch", class: "mll-switch", on, ...more });
  const state = switchState((now) => {
    node.checked = now;
  });
  return { node, show: state.show };
}
