/**
 * Pairs typed one a line, and a control vector that is learnt from them. State lives in the model: `name` and
 * `text`, `state`, `share` and `said` of the training, `message` and its `line`, `unfolded`.
 */
import { announcer, button, h, keyHelp, keys, mount } from "./shared/dom.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { progressBar } from "./shared/progress.js";
import { counted, percent } from "./shared/text.js";

const REST = 300; // ms without a key before the kernel keeps what is typed
const HELP = [
  ["Ctrl+Enter", "learn from the pairs"],
  ["Esc", "stop learning"],
  ["?", "these keys"],
];
const LEARN = "Learn from these pairs on the model that is loaded, beside whatever it does (Ctrl+Enter)";
const EXAMPLE = "I am so happy. What a day! | I am so sad. What a day!\nWe won, what joy! | We lost, what grief!";
const HOW = "One pair a line: more like this | less like this. Alike but for what is to be learnt.";

/** How many pairs are typed, and what that is good for. */
export function pairsText(text) {
  const isPair = ([wanted, ...rest]) => wanted.trim() && rest.join("").trim();
  const n = text.split("\n").filter((line) => isPair(line.split(/[|\t]/))).length;
  if (n < 2) return n ? "1 pair; two are needed" : "";
  return n < 4 ? `${counted(n, "pair")}; from 4 on, two or more are held out to try it` : counted(n, "pair");
}

/** What the training does or did, in words. */
export function stateText({ state, share, said }) {
  if (state === "running") return `Learning… ${percent(share)}`;
  return state === "stopped" ? "Stopped; nothing was learnt." : said;
}

/** Where a line begins and ends in a text; lines count from 1. */
export function lineSpan(text, line) {
  const before = text.split("\n").slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
  const end = text.indexOf("\n", before);
  return [before, end < 0 ? text.length : end];
}

function elements(model, { typing, learn, stop }) {
  const help = keyHelp(HELP);
  const on = { input: typing };
  const name = h("input", { type: "text", class: "mll-field", maxlength: 100, placeholder: "Name", on });
  name.setAttribute("aria-label", "Name of the vector");
  const text = h("textarea", { class: "mll-field", rows: 3, maxlength: 200000, spellcheck: "false", on });
  text.setAttribute("aria-label", "Pairs, one a line");
  text.placeholder = EXAMPLE;
  const go = button("Learn", LEARN, learn, { "data-main": true });
  const halt = button("Stop", "Stop learning (Esc)", stop);
  const count = h("span", { class: "mll-quiet" });
  const bar = progressBar({ className: "mll-vt-progress", label: "Progress of the training" });
  const message = h("p", { class: "mll-problem", role: "alert" });
  const line = h("div", { class: "mll-vt-line" }, name, go, halt, count, help.button);
  const body = h("div", { class: "mll-vt-body mll-live" }, h("p", { class: "mll-quiet" }, HOW), text, line, bar.node);
  const said = h("span", { class: "mll-quiet mll-figures mll-vt-said" });
  const summary = h("summary", {}, h("span", { class: "mll-title" }, "Learn a vector"), said);
  const fold = h("details", {}, summary, body, message);
  const gone = goneNote(model);
  const voice = announcer();
  const all = [gone, fold, help.node, voice.node];
  const root = h("section", { class: "mll mll-vt", "aria-label": "Learn a vector" }, all);
  return { root, help, name, text, go, halt, count, bar, message, said, fold, gone, voice };
}

function render({ model, el }) {
  const get = (trait) => model.get(trait);
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  let due = null; // what is typed and not yet sent
  const parts = elements(model, { typing, learn, stop: () => attempt("stop") });
  const { root, name, text, fold, voice, message } = parts;
  const typed = () => ({ name: name.value, text: text.value });

  function attempt(op, args = {}) {
    message.textContent = "";
    return link.ask(op, args, { patience: 20000 }).catch((error) => {
      message.textContent = error.message;
    });
  }
  function typing() {
    clearTimeout(due);
    parts.count.textContent = pairsText(text.value);
    text.setAttribute("aria-invalid", "false");
    due = setTimeout(async () => {
      const mine = due;
      await attempt("write", typed());
      if (due === mine) due = null;
    }, REST);
  }
  async function learn() {
    clearTimeout(due);
    await attempt("learn", typed());
    due = null;
    if (get("line")) text.focus();
    if (get("line")) text.setSelectionRange(...lineSpan(text.value, get("line")));
    draw();
  }
  /** Learn and Stop have one place, and whoever has the focus there keeps it. */
  function swap(running) {
    const [shown, other] = running ? [parts.halt, parts.go] : [parts.go, parts.halt];
    const focused = root.ownerDocument.activeElement === other;
    shown.hidden = false;
    other.hidden = true;
    if (focused) shown.focus();
  }
  function draw() {
    const running = get("state") === "running";
    root.dataset.state = get("state");
    if (due === null) {
      if (name.value !== get("name")) name.value = get("name");
      if (text.value !== get("text")) text.value = get("text");
    }
    parts.count.textContent = pairsText(text.value);
    swap(running);
    const said = stateText({ state: get("state"), share: get("share"), said: get("said") });
    if (!running && said !== parts.said.textContent) voice.say(said);
    parts.said.textContent = parts.said.title = said;
    parts.bar.node.style.visibility = running ? "" : "hidden";
    parts.bar.show(running ? get("share") : 0, said);
    message.textContent = get("message");
    text.setAttribute("aria-invalid", String(get("line") > 0));
  }
  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    parts.gone.hidden = alive;
    for (const node of [name, text, parts.go, parts.halt]) node.disabled = !alive;
  }
  const drawFold = () => {
    const lost = !get("unfolded") && fold.contains(root.ownerDocument.activeElement);
    fold.open = get("unfolded");
    if (lost) fold.firstChild.focus();
  };
  fold.addEventListener("toggle", () => {
    if (fold.open === get("unfolded")) return;
    model.set("unfolded", fold.open);
    model.save_changes();
  });
  const escape = () => {
    if (parts.help.open) return parts.help.hide();
    return get("state") === "running" ? void attempt("stop") : false;
  };
  const unbind = keys(root, { "?": parts.help.toggle, Escape: escape, "Ctrl+Enter": () => void learn() });
  const traits = ["name", "text", "state", "share", "said", "message", "line"];
  const drawn = Object.fromEntries(traits.map((trait) => [trait, draw]));
  const unwatch = watch(model, { ...drawn, unfolded: drawFold });
  drawFold();
  draw();
  const unmount = mount(el, root);
  link.ping();
  const forget = () => clearTimeout(due);
  return () => [unwatch, unbind, forget, voice.close, link.close, unmount].forEach((act) => act());
}

export default { render };
