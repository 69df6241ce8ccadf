/** The turns of a chat: whose each is, what it says, and an empty one at the end to write the next in. */
import { button, h, icon } from "./shared/dom.js";
import { typedSetting } from "./run_panel_typed.js";

const ROLES = ["system", "user", "assistant"];
const FIRST = "A turn before all others: how the model shall behave";
const NEXT = "What is said next · Enter sends it, Shift+Enter begins a new line";

/** Whether a key sends a turn: Enter alone, unless it ends what an input method composes (229 in Safari). */
export const sends = ({ key, keyCode, isComposing, shiftKey, ctrlKey, altKey, metaKey }) =>
  key === "Enter" && !isComposing && keyCode !== 229 && !(shiftKey || ctrlKey || altKey || metaKey);

/** The turns there are, with an empty one for what the user says next. */
export function withNext(turns) {
  return turns.at(-1)?.role === "user" ? turns : [...turns, { role: "user", content: "" }];
}

/** The turns as they are written, without an empty one after an answer. */
export function written(rows) {
  const [before, last] = rows.slice(-2);
  const unsaid = last && !last.content.trim() && last.role === "user" && before.role === "assistant";
  return unsaid ? rows.slice(0, -1) : rows;
}

/** What is answered once turn `at` was changed, -1 for none: the turns up to the user's there, or the next. */
export function answered(turns, at) {
  const end = at < 0 ? -1 : turns.findIndex(({ role }, i) => i >= at && role === "user");
  return end < 0 ? turns : turns.slice(0, end + 1);
}

/** What Run does with the turns, as the text and the title of its button. */
export function runText(turns, at) {
  const kept = answered(turns, at);
  if (kept.at(-1)?.role === "assistant")
    return [
      "Go on",
      "Go on with the last answer (Ctrl+Enter). Change a turn before it to have that one answered anew.",
    ];
  const dropped = turns.length - kept.length;
  const says = dropped ? `anew; what came after it is dropped (${dropped} of the turns)` : "";
  return ["Run", `Answer turn ${kept.length - 1} ${says} (Enter in a turn)`.replace("  ", " ")];
}

/**
 * `attempt(op, args)` asks the kernel, its promise is of nothing where it refused; `changed()` when Run does else;
 * `start()` runs, if nothing else does.
 */
export function chatField({ model, attempt, changed, start }) {
  const held = JSON.stringify(model.get("messages"));
  const setting = typedSetting({ name: "messages", held, value: () => turns(), attempt, draw });
  let rows = []; // [{node, role, text}]
  let at = -1; // the turn that a hand changed last, -1 for none since the kernel set them
  const first = button("+ system", FIRST, addFirst, { class: "mll-button mll-rp-system" });
  const list = h("div", { class: "mll-rp-turns" });
  const node = h("div", { class: "mll-rp-chat", role: "group", "aria-label": "Turns of the chat" }, first, list);
  const turns = () => written(rows.map(({ role, text }) => ({ role: role.value, content: text.value })));

  /** Send a turn that says something. */
  function typed(event) {
    if (!sends(event)) return;
    event.preventDefault();
    if (event.target.value.trim()) start();
  }
  function rowOf(turn, i) {
    const change = (act) => () => {
      at = i;
      act();
      mark();
      changed();
    };
    const option = (role) => h("option", { value: role, selected: role === turn.role }, role);
    const named = { class: "mll-field", "aria-label": `Whose turn ${i} is`, on: { change: change(save) } };
    const role = h("select", named, ROLES.map(option));
    const text = h("textarea", {
      class: "mll-field mll-rp-say",
      rows: 1,
      dir: "auto",
      spellcheck: "false",
      "aria-label": `Turn ${i}`,
      placeholder: { system: FIRST, user: NEXT }[turn.role] ?? null,
      on: { input: change(setting.typed), change: save, keydown: typed },
    });
    text.value = turn.content;
    const remove = icon("✕", `Remove turn ${i}`, () => {
      at = at === i ? -1 : at - (at > i);
      rows = rows.filter((row) => row.role !== role);
      save();
      fill(withNext(turns()));
      changed();
    });
    return { node: h("div", { class: "mll-rp-turn", "data-role": turn.role }, role, text, remove), role, text };
  }
  /** Mark the turns that Run drops. */
  function mark() {
    const [all, kept] = [turns().length, answered(turns(), at).length];
    for (const [i, { node }] of rows.entries()) node.toggleAttribute("data-dropped", i >= kept && i < all);
  }
  function fill(all) {
    const hadFocus = node.contains(node.ownerDocument.activeElement);
    rows = all.map(rowOf);
    first.hidden = all[0]?.role === "system";
    list.replaceChildren(...rows.map((row) => row.node));
    mark();
    list.scrollTop = list.scrollHeight;
    if (hadFocus) rows.at(-1).text.focus({ preventScroll: true });
  }
  function addFirst() {
    at += at >= 0;
    fill([{ role: "system", content: "" }, ...withNext(turns())]);
    rows[0].text.focus();
    list.scrollTop = 0;
    save();
  }
  function save() {
    for (const row of rows) row.node.dataset.role = row.role.value;
    first.hidden = rows[0]?.role.value === "system";
    return setting.save();
  }
  function run() {
    const kept = answered(turns(), at);
    if (kept.length < turns().length) fill(kept);
    at = -1;
    return setting.run();
  }
  function draw() {
    const now = model.get("messages");
    if (!setting.shows(JSON.stringify(now))) return;
    if (rows.length && JSON.stringify(turns()) === JSON.stringify(now)) return;
    at = -1;
    fill(withNext(now));
  }
  fill(withNext(model.get("messages")));
  return { node, draw, run, runText: () => runText(turns(), at), close: setting.close };
}
