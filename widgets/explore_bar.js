/**
 * Explore: a budget, how far it is, and what the tree takes of the context. State lives in the
 * model: `budget`, `length`, `state`, `message`, `origin`, `prompt`, `found`, `room`, `note`.
 */
import { announcer, button, h, icon, keyList, keys, mount } from "./shared/dom.js";
import { kernelText } from "./shared/field.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { progressBar } from "./shared/progress.js";
import { count, counted, percent, readable } from "./shared/text.js";

/** "36 paths of 1 to 5 tokens" */
function pathsText({ leaves, shortest, longest }) {
  const lengths = shortest < longest ? `${count(shortest)} to ${counted(longest, "token")}` : counted(longest, "token");
  return `${counted(leaves, "path")} of ${lengths}`;
}

/** Why paths are shorter than they may be; "" if none could go on. */
const openText = ({ open }) =>
  open
    ? ` ${count(open)} of them would go on with more budget; the others are of full length, or end the text.`
    : "";

/** What came of it, in words. */
export function foundText(state, found, budget) {
  if (state === "running") return `Exploring… ${count(found.expanded ?? 0)} of at most ${count(budget)}`;
  if (!found.prefixes)
    return state === "stopped"
      ? "Stopped before anything was found."
      : "Finds the likeliest beginnings of what may follow, best first.";
  const beginnings = counted(found.prefixes, "likeliest beginning");
  const what = `the ${beginnings}, ${pathsText(found)} with ${percent(found.mass)} of the probability there`;
  return `${state === "stopped" ? "Stopped: " : "Found "}${what}.${openText(found)}`;
}

/** The same in few words, for the line. */
export function foundBriefly(state, found, budget) {
  if (!found.prefixes && state === "idle") return "Finds the likeliest paths.";
  if (!found.prefixes || state === "running") return foundText(state, found, budget);
  const what = `${pathsText(found)}, ${percent(found.mass)} of the probability`;
  return `${state === "stopped" ? "Stopped: " : "Found "}${what}.`;
}

/** Where it would go on from: what that is, and the end of its text. */
export const fromText = (origin, prompt) =>
  origin ? ["from:", readable(origin)] : [prompt ? "from the prompt:" : "from the prompt", readable(prompt)];

/** What the tree takes of the context; "" where that is not known. */
export const roomText = ([used, all]) => (all ? `${count(used)} of ${count(all)} tokens` : "");

const isFull = ([used, all]) => all > 0 && used > all;
const FULL =
  "Paths that the cache has lost are decoded again when you branch off them. Trim, or prune what you need no more.";
const ROOM = "Tokens of the tree, and what the context has room for.";
const TRIM = "Prune unnamed branches, the least likely per token first, until the tree fits";

/** What is behind the "?": one paragraph for each thing that the line has no room for. */
export function notes({ from, line, room, note }) {
  const where = `Explores ${from}. Goes on from the likeliest beginning until the budget is spent.`;
  const takes = isFull(room) ? `The tree has more tokens than the context has room for. ${FULL}` : ROOM;
  return [where, line, roomText(room) && `${roomText(room)}. ${takes}`, note].filter(Boolean);
}

const HELP = [
  ["Esc", "stop exploring"],
  ["?", "this and these keys"],
];

function help() {
  const text = h("div");
  const node = h("div", { class: "mll-help mll-xb-help", role: "note", "aria-label": "About exploring", hidden: true });
  const hide = () => (node.hidden = true);
  const toggle = () => void (node.hidden = !node.hidden);
  node.append(text, keyList(HELP), icon("✕", "Close (Esc)", hide));
  const open = icon("?", "What this explores and how (?)", toggle, { "aria-label": "About exploring" });
  const draw = (all) => text.replaceChildren(...all.map((one) => h("p", { dir: "auto" }, one)));
  return { node, button: open, hide, toggle, draw, isOpen: () => !node.hidden };
}

