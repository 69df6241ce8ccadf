/**
 * A chain as lines, a stage each, in order. State lives in the model: `cards`, `catalogue`, `code`, `notes`,
 * `changed`, `presets`, `preset`. Every change is a request; a refused one leaves its message below the setting.
 */
import { drag } from "./chain_editor_drag.js";
import { foldText, placeAfterDrop, placeAfterMove, shownCards } from "./chain_editor_fold.js";
import { presetBar } from "./chain_editor_presets.js";
import { stageCard } from "./chain_editor_stage.js";
import { announcer, button, h, keyHelp, keys, mount } from "./shared/dom.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { scrollBox } from "./shared/lines.js";
import { counted } from "./shared/text.js";

/** How many cards there are, how many act. */
export function tally(cards) {
  const on = cards.filter((card) => card.on);
  const inert = on.filter((card) => card.inert).length;
  if (!cards.length) return "no stages: sampling from the model's own distribution";
  const parts = [counted(cards.length, "stage")];
  if (on.length < cards.length) parts.push(`${cards.length - on.length} off`);
  if (inert) parts.push(`${inert} without effect`);
  return parts.join(" · ");
}

const HELP = [
  ["Alt+↑ Alt+↓", "move the stage"],
  ["Space", "on a switch: its stage off, on"],
  ["Esc", "give up a drag, or a name to save by"],
  ["?", "these keys"],
];
const NO_STAGES = "No stages. The next token is drawn from the model's own distribution. Add a stage below.";

