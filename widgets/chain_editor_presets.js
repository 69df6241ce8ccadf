/** Presets: a list to take a chain from, and a line to save the present chain by a name. */
import { button, h } from "./shared/dom.js";

export const LONGEST_NAME = 40;

/** The name of the preset that a chain is, by its code; "" if it is none. */
export const presetOf = (presets, code) => presets.find((preset) => preset.code === code)?.name ?? "";

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
 * `presets()` are {name, own, code}, `code()` is that of the chain; `ask(op, args)` returns a
 * promise; `say(text)` speaks, `complain(text)` shows what went wrong.
 */
export function presetBar({ presets, code, ask, say, complain }) {
  const named = { class: "mll-field mll-ce-preset", "aria-label": "Preset", title: "Take a chain by its name" };
  const pick = h("select", { ...named, on: { change: take } });
  const open = button("Save as…", "Keep this chain by a name", () => show(line.hidden));
  const name = nameField({ input: label, keydown: typed });
  const save = button("Save", "Save this chain by this name (Enter)", keep);
  const cancel = button("Cancel", "Leave the chain unsaved (Esc)", () => show(false));
  const note = h("p", { class: "mll-problem mll-ce-naming-problem", role: "alert" });
  const saving = { class: "mll-ce-bar mll-ce-naming", role: "group", "aria-label": "Save this chain", hidden: true };
  const says = h("label", { for: name.id, class: "mll-quiet" }, "Name");
  const line = h("div", saving, says, name, save, cancel, note);

  function show(shown) {
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
    try {
      await ask("save_preset", { name: wanted, replace: savingAs(wanted, presets()) === "replace" });
      show(false);
      say(`chain saved as ${wanted}`);
    } catch (error) {
      note.textContent = error.message;
      name.focus();
    }
  }
  async function take() {
    const wanted = pick.value;
    try {
      await ask("load_preset", { name: wanted });
      say(`chain ${wanted}`);
    } catch (error) {
      complain(error.message);
    }
    draw();
  }
  const group = (title, some) =>
    some.length > 0 &&
    h(
      "optgroup",
      { label: title },
      some.map((preset) => h("option", { value: preset.name, title: preset.code }, preset.name)),
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
        h("option", { value: "", disabled: true, hidden: true }, "Presets"),
        ...groups.filter(Boolean),
      );
    }
    pick.value = presetOf(all, code());
    if (!line.hidden) label();
  }
  // another notebook may have saved one since
  pick.addEventListener("focus", () => ask("list_presets").catch((error) => complain(error.message)));
  open.setAttribute("aria-expanded", "false");
  return { pick, open, line, draw };
}
