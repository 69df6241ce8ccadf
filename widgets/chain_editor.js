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

function render({ model, el }) {
  const get = (name) => model.get(name);
  const voice = announcer();
  const views = new Map();
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  const menu = new Map(get("catalogue").map((entry) => [entry.stage, entry]));

  const sum = h("span", { class: "mll-quiet mll-figures" });
  const problem = h("p", { class: "mll-problem", role: "alert" });
  const gone = goneNote(model);
  const reset = button("Reset", "Back to the chain that was given from Python", () => act("reset"));
  const copy = button("Copy", "Copy the Python of this chain", () => copyCode());
  const pick = h(
    "select",
    { class: "mll-field mll-ce-pick", "aria-label": "Stage to add" },
    get("catalogue").map((entry) => h("option", { value: entry.stage }, entry.label)),
  );
  const add = button("Add", "Add this stage at the end of the chain", () => addStage());
  const named = presetBar({
    presets: () => get("presets"),
    code: () => get("code"),
    say: voice.say,
    ask: (op, args) => link.ask(op, args),
    complain: (text) => (problem.textContent = text),
  });
  const list = h("ol", { class: "mll-ce-list mll-live", "aria-label": "Stages, in the order they act" });
  const empty = h(
    "p",
    { class: "mll-note mll-ce-empty" },
    "No stages. The next token is drawn from the model's own distribution. Add a stage below.",
  );
  const code = h("code", { class: "mll-code mll-ce-code", tabindex: 0, "aria-label": "This chain as Python" });
  const about = h("p", { class: "mll-quiet mll-ce-about" });
  const root = h(
    "section",
    { class: "mll mll-ce", "aria-label": "Chain editor" },
    h(
      "header",
      { class: "mll-ce-bar" },
      h("h3", { class: "mll-title" }, "Chain"),
      sum,
      h("div", { class: "mll-ce-tools" }, named.pick, named.open, reset),
    ),
    named.line,
    gone,
    list,
    empty,
    problem,
    h("div", { class: "mll-ce-bar mll-live" }, pick, add, about),
    h("div", { class: "mll-ce-codebar" }, code, copy),
    voice.node,
  );

  function act(op, args = {}) {
    problem.textContent = "";
    return link.ask(op, args).catch((error) => {
      problem.textContent = error.message;
      draw();
    });
  }

  async function addStage() {
    const reply = await act("add", { stage: pick.value });
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
    (views.get(next)?.focus ?? (() => pick.focus()))("remove");
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
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      copy.textContent = "Press Ctrl+C";
    }
    voice.say(copy.textContent);
    setTimeout(() => (copy.textContent = "Copy"), 1500);
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
    const slow = [...views.values()].some((view) => view.slow);
    sum.textContent = tally(cards) + (slow ? " · the kernel is far: sliders act when released" : "");
    empty.hidden = cards.length > 0;
    drawCode();
  }
  function drawCode() {
    code.textContent = get("code");
    reset.disabled = !get("changed");
    named.draw();
  }
  const drawNotes = () => {
    const notes = get("notes");
    for (const [key, view] of views) view.note(notes[key] ?? "");
  };
  const describePick = () => (about.textContent = menu.get(pick.value)?.summary ?? "");

  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    gone.hidden = alive;
    for (const node of root.querySelectorAll("button, input, select")) node.disabled = !alive;
    if (alive) draw();
  }

  const near = (by) => (event) => {
    const card = event.target.closest("[data-key]");
    return card ? void shift(card.dataset.key, by) : false;
  };
  const unbind = keys(root, { "Alt+ArrowUp": near(-1), "Alt+ArrowDown": near(1) });
  pick.addEventListener("change", describePick);
  const unwatch = watch(model, {
    cards: draw,
    notes: drawNotes,
    code: drawCode,
    changed: drawCode,
    presets: named.draw,
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
