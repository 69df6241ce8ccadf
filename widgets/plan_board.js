/**
 * Settings of a session to turn, and what these would take of the memory. State lives in the model: `n_ctx`,
 * `kv_type`, `n_seq_max` and `n_ubatch`; `n_ctx_train` and `kv_types`, what there is to choose; `whole`, `said`,
 * `fits` and `problem`, the plan, and `stale` where that is of other settings.
 */
import { announcer, h, mount, tableView } from "./shared/dom.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { kernelNumber } from "./shared/number.js";
import { shareOf, stackedBar, swatch } from "./shared/stacked.js";
import { count, percent } from "./shared/text.js";

/** The sliders: name, low, high, what it is. */
export const levers = (n_ctx_train) => [
  ["n_ctx", 256, Math.max(512, n_ctx_train), "Tokens the context has room for, in all sequences together"],
  ["n_seq_max", 1, 64, "Sequences there may be at once"],
  ["n_ubatch", 32, 4096, "Tokens that are computed at once"],
];

/** The table: a row a part. */
export const tableRows = (whole) =>
  (whole.parts ?? []).map((part) => [part.label, count(part.bytes), percent(shareOf(part, whole))]);

/** A type of the cache; a pair is of keys and of values. */
export const typeText = (type) => [type].flat().join(" / ");

function typeChoice(choose) {
  const label = "kv_type, of keys and values in the cache, or of keys / of values";
  const on = { change: () => choose(types[pick.selectedIndex]) };
  const pick = h("select", { class: "mll-field", "aria-label": label, title: label, on });
  const name = h("span", { class: "mll-number-label" }, "kv_type");
  let types = [];
  /** Offer some types, one of which is chosen. */
  function show(offered, chosen) {
    if (types !== offered) pick.replaceChildren(...offered.map((type) => h("option", {}, typeText(type))));
    types = offered;
    pick.selectedIndex = types.findIndex((type) => typeText(type) === typeText(chosen));
  }
  return { pick, show, node: h("label", { class: "mll-pl-type" }, name, pick) };
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  const voice = announcer();
  const problem = h("p", { class: "mll-problem", role: "alert" });
  const set = (name) => (value, seq) => link.ask("set", { name, value, seq });
  const slider = ([name, low, high, help]) =>
    kernelNumber({
      ...{ name, label: name, title: "Plan", help, low, high, scale: "log", integer: true },
      ...{ value: get(name), held: () => get(name), send: set(name) },
    });
  let numbers = [];
  const type = typeChoice((value) =>
    set("kv_type")(value, 0).catch((error) => {
      problem.textContent = error.message;
    }),
  );
  const turns = h("div", { class: "mll-pl-turns mll-live" });
  const said = h("span", { class: "mll-pl-fresh" });
  const old = h("span", { class: "mll-pl-old" }, "what is shown was planned for other settings");
  const words = h("span", { class: "mll-figures mll-pl-fresh" });
  const note = h("span", { class: "mll-pl-said mll-quiet mll-figures" }, said, old);
  const head = h("header", { class: "mll-pl-head" }, h("h3", { class: "mll-title" }, "Plan ", words), note);
  const picture = h("div", { class: "mll-pl-picture" });
  const gone = goneNote(model);
  const table = tableView(
    () => ["part", "bytes", "share"],
    () => tableRows(get("whole")),
    { caption: "What these settings would take" },
  );
  const all = [head, gone, turns, picture, problem, table.node, voice.node];
  const root = h("section", { class: "mll mll-headed mll-pl", "aria-label": "Plan" }, all);

  function drawPlan() {
    const whole = get("whole");
    const legend = (whole.parts ?? []).map((part) => h("li", {}, swatch(part), `${part.label} ${part.words}`));
    words.textContent = whole.words ?? "";
    if (get("said") && said.textContent !== get("said")) voice.say(get("said"));
    if (!get("stale")) said.textContent = get("said"); // the next plan is mostly near
    root.toggleAttribute("data-over", get("fits") === false);
    root.toggleAttribute("data-old", get("stale"));
    const list = h("ul", { class: "mll-legend mll-figures" }, legend);
    picture.replaceChildren(...(whole.parts ? [stackedBar(whole), list] : []));
    table.node.hidden = !whole.parts;
    problem.textContent = get("problem");
    root.toggleAttribute("data-stale", get("stale") || Boolean(get("problem")));
    table.refresh();
  }
  /** The slider of n_ctx ends elsewhere with another model. */
  function drawSliders() {
    numbers = levers(get("n_ctx_train")).map(slider);
    const [n_ctx, ...others] = numbers.map(({ node }) => node);
    turns.replaceChildren(n_ctx, type.node, ...others);
    drawSettings();
  }
  function drawSettings() {
    levers(0).forEach(([name], k) => numbers[k].show(get(name)));
    type.show(get("kv_types"), get("kv_type"));
  }
  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    gone.hidden = alive;
    for (const number of numbers) number.disable(!alive);
    type.pick.disabled = !alive;
  }
  const turned = ["n_ctx", "kv_type", "kv_types", "n_seq_max", "n_ubatch"];
  const settings = turned.map((name) => [name, drawSettings]);
  const plan = ["whole", "said", "fits", "stale", "problem"].map((name) => [name, drawPlan]);
  const unwatch = watch(model, { ...Object.fromEntries([...settings, ...plan]), n_ctx_train: drawSliders });
  drawSliders();
  drawPlan();
  const unmount = mount(el, root);
  link.ping();
  return () => [unwatch, voice.close, link.close, unmount].forEach((act) => act());
}

export default { render };
