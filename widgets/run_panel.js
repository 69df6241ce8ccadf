/**
 * Prompt, Run and Stop, figures, and the runs so far. State lives in the model: `prompt`, `seed`,
 * `max_tokens`, `state`, `message`, `progress`, `meters`, `history`, `shown`, `listed`.
 */
import { comparisonView, ticked } from "./shared/comparison.js";
import { announcer, button, h, icon, keys } from "./shared/dom.js";
import { kernelText } from "./shared/field.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { progressBar } from "./shared/progress.js";
import { historyView } from "./run_panel_history.js";
import { promptField } from "./run_panel_prompt.js";
import { METERS, progressOf, stateText } from "./run_panel_words.js";

const BUSY = new Set(["queued", "prompt", "running"]);

function meterList() {
  const values = METERS.map(() => h("span", { class: "mll-rp-figure" }, "n/a"));
  const meter = ([label], i) => h("div", {}, h("span", { class: "mll-quiet" }, label), " ", values[i]);
  const group = { class: "mll-rp-meters mll-figures", role: "group", "aria-label": "Figures of the run" };
  const show = (now) =>
    METERS.forEach(([, name, text], i) => {
      values[i].textContent = name in now ? text(now) : "n/a";
    });
  return { node: h("div", group, METERS.map(meter)), show };
}

function elements(model, prompt, { start, attempt, whole, choose }) {
  const problem = h("p", { class: "mll-problem", role: "alert" });
  const gone = goneNote(model);
  const voice = announcer();
  const runs = "Run this prompt (Ctrl+Enter or Cmd+Enter in the prompt)";
  const run = button("Run", runs, start, { "data-main": true });
  const stop = button("Stop", "Stop the run (Esc)", () => attempt("stop"));
  const seed = whole("seed", "seed");
  const most = whole("max_tokens", "max tokens");
  const dice = icon("⚄", "Another seed by chance", () => attempt("dice"));
  const line = h("span", { class: "mll-rp-state" });
  const far = h("span", { class: "mll-quiet mll-figures" });
  const bar = progressBar({ className: "mll-rp-progress", label: "Progress of the run" });
  const meters = meterList();
  const history = historyView({ select: (n) => attempt("select", { number: n }), choose });
  const hint = h("p", { class: "mll-quiet" }, "Choose a run to show it; tick two to four to compare them.");
  const compared = h("div");
  const controls = h("div", { class: "mll-rp-bar mll-live" }, run, stop, seed.node, dice, most.node);
  const status = h("div", { class: "mll-rp-status" }, line, far);
  const above = [gone, prompt.node, controls, problem, status, bar.node];
  const below = [meters.node, history.node, hint, compared, voice.node];
  const root = h("section", { class: "mll mll-rp", "aria-label": "Run" }, above, below);
  return { root, problem, gone, voice, run, stop, seed, most, line, far, bar, meters, history, hint, compared };
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  let ticks = []; // the runs that are compared
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
  const prompt = promptField({ model, attempt });
  const parts = elements(model, prompt, { start, attempt, whole, choose });
  const { root, history, voice, line } = parts;

  function start() {
    if (!parts.run.disabled) prompt.run();
  }
  async function choose(n) {
    ticks = ticked(ticks, n);
    drawHistory();
    if (ticks.length < 2) return parts.compared.replaceChildren();
    const asked = ticks.join();
    const reply = await attempt("compare", { numbers: ticks });
    if (reply && asked === ticks.join()) parts.compared.replaceChildren(comparisonView(reply));
  }
  function drawState() {
    const [state, meters] = [get("state"), get("meters")];
    const text = stateText(state, meters, get("message"));
    if (line.textContent !== text) {
      line.textContent = text;
      voice.say(text);
    }
    line.toggleAttribute("data-bad", state === "failed");
    root.dataset.state = state;
    parts.run.disabled = BUSY.has(state) || !link.alive;
    parts.stop.disabled = !BUSY.has(state) || !link.alive;
    const far = progressOf(state, get("progress"), meters.tokens ?? 0, get("max_tokens"));
    parts.far.textContent = far.text;
    parts.bar.show(far.share, far.text || text);
  }
  function drawMeters() {
    parts.meters.show(get("meters"));
    drawState();
  }
  function drawHistory() {
    const runs = get("listed") ? get("history") : [];
    ticks = ticks.filter((n) => runs.some((one) => one.number === n));
    history.draw(runs, get("shown"), ticks);
    history.node.hidden = parts.hint.hidden = !get("listed");
  }
  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    parts.gone.hidden = alive;
    prompt.node.readOnly = !alive;
    for (const node of root.querySelectorAll("button, input")) node.disabled = !alive;
    drawState();
  }
  const unbind = keys(root, {
    "Ctrl+Enter": (event) => (event.target === prompt.node ? start() : false),
    Escape: () => (BUSY.has(get("state")) ? void attempt("stop") : false),
  });
  const told = (act, ...traits) => Object.fromEntries(traits.map((name) => [name, act]));
  const unwatch = watch(model, {
    prompt: prompt.draw,
    seed: () => parts.seed.show(String(get("seed"))),
    max_tokens: () => parts.most.show(String(get("max_tokens"))),
    meters: drawMeters,
    ...told(drawState, "state", "message", "progress"),
    ...told(drawHistory, "history", "shown", "listed"),
  });
  drawMeters();
  drawHistory();
  el.append(root);
  link.ping();
  root.addEventListener("pointerenter", link.ping);
  return () => {
    unwatch();
    prompt.close();
    unbind();
    history.unbind();
    voice.close();
    link.close();
    root.remove();
  };
}

export default { render };
