/** Presets: a list to take a chain from, a line to save the present chain by a name, and deleting one's own. */
import { button, h } from "./shared/dom.js";
import { floating } from "./shared/floating.js";

const LONGEST_NAME = 40;
const TOLD = 4000; // milliseconds that a word of what was saved stays
const UNDONE = 12000; // milliseconds that a deletion can be undone, longer while the pointer or the focus is there

/** What saving by a name would do: "empty", "new", "replace" one's own, or "builtin", which is refused. */
export function savingAs(name, presets) {
  const found = presets.find((preset) => preset.name === name.trim());
  if (!name.trim()) return "empty";
  return found ? (found.own ? "replace" : "builtin") : "new";
}

const nameField = (on) =>
  h("input", {
    type: "text",
    id: `mll-name-${Math.random().toString(36).slice(2)}`,
    class: "mll-field",
    maxlength: LONGEST_NAME,
    spellcheck: "false",
    autocomplete: "off",
    on,
  });

/**
 * A word beside a button, for a while or until something else is done, with one more thing to do about it; it floats,
 * and moves no card.
 */
function word(beside, say) {
  const told = h("div", { class: "mll-ce-told" });
  const float = floating(told, () => beside.getBoundingClientRect());
  let timer = null;
  const elsewhere = ({ target }) => told.contains(target) || hide();
  const listen = (on) => {
    for (const type of ["pointerdown", "keydown"])
      window[on ? "addEventListener" : "removeEventListener"](type, elsewhere, true);
  };
  function hide() {
    listen(false);
    clearTimeout(timer);
    if (told.contains(told.ownerDocument.activeElement)) beside.focus();
    float.hide();
    told.remove();
  }
  function rest(ms) {
    clearTimeout(timer);
    const held = () => told.querySelector("button") && told.matches(":focus-within, :hover");
    timer = setTimeout(() => (held() ? rest(ms) : hide()), ms);
  }
  told.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    hide();
  });
  function tell(text, act = null) {
    hide();
    told.replaceChildren(...[h("span", {}, text), act].filter(Boolean));
    beside.after(told);
    float.show();
    listen(true);
    act?.focus({ preventScroll: true });
    rest(act ? UNDONE : TOLD);
    say(text);
  }
  return { tell, hide };
}

/**
 * `presets()` are {name, own, code}, `preset()` is the name of the chain in force; `ask(op, args)` returns a
 * promise; `say(text)` speaks, `complain(text)` shows what went wrong.
 */
export function presetBar({ presets, preset, ask, say, complain }) {
  const pick = h("select", { class: "mll-field mll-ce-preset", on: { change: take } });
  const title = "Take a chain of samplers by its name; none: the chain in force is no preset";
  const says = h("span", { class: "mll-number-label" }, "preset");
  const choice = h("label", { class: "mll-ce-choice", title }, says, pick);
  const open = button("Save as…", "Keep this chain by a name", () => show(line.hidden));
  const erase = button("Delete", "", forget, { class: "mll-button mll-ce-erase" });
  const name = nameField({ input: label, keydown: typed });
  const save = button("Save", "Save this chain by this name (Enter)", keep);
  const cancel = button("Cancel", "Leave the chain unsaved (Esc)", () => show(false));
  const note = h("p", { class: "mll-problem mll-ce-naming-problem", role: "alert" });
  const saving = { class: "mll-ce-bar mll-ce-naming", role: "group", "aria-label": "Save this chain", hidden: true };
  const asks = h("label", { for: name.id, class: "mll-quiet" }, "Name");
  const line = h("div", saving, asks, name, save, cancel, note);
  const told = word(open, say);

  function show(shown) {
    told.hide();
    line.hidden = !shown;
    open.setAttribute("aria-expanded", String(shown));
    note.textContent = "";
    label();
    if (shown) name.select();
    (shown ? name : open).focus();
  }
  function label() {
    const what = savingAs(name.value, presets());
    save.textContent = what === "replace" ? "Replace" : "Save";
    save.disabled = what === "empty" || what === "builtin";
    note.textContent = what === "builtin" ? "That is the name of a built-in chain. Take another." : "";
  }
  function typed(event) {
    if (event.key === "Enter" && !save.disabled) keep();
    else if (event.key === "Escape") show(false);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
  async function keep() {
    const wanted = name.value.trim();
    const replace = savingAs(wanted, presets()) === "replace";
    try {
      await ask("save_preset", { name: wanted, replace });
      show(false);
      told.tell(`${replace ? "Replaced" : "Saved as"} ${wanted}.`);
    } catch (error) {
      note.textContent = error.message;
      name.focus();
    }
  }
  async function take() {
    const wanted = pick.value;
    await ask("load_preset", { name: wanted }).then(
      () => say(`chain ${wanted}`),
      (error) => complain(error.message),
    );
    draw();
  }
  const bringBack = () =>
    ask("restore_preset").then(
      ({ name: back }) => told.tell(`${back} is back.`),
      (error) => complain(error.message),
    );
  async function forget() {
    const gone = preset();
    complain("");
    await ask("delete_preset", { name: gone }).then(
      () => told.tell(`Deleted ${gone}. The chain stays.`, button("Undo", `Keep ${gone} again`, bringBack)),
      (error) => complain(error.message),
    );
  }
  const group = (title, some) =>
    some.length > 0 &&
    h(
      "optgroup",
      { label: title },
      some.map((one) => h("option", { value: one.name, title: one.code }, one.name)),
    );
  let listed = null;
  function draw() {
    const all = presets();
    if (all !== listed) {
      listed = all;
      const groups = [
        group(
          "Yours",
          all.filter((x) => x.own),
        ),
        group(
          "Built in",
          all.filter((x) => !x.own),
        ),
      ];
      pick.replaceChildren(
        h("option", { value: "", disabled: true, hidden: true }, "none"),
        ...groups.filter(Boolean),
      );
    }
    pick.value = preset();
    erase.hidden = !all.some(({ name, own }) => own && name === preset());
    erase.title = `Delete the preset ${preset()}; it can be undone`;
    if (!line.hidden) label();
  }
  // another notebook may have saved one since
  pick.addEventListener("focus", () => ask("list_presets").catch((error) => complain(error.message)));
  open.setAttribute("aria-expanded", "false");
  return { choice, open, erase, line, draw };
}
