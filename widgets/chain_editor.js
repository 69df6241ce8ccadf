/**
 * A chain as cards, in order. State lives in the model: `cards`, `catalogue`, `code`, `notes`,
 * `changed`, `presets`. Every change is a request; a refused one leaves its message below the setting.
 */
import { drag } from "./chain_editor_drag.js";
import { presetBar } from "./chain_editor_presets.js";
import { stageCard } from "./chain_editor_stage.js";
import { announcer, button, h, keys } from "./shared/dom.js";
import { connect, goneNote, watch } from "./shared/kernel.js";

/** How many cards there are, how many act. */
export function tally(cards) {
  const on = cards.filter((card) => card.on);
  const inert = on.filter((card) => card.inert).length;
  if (!cards.length) return "no stages: sampling from the model's own distribution";
  const parts = [`${cards.length} ${cards.length === 1 ? "stage" : "stages"}`];
  if (on.length < cards.length) parts.push(`${cards.length - on.length} off`);
  if (inert) parts.push(`${inert} without effect`);
  return parts.join(" · ");
}

const NO_STAGES = "No stages. The next token is drawn from the model's own distribution. Add a stage below.";

function elements(model, { act, ask, addStage, copyCode, complain }) {
  const get = (name) => model.get(name);
  const voice = announcer();
  const sum = h("span", { class: "mll-quiet mll-figures" });
  const problem = h("p", { class: "mll-problem", role: "alert" });
  const gone = goneNote(model);
  const reset = button("Reset", "Back to the chain that was given from Python", () => act("reset"));
  const copy = button("Copy", "Copy the Python of this chain", copyCode);
  const option = (entry) => h("option", { value: entry.stage }, entry.label);
  const stages = { class: "mll-field mll-ce-pick", "aria-label": "Stage to add" };
  const pick = h("select", stages, get("catalogue").map(option));
  const add = button("Add", "Add this stage at the end of the chain", addStage);
  const given = { presets: () => get("presets"), code: () => get("code") };
  const presets = presetBar({ ...given, ask, complain, say: voice.say });
  const list = h("ol", { class: "mll-ce-list mll-live", "aria-label": "Stages, in the order they act" });
  const empty = h("p", { class: "mll-note mll-ce-empty" }, NO_STAGES);
  const code = h("code", { class: "mll-code mll-ce-code", tabindex: 0, "aria-label": "This chain as Python" });
  const about = h("p", { class: "mll-quiet mll-ce-about" });
  const tools = h("div", { class: "mll-ce-tools" }, presets.pick, presets.open, reset);
  const head = h("header", { class: "mll-ce-bar" }, h("h3", { class: "mll-title" }, "Chain"), sum, tools);
  const adding = h("div", { class: "mll-ce-bar mll-live" }, pick, add, about);
  const python = h("div", { class: "mll-ce-codebar" }, code, copy);
  const all = [head, presets.line, gone, list, empty, problem, adding, python, voice.node];
  const root = h("section", { class: "mll mll-ce", "aria-label": "Chain editor" }, all);
  return { root, voice, sum, problem, gone, reset, copy, pick, presets, list, empty, code, about };
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  const views = new Map();
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  const menu = new Map(get("catalogue").map((entry) => [entry.stage, entry]));
  const parts = elements(model, { act, ask: link.ask, addStage, copyCode, complain });
  const { root, voice, list } = parts;

  function complain(text) {
    parts.problem.textContent = text;
  }
  function act(op, args = {}) {
    complain("");
    return link.ask(op, args).catch((error) => {
      complain(error.message);
      draw();
    });
  }

  async function addStage() {
    const reply = await act("add", { stage: parts.pick.value });
    const view = reply && views.get(reply.key);
    if (!view) return;
    view.focus();
    view.node.scrollIntoView?.({ block: "nearest" });
    voice.say(`${view.label} added at the end`);
  }

  async function removeCard(key) {
    const order = get("cards").map((card) => card.key);
    const next = order[order.indexOf(key) + 1] ?? order[order.indexOf(key) - 1];
    const { label } = views.get(key);
    if (!(await act("remove", { key }))) return;
    (views.get(next)?.focus ?? (() => parts.pick.focus()))("remove");
    voice.say(`${label} removed`);
  }

  async function moveCard(key, to) {
    const cards = get("cards");
    if (to < 0 || to >= cards.length || cards[to].key === key) return;
    if (await act("move", { key, to })) voice.say(`${views.get(key).label} is now ${to + 1} of ${cards.length}`);
  }
  const held = (key) => get("cards").find((card) => card.key === key);
  let moves = Promise.resolve(); // a key may be pressed again before the kernel has moved the card
  const shift = (key, by) =>
    (moves = moves.then(() => held(key) && moveCard(key, get("cards").indexOf(held(key)) + by)));

  async function copyCode() {
    const text = `import mullama_lab as ml\n\nchain = ${get("code")}\n`;
    try {
      await navigator.clipboard.writeText(text);
      parts.copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(parts.code);
      parts.copy.textContent = "Press Ctrl+C";
    }
    voice.say(parts.copy.textContent);
    setTimeout(() => (parts.copy.textContent = "Copy"), 1500);
  }

  function startDrag(key, event) {
    if (event.button !== 0) return;
    const others = get("cards")
      .filter((card) => card.key !== key)
      .map((card) => views.get(card.key).node);
    drag(event, views.get(key).node, others, (to) => moveCard(key, to));
  }

  const tools = { ask: link.ask, held, act, shift, removeCard, startDrag };

  /** Cards keep their elements: a change updates them in place, a move moves them. */
  function draw() {
    const cards = get("cards");
    const notes = get("notes");
    const focused = root.ownerDocument.activeElement;
    for (const [key, view] of views) {
      if (cards.some((card) => card.key === key)) continue;
      view.node.remove();
      views.delete(key);
    }
    cards.forEach((card, i) => {
      if (!views.has(card.key)) {
        views.set(card.key, stageCard(card, menu.get(card.stage), tools));
      }
      const view = views.get(card.key);
      if (list.children[i] !== view.node) list.insertBefore(view.node, list.children[i] ?? null);
      view.update(card, notes[card.key] ?? "", i, cards.length);
    });
    if (focused !== root.ownerDocument.activeElement && list.contains(focused)) focused.focus();
    const slow = [...views.values()].some((view) => view.slow());
    parts.sum.textContent = tally(cards) + (slow ? " · the kernel is far: sliders act when released" : "");
    parts.empty.hidden = cards.length > 0;
    drawCode();
  }
  function drawCode() {
    parts.code.textContent = get("code");
    parts.reset.disabled = !get("changed");
    parts.presets.draw();
  }
  const drawNotes = () => {
    const notes = get("notes");
    for (const [key, view] of views) view.note(notes[key] ?? "");
  };
  const describePick = () => (parts.about.textContent = menu.get(parts.pick.value)?.summary ?? "");

  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    parts.gone.hidden = alive;
    for (const node of root.querySelectorAll("button, input, select")) node.disabled = !alive;
    if (alive) draw();
  }

  const near = (by) => (event) => {
    const card = event.target.closest("[data-key]");
    return card ? void shift(card.dataset.key, by) : false;
  };
  const unbind = keys(root, { "Alt+ArrowUp": near(-1), "Alt+ArrowDown": near(1) });
  parts.pick.addEventListener("change", describePick);
  const unwatch = watch(model, {
    cards: draw,
    notes: drawNotes,
    code: drawCode,
    changed: drawCode,
    presets: parts.presets.draw,
  });
  draw();
  describePick();
  el.append(root);
  link.ping();
  root.addEventListener("pointerenter", link.ping);
  return () => {
    unwatch();
    unbind();
    voice.close();
    link.close();
    root.remove();
  };
}

export default { render };
