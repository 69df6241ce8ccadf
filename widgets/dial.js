/**
 * One adapter or control vector: its strength as a slider, and the next token without it and with it, beside each
 * other. State lives in the model: `name`, `about`, `slider`, `strength`, `shown`, `where`, `problem`.
 */
import { announcer, button, h, mount } from "./shared/dom.js";
import { effectTable, effectText } from "./shared/effect.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { kernelNumber } from "./shared/number.js";

const NONE = "Nothing to show yet: add an adapter or a control vector.";

/** A strength as the head of a column. */
export const strengthText = (strength) => `at ${String(strength).replace("-", "−")}`;

/** Which row it is, and what its bars say. */
export const placeText = (where) => `before the chain, at ${where || "the end of the prompt"}; bars 0% to 100%`;

function render({ model, el }) {
  const get = (name) => model.get(name);
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  const voice = announcer();
  const name = h("bdi");
  const title = h("h3", { class: "mll-title" }, "Next token without and with ", name);
  const about = h("span", { class: "mll-quiet mll-dl-about" });
  const [low, high] = get("slider");
  const lever = kernelNumber({
    name: "strength",
    label: "strength",
    title: "Dial",
    help: "How strongly it acts: 1 as it was made, 0 not at all, below 0 the other way. The box takes more.",
    ...{ low, high, step: 0.01, value: get("strength") },
    held: () => get("strength"),
    send: (value, seq) => link.ask("set", { value, seq }),
  });
  const turn = h("div", { class: "mll-dl-lever mll-live" }, lever.node);
  const effect = h("p", { class: "mll-dl-effect mll-figures" });
  const table = effectTable(() => [title.textContent, get("about"), placeText(get("shown").where), effect.textContent]);
  const place = h("span");
  const back = button("↩ prompt", "Look at the end of the prompt again", () => {
    link.ask("back").catch((error) => {
      problem.textContent = error.message;
    });
  });
  const bars = h("p", { class: "mll-quiet mll-dl-place" }, place, back);
  const problem = h("p", { class: "mll-problem", role: "alert" });
  const gone = goneNote(model);
  const head = h("header", { class: "mll-dl-bar-line" }, title, about, table.saving);
  const all = [head, gone, turn, effect, table.node, bars, problem, voice.node];
  const root = h("section", { class: "mll mll-dl", "aria-label": "Dial" }, all);

  function draw() {
    const shown = get("shown");
    const some = Boolean(shown.rows);
    name.textContent = get("name") || "an adapter";
    about.textContent = about.title = get("about");
    lever.show(get("strength"));
    turn.hidden = !get("name");
    problem.textContent = get("problem");
    root.toggleAttribute("data-stale", Boolean(get("problem")));
    table.node.hidden = table.saving.hidden = bars.hidden = !some;
    place.textContent = placeText(shown.where); // of the row that is shown, which comes later
    back.hidden = !get("where");
    const said = some ? effectText(shown) : get("problem") ? "" : NONE;
    if (effect.textContent !== said) voice.say(said);
    effect.textContent = said;
    if (some) table.show(shown.rows, strengthText(0), strengthText(shown.strength));
  }
  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    gone.hidden = alive;
    lever.disable(!alive);
    back.disabled = !alive;
  }
  const traits = ["name", "about", "strength", "shown", "where", "problem"];
  const unwatch = watch(model, Object.fromEntries(traits.map((trait) => [trait, draw])));
  draw();
  const unmount = mount(el, root);
  link.ping();
  return () => [unwatch, voice.close, link.close, unmount].forEach((act) => act());
}

export default { render };