function elements(model, { act, ask, addStage, copyCode, complain, showIdle }) {
  const get = (name) => model.get(name);
  const voice = announcer();
  const sum = h("span", { class: "mll-quiet mll-figures mll-ce-sum" });
  const problem = h("p", { class: "mll-problem", role: "alert" });
  const gone = goneNote(model);
  const reset = button("Reset", "Back to the chain that was given from Python", () => act("reset"));
  const copy = button("Copy", "Copy the Python of this chain", copyCode);
  const option = (entry) => h("option", { value: entry.stage, title: entry.summary }, entry.label);
  const stages = { class: "mll-field mll-ce-pick", "aria-label": "Stage to add" };
  const pick = h("select", stages, get("catalogue").map(option));
  const add = button("Add", "Add this stage at the end of the chain; a grammar comes first", addStage);
  const given = { presets: () => get("presets"), preset: () => get("preset") };
  const presets = presetBar({ ...given, ask, complain, say: voice.say });
  const list = h("ol", { class: "mll-ce-list", "aria-label": "Stages, in the order they act" });
  const empty = h("p", { class: "mll-quiet mll-ce-empty" }, NO_STAGES);
  const fold = h("button", { type: "button", class: "mll-ce-fold", "aria-expanded": "false", on: { click: showIdle } });
  const code = h("code", { class: "mll-code mll-ce-code", tabindex: 0, "aria-label": "This chain as Python" });
  const tools = h("div", { class: "mll-ce-tools" }, presets.choice, presets.open, presets.erase, reset);
  const head = h("header", { class: "mll-ce-bar" }, h("h3", { class: "mll-title" }, "Chain"), sum, tools);
  const body = scrollBox("mll-ce-scroll", list, empty, fold);
  const foot = h("div", { class: "mll-ce-bar mll-ce-foot mll-live" }, pick, add, code, copy);
  const help = keyHelp(HELP);
  const all = [head, presets.line, gone, body, problem, foot, help.node, voice.node];
  const root = h("section", { class: "mll mll-ce", "aria-label": "Chain editor" }, all);
  return { root, voice, sum, problem, gone, reset, copy, pick, presets, list, fold, empty, code, help };
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  const views = new Map();
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  const menu = new Map(get("catalogue").map((entry) => [entry.stage, entry]));
  const touched = new Set(); // keys of stages that a hand was on: they stay where they are
  const opened = { idle: false, key: "" }; // whether stages without effect are shown, and whose details are
  const parts = elements(model, { act, ask: link.ask, addStage, copyCode, complain, showIdle });
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

  function touch(op, args) {
    if (args.key) touched.add(args.key);
    return [op, args];
  }
  function showIdle() {
    opened.idle = !opened.idle;
    draw();
  }
  function unfold(key) {
    opened.key = key;
    draw();
    views.get(key)?.node.scrollIntoView?.({ block: "nearest" });
  }

  async function addStage() {
    const reply = await act("add", { stage: parts.pick.value });
    const view = reply && views.get(reply.key);
    if (!view) return;
    touched.add(reply.key);
    if (view.long) opened.key = reply.key;
    draw();
    view.focus();
    view.node.scrollIntoView?.({ block: "nearest" });
    voice.say(`${view.label} added ${held(reply.key) === get("cards")[0] ? "first" : "at the end"}`);
  }

  async function removeCard(key) {
    const order = get("cards").map((card) => card.key);
    const next = order[order.indexOf(key) + 1] ?? order[order.indexOf(key) - 1];
    const { label } = views.get(key);
    if (!(await act("remove", { key }))) return;
    (views.get(next)?.focus ?? (() => parts.pick.focus()))("name");
    voice.say(`${label} removed`);
  }

  async function moveCard(key, to) {
    const cards = get("cards");
    if (to < 0 || to >= cards.length || cards[to].key === key) return;
    if (await act(...touch("move", { key, to })))
      voice.say(`${views.get(key).label} is now ${to + 1} of ${cards.length}`);
  }
  const held = (key) => get("cards").find((card) => card.key === key);
  let moves = Promise.resolve(); // a key may be pressed again before the kernel has moved the card
  const shown = () => shownCards(get("cards"), touched, opened.idle);
  const shift = (key, by) =>
    (moves = moves.then(() => held(key) && moveCard(key, placeAfterMove(get("cards"), shown(), key, by))));

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
    const others = shown()
      .filter((card) => card.key !== key)
      .map((card) => views.get(card.key).node);
    drag(event, views.get(key).node, others, (to) => moveCard(key, placeAfterDrop(get("cards"), shown(), key, to)));
  }

  const byHand = { ask: (op, args) => link.ask(...touch(op, args)), act: (op, args) => act(...touch(op, args)) };
  const stay = (key) => touched.add(key);
  const tools = { ...byHand, held, shift, removeCard, startDrag, unfold, stay };

  /** Cards keep their elements: a change updates them in place, a move moves them. */
  function draw() {
    const cards = get("cards");
    const notes = get("notes");
    const visible = shown();
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
      const place = visible.indexOf(card);
      view.node.hidden = place < 0;
      view.unfolded(card.key === opened.key);
      const [first, last] = [place === 0, place === visible.length - 1];
      view.update(card, notes[card.key] ?? "", { place: i, n: cards.length, first, last });
    });
    if (focused !== root.ownerDocument.activeElement && list.contains(focused)) focused.focus();
    const slow = [...views.values()].some((view) => view.slow());
    parts.sum.textContent = tally(cards) + (slow ? " · the kernel is far: sliders act when released" : "");
    parts.sum.title = parts.sum.textContent;
    parts.empty.hidden = cards.length > 0;
    const idle = cards.length - shownCards(cards, touched, false).length;
    parts.fold.hidden = idle === 0;
    parts.fold.textContent = `${foldText(idle)}${opened.idle ? ": hide" : ""}`;
    parts.fold.setAttribute("aria-expanded", String(opened.idle));
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

  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    parts.gone.hidden = alive;
    for (const node of root.querySelectorAll("button, input, select, textarea")) node.disabled = !alive;
    if (alive) draw();
  }

  const near = (by) => (event) => {
    const card = event.target.closest("[data-key]");
    return card ? void shift(card.dataset.key, by) : false;
  };
  const unbind = keys(root, { "Alt+ArrowUp": near(-1), "Alt+ArrowDown": near(1), ...parts.help.keys });
  const unwatch = watch(model, {
    cards: draw,
    notes: drawNotes,
    code: drawCode,
    changed: drawCode,
    presets: parts.presets.draw,
    preset: parts.presets.draw,
  });
  draw();
  const unmount = mount(el, root);
  link.ping();
  root.addEventListener("pointerenter", link.ping);
  return () => [unwatch, unbind, voice.close, link.close, unmount].forEach((act) => act());
}

export default { render };
