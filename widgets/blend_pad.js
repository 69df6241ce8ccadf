/**
 * Two adapters or vectors at once: a map of their strengths, a point to drag on it, and the next token without and
 * with them there. State lives in the model: `axes`, `about`, `at`, `target`, `grid`, `done`, `cells`, `state`,
 * `shown`, `problem`.
 */
import { framed, mapArea } from "./blend_pad_area.js";
import { COLOURS, csvOf, picture } from "./blend_pad_file.js";
import { placeOf, stepOf } from "./blend_pad_map.js";
import { gridRows, pointText, progressText, targetText } from "./blend_pad_words.js";
import { announcer, button, h, keyHelp, keys, mount, tableView } from "./shared/dom.js";
import { effectTable, effectText } from "./shared/effect.js";
import { exportMenu } from "./shared/export.js";
import { fieldState, kernelText, settle } from "./shared/field.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { newestWins } from "./shared/newest_wins.js";
import { kernelNumber } from "./shared/number.js";
import { progressBar } from "./shared/progress.js";
import { palette } from "./shared/svg.js";

const NONE = "Two adapters or control vectors make a map: switch on two.";
const FIRST = 9; // cells of the first picture
const HELP = [
  ["← →", "on the point: less, more of the first"],
  ["↑ ↓", "on the point: more, less of the second"],
  ["Home", "on the point: none of both"],
  ["Esc", "compute no more of the map"],
  ["?", "these keys"],
];
const MAPS =
  "A text that may follow the prompt, with the space before its first word: the map shows how likely it is. " +
  "Without one the map shows the KL. Enter applies it";

/** A point of two strengths, bound to the kernel: the hand leads, the newest wins. */
function kernelPoint({ held, send, draw, complain }) {
  const state = fieldState(held());
  let at = held();
  const put = (next) => draw((at = next));
  const show = (next) => state.shows(next) && put(next);
  const deliver = settle({ state, send, held, show, complain });
  const queue = newestWins((next, seq) => deliver(next, seq).then(() => queue.accept(seq)));
  const move = (next, released) => {
    if (next[0] === at[0] && next[1] === at[1] && !released) return;
    state.moved();
    queue.push(next, { released });
    put(next);
  };
  return { at: () => at, move, show, slow: () => queue.slow };
}

/** The files of the map; `drawn()` is what its picture shows, null where there is none. */
const filesOf = (model, drawn) => ({
  CSV: () => csvOf(model.get("grid"), model.get("axes")),
  SVG: (node) => drawn() && picture(drawn(), palette(node, COLOURS)),
});

