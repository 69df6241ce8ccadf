/**
 * What other settings would have made of a run: a line in words, a bar a token over the values of
 * one setting that keep it, crossed by a line where that setting is now, and what each stage changed.
 */
import { announcer, glyphs, h, keyHelp, keys, mount, tableView } from "./shared/dom.js";
import { csvTable, exportMenu } from "./shared/export.js";
import { whatIfLever } from "./what_if_lever.js";
import { tokenNames } from "./what_if_names.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { palette } from "./shared/svg.js";
import { number, visible } from "./shared/text.js";
import { COLOURS, csvRows, picture } from "./what_if_file.js";
import {
  COLUMNS,
  effectText,
  flippedAt,
  flipText,
  GIVEN,
  intervalText,
  legendText,
  placeOf,
  tableRows,
  UNSURE,
} from "./what_if_words.js";

const HELP = [
  ["← →", "the token before, after"],
  ["Home End", "the first, last token"],
  ["?", "these keys"],
];
const CAPTION = "Values of the setting over which each token stays the choice, with the same draws.";
const BEFORE = "After a run this says what other settings would have chosen at each of its steps.";
const POINT = "Point at a bar, or focus them and press ← or →, to read its token and interval.";
const EFFECTS = "What each stage did here: choices that differ when it alone is taken out";

function elements(model, rows, files, lever) {
  const saving = exportMenu("what if", files);
  const gone = goneNote(model);
  const voice = announcer();
  const busy = h("span", { class: "mll-quiet" });
  const line = h("p", { class: "mll-wi-line mll-figures" });
  const flips = h("p", { class: "mll-wi-flips mll-figures" });
  const axis = h("div", { class: "mll-wi-axis mll-figures", "aria-hidden": "true" }, h("span"), h("span"));
  const bars = h("div", { class: "mll-wi-bars" });
  const now = h("i", { class: "mll-wi-now" });
  const plot = h("div", { class: "mll-wi-plot mll-live", tabindex: 0, role: "group" }, bars, now);
  const told = h("p", { class: "mll-wi-told mll-figures" });
  const legend = h("p", { class: "mll-quiet mll-wi-legend" });
  const effects = h("ul", { class: "mll-wi-effects mll-figures" });
  const table = tableView(() => COLUMNS, rows, { caption: CAPTION });
  const help = keyHelp(HELP);
  const chart = h("div", { class: "mll-wi-chart" }, axis, plot);
  const names = tokenNames(plot, chart);
  const figure = h("div", {}, flips, chart, told, legend, table.node);
  const stages = h("div", {}, h("p", { class: "mll-quiet" }, EFFECTS), effects);
  const title = h("h3", { class: "mll-title" }, "What if");
  const head = h("header", { class: "mll-wi-head" }, title, lever, busy, saving.node);
  const all = [head, gone, line, figure, stages, help.node, voice.node];
  const root = h("section", { class: "mll mll-wi", "aria-label": "What if" }, all);
  const texts = { busy, line, flips, told, legend };
  return { root, gone, voice, axis, bars, names, now, plot, effects, table, help, figure, stages, ...texts };
}

function barOf(map, marks, i) {
  const [low, high] = marks & GIVEN ? [0, 1] : [placeOf(map.low[i], map), placeOf(map.high[i], map)];
  const style = { bottom: `${low * 100}%`, height: `${Math.max(0.5, (high - low) * 100)}%` };
  const flags = { "data-given": Boolean(marks & GIVEN), "data-unsure": Boolean(marks & UNSURE) };
  return h("span", { class: "mll-wi-bar", ...flags }, h("i", { hidden: low > high, style }));
}

const effectOf = (row) =>
  h(
    "li",
    { "data-none": row[1] === 0 },
    h("span", { class: "mll-wi-stage", title: row[0] }, row[0]),
    h("span", { class: "mll-wi-effect" }, effectText(row)),
  );

