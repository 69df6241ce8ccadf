/** One stage of a chain as a line: switch, name, its main setting, what it does here. The rest unfolds. */
import { h, icon } from "./shared/dom.js";
import { kernelText } from "./shared/field.js";
import { lineName } from "./shared/lines.js";
import { kernelNumber } from "./shared/number.js";
import { switchBox } from "./shared/switch.js";

/**
 * What a line says at its end: why nothing happens, or to which tokens what happens. `typed` is why a text that
 * stands in a field is not in force, "" where it is.
 */
export function noteOf(card, note, typed = "", tokens = card.tokens) {
  if (!card.on) return "off: not part of the chain";
  if (typed) return `what is typed is not in force: ${typed}`;
  if (card.inert) return `no effect: ${card.inert}`;
  return [tokens, note].filter(Boolean).join("; ");
}

/** The same where there is room: each token with its id. */
export const fullNoteOf = (card, note, typed) => noteOf(card, note, typed, card.each_token);

/** Settings that few people turn: their names do not make the main one say its own. */
const SELDOM = new Set(["min_keep", "breakers"]);

const CUSTOM = "Set in Python: switch, move or remove it here, change it there.";

/** The settings of a card by name, numbers first; the first one is its main setting. */
function fieldsOf(card, entry, title, { ask, held, typed }) {
  const bind = (name, kind) => ({
    name,
    title,
    value: card[kind][name],
    held: () => held(card.key)?.[kind][name],
    send: (value, seq) => ask("set", { key: card.key, name, value, seq }),
  });
  const number = (s) => {
    const [low, high] = s.slider;
    const more = { label: s.label, low, high, step: s.step, scale: s.scale, help: s.help, integer: s.kind === "int" };
    return { name: s.name, kind: "values", field: kernelNumber({ ...bind(s.name, "values"), ...more }) };
  };
  const text = (t) => {
    const { label, syntax, longest, lines } = t;
    const more = { label, syntax, longest, lines, shortened: card.code, typed };
    return { name: t.name, kind: "texts", long: lines, field: kernelText({ ...bind(t.name, "texts"), ...more }) };
  };
  return [...(entry?.settings ?? []).map(number), ...(entry?.texts ?? []).map(text)];
}

function lineOf(card, label, main, { act, id }) {
  const { key } = card;
  const note = h("span", { class: "mll-quiet mll-ce-note mll-figures", id: `${id}-note` });
  const said = { "aria-label": `${label}, on or off`, "aria-describedby": note.id };
  const toggle = switchBox((on) => act("toggle", { key, on }), said);
  const grip = icon("⠿", `Move ${label}: drag, or Alt+Up and Alt+Down`, () => {}, {
    class: "mll-button mll-ce-grip",
    tabindex: -1,
  });
  const unfolds = { "aria-expanded": "false", "aria-controls": id };
  const title = `${label}: description, more settings, move and remove`;
  const name = lineName("mll-ce-name", { ...unfolds, title }, label);
  const call = h("code", { class: "mll-code mll-ce-call" }); // for what has no field on the line
  const lever = main?.field.node ?? call;
  const held = h("div", { class: "mll-ce-lever" }, lever);
  const node = h("div", { class: "mll-ce-line" }, grip, toggle.node, name, held, note);
  return { node, note, toggle, grip, name, call };
}

function detailsOf(card, entry, label, others, { shift, removeCard, id }) {
  const { key } = card;
  const up = icon("↑", `Move ${label} up (Alt+Up)`, () => shift(key, -1));
  const down = icon("↓", `Move ${label} down (Alt+Down)`, () => shift(key, 1));
  const cross = icon("✕", `Remove ${label}`, () => removeCard(key));
  const summary = h("p", { class: "mll-quiet" }, card.custom ? CUSTOM : (entry?.summary ?? ""));
  const effect = h("p", { class: "mll-quiet mll-figures" });
  const about = h("div", { class: "mll-ce-about" }, summary, effect);
  const acts = h("div", { class: "mll-ce-acts" }, up, down, cross);
  const settings =
    others.length > 0 &&
    h(
      "div",
      { class: "mll-ce-settings" },
      others.map(({ field }) => field.node),
    );
  const node = h("div", { class: "mll-ce-details", id, hidden: true }, about, acts, settings);
  return { node, effect, up, down };
}

/**
 * A stage; `act` sends a change to the kernel, `held` says what the kernel has, `unfold(key)` is asked for, and
 * `stay(key)` keeps it in sight.
 */
export function stageCard(card, entry, { ask, held, act, shift, removeCard, startDrag, unfold, stay }) {
  const label = entry?.label ?? card.stage;
  const id = `mll-stage-${Math.random().toString(36).slice(2)}`;
  let [now, did, line] = [card, "", null];
  const fields = fieldsOf(card, entry, label, { ask, held, typed });
  const main = fields.find(({ long }) => !long);
  const others = fields.filter((field) => field !== main);
  line = lineOf(card, label, main, { act, id });
  const details = detailsOf(card, entry, label, others, { shift, removeCard, id });
  const attributes = { class: "mll-ce-card", "data-key": card.key, "data-stage": card.stage };
  const many = others.some(({ name }) => !SELDOM.has(name));
  const node = h("li", { ...attributes, "data-many": many }, line.node, details.node);
  line.grip.addEventListener("pointerdown", (event) => startDrag(card.key, event));
  line.name.addEventListener("click", () => unfold(details.node.hidden ? card.key : ""));
  function write(text) {
    did = text;
    const why = fields.map(({ field }) => field.unapplied?.()).find(Boolean) ?? "";
    const [said, full] = [noteOf(now, text, why), fullNoteOf(now, text, why)];
    node.toggleAttribute("data-typed", Boolean(why));
    if (line.note.textContent === said && line.note.title === full) return;
    line.note.textContent = said;
    line.note.title = details.effect.textContent = full;
  }
  /** A text was typed, taken or refused. */
  function typed() {
    if (!line) return;
    if (fields.some(({ field }) => field.unapplied?.())) stay(card.key);
    write(did);
  }
  return {
    node,
    label,
    long: fields.some(({ long }) => long),
    note: write,
    slow: () => fields.some(({ field }) => field.slow),
    focus(where) {
      const field = line.node.querySelector(".mll-ce-lever input") ?? details.node.querySelector("textarea");
      const first = field ?? line.toggle.node;
      (where === "name" ? line.name : first).focus();
    },
    unfolded(open) {
      details.node.hidden = !open;
      line.name.setAttribute("aria-expanded", String(open));
    },
    update(next, text, { place, n, first, last }) {
      now = next;
      line.toggle.show(next.on);
      node.toggleAttribute("data-off", !next.on);
      node.toggleAttribute("data-inert", next.on && Boolean(next.inert));
      node.toggleAttribute("data-tokens", next.on && Boolean(next.tokens));
      node.setAttribute("aria-label", `${label}, ${place + 1} of ${n}`);
      line.call.textContent = (Object.values(next.texts)[0] ?? next.code).replace(/\s+/g, " ");
      details.up.disabled = first;
      details.down.disabled = last;
      for (const { name, kind, field } of fields) field.show(next[kind][name]);
      write(text);
    },
  };
}
