/**
 * What other settings would have made of a run: a line in words, a bar a token over the values of
 * one setting that keep it, crossed by a line where that setting is now, and what each stage changed.
 */
import { announcer, glyphs, h, keyHelp, keys, tableView } from "./shared/dom.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { count, number, visible } from "./shared/text.js";

export const [LOW_FLIPS, HIGH_FLIPS, UNSURE, GIVEN] = [1, 2, 4, 8];

/** Where a value lies on the scale of the bars, 0 to 1. */
export function placeOf(value, { range: [low, high], scale }) {
  const at = scale === "log" && low > 0 ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
  return Math.max(0, Math.min(1, Number.isFinite(at) ? at : 0));
}

/** The tokens that are another choice at a value: as a replay saw it there, else as the bars say. */
export function flippedAt(value, { low, high, marks }, seen = {}) {
  if (value === null || value === undefined) return [];
  if (seen.at === value) return seen.differs;
  return marks
    .map((_, i) => i)
    .filter(
      (i) =>
        low[i] !== null && ((value < low[i] && marks[i] & LOW_FLIPS) || (value > high[i] && marks[i] & HIGH_FLIPS)),
    );
}

/** The interval of a token in words. */
export function intervalText({ low, high, marks, setting }, i) {
  if (marks[i] & GIVEN) return "given, not drawn: no setting changes it";
  if (low[i] > high[i]) return `is the choice with no value of ${setting} that was tried`;
  const [down, up] = [marks[i] & LOW_FLIPS, marks[i] & HIGH_FLIPS];
  const ends =
    down && up
      ? `from ${number(low[i], 4)} to ${number(high[i], 4)}`
      : down
        ? `from ${number(low[i], 4)} on`
        : up
          ? `up to ${number(high[i], 4)}`
          : "over all of the scale";
  return `stays the choice with ${setting} ${ends}${marks[i] & UNSURE ? ", as far as what was kept tells" : ""}`;
}

/** How many tokens a value changes, in words. */
export function flipText(value, bars, seen = {}) {
  const drawn = seen.at === value ? seen.of : bars.marks.filter((mark) => !(mark & GIVEN)).length;
  if (value === null || value === undefined) return `${bars.label} is not in the chain now`;
  const gone = flippedAt(value, bars, seen);
  const told = `${bars.label} at ${number(value, 4)} changes ${count(gone.length)} of ${count(drawn)} choices`;
  return gone.length ? `${told}, the first at step ${gone[0] + 1}` : told;
}

/** What a bar is, on which scale, and how far it holds. */
function legendText({ label, marks, more, scale, range: [low, high], was }) {
  const part = more ? `the first ${marks.length} tokens; ` : "";
  return [
    `${part}a bar spans the values of ${label} that keep its token, ` +
      "with the same draws, the text before it and the other settings as they are now",
    `scale ${scale}, ${number(low, 4)} to ${number(high, 4)}; it was ${number(was, 4)}`,
    "after the first change, a rerun would have other text",
  ].join(" · ");
}

/** "changed 3 of 24", "n/a" where nothing could be compared, and why the stage does nothing. */
export const effectText = ([, changed, of, why]) =>
  [of ? `changed ${count(changed)} of ${count(of)}` : "n/a", why].filter(Boolean).join(" · ");

