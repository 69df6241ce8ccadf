/**
 * A benchmark: what to measure, how far it is, a row a test, and how speed grows with threads. State lives in the
 * model: `tests`, `threads` and `repeats` as they were asked for, `state`, `share`, `said`, `rows`, `lines` and
 * `message`.
 */
import { plotOf } from "./bench_board_plot.js";
import { announcer, button, h, keyHelp, keys, mount } from "./shared/dom.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { progressBar } from "./shared/progress.js";
import { percent } from "./shared/text.js";

const COLUMNS = ["test", "threads", "t/s", "range", "repeats", "speedup"];
const HELP = [
  ["Ctrl+Enter", "run the benchmark"],
  ["Esc", "stop it"],
  ["?", "these keys"],
];
const FIELDS = [
  ["tests", "Tests", "llama-bench's words: pp128 processes a prompt, tg32 generates, tg32 @ d1024 behind 1024 others"],
  ["threads", "Threads", "Numbers of threads, with a comma between two"],
  ["repeats", "Repeats", "How often each row is measured, 1 to 1000"],
];
const EMPTY = "Tokens a second of this model on this machine, as llama-bench measures them.";
const ONE = "With two numbers of threads a plot shows how speed grows with them.";
const isAtWork = (state) => state === "waiting" || state === "running";

/** What the benchmark does, in words. */
export function stateText(state, share) {
  if (state === "waiting") return "Waits for the end of what is generated…";
  if (state === "running") return `Measures… ${percent(share)}`;
  return state === "stopped" ? "Stopped" : "";
}

function tableOf(rows) {
  const head = COLUMNS.map((name) => h("th", { scope: "col" }, name));
  const body = rows.map((row) => {
    const [test, ...cells] = row;
    return h("tr", {}, h("th", { scope: "row" }, test), ...cells.map((cell) => h("td", {}, cell)));
  });
  return h("table", { class: "mll-bb-table mll-figures" }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, body));
}

function fieldOf([name, label, hint], changed) {
  const isNumber = name === "repeats";
  const type = isNumber ? { type: "number", min: 1, max: 1000, step: 1 } : { type: "text", maxlength: 300 };
  const input = h("input", { ...type, class: "mll-field", title: hint, spellcheck: "false", on: { change: changed } });
  return { name, input, node: h("label", { class: `mll-bb-${name}` }, label, input) };
}

function elements(model, { changed, run, stop }) {
  const help = keyHelp(HELP);
  const fields = FIELDS.map((field) => fieldOf(field, changed));
  const go = button("Run", "Measure this model, once nothing is generated (Ctrl+Enter)", run, { "data-main": true });
  const halt = button("Stop", "Stop measuring (Esc); what there is stays", stop);
  const state = h("span", { class: "mll-quiet mll-figures" });
  const head = h("header", { class: "mll-bb-head" }, h("h3", { class: "mll-title" }, "Bench"), state, help.button);
  const form = h("div", { class: "mll-bb-form mll-live" }, ...fields.map(({ node }) => node), go, halt);
  const bar = progressBar({ className: "mll-bb-progress", label: "Progress of the benchmark" });
  const said = h("p", { class: "mll-quiet" });
  const message = h("p", { class: "mll-problem", role: "alert" });
  const found = h("div", { class: "mll-bb-found mll-live" });
  const gone = goneNote(model);
  const voice = announcer();
  const all = [head, gone, form, bar.node, message, said, found, help.node, voice.node];
  const root = h("section", { class: "mll mll-bb", "aria-label": "Bench" }, all);
  return { root, help, fields, go, halt, state, bar, said, message, found, gone, voice };
}

function render({ model, el }) {
  const get = (trait) => model.get(trait);
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  const parts = elements(model, { changed: () => attempt("write"), run: () => attempt("run"), stop: () => stop() });
  const { root, fields, voice, message } = parts;
  const held = () => ({ tests: get("tests"), threads: get("threads"), repeats: get("repeats") });

  const typed = () => {
    const [tests, threads, repeats] = fields.map(({ input }) => input.value);
    return { tests, threads, repeats: Number(repeats) };
  };
  const refused = (error) => {
    message.textContent = error.message;
  };
  const attempt = (op) => link.ask(op, typed()).then(() => [drawWords, drawMessage].forEach((draw) => draw()), refused);
  const stop = () => link.ask("stop").catch(refused);

  /** Run and Stop have one place, and whoever has the focus there keeps it. */
  function swap(running) {
    const [shown, other] = running ? [parts.halt, parts.go] : [parts.go, parts.halt];
    const focused = root.ownerDocument.activeElement === other;
    shown.hidden = false;
    other.hidden = true;
    if (focused) shown.focus();
  }
  function drawForm() {
    const now = held();
    for (const { name, input } of fields) {
      if (root.ownerDocument.activeElement !== input) input.value = String(now[name]);
    }
  }
  function drawWords() {
    const [state, share] = [get("state"), get("share")];
    const words = stateText(state, share);
    root.dataset.state = state;
    swap(isAtWork(state));
    parts.state.textContent = words;
    parts.bar.node.style.visibility = state === "running" ? "" : "hidden";
    parts.bar.show(state === "running" ? share : 0, words);
  }
  function drawMessage() {
    message.textContent = get("message");
  }
  function drawState() {
    drawWords();
    voice.say(get("state") === "finished" ? "The benchmark has ended" : stateText(get("state"), 0));
  }
  function drawFound() {
    const [rows, lines] = [get("rows"), get("lines")];
    const plot = lines.length ? plotOf(lines) : h("p", { class: "mll-quiet" }, ONE);
    parts.found.replaceChildren(...(rows.length ? [tableOf(rows), plot] : []));
    parts.said.textContent = rows.length ? get("said") : EMPTY;
  }
  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    parts.gone.hidden = alive;
    for (const node of [...fields.map(({ input }) => input), parts.go, parts.halt]) node.disabled = !alive;
  }
  const escape = () => {
    if (parts.help.open) return parts.help.hide();
    return isAtWork(get("state")) ? void stop() : false;
  };
  const run = () => void (isAtWork(get("state")) || attempt("run"));
  const unbind = keys(root, { "?": parts.help.toggle, Escape: escape, "Ctrl+Enter": run });
  const form = { tests: drawForm, threads: drawForm, repeats: drawForm };
  const words = { state: drawState, share: drawWords, message: drawMessage };
  const unwatch = watch(model, { ...form, ...words, rows: drawFound, lines: drawFound, said: drawFound });
  [drawForm, drawWords, drawMessage, drawFound].forEach((draw) => draw());
  const unmount = mount(el, root);
  link.ping();
  return () => [unwatch, unbind, voice.close, link.close, unmount].forEach((act) => act());
}

export default { render };
