/** The lab in a file of the working folder: a menu with a name, Save and Open, and what came of it. */
import { button, h } from "./shared/dom.js";
import { place } from "./shared/place.js";

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
  let sure = ""; // what would be done by a second press
  const save = button("Save", SAVES, () => act("save"), { "data-main": true });
  const open = button("Open", OPEN, () => act("open"));
  const acts = h("div", { class: "mll-pb-acts" }, save, open);
  const menu = h("div", { class: "mll-floating mll-pb-file", popover: "auto" }, label, acts, said, problem);
  const opener = button("File ▾", OPENS, null, { class: "mll-button mll-pb-files" });
  opener.popoverTargetElement = menu; // the browser opens it, closes it on Esc and on a click elsewhere

  function say(text, wrong = "") {
    [said.textContent, problem.textContent] = [text, wrong];
  }
  async function act(op) {
    const is_sure = sure === op;
    sure = "";
    say("");
    for (const one of [save, open]) one.disabled = true;
    try {
      const reply = await ask(op, { name: name.value, is_sure }, { patience: PATIENCE });
      if (reply.asks) sure = op;
      say(reply.said);
    } catch (error) {
      say("", error.message);
    }
    for (const one of [save, open]) one.disabled = false;
    if (menu.matches(":popover-open")) (op === "save" ? save : open).focus();
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
  name.addEventListener("keydown", (event) => event.key === "Enter" && act("save"));
  menu.addEventListener("toggle", async ({ newState }) => {
    sure = "";
    say("");
    if (newState !== "open") return;
    await list();
    place(menu, opener.getBoundingClientRect());
    name.focus();
  });
  /** Esc closes the menu, and nothing of the lab around it. */
  const keydown = (event) => event.key === "Escape" && menu.matches(":popover-open") && event.stopPropagation();
  return { node: h("span", { class: "mll-pb-menu", on: { keydown } }, opener, menu), opener };
}
