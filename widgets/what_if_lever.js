/** Which setting the bars are of: a choice among those of the chain, and a slider where no other one is in view. */
import { h } from "./shared/dom.js";
import { kernelNumber } from "./shared/number.js";

const CHOICE = "Which setting of the chain is varied; the bars are of this one";

/** State lives in the model: `levers` are the names, `lever` is the one that is varied. */
export function whatIfLever(model, link) {
  const get = (name) => model.get(name);
  const list = h("select", { class: "mll-field mll-wi-varied", "aria-label": "Setting to vary", title: CHOICE });
  const turn = h("div", { class: "mll-wi-turn" });
  const problem = h("span", { class: "mll-problem", role: "alert" });
  const node = h("div", { class: "mll-wi-lever mll-live" }, h("label", {}, "varies ", list), turn, problem);
  let field = null;
  let drawn = ""; // what the slider is of
  const attempt = (op, args) => {
    problem.textContent = "";
    return link.ask(op, args);
  };
  list.addEventListener("change", () => {
    attempt("vary", { place: list.selectedIndex }).catch((error) => {
      problem.textContent = error.message;
      draw();
    });
  });
  function slider(label, { slider: [low, high], step, scale, whole, help, value }) {
    const send = (to, seq) => attempt("turn", { value: to, seq });
    const bound = { name: "lever", title: label, value, held: () => get("lever").value, send };
    return kernelNumber({ ...bound, label, low, high, step, scale, help, integer: whole });
  }
  function draw() {
    const [names, lever] = [get("levers"), get("lever")];
    node.hidden = !names.length;
    if (node.hidden) return;
    if (names.join("\n") !== [...list.options].map((one) => one.text).join("\n"))
      list.replaceChildren(...names.map((name) => h("option", {}, name)));
    list.selectedIndex = lever.place;
    const of = `${lever.place} ${names[lever.place]}`;
    if (drawn === of) return field.show(lever.value);
    drawn = of;
    field = slider(names[lever.place], lever);
    turn.replaceChildren(field.node);
  }
  function disable(off) {
    list.disabled = off;
    field?.disable(off);
  }
  return { node, draw, disable };
}
