/**
 * Prompt, Run and Stop, figures, and a drawer of the runs so far. State lives in the model: `prompt`, `chat`,
 * `messages`, `seed`, `max_tokens`, `stop_strings`, `state`, `message`, `progress`, `meters`, `history`, `shown`.
 */
import { announcer, button, glyphs, h, icon, keyHelp, keys, mount } from "./shared/dom.js";
import { kernelText } from "./shared/field.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { progressBar } from "./shared/progress.js";
import { visible } from "./shared/text.js";
import { toolbar } from "./shared/toolbar.js";
import { chatField } from "./run_panel_chat.js";
import { runsDrawer } from "./run_panel_drawer.js";
import { figureLine } from "./run_panel_figures.js";
import { promptField } from "./run_panel_prompt.js";
import { progressOf, remarkText, stateText, stopText } from "./run_panel_words.js";

const BUSY = new Set(["queued", "prompt", "running"]);

const HELP = [
  ["Ctrl+Enter", "in the prompt or a turn: run it (Cmd+Enter too)"],
  ["Enter", "in a turn of a chat: send it"],
  ["Shift+Enter", "in a turn of a chat: a new line"],
  ["Esc", "stop the run; else close the runs so far"],
  ["↑ ↓", "in the runs so far: another one"],
  ["Enter", "show that run"],
  ["Space", "compare it, or no more"],
  ["r", "its settings again: chain, seed, prompt, max tokens and stop strings"],
  ["← →", "on a button of the bar: another one"],
  ["?", "these keys"],
];
const RUNS = "Run this prompt (Ctrl+Enter in it)";
const STOPS = 'a text that ends a run, such as END or \\n (a new line), \\t (a tab); several in quotes: "\\n", "END"';

const WORKS = ":is(button, input, select):not(.mll-export-menu *)"; // what is saved needs no kernel

/** Where stop strings are typed; beside it each as it was read, where that is not what is typed. */
function stopField(texts) {
  const { node, show } = texts("stop_strings", "stop at");
  const read = h("span", { class: "mll-rp-read", title: "The texts that end a run, as they were read" });
  node.title = STOPS;
  node.append(read);
  function draw(strings) {
    const typed = stopText(strings);
    show(typed);
    const plain = strings.length < 2 && typed === (strings[0] ?? "");
    read.replaceChildren(...(plain ? [] : strings.map((text) => h("span", {}, glyphs(visible(text))))));
  }
  return { node, draw };
}