function elements(model, { map, target, act, drawn, says }) {
  const voice = announcer();
  const frame = framed(map.node);
  const title = h("h3", { class: "mll-title" });
  const about = h("span", { class: "mll-quiet mll-bp-about" });
  const far = h("span", { class: "mll-quiet mll-figures mll-bp-far" });
  const stop = button("", "", act);
  const help = keyHelp(HELP);
  const saving = exportMenu("map", filesOf(model, drawn)).node;
  const head = h("header", { class: "mll-bp-bar" }, title, about, far, stop, saving, help.button);
  const bar = progressBar({ className: "mll-bp-progress", label: "Progress of the map" });
  const levers = h("div", { class: "mll-bp-levers mll-live" });
  const empty = h("p", { class: "mll-quiet" }, NONE);
  const effect = h("p", { class: "mll-bp-effect mll-figures" });
  const next = effectTable(says);
  const line = h("div", { class: "mll-bp-line" }, effect, next.saving);
  const problem = h("p", { class: "mll-problem", role: "alert" });
  const gone = goneNote(model);
  const side = h("div", { class: "mll-bp-side" }, target.node, line, next.node);
  const main = h("div", { class: "mll-bp-main" }, frame.node, side);
  const rows = () => gridRows(model.get("grid"), model.get("axes"));
  const columns = () => [...model.get("axes").map(({ name }) => name).reverse(), "nats"];
  const table = tableView(columns, rows, { caption: "The map, by strengths" });
  const foot = h("div", { class: "mll-bp-foot" }, map.legend, table.node);
  const all = [head, bar.node, gone, empty, levers, main, foot, problem, help.node, voice.node];
  const root = h("section", { class: "mll mll-bp", "aria-label": "Blend pad" }, all);
  const lines = { title, about, far, saving, empty, effect, problem, gone };
  return { root, voice, frame, stop, help, bar, levers, next, main, foot, table, ...lines };
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  const send = ([x, y], seq) => link.ask("set", { x, y, seq });
  const held = () => get("at");
  const point = kernelPoint({ held, send, draw: (at) => drawPoint(at), complain: (why) => complain(why) });
  const map = mapArea({ grid: () => get("grid"), axes: () => get("axes"), move: point.move });
  const target = kernelText({
    name: "target",
    title: "Blend pad",
    label: "text",
    value: get("target"),
    held: () => get("target"),
    send: (text) => link.ask("target", { text }),
  });
  target.node.title = MAPS;
  target.node.querySelector("input").placeholder = "or a text that may follow";
  const act = () => link.ask(get("state") === "running" ? "stop" : "go_on").catch((error) => complain(error.message));
  const parts = elements(model, { map, target, act, drawn, says });
  const { root, voice } = parts;
  let [numbers, known] = [[], ""]; // the boxes of both, and what axes they are for

  function says() {
    return [`Next token without and with ${pointText(get("axes"), get("shown").at)}`, parts.effect.textContent];
  }
  function drawn() {
    const [axes, at, image] = [get("axes"), point.at(), map.image()];
    const place = axes.length ? placeOf(at, axes.map(({ reach }) => reach)) : [];
    const far = get("state") === "finished" ? "" : progressText(get("state"), get("done"), get("cells"));
    const text = get("grid").of === "logprob" && `of the text “${get("target")}”`;
    return image && { map: image, axes, at, place, says: [parts.title.textContent, get("about"), text, far] };
  }
  function complain(text) {
    parts.problem.textContent = text || get("problem");
  }
  function drawPoint(at) {
    if (get("axes").length) map.put(at);
    numbers.forEach((one, k) => one.show(at[k]));
  }
  function drawAxes() {
    const axes = get("axes");
    const now = JSON.stringify(axes);
    if (now !== known) {
      known = now;
      numbers = axes.map((axis, k) => numberOf(axis, k));
      parts.levers.replaceChildren(...numbers.map(({ node }) => node));
      parts.frame.show(axes);
    }
    const names = axes.map(({ name }) => h("bdi", {}, name));
    parts.title.replaceChildren(...(names.length ? ["Blend of ", names[0], " and ", names[1]] : ["Blend"]));
    parts.title.title = parts.title.textContent;
    parts.about.textContent = parts.about.title = get("about");
    parts.main.hidden = parts.foot.hidden = parts.saving.hidden = !axes.length;
    drawPoint(point.at());
  }
  function numberOf({ name, reach }, k) {
    return kernelNumber({
      ...{ name: "xy"[k], label: name, title: "Blend pad", low: -reach, high: reach, step: 0.01, value: get("at")[k] },
      help: "How strongly it acts. The box takes more, and the map goes farther then.",
      held: () => get("at")[k],
      send: (value, seq) => link.ask("set", { ["xy"[k]]: value, seq }),
    });
  }
  function drawEffect() {
    const shown = get("shown");
    const some = Boolean(shown.rows) && get("axes").length > 0;
    const said = some ? `${targetText(shown)}${effectText(shown)}` : "";
    if (parts.effect.textContent !== said && some) voice.say(`${pointText(get("axes"), shown.at)}: ${said}`);
    parts.effect.textContent = said;
    parts.next.node.hidden = parts.next.saving.hidden = !some;
    if (some) parts.next.show(shown.rows, "without", "with both");
    parts.empty.hidden = Boolean(get("problem")) || get("axes").length > 0;
    parts.problem.textContent = get("problem");
    root.toggleAttribute("data-stale", Boolean(get("problem")));
  }
  function drawProgress() {
    const [state, done, cells] = [get("state"), get("done"), get("cells")];
    const text = progressText(state, done, cells);
    parts.far.textContent = point.slow() ? "the kernel is far: the point acts when released" : text;
    const running = state === "running";
    const canAct = running || state === "stopped" || state === "failed";
    if (!canAct && parts.stop === parts.stop.ownerDocument.activeElement) map.point.focus();
    parts.stop.hidden = !canAct;
    parts.stop.textContent = running ? "Stop" : "Go on";
    parts.stop.title = running ? "Compute no more of the map (Esc)" : "Compute the rest of the map";
    parts.bar.node.style.visibility = running ? "" : "hidden";
    map.node.toggleAttribute("data-old", running && done < FIRST);
    parts.bar.show(running ? done / cells : 0, text);
  }
  function drawMap() {
    map.paint();
    parts.table.refresh();
  }
  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    map.node.toggleAttribute("data-off", !alive);
    parts.gone.hidden = alive;
    parts.stop.disabled = !alive;
    target.disable(!alive);
    numbers.forEach((one) => one.disable(!alive));
  }
  const step = (dx, dy) => (event) => {
    if (event.target !== map.point || !link.alive) return false;
    const [axes, at] = [get("axes"), point.at()];
    const by = [dx, dy].map((sign, k) => sign * stepOf(axes[k].reach));
    point.move(
      at.map((x, k) => Number(Math.min(axes[k].reach, Math.max(-axes[k].reach, x + by[k])).toPrecision(12))),
      true,
    );
  };
  const unbind = keys(root, {
    ArrowLeft: step(-1, 0),
    ArrowRight: step(1, 0),
    ArrowUp: step(0, 1),
    ArrowDown: step(0, -1),
    Home: (event) => (event.target === map.point && link.alive ? point.move([0, 0], true) : false),
    ...parts.help.keys,
    Escape: () => (parts.help.open ? parts.help.hide() : get("state") === "running" ? void act() : false),
  });
  const unwatch = watch(model, {
    ...{ axes: () => [drawAxes(), drawEffect()], about: drawAxes, grid: drawMap, shown: drawEffect },
    ...{ problem: drawEffect, state: drawProgress, done: drawProgress, cells: drawProgress },
    ...{ at: () => point.show(get("at")), target: () => target.show(get("target")) },
  });
  const unmount = mount(el, root);
  [drawAxes, drawEffect, drawProgress, drawMap].forEach((draw) => draw());
  link.ping();
  return () => [unwatch, unbind, map.close, voice.close, link.close, unmount].forEach((end) => end());
}

export default { render };
