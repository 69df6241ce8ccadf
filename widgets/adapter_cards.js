/**
 * LoRA adapters and control vectors as lines: on or off, how strongly, and what the chosen one is. State lives in
 * the model: `cards`, `slider`, `chosen`, `rows`, `in_force`, `note`, `advice`, `is_stale`, `problem`, `reading`,
 * `unread`, `names`, `runs_both`, `sides`, `side`. Every change but of what is chosen or shown beside is a request;
 * why one was refused stands where it was asked for.
 */
import { cardLine } from "./adapter_cards_card.js";
import { chosenLayers } from "./adapter_cards_layers.js";
import { readingLine } from "./adapter_cards_reading.js";
import { sideTabs } from "./adapter_cards_sides.js";
import { announcer, button, h, keyHelp, keys, mount } from "./shared/dom.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { scrollBox } from "./shared/lines.js";

const HELP = [
  ["Space", "on a switch: what it stands for off, on"],
  ["← →", "on a slider: weaker, stronger"],
  ["Enter", "in the field of a path or a name: add that"],
  ["← →", "on an end of the layers that are chosen: one less, one more"],
  ["Home End", "that end at the first layer, at the last"],
  ["?", "these keys"],
];
const NONE = "Nothing is loaded. Add a LoRA adapter or a control vector: a GGUF file, or one from Python.";

/** What acts, as a line. */
export const inForceText = (words) => `In force: ${words || "the model as it is"}.`;

/** What may be typed to add one; the first of some names is an example. */
export const addHint = (names) => (names.length ? `a name such as “${names[0]}”, or ` : "") + "a .gguf file";

const WORKS = ":is(button, input):not(.mll-export-menu *)"; // what is saved needs no kernel
let count = 0; // of fields, whose lists of names have ids of their own

const EXACT = "Have the weights in force compute anew what the text under way has so far, and go on";
const BOTH = "Run the prompt by the model as it is and by what is on, with the same seed, and compare the two";