function render({ model, el }) {
  const link = connect(model, {
    onAlive: (alive) => {
      root.toggleAttribute("data-gone", !alive);
      gone.hidden = alive;
    },
  });
  let at = -1;
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
  const table = tableView(["step", "token", "stays from", "to", "now"], rows, {
    caption: "Values of the setting over which each token stays the choice, with the same draws.",
  });
  const help = keyHelp([
    ["← →", "the token before, after"],
    ["Home End", "the first, last token"],
    ["?", "these keys"],
  ]);
  const chart = h("div", { class: "mll-wi-chart" }, axis, plot);
  const figure = h("div", {}, flips, chart, told, legend, table.node);
  const stages = h(
    "div",
    {},
    h("p", { class: "mll-quiet" }, "What each stage did here: choices that differ when it alone is taken out"),
    effects,
  );
  const root = h(
    "section",
    { class: "mll mll-wi", "aria-label": "What if" },
    h("header", { class: "mll-wi-head" }, h("h3", { class: "mll-title" }, "What if"), busy),
    gone,
    line,
    figure,
    stages,
    help.node,
    voice.node,
  );

  const shown = () => model.get("bars");
  function rows() {
    const map = shown();
    if (!map.marks) return [];
    const out = new Set(flippedAt(model.get("at"), map, model.get("seen")));
    return map.texts.map((text, i) => [
      i + 1,
      visible(text)
        .map((part) => part.text)
        .join(""),
      ...(map.low[i] > map.high[i] ? ["nowhere", ""] : [number(map.low[i], 4), number(map.high[i], 4)]),
      out.has(i) ? "another choice" : "stays",
    ]);
  }
  function mark(i) {
    const map = shown();
    bars.children[at]?.removeAttribute("data-at");
    at = map.marks ? Math.max(-1, Math.min(map.marks.length - 1, i)) : -1;
    bars.children[at]?.setAttribute("data-at", "");
    told.replaceChildren();
    told.toggleAttribute("data-empty", at < 0);
    if (at < 0) told.append("Point at a bar, or focus them and press ← or →, to read its token and interval.");
    else
      told.append(
        `step ${at + 1} `,
        h("b", { class: "mll-wi-token" }, glyphs(visible(map.texts[at]))),
        ` ${intervalText(map, at)}`,
      );
  }
  function drawBars() {
    const map = shown();
    figure.hidden = !map.marks;
    if (!map.marks) return bars.replaceChildren();
    bars.replaceChildren(
      ...map.marks.map((marks, i) => {
        const [low, high] = marks & GIVEN ? [0, 1] : [placeOf(map.low[i], map), placeOf(map.high[i], map)];
        const span = h("i", {
          hidden: low > high,
          style: { bottom: `${low * 100}%`, height: `${Math.max(0.5, (high - low) * 100)}%` },
        });
        return h(
          "span",
          { class: "mll-wi-bar", "data-given": Boolean(marks & GIVEN), "data-unsure": Boolean(marks & UNSURE) },
          span,
        );
      }),
    );
    axis.firstChild.textContent = number(map.range[1], 4);
    axis.lastChild.textContent = number(map.range[0], 4);
    legend.textContent = legendText(map);
    mark(-1);
    drawNow();
  }
  function drawNow() {
    const map = shown();
    if (!map.marks) return;
    const value = model.get("at");
    now.hidden = value === null;
    if (value !== null) now.style.bottom = `${placeOf(value, map) * 100}%`;
    const out = new Set(flippedAt(value, map, model.get("seen")));
    [...bars.children].forEach((bar, i) => bar.toggleAttribute("data-out", out.has(i)));
    flips.textContent = flipText(value, map, model.get("seen"));
    plot.setAttribute("aria-label", `${flips.textContent}. Left and right go from token to token.`);
    table.refresh();
  }
  function drawWords() {
    const said = model.get("line");
    line.textContent = said || "After a run this says what other settings would have chosen at each of its steps.";
    line.toggleAttribute("data-empty", !said);
    busy.textContent = model.get("busy");
  }
  function drawEffects() {
    const all = model.get("effects");
    stages.hidden = !all.length;
    effects.replaceChildren(
      ...all.map((row) =>
        h(
          "li",
          { "data-none": row[1] === 0 },
          h("span", { class: "mll-wi-stage", title: row[0] }, row[0]),
          h("span", { class: "mll-wi-effect" }, effectText(row)),
        ),
      ),
    );
  }
  const barOf = (event) => [...bars.children].indexOf(event.target.closest(".mll-wi-bar"));
  bars.addEventListener("pointerover", (event) => mark(barOf(event)));
  bars.addEventListener("click", (event) => mark(barOf(event)));
  const go = (to) => {
    mark(to);
    voice.say(told.textContent);
  };
  const undo = keys(plot, {
    ArrowLeft: () => go(Math.max(0, at - 1)),
    ArrowRight: () => go(at + 1),
    Home: () => go(0),
    End: () => go(Infinity),
    "?": () => help.toggle(),
    Escape: () => (help.open ? help.hide() : false),
  });
  const unwatch = watch(model, {
    bars: drawBars,
    at: drawNow,
    seen: drawNow,
    line: drawWords,
    busy: drawWords,
    effects: drawEffects,
  });
  drawBars();
  drawWords();
  drawEffects();
  el.append(root);
  link.ping();
  root.addEventListener("pointerenter", link.ping);
  return () => {
    unwatch();
    undo();
    voice.close();
    link.close();
    root.remove();
  };
}

export default { render };
