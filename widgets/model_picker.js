/**
 * Choose a model or a session, and see it load. State lives in the model: `rows`, `chosen`, `source`, `n_ctx`,
 * `n_gpu_layers`, `state`, `progress`, `what`, `message`, `may_leave`.
 */
import { announcer, button, h, icon, keyHelp, keys, mount } from "./shared/dom.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { progressBar } from "./shared/progress.js";
import { beside, rowList } from "./model_picker_list.js";
import { inert, promise, stateText, typedWhole } from "./model_picker_words.js";

const BUSY = new Set(["fetching", "loading", "opening", "stopping"]);
const HELP = [
  ["↑ ↓", "another row"],
  ["Enter", "load or open it"],
  ["Esc", "stop loading; else back to the bench"],
  ["?", "these keys"],
];
const ROOM = "Tokens of prompt and text together; empty takes what the model was trained with, at most 4,096";
const LAYERS = "Layers of the model on the GPU: 0 for none, -1 for all; a llama.cpp without a GPU leaves them";
const WHERE = "path to a GGUF file, or hf:owner/repo/file.gguf";

function textField(name, title, placeholder, more = {}) {
  const input = h("input", { type: "text", class: "mll-field", placeholder, spellcheck: "false", ...more });
  return { node: h("label", { class: "mll-mp-field", title }, h("span", {}, name), input), input, title };
}