function elements(model, { addFile, runBoth, exact, pickSide }) {
  const voice = announcer();
  const problem = h("p", { class: "mll-problem", role: "alert" });
  const wrong = h("p", { class: "mll-problem", role: "alert" });
  const path = h("input", {
    type: "text",
    class: "mll-field mll-code",
    maxlength: 4096,
    spellcheck: "false",
    autocomplete: "off",
    list: `mll-ac-names-${++count}`,
    "aria-label": "Path of a file, or name of a vector, to add",
    on: {
      keydown: (event) => event.key === "Enter" && addFile(),
      input: () => {
        wrong.textContent = "";
        path.removeAttribute("aria-invalid");
      },
    },
  });
  const names = h("datalist", { id: path.getAttribute("list") });
  const add = button("Add", "Add what is in this file, or the vector of this name, at scale 1", addFile);
  const list = h("ul", { class: "mll-ac-list", "aria-label": "Adapters and control vectors" });
  const empty = h("p", { class: "mll-quiet mll-ac-empty" }, NONE);
  const slow = h("span", { class: "mll-quiet" });
  const help = keyHelp(HELP);
  const both = button("Run both", BOTH, runBoth, { hidden: !model.get("runs_both") });
  const title = h("h3", { class: "mll-title" }, "Adapters");
  const sides = sideTabs(pickSide);
  const head = h("header", { class: "mll-ac-bar" }, title, slow, sides.node, both, help.button);
  const inForce = h("p", { class: "mll-ac-force", role: "status" });
  const said = h("span", { role: "status" });
  const anew = button("Decode anew", EXACT, exact);
  const note = h("p", { class: "mll-quiet mll-ac-note" }, said, " ", anew);
  const body = scrollBox("mll-ac-scroll", list, empty);
  const foot = h("div", { class: "mll-ac-bar mll-live" }, path, names, add);
  const reading = readingLine();
  const gone = goneNote(model);
  const all = [head, gone, body, problem, inForce, note, foot, reading.node, wrong, help.node, voice.node];
  const root = h("section", { class: "mll mll-ac", "aria-label": "Adapters and control vectors" }, all);
  const field = { path, names, add, reading, wrong };
  return { root, voice, problem, ...field, list, empty, slow, help, sides, inForce, note, said, anew, gone };
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  const views = new Map();
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  const tell = (op) => () => attempt(op, {});
  const parts = elements(model, { addFile, runBoth: tell("run_both"), exact: tell("exact"), pickSide });
  const { root, list, voice } = parts;
  const held = (key) => get("cards").find((card) => card.key === key);
  let asked = ""; // what was to be added last
  let wasReading = false;

  /** Ask for something; why it was refused stands in `place`. */
  function attempt(op, args, place = parts.problem) {
    place.textContent = "";
    return link.ask(op, args, { patience: 20000 }).catch((error) => {
      place.textContent = error.message;
      draw();
    });
  }
  function look(key) {
    if (get("chosen") === key || !held(key)) return;
    model.set("chosen", key);
    model.save_changes();
  }
  function pickSide(key) {
    model.set("side", key);
    model.save_changes();
  }
  async function addFile() {
    const path = parts.path.value;
    if (!get("reading")) asked = path; // else it is refused, and stays in the field
    const reply = await attempt("add", { path }, parts.wrong);
    if (!reply) parts.path.setAttribute("aria-invalid", "true");
  }
  /** A file is being read; it has become a card, or why it has not stands at the field. */
  function drawReading() {
    const file = get("reading");
    const unread = get("unread");
    if (Boolean(file) !== wasReading) parts.reading.show(file);
    parts.add.disabled = Boolean(file) || !link.alive;
    parts.wrong.textContent = unread;
    parts.path.setAttribute("aria-invalid", String(Boolean(unread)));
    if (wasReading && !file && !unread) {
      if (parts.path.value === asked) parts.path.value = "";
      voice.say(`${held(get("chosen"))?.name ?? "The file"} added`);
    }
    wasReading = Boolean(file);
  }
  async function remove(key) {
    const { name } = held(key);
    if (!(await attempt("remove", { key }))) return;
    (views.get(get("chosen"))?.focus ?? (() => parts.path.focus()))();
    voice.say(`${name} removed`);
  }
  const tools = { ask: link.ask, act: attempt, held, look, remove };
  const warn = (text) => (parts.problem.textContent = text);
  const layers = chosenLayers(model, { ask: link.ask, attempt, held, warn, say: voice.say });

  function draw() {
    const cards = get("cards");
    for (const [key, view] of views) {
      if (held(key)) continue;
      view.node.remove();
      views.delete(key);
    }
    cards.forEach((card, i) => {
      if (!views.has(card.key)) views.set(card.key, cardLine(card, get("slider"), tools));
      const view = views.get(card.key);
      if (list.children[i] !== view.node) list.insertBefore(view.node, list.children[i] ?? null);
      view.update(card, card.key === get("chosen"));
    });
    layers.draw((key) => views.get(key));
    parts.empty.hidden = cards.length > 0;
    const isSlow = [...views.values()].some((view) => view.slow());
    parts.slow.textContent = isSlow ? "the kernel is far: sliders act when released" : "";
    parts.sides.show(get("sides"), get("side"));
    parts.inForce.textContent = inForceText(get("in_force"));
    parts.said.textContent = [get("note"), get("advice")].filter(Boolean).join(" ");
    parts.note.hidden = !get("note");
    parts.anew.hidden = !get("is_stale");
    const names = get("names");
    parts.path.placeholder = addHint(names);
    parts.names.replaceChildren(...names.map((value) => h("option", { value })));
    if (get("problem")) parts.problem.textContent = get("problem");
  }
  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    parts.gone.hidden = alive;
    for (const node of root.querySelectorAll(WORKS)) node.disabled = !alive;
    layers.disable(!alive);
    if (!alive) return;
    draw();
    drawReading();
  }
  const unbind = keys(root, { ...parts.help.keys });
  const told = ["in_force", "note", "advice", "is_stale", "problem", "names"];
  const traits = ["cards", "chosen", "rows", "sides", "side", ...told];
  const acts = Object.fromEntries(traits.map((name) => [name, draw]));
  const unwatch = watch(model, { ...acts, reading: drawReading, unread: drawReading });
  draw();
  drawReading();
  const unmount = mount(el, root);
  link.ping();
  const close = [parts.reading.close, unwatch, unbind, voice.close, link.close, layers.close, unmount];
  return () => close.forEach((act) => act());
}

export default { render };
