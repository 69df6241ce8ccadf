/**
 * Explore: a budget, how far it is, and what the tree takes of the context. State lives in the
 * model: `budget`, `length`, `state`, `message`, `origin`, `found`, `room`, `note`.
 */
import { announcer, button, h, keys } from "./shared/dom.js";
import { kernelText } from "./shared/field.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
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

function render({ model, el }) {
  const get = (name) => model.get(name);
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  const voice = announcer();
  const problem = h("p", { class: "mll-problem", role: "alert" });
  const gone = goneNote(model);
  const attempt = (op, args = {}) =>
    link.ask(op, args).catch((error) => {
      if (link.alive) problem.textContent = error.message;
    });
  const explore = button("Explore", "Find the likeliest paths, best first", () => start());
  const stop = button("Stop", "Stop exploring; what was found stays (Esc)", () => attempt("stop"));
  const trim = button(
    "Prune the least likely",
    "Prune unnamed branches, the least likely per token first, until the tree fits",
    () => attempt("trim"),
  );
  const whole = (name, label) =>
    kernelText({
      name,
      label,
      title: "Explore",
      value: String(get(name)),
      held: () => String(get(name)),
      send: (value) =>
        link.ask("set", { name, value: /^\s*\d{1,9}\s*$/.test(value) ? Number(value) : value.slice(0, 40) }),
    });
  const budget = whole("budget", "budget");
  const length = whole("length", "tokens a path");
  const from = h("span", { class: "mll-quiet mll-xb-from" });
  const line = h("span", { class: "mll-quiet mll-figures", "data-said": true });
  const bar = h(
    "div",
    {
      class: "mll-xb-progress",
      role: "progressbar",
      "aria-label": "Progress of the exploration",
      "aria-valuemin": 0,
      "aria-valuemax": 100,
    },
    h("i"),
  );
  const full = h("div", { class: "mll-note mll-xb-full", role: "status", hidden: true }, h("span"), trim);
  const note = h("p", { class: "mll-quiet mll-xb-note", dir: "auto" });
  const root = h(
    "section",
    { class: "mll mll-xb", "aria-label": "Explore" },
    gone,
    h("div", { class: "mll-xb-bar mll-live" }, explore, stop, budget.node, length.node, from),
    bar,
    line,
    problem,
    full,
    note,
    voice.node,
  );

  function start() {
    if (!explore.disabled) attempt("explore");
  }
  function draw() {
    const [state, found] = [get("state"), get("found")];
    const running = state === "running";
    explore.disabled = running || !link.alive;
    stop.disabled = !running || !link.alive;
    root.dataset.state = state;
    const text = foundText(state, found, get("budget"));
    if (line.textContent !== text) {
      line.textContent = text;
      if (!running) voice.say(text);
    }
    const share = running ? Math.min(1, (found.expanded ?? 0) / get("budget")) : 0;
    bar.firstChild.style.transform = `scaleX(${share.toFixed(4)})`;
    bar.setAttribute("aria-valuenow", String(Math.round(share * 100)));
    bar.setAttribute("aria-valuetext", text);
    problem.textContent = get("message");
    const where = get("origin");
    from.replaceChildren(where ? "after " : "from the prompt", where ? h("bdi", {}, readable(where)) : "");
    const said = roomText(get("room"));
    full.hidden = !said;
    full.firstChild.textContent = said;
    trim.disabled = !link.alive;
    note.textContent = get("note");
  }
  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    gone.hidden = alive;
    budget.disable(!alive);
    length.disable(!alive);
    draw();
  }
  const unbind = keys(root, { Escape: () => (get("state") === "running" ? void attempt("stop") : false) });
  const unwatch = watch(model, {
    budget: () => {
      budget.show(String(get("budget")));
      draw();
    },
    length: () => length.show(String(get("length"))),
    state: draw,
    message: draw,
    origin: draw,
    found: draw,
    room: draw,
    note: draw,
  });
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