function elements(model, { choose, load, stop, leave }) {
  const list = rowList({ choose, load });
  const typed = { class: "mll-field mll-code", maxlength: 4000, autocomplete: "off", on: { input: () => choose("") } };
  const file = textField("or a file", `A ${WHERE}`, WHERE, typed);
  file.node.classList.add("mll-mp-file");
  const whole = { inputmode: "numeric", maxlength: 12 };
  const settings = {
    n_ctx: textField("context", ROOM, "auto", whole),
    n_gpu_layers: textField("GPU layers", LAYERS, "0", whole),
  };
  const go = button("Load", "Open a session on it (Enter)", load, { "data-main": true });
  const end = button("Stop", "Stop loading (Esc)", stop);
  const line = h("span", { class: "mll-quiet mll-figures mll-mp-line" });
  const nodes = Object.values(settings).map(({ node }) => node);
  const foot = h("div", { class: "mll-mp-foot" }, nodes, go, end, line);
  const bar = progressBar({ className: "mll-mp-progress", label: "Progress of loading" });
  const problem = h("p", { class: "mll-note mll-mp-problem", role: "alert", hidden: true });
  const kept = h("p", { class: "mll-quiet mll-mp-kept", "aria-live": "polite" });
  const close = icon("✕", "Back to the bench (Esc)", leave);
  const head = h("div", { class: "mll-mp-head" }, h("b", {}, "Choose a model"), close);
  const voice = announcer();
  const gone = goneNote(model);
  const all = h("div", { class: "mll-mp-all mll-live" }, head, list.node, file.node, kept, foot, bar.node, problem);
  const help = keyHelp(HELP);
  const root = h("section", { class: "mll mll-mp", "aria-label": "Choose a model" }, gone, all, help.node, voice.node);
  return { root, help, list, file, settings, go, end, line, bar, problem, kept, close, voice, gone };
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  const link = connect(model, { onAlive: () => draw() });
  const parts = elements(model, { choose, load, stop: () => attempt("stop"), leave: () => attempt("leave") });
  const { root, list, file, settings } = parts;
  let choice = get("chosen"); // the key of a row, "" for what is typed
  const kind = () => get("rows").find(({ key }) => key === choice)?.kind ?? "file";
  const busy = () => BUSY.has(get("state"));

  function complain(text, bad = true) {
    parts.problem.textContent = text;
    parts.problem.hidden = !text;
    parts.problem.dataset.kind = bad ? "bad" : "note";
  }
  function attempt(op, args = {}) {
    return link.ask(op, args).catch((error) => link.alive && complain(error.message));
  }
  function choose(key) {
    choice = key;
    list.mark(key);
    drawChoice();
  }
  function load() {
    if (busy() || !link.alive) return;
    complain("");
    const [n_ctx, n_gpu_layers] = Object.values(settings).map(({ input }) => typedWhole(input.value));
    attempt("load", { key: choice, source: file.input.value, n_ctx, n_gpu_layers });
  }
  function drawChoice() {
    const off = busy() || !link.alive;
    for (const [name, { input, node, title }] of Object.entries(settings)) {
      const why = inert(name, kind());
      input.disabled = off || Boolean(why);
      node.title = why || title;
    }
    list.disable(off);
    file.input.disabled = off;
    file.node.toggleAttribute("data-chosen", choice === "");
    const isHere = get("rows").some((row) => row.key === choice && row.at_work);
    parts.go.textContent = isHere ? "Go on" : kind() === "session" ? "Open" : "Load";
    parts.kept.textContent = promise(get("rows"), choice);
  }
  function drawState() {
    const [state, progress] = [get("state"), get("progress")];
    const text = stateText(state, progress, get("what"));
    const focused = root.contains(root.ownerDocument.activeElement);
    parts.go.hidden = busy();
    parts.end.hidden = !busy();
    parts.end.disabled = state === "stopping" || !link.alive;
    parts.go.disabled = !link.alive;
    if (focused && busy()) parts.end.focus();
    if (parts.line.textContent !== text) {
      parts.line.textContent = parts.line.title = text;
      parts.voice.say(text);
    }
    root.dataset.state = state;
    parts.bar.node.style.visibility = busy() ? "" : "hidden";
    parts.bar.show(progress[1] ? Math.min(1, progress[0] / progress[1]) : 0, text);
    complain(get("message"), state === "failed");
  }
  function draw() {
    const wasAtWork = parts.end === root.ownerDocument.activeElement;
    root.toggleAttribute("data-gone", !link.alive);
    root.toggleAttribute("data-over", get("may_leave"));
    parts.gone.hidden = link.alive;
    parts.close.hidden = !get("may_leave");
    drawState();
    drawChoice();
    if (wasAtWork && !busy()) parts.go.focus();
  }
  function drawRows() {
    const rows = get("rows");
    if (choice && !rows.some(({ key }) => key === choice)) choice = rows[0]?.key ?? "";
    list.draw(rows, choice);
    drawChoice();
  }
  function write() {
    choice = get("chosen");
    file.input.value = get("source");
    for (const [name, { input }] of Object.entries(settings)) input.value = get(name) || "";
    drawRows();
  }
  const move = (by) => (event) => {
    if (!list.node.contains(event.target)) return false;
    choose(beside(get("rows"), choice, by));
    list.focus();
  };
  const enter = (event) => (list.node.contains(event.target) ? load() : false);
  const escape = () => {
    if (parts.help.open) return void parts.help.hide();
    if (busy()) return void attempt("stop");
    return get("may_leave") ? void attempt("leave") : false;
  };
  const unbind = keys(root, {
    Escape: escape,
    Enter: enter,
    ArrowDown: move(1),
    ArrowUp: move(-1),
    "?": parts.help.toggle,
  });
  root.addEventListener("keydown", (event) => event.key === "Enter" && event.target.matches("input") && load());
  const state = ["state", "progress", "what", "message", "may_leave"].map((name) => [name, draw]);
  const given = ["chosen", "source", "n_ctx", "n_gpu_layers"].map((name) => [name, write]);
  const unwatch = watch(model, { ...Object.fromEntries([...state, ...given]), rows: drawRows });
  const unmount = mount(el, root);
  write();
  draw();
  attempt("refresh");
  if (get("may_leave")) requestAnimationFrame(list.focus);
  return () => {
    unwatch();
    unbind();
    parts.voice.close();
    link.close();
    unmount();
  };
}

export default { render };