/** Call `mark(i)` with the place of the child that the pointer is on. */
function pointing(node, mark) {
  const act = ({ target }) => mark([...node.children].findIndex((one) => one.contains(target)));
  for (const type of ["pointerover", "click"]) node.addEventListener(type, act);
}

function render({ model, el }) {
  let at = -1; // the token at hand
  const get = (name) => model.get(name);
  const shown = () => ["bars", "at", "seen"].map(get);
  const files = {
    CSV: () => csvTable(COLUMNS, csvRows(...shown())),
    SVG: (node) => (get("bars").marks ? drawn(node) : null),
  };
  const link = connect(model, { onAlive: setAlive });
  const lever = whatIfLever(model, link);
  const parts = elements(model, () => tableRows(...shown()), files, lever.node);
  const { root, bars, names, told, voice, help } = parts;
  const rows = [bars, names.node];
  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    parts.gone.hidden = alive;
    lever.disable(!alive);
  }
  function drawn(node) {
    const [bars, at, seen] = shown();
    return picture({ bars, at, seen, line: get("line") }, palette(node, COLOURS));
  }
  function mark(i) {
    const map = get("bars");
    for (const of of rows) of.children[at]?.removeAttribute("data-at");
    at = map.marks ? Math.max(-1, Math.min(map.marks.length - 1, i)) : -1;
    for (const of of rows) of.children[at]?.setAttribute("data-at", "");
    told.toggleAttribute("data-empty", at < 0);
    if (at < 0) return told.replaceChildren(POINT);
    const token = h("b", { class: "mll-wi-token" }, glyphs(visible(map.texts[at])));
    told.replaceChildren(`step ${at} `, token, ` ${intervalText(map, at)}`);
  }
  function drawBars() {
    const map = get("bars");
    parts.figure.hidden = !map.marks;
    names.draw(map.marks ? map.texts : []);
    if (!map.marks) return bars.replaceChildren();
    bars.replaceChildren(...map.marks.map((marks, i) => barOf(map, marks, i)));
    parts.axis.firstChild.textContent = number(map.range[1], 4);
    parts.axis.lastChild.textContent = number(map.range[0], 4);
    parts.legend.textContent = legendText(map);
    mark(-1);
    drawNow();
  }
  function drawNow() {
    const [map, value, seen] = shown();
    if (!map.marks) return;
    parts.now.hidden = value === null;
    if (value !== null) parts.now.style.bottom = `${placeOf(value, map) * 100}%`;
    const out = new Set(flippedAt(value, map, seen));
    [...bars.children].forEach((bar, i) => bar.toggleAttribute("data-out", out.has(i)));
    parts.flips.textContent = flipText(value, map, seen);
    parts.plot.setAttribute("aria-label", `${parts.flips.textContent}. Left and right go from token to token.`);
    parts.table.refresh();
  }
  function drawWords() {
    parts.line.textContent = get("line") || BEFORE;
    parts.line.toggleAttribute("data-empty", !get("line"));
    parts.busy.textContent = get("busy");
  }
  function drawEffects() {
    parts.stages.hidden = !get("effects").length;
    parts.effects.replaceChildren(...get("effects").map(effectOf));
  }
  for (const of of rows) pointing(of, mark);
  const go = (to) => {
    mark(to);
    voice.say(told.textContent);
  };
  const unbind = keys(parts.plot, {
    ArrowLeft: () => go(Math.max(0, at - 1)),
    ArrowRight: () => go(at + 1),
    Home: () => go(0),
    End: () => go(Infinity),
    ...help.keys,
  });
  const levers = { levers: lever.draw, lever: lever.draw };
  const words = { line: drawWords, busy: drawWords, effects: drawEffects };
  const unwatch = watch(model, { ...levers, ...words, bars: drawBars, at: drawNow, seen: drawNow });
  lever.draw();
  drawBars();
  drawWords();
  drawEffects();
  const unmount = mount(el, root);
  link.ping();
  root.addEventListener("pointerenter", link.ping);
  return () => {
    unwatch();
    unbind();
    names.close();
    voice.close();
    link.close();
    unmount();
  };
}

export default { render };