function elements(model, { attempt, whole }) {
  const voice = announcer();
  const about = help();
  const problem = h("p", { class: "mll-problem", role: "alert" });
  const gone = goneNote(model);
  const explore = button("Explore", "Find the likeliest paths, best first", () => attempt("explore"));
  const stop = button("Stop", "Stop exploring; what was found stays (Esc)", () => attempt("stop"));
  const trim = button("Trim", TRIM, () => attempt("trim"));
  const budget = whole("budget", "budget");
  const length = whole("length", "length");
  budget.node.title = "Beginnings to go on from, and to find at most";
  length.node.title = "The most tokens of a path; how far each gets is a matter of the budget";
  const from = h("span", { class: "mll-quiet mll-xb-from" });
  const line = h("span", { class: "mll-quiet mll-figures mll-xb-line", "data-said": true });
  const room = h("span", { class: "mll-quiet mll-figures mll-xb-room" });
  const bar = progressBar({ className: "mll-xb-progress", label: "Progress of the exploration" });
  const asked = h("div", { class: "mll-xb-asked" }, explore, stop, budget.node, length.node);
  const told = h("div", { class: "mll-xb-told" }, from, line, room, trim);
  const controls = h("div", { class: "mll-xb-bar mll-live" }, asked, told, about.button);
  const all = [gone, controls, bar.node, problem, about.node, voice.node];
  const root = h("section", { class: "mll mll-xb", "aria-label": "Explore" }, all);
  return { root, voice, about, problem, gone, explore, stop, trim, budget, length, from, line, room, bar };
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  const parts = elements(model, { attempt, whole });
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
  function drawProgress() {
    const [state, found] = [get("state"), get("found")];
    const running = state === "running";
    const text = foundText(state, found, get("budget"));
    if (line.title !== text) {
      line.textContent = foundBriefly(state, found, get("budget"));
      line.title = text;
      if (!running) voice.say(text);
    }
    parts.bar.node.style.visibility = running ? "" : "hidden";
    parts.bar.show(running ? Math.min(1, (found.expanded ?? 0) / get("budget")) : 0, text);
  }
  function draw() {
    root.dataset.state = get("state");
    parts.explore.disabled = parts.stop.disabled = !link.alive;
    swap(get("state") === "running");
    parts.trim.disabled = !link.alive;
    drawProgress();
    parts.problem.textContent = get("message");
    drawWords();
  }
  /** Explore and Stop have one place, and whoever has the focus there keeps it. */
  function swap(running) {
    const [shown, other] = running ? [parts.stop, parts.explore] : [parts.explore, parts.stop];
    const focused = other.ownerDocument.activeElement === other;
    shown.hidden = false;
    other.hidden = true;
    if (focused) shown.focus();
  }
  function drawWords() {
    const room = get("room");
    const [what, where] = fromText(get("origin"), get("prompt"));
    const end = h("span", { class: "mll-xb-end" }, h("bdi", {}, where));
    parts.from.replaceChildren(h("span", {}, what), where ? end : "");
    const from = [what, where].filter(Boolean).join(" ");
    parts.from.title = `Explore goes on ${from}`;
    parts.room.textContent = roomText(room);
    parts.room.title = isFull(room) ? FULL : ROOM;
    parts.room.toggleAttribute("data-full", isFull(room));
    parts.trim.hidden = !isFull(room);
    parts.about.draw(notes({ from, line: line.title, room, note: get("note") }));
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
  const escape = () => {
    if (parts.about.isOpen()) return void parts.about.hide();
    return get("state") === "running" ? void attempt("stop") : false;
  };
  const unbind = keys(root, { Escape: escape, "?": parts.about.toggle });
  const drawn = ["state", "message", "origin", "prompt", "found", "room", "note"].map((name) => [name, draw]);
  const showLength = () => parts.length.show(String(get("length")));
  const unwatch = watch(model, { budget: showBudget, length: showLength, ...Object.fromEntries(drawn) });
  const unmount = mount(el, root);
  draw();
  link.ping();
  root.addEventListener("pointerenter", link.ping);
  return () => {
    unwatch();
    unbind();
    voice.close();
    link.close();
    unmount();
  };
}

export default { render };
