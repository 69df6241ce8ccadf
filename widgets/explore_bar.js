/**
 * Explore: a budget, how far it is, and what the tree takes of the context. State lives in the
 * model: `budget`, `length`, `state`, `message`, `origin`, `found`, `room`, `note`.
 */
import { announcer, button, h, keys } from "./shared/dom.js";
import { kernelText } from "./shared/field.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { progressBar } from "./shared/progress.js";
import { count, percent, readable } from "./shared/text.js";

/** What came of it, in words. */
export function foundText(state, found, budget) {
  if (state === "running") return `Exploring… ${count(found.expanded ?? 0)} of at most ${count(budget)}`;
  if (!found.prefixes)
    return state === "stopped"
      ? "Stopped before anything was found."
      : "Finds the likeliest beginnings of what may follow, best first.";
  const paths = `${count(found.leaves)} ${found.leaves === 1 ? "path" : "paths"}`;
  const beginnings = `${count(found.prefixes)} likeliest ${found.prefixes === 1 ? "beginning" : "beginnings"}`;
  const what = `the ${beginnings}, ${paths} with ${percent(found.mass)} of the probability there`;
  return `${state === "stopped" ? "Stopped: " : "Found "}${what}.`;
}

/** What the tree takes of the context; "" while it fits. */
export function roomText([used, all]) {
  if (!all || used <= all) return "";
  return [
    `The tree has ${count(used)} tokens and the context room for ${count(all)}:`,
    "paths that the cache has lost are decoded again when you branch off them. Prune what you need no more.",
  ].join(" ");
}

function elements(model, { start, attempt, whole }) {
  const voice = announcer();
  const problem = h("p", { class: "mll-problem", role: "alert" });
  const gone = goneNote(model);
  const explore = button("Explore", "Find the likeliest paths, best first", start);
  const stop = button("Stop", "Stop exploring; what was found stays (Esc)", () => attempt("stop"));
  const trims = "Prune unnamed branches, the least likely per token first, until the tree fits";
  const trim = button("Prune the least likely", trims, () => attempt("trim"));
  const budget = whole("budget", "budget");
  const length = whole("length", "tokens a path");
  const from = h("span", { class: "mll-quiet mll-xb-from" });
  const line = h("span", { class: "mll-quiet mll-figures", "data-said": true });
  const bar = progressBar({ className: "mll-xb-progress", label: "Progress of the exploration" });
  const full = h("div", { class: "mll-note mll-xb-full", role: "status", hidden: true }, h("span"), trim);
  const note = h("p", { class: "mll-quiet mll-xb-note", dir: "auto" });
  const controls = h("div", { class: "mll-xb-bar mll-live" }, explore, stop, budget.node, length.node, from);
  const all = [gone, controls, bar.node, line, problem, full, note, voice.node];
  const root = h("section", { class: "mll mll-xb", "aria-label": "Explore" }, all);
  return { root, voice, problem, gone, explore, stop, trim, budget, length, from, line, bar, full, note };
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  const parts = elements(model, { start, attempt, whole });
  const { root, line, voice } = parts;

  function attempt(op, args = {}) {
    return link.ask(op, args).catch((error) => {
      if (link.alive) parts.problem.textContent = error.message;
    });
  }
  function whole(name, label) {
    const number = (text) => (/^\s*\d{1,9}\s*$/.test(text) ? Number(text) : text.slice(0, 40));
    const send = (text) => link.ask("set", { name, value: number(text) });
    const now = () => String(get(name));
    return kernelText({ name, label, title: "Explore", value: now(), held: now, send });
  }
  function start() {
    if (!parts.explore.disabled) attempt("explore");
  }
  function drawProgress() {
    const [state, found] = [get("state"), get("found")];
    const running = state === "running";
    const text = foundText(state, found, get("budget"));
    if (line.textContent !== text) {
      line.textContent = text;
      if (!running) voice.say(text);
    }
    parts.bar.show(running ? Math.min(1, (found.expanded ?? 0) / get("budget")) : 0, text);
  }
  function draw() {
    const running = get("state") === "running";
    root.dataset.state = get("state");
    parts.explore.disabled = running || !link.alive;
    parts.stop.disabled = !running || !link.alive;
    parts.trim.disabled = !link.alive;
    drawProgress();
    parts.problem.textContent = get("message");
    const where = get("origin");
    parts.from.replaceChildren(where ? "after " : "from the prompt", where ? h("bdi", {}, readable(where)) : "");
    const room = roomText(get("room"));
    parts.full.hidden = !room;
    parts.full.firstChild.textContent = room;
    parts.note.textContent = get("note");
  }
  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    parts.gone.hidden = alive;
    parts.budget.disable(!alive);
    parts.length.disable(!alive);
    draw();
  }
  function showBudget() {
    parts.budget.show(String(get("budget")));
    draw();
  }
  const unbind = keys(root, { Escape: () => (get("state") === "running" ? void attempt("stop") : false) });
  const drawn = ["state", "message", "origin", "found", "room", "note"].map((name) => [name, draw]);
  const showLength = () => parts.length.show(String(get("length")));
  const unwatch = watch(model, { budget: showBudget, length: showLength, ...Object.fromEntries(drawn) });
  el.append(root);
  draw();
  link.ping();
  root.addEventListener("pointerenter", link.ping);
  return () => {
    unwatch();
    unbind();
    voice.close();
    link.close();
    root.remove();
  };
}

export default { render };
