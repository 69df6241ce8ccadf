/** The lab in a file of the working folder: a menu with a name, Save and Open, and what came of it. */
import { button, h } from "./shared/dom.js";
import { besideOpener } from "./shared/floating.js";

const OPENS = "Save this lab to a file of the working folder, or open one that was saved";
const SAVES = "Save runs, trees, settings and panels to this file";
const OPEN = "Go on where this file left off, in place of what is here";
const PATIENCE = 60_000; // ms that a large file may take

let count = 0; // of fields, whose lists of names have ids of their own

function elements() {
  const on = { type: "text", class: "mll-field mll-pb-name", maxlength: 60, spellcheck: "false", autocomplete: "off" };
  const name = h("input", { ...on, list: `mll-pb-names-${++count}`, placeholder: "stories.lab" });
  const names = h("datalist", { id: name.getAttribute("list") });
  const folder = h("bdi", { class: "mll-pb-folder" });
  const label = h("label", { class: "mll-pb-ask" }, h("span", { class: "mll-quiet" }, "File in ", folder), name, names);
  const said = h("p", { class: "mll-pb-said", role: "status" });
  const problem = h("p", { class: "mll-problem", role: "alert" });
  return { name, names, folder, label, said, problem };
}

/** `ask(op, args, more)` asks the kernel. */
export function fileMenu(ask) {
  const { name, names, folder, label, said, problem } = elements();
  let sure = ""; // what would be done, and to which name, by a second press
  const once = (op) => (event) => event.detail < 2 && act(op); // a double click is one press
  const save = button("Save", SAVES, once("save"), { "data-main": true });
  const open = button("Open", OPEN, once("open"));
  const acts = h("div", { class: "mll-pb-acts" }, save, open);
  const menu = h("div", { class: "mll-floating mll-pb-file", popover: "auto" }, label, acts, said, problem);
  const opener = button("File ▾", OPENS, null, { class: "mll-button mll-pb-files" });
  opener.popoverTargetElement = menu; // the browser opens it, closes it on Esc and on a click elsewhere
  besideOpener(menu, opener);

  function say(text, wrong = "") {
    [said.textContent, problem.textContent] = [text, wrong];
  }
  async function act(op) {
    if (save.disabled) return; // the last press is not answered yet
    const asked = `${op} ${name.value}`;
    const is_sure = sure === asked;
    sure = "";
    say("");
    for (const one of [save, open]) one.disabled = true;
    try {
      const reply = await ask(op, { name: name.value, is_sure }, { patience: PATIENCE, timeout: PATIENCE });
      if (reply.asks) sure = asked;
      say(reply.said);
    } catch (error) {
      say("", error.message);
    }
    for (const one of [save, open]) one.disabled = false;
    const isLost = menu.matches(":popover-open") && !menu.contains(document.activeElement);
    if (isLost) (op === "save" ? save : open).focus(); // a button that is disabled has no focus
  }
  async function list() {
    try {
      const reply = await ask("files");
      folder.textContent = folder.title = reply.folder;
      names.replaceChildren(...reply.names.map((value) => h("option", { value })));
    } catch (error) {
      say("", error.message);
    }
  }
  name.addEventListener("input", () => {
    sure = "";
    say("");
  });
  name.addEventListener("keydown", ({ key, isComposing, repeat }) => {
    if (key === "Enter" && !isComposing && !repeat) act("save");
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.repeat) event.preventDefault(); // a key that is held is one press
  });
  menu.addEventListener("toggle", async ({ newState }) => {
    sure = "";
    say("");
    if (newState !== "open") return;
    await list();
    name.focus();
  });
  /** Esc closes the menu, and nothing of the lab around it. */
  const keydown = (event) => event.key === "Escape" && menu.matches(":popover-open") && event.stopPropagation();
  return { node: h("span", { class: "mll-pb-menu", on: { keydown } }, opener, menu), opener };
}
