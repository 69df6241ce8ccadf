/** One stage of a chain as a card: handle, switch, name, settings, what it does here, buttons. */
import { h, icon } from "./shared/dom.js";
import { kernelNumber, kernelText } from "./shared/field.js";

/** Settings that few people turn; they fold away while they have their default value. */
const SELDOM = new Set(["min_keep", "breakers"]);

/** The line below the settings: why nothing happens, or what happened. */
export function noteOf(card, note) {
  if (!card.on) return "off: not part of the chain";
  return card.inert ? `no effect: ${card.inert}` : note;
}

/** The settings of a card: fields by name, and their elements, the seldom ones folded away. */
function settingsOf(card, entry, label, { ask, held }) {
  const fields = new Map();
  const bind = (name, kind) => ({
    name,
    title: label,
    value: card[kind][name],
    held: () => held(card.key)?.[kind][name],
    send: (value, seq) => ask("set", { key: card.key, name, value, seq }),
  });
  for (const s of entry?.settings ?? []) {
    const {
      label: text,
      slider: [low, high],
      step,
      scale,
      help,
    } = s;
    const more = { label: text, low, high, step, scale, help, integer: s.kind === "int" };
    fields.set(s.name, {
      field: kernelNumber({ ...bind(s.name, "values"), ...more }),
      kind: "values",
      usual: s.default,
    });
  }
  for (const t of entry?.texts ?? []) {
    const more = { label: t.label, syntax: t.syntax, shortened: card.code };
    fields.set(t.name, { field: kernelText({ ...bind(t.name, "texts"), ...more }), kind: "texts", usual: t.usual });
  }
  const all = [...fields];
  const seldom = all.filter(([name]) => SELDOM.has(name)).map(([, { field }]) => field);
  const often = all.filter(([name]) => !SELDOM.has(name)).map(([, { field }]) => field.node);
  const more =
    seldom.length > 0 &&
    h(
      "details",
      { class: "mll-ce-more" },
      h("summary", {}, seldom.map((field) => field.label).join(", ")),
      seldom.map((field) => field.node),
    );
  const update = (now) => {
    for (const [name, { field, kind }] of all) field.show(now[kind][name]);
    if (more && all.some(([name, f]) => SELDOM.has(name) && now[f.kind][name] !== f.usual)) more.open = true;
  };
  return {
    often: often.length > 0 && h("div", { class: "mll-ce-settings" }, often),
    more,
    update,
    get slow() {
      return all.some(([, { field }]) => field.slow);
    },
  };
}

const CUSTOM = "A Python function: switch, move or remove it here, change it in Python.";

function elements(card, entry, label, settings, { act, shift, removeCard }) {
  const { key } = card;
  const id = `mll-note-${Math.random().toString(36).slice(2)}`;
  const note = h("p", { class: "mll-quiet mll-ce-note mll-figures", id });
  const toggle = h("input", {
    type: "checkbox",
    role: "switch",
    class: "mll-ce-switch",
    "aria-label": `${label}, on or off`,
    "aria-describedby": id,
    on: { change: () => act("toggle", { key, on: toggle.checked }) },
  });
  const grip = icon("⠿", `Move ${label}: drag, or Alt+Up and Alt+Down`, () => {}, {
    class: "mll-button mll-ce-grip",
  });
  const up = icon("↑", `Move ${label} up (Alt+Up)`, () => shift(key, -1));
  const down = icon("↓", `Move ${label} down (Alt+Down)`, () => shift(key, 1));
  const cross = icon("✕", `Remove ${label}`, () => removeCard(key));
  const code = card.custom && h("code", { class: "mll-code" }, card.code);
  const summary = h("p", { class: "mll-quiet" }, card.custom ? CUSTOM : (entry?.summary ?? ""));
  const what = h("div", { class: "mll-ce-what" }, h("span", { class: "mll-ce-name" }, label, " ", code), summary);
  const body = h("div", { class: "mll-ce-body" }, settings.often, note, settings.more);
  const acts = h("div", { class: "mll-ce-acts" }, up, down, cross);
  const node = h(
    "li",
    { class: "mll-ce-card", "data-key": key, "data-stage": card.stage },
    grip,
    toggle,
    what,
    body,
    acts,
  );
  return { node, note, toggle, grip, up, down, cross, body };
}

/** A card; `act` sends a change to the kernel, `held` says what the kernel has. */
export function stageCard(card, entry, { ask, held, act, shift, removeCard, startDrag }) {
  const label = entry?.label ?? card.stage;
  const settings = settingsOf(card, entry, label, { ask, held });
  const parts = elements(card, entry, label, settings, { act, shift, removeCard });
  const { node, note, toggle } = parts;
  parts.grip.addEventListener("pointerdown", (event) => startDrag(card.key, event));
  let now = card;
  const write = (text) => {
    const line = noteOf(now, text);
    if (note.textContent !== line) note.textContent = line;
  };
  function focus(where) {
    const first = parts.body.querySelector("input") ?? toggle;
    (where === "remove" ? parts.cross : first).focus();
  }
  function update(next, text, place, n) {
    now = next;
    toggle.checked = next.on;
    node.toggleAttribute("data-off", !next.on);
    node.toggleAttribute("data-inert", next.on && Boolean(next.inert));
    node.setAttribute("aria-label", `${label}, ${place + 1} of ${n}`);
    parts.up.disabled = place === 0;
    parts.down.disabled = place === n - 1;
    settings.update(next);
    write(text);
  }
  return { node, label, focus, note: write, slow: () => settings.slow, update };
}