function elements(model, { prompt, chat, runs, voice }, { start, attempt, whole, texts }) {
  const problem = h("p", { class: "mll-problem", role: "alert" });
  const gone = goneNote(model);
  const help = keyHelp(HELP);
  const run = button("Run", RUNS, start, { "data-main": true });
  const stop = button("Stop", "Stop the run (Esc)", () => attempt("stop"));
  const seed = whole("seed", "seed");
  const most = whole("max_tokens", "max tokens");
  const stops = stopField(texts);
  const dice = icon("⚄", "Another seed by chance", () => attempt("dice"));
  const line = h("span", { class: "mll-rp-state" });
  const remark = h("span", { class: "mll-quiet mll-rp-remark" });
  const figures = figureLine();
  const bar = progressBar({ className: "mll-rp-progress", label: "Progress of the run" });
  const another = "The same turn is answered once more: this answer is taken away, and the seed goes up by one";
  const named = { "aria-label": "Again: another answer" };
  const again = button("↻ Again", another, () => attempt("regenerate"), named);
  const kind = (text, title, on) => {
    const set = () => attempt("set", { name: "chat", value: on });
    return h("button", { type: "button", "data-chat": String(on), title, on: { click: set } }, text);
  };
  const kinds = [
    kind("Text", "A text to go on from", false),
    kind("Chat", "Turns to answer, in the model's template", true),
  ];
  const asks = h("div", { class: "mll-rp-asks" }, prompt.node, chat.node);
  const first = h("div", { class: "mll-rp-first mll-live" }, asks, h("div", { class: "mll-rp-go" }, run, stop, again));
  const tabs = h("span", { class: "mll-tabs", role: "group", "aria-label": "What runs" }, kinds);
  const preset = h("span", { class: "mll-rp-preset" }); // a lab puts the choice of a chain here
  const settings = h("div", { class: "mll-rp-settings" }, tabs, seed.node, dice, most.node, stops.node, preset);
  const status = h("div", { class: "mll-rp-status" }, line, figures.node, remark, runs.opener);
  const second = h("div", { class: "mll-rp-bar mll-live" }, settings, status);
  const all = [gone, first, second, bar.node, problem, runs.node, help.node, voice.node];
  const root = h("section", { class: "mll mll-rp", "aria-label": "Run" }, all);
  const undo = toolbar(second, "Settings of the run");
  const told = { problem, gone, help, line, remark, figures, bar };
  return { root, undo, ...told, seed, most, stops, run, stop, again, kinds };
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  const attempt = (op, args = {}) => {
    parts.problem.textContent = "";
    return link.ask(op, args).catch((error) => {
      parts.problem.textContent = error.message;
    });
  };
  const whole = (name, label) => {
    const number = (text) => (/^\s*\d+\s*$/.test(text) ? Number(text) : text.slice(0, 40));
    const send = (text, seq) => link.ask("set", { name, value: number(text), seq });
    const now = () => String(get(name));
    return kernelText({ name, label, title: "Run", value: now(), held: now, send });
  };
  const texts = (name, label) => {
    const send = (value, seq) => link.ask("set", { name, value, seq });
    const now = () => stopText(get(name));
    const more = { title: "Run", syntax: STOPS, value: now(), held: now, send };
    return kernelText({ name, label, ...more });
  };
  const prompt = promptField({ model, attempt });
  const chat = chatField({ model, attempt, changed: drawRun, start });
  const voice = announcer();
  const runs = runsDrawer({ model, attempt, say: voice.say });
  const parts = elements(model, { prompt, chat, runs, voice }, { start, attempt, whole, texts });
  const { root, line } = parts;

  function start() {
    if (!parts.run.disabled) (get("chat") ? chat : prompt).run();
  }
  /** The prompt, or the turns of a chat; what Run does with the last of them. */
  function drawKind() {
    const on = get("chat");
    prompt.node.hidden = on;
    chat.node.hidden = !on;
    root.toggleAttribute("data-chat", on);
    for (const tab of parts.kinds) tab.setAttribute("aria-pressed", String(tab.dataset.chat === String(on)));
    chat.draw();
    drawRun();
  }
  function drawRun() {
    const [text, title] = get("chat") ? chat.runText() : ["Run", RUNS];
    parts.again.hidden = !get("chat");
    parts.again.disabled = parts.run.disabled || text !== "Go on";
    if (parts.run.textContent !== text) parts.run.textContent = text;
    parts.run.title = title;
    parts.run.dataset.key = get("chat") && text !== "Go on" ? "Enter" : "Ctrl+Enter";
  }
  function drawState() {
    const [state, meters] = [get("state"), get("meters")];
    const [text, more] = [stateText(state, meters, get("message")), remarkText(state, get("message"))];
    if (line.textContent !== text || parts.remark.textContent !== more) {
      line.textContent = line.title = text;
      parts.remark.textContent = parts.remark.title = more;
      voice.say(`${text} ${more}`);
    }
    line.toggleAttribute("data-bad", state === "failed");
    root.dataset.state = state;
    parts.run.disabled = BUSY.has(state) || !link.alive;
    drawRun();
    parts.stop.disabled = !BUSY.has(state) || !link.alive;
    const far = progressOf(state, get("progress"), meters, get("max_tokens"));
    parts.bar.show(far.share, far.text || text);
    parts.figures.draw(meters, state, far.text);
  }
  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    parts.gone.hidden = alive;
    for (const node of root.querySelectorAll("textarea")) node.readOnly = !alive;
    for (const node of root.querySelectorAll(WORKS)) node.disabled = !alive;
    drawState();
  }
  function escape() {
    if (parts.help.open) return void parts.help.hide();
    if (BUSY.has(get("state"))) return void attempt("stop");
    return runs.close();
  }
  const unbind = keys(root, {
    "Ctrl+Enter": (event) => (event.target.matches(".mll-field") ? start() : false),
    Escape: escape,
    "?": parts.help.toggle,
  });
  const told = (act, ...traits) => Object.fromEntries(traits.map((name) => [name, act]));
  const unwatch = watch(model, {
    prompt: prompt.draw,
    ...told(drawKind, "chat", "messages"),
    seed: () => parts.seed.show(String(get("seed"))),
    max_tokens: () => parts.most.show(String(get("max_tokens"))),
    stop_strings: () => parts.stops.draw(get("stop_strings")),
    ...told(drawState, "state", "message", "progress", "meters"),
    ...told(runs.draw, "history", "shown"),
    compared: runs.compareAsked,
  });
  drawKind();
  parts.stops.draw(get("stop_strings"));
  drawState();
  runs.draw();
  const unmount = mount(el, root);
  link.ping();
  root.addEventListener("pointerenter", link.ping);
  const undo = [parts.undo, unwatch, prompt.close, chat.close, unbind, runs.unbind, voice.close, link.close, unmount];
  return () => undo.forEach((act) => act());
}

export default { render };
