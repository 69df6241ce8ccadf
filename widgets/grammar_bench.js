/**
 * A grammar at work: it is written on the left, and on the right a text is put to it. State lives in the
 * model: `text` and `problem` of the grammar, `sample` and `walk` of the text, `constrains` of the chain.
 */
import { codeField, kindOf } from "./grammar_bench_code.js";
import { filesOf } from "./grammar_bench_file.js";
import { startersLine } from "./grammar_bench_starters.js";
import { triedView } from "./grammar_bench_tried.js";
import { walkView } from "./grammar_bench_walk.js";
import { button, h, icon, keyHelp, keys, mount } from "./shared/dom.js";
import { exportMenu } from "./shared/export.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { switchBox } from "./shared/switch.js";
import { counted } from "./shared/text.js";

const WORKS = ":is(button, input, textarea):not(.mll-export-menu *)"; // what is saved needs no kernel
const REST = 200; // ms without a key before the kernel is asked
const FORWARD = "Go on with what must come, or with the first token that may (Alt+→)";
const HELP = [
  ["Ctrl+Enter", "constrain the run by this grammar, or no more"],
  ["Alt+←", "take back the last token of the text"],
  ["Alt+→", "go on with what must come, or with the first token that may"],
  ["colours", "of the text: the rule that took each token; dotted where one spans a border"],
  ["?", "these keys"],
];

/** What is typed, in few words: its kind, and how many rules it has. */
export function aboutText(text, nRules) {
  const kind = kindOf(text);
  return kind === "GBNF" && nRules > 1 ? `${kind} · ${counted(nRules, "rule")}` : kind;
}

const HELD = "Nothing runs until this is mended or “Constrain the run” is off:";
const BOTH = "Run the prompt without the grammar and with it, with the same seed, and compare the two";

function writing(model, { write, use, attempt }) {
  const field = codeField({ label: "Grammar", typed: write });
  const about = h("span", { class: "mll-quiet mll-gb-about" });
  const on = switchBox(use);
  const says = { class: "mll-gb-use", title: "A Constrain at the head of the chain (Ctrl+Enter)" };
  const constrain = h("label", says, on.node, "Constrain the run");
  const both = button("Run both", BOTH, () => attempt("run_both"));
  const problem = h("p", { class: "mll-problem mll-gb-problem", role: "alert" });
  const warnings = h("ul", { class: "mll-gb-warnings", "aria-label": "Warnings" });
  const tried = triedView({ go: field.go });
  const put = (text) => {
    field.show(text);
    write(text);
  };
  const starters = startersLine({ text: () => field.text, put });
  const head = h("header", { class: "mll-gb-bar" }, h("h3", { class: "mll-title" }, "Grammar"), about, constrain, both);
  const node = h("div", { class: "mll-gb-half" }, head, starters, field.node, problem, warnings, tried.node);
  function warn({ message, line, column }) {
    const where = line ? `line ${line}, column ${column}: ` : "";
    const go = line && { class: "mll-gb-go", type: "button", on: { click: () => field.go(line, column) } };
    return h("li", {}, go ? h("button", go, `${where}${message}`) : message);
  }
  function draw() {
    const wrong = model.get("problem");
    field.show(model.get("text"));
    field.mark(wrong.message ? wrong : null);
    about.textContent = aboutText(model.get("text"), model.get("n_rules"));
    const held = wrong.message && model.get("constrains") === "on";
    problem.replaceChildren(...(held ? [h("strong", {}, HELD), "\n"] : []), wrong.message ?? "");
    warnings.replaceChildren(...model.get("warnings").map(warn));
    tried.draw(model.get("tried"));
    on.show(model.get("constrains") === "on");
    starters.hidden = !model.get("is_typed");
    constrain.hidden = both.hidden = model.get("constrains") === "";
  }
  return { node, field, draw, on };
}

function trying(model, { attempt, tryText, step }) {
  const field = h("textarea", {
    class: "mll-field mll-code mll-gb-sample",
    rows: 2,
    maxlength: 20000,
    spellcheck: "false",
    placeholder: "A text to put to the grammar",
    "aria-label": "Text",
    on: { input: () => tryText(field.value) },
  });
  const example = button("Example", "Another text of this grammar", () => attempt("example"));
  const back = icon("←", "Take back the last token (Alt+←)", () => attempt("back"));
  const on = icon("→", FORWARD, () => attempt("forward"));
  const clear = button("Clear", "An empty text", () => attempt("try", { text: "" }));
  const view = walkView({ step });
  const saving = exportMenu("text in grammar", filesOf(() => model.get("shown")));
  const tools = h("span", { class: "mll-gb-tools" }, back, on, example, clear, saving.node);
  const head = h("header", { class: "mll-gb-bar" }, h("h3", { class: "mll-title" }, "Text"), tools);
  const node = h("div", { class: "mll-gb-half" }, head, field, view.node);
  function draw() {
    const walk = model.get("shown");
    if (field.value !== model.get("sample")) field.value = model.get("sample");
    node.toggleAttribute("data-stale", Boolean(model.get("problem").message));
    if (walk.tokens) view.draw(walk);
  }
  return { node, field, head, draw };
}

function render({ model, el }) {
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  const failed = h("p", { class: "mll-problem", role: "alert" });
  const due = { write: null, try: null }; // what is typed and not yet sent
  const attempt = (op, args = {}) => {
    failed.textContent = "";
    return link.ask(op, args, { patience: 20000 }).catch((error) => {
      failed.textContent = error.message;
    });
  };
  /** Send what is typed when the hand rests; what the kernel says in between does not take it away. */
  const later = (op) => (text) => {
    clearTimeout(due[op]);
    due[op] = setTimeout(async () => {
      const mine = due[op];
      await attempt(op, { text });
      if (due[op] === mine) due[op] = null;
      draw();
    }, REST);
  };
  const use = (on) => attempt("use", { on });
  const left = writing(model, { write: later("write"), use, attempt });
  const right = trying(model, { attempt, tryText: later("try"), step: (token) => attempt("step", { token }) });
  const help = keyHelp(HELP);
  right.head.append(help.button);
  const gone = goneNote(model);
  const halves = h("div", { class: "mll-gb-halves mll-live" }, left.node, right.node);
  const all = [gone, failed, halves, help.node];
  const root = h("section", { class: "mll mll-gb", "aria-label": "Grammar bench" }, all);
  function draw() {
    if (!due.write) left.draw();
    if (!due.try) right.draw();
  }
  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    gone.hidden = alive;
    left.field.disable(!alive);
    for (const node of root.querySelectorAll(WORKS)) node.disabled = !alive;
  }
  const unbind = keys(root, {
    "Ctrl+Enter": () => (model.get("constrains") ? void left.on.node.click() : false),
    "Alt+ArrowLeft": () => void attempt("back"),
    "Alt+ArrowRight": () => void attempt("forward"),
    ...help.keys,
  });
  const traits = ["text", "problem", "is_typed", "warnings", "n_rules", "constrains", "sample", "shown", "tried"];
  const unwatch = watch(model, Object.fromEntries(traits.map((name) => [name, draw])));
  draw();
  const unmount = mount(el, root);
  link.ping();
  return () => {
    unwatch();
    unbind(false);
    Object.values(due).forEach(clearTimeout);
    link.close();
    unmount();
  };
}

export default { render };
