/**
 * Where each token's time went, as bars of its parts; a range is brushed and summed up by the kernel. State lives in
 * the model: `bars`, `chosen`, `sums` and `problem`.
 */
import { brush, span } from "./shared/brush.js";
import { h, keyHelp, keys, mount, tableView } from "./shared/dom.js";
import { HUES } from "./shared/hues.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { counted, duration, known, percent } from "./shared/text.js";

const HELP = [
  ["← →", "on an end of the steps that are chosen: one less, one more"],
  ["Home End", "that end at the first step, at the last"],
  ["?", "these keys"],
];
const NONE = "Nothing to show yet: put_to(studies.timing.timing(trace)) shows where the time went.";
const namesOf = (bars) => Object.keys(bars.labels ?? {});
const colourOf = (names, name) =>
  name === "rest" ? "var(--mll-removed)" : `var(--mll-hue-${names.indexOf(name) % HUES})`;

/** The steps of a bar, the first and the last. */
export function stepsOf(bars, bar) {
  const from = bars.first + bar * bars.per;
  return [from, Math.min(bars.first + bars.n, from + bars.per) - 1];
}

/** The mean milliseconds of a token in a bar; null where they are not known. */
export function totalOf(bars, bar) {
  const parts = Object.values(bars.parts).map((means) => means[bar]);
  return parts.every(known) ? parts.reduce((sum, ms) => sum + ms, 0) : null;
}

/** How high a bar is, 0 to 1, and whether it is cut off. */
export function heightOf(bars, bar) {
  const share = bars.scale ? (totalOf(bars, bar) ?? 0) / bars.scale : 0;
  return { share: Math.min(1, share), cut: share > 1.001 };
}

/** The parts of a bar as the stops of a gradient, from below. */
export function stopsOf(bars, bar) {
  const total = totalOf(bars, bar) || 1;
  const names = namesOf(bars);
  let from = 0;
  return names.map((name) => {
    const to = from + (100 * bars.parts[name][bar]) / total;
    const stop = `${colourOf(names, name)} ${from.toFixed(2)}% ${to.toFixed(2)}%`;
    from = to;
    return stop;
  }).join(",");
}

/** What a bar is, in words. */
export function barText(bars, bar) {
  const steps = stepsOf(bars, bar);
  const mean = bars.per > 1 ? ", mean of a token" : "";
  const said = (name) => `${bars.labels[name]} ${duration(bars.parts[name][bar])}`;
  const parts = namesOf(bars).filter((name) => bars.parts[name][bar]).map(said);
  return `${span(steps, "step")}: ${duration(totalOf(bars, bar))}${mean}: ${parts.join(", ")}`;
}

/** What the bars show, and on which scale. */
export function scaleText(bars) {
  const per = bars.per > 1 ? `, a bar is the mean of ${counted(bars.per, "token")}` : "";
  const cut = bars.n_cut ? `; ${counted(bars.n_cut, "bar")} higher, cut` : "";
  return `${counted(bars.n, "token")}${per}${cut}`;
}

/** The upper end of the scale. */
export const topText = (bars) => `to ${duration(bars.scale)}`;

/** The table: a row a bar. */
export const tableRows = (bars) =>
  (bars.parts?.decode ?? []).map((_, bar) => [
    span(stepsOf(bars, bar), "step").replace(/^steps? /, ""),
    duration(totalOf(bars, bar)),
    ...namesOf(bars).map((name) => duration(bars.parts[name][bar])),
  ]);

function laneOf(bars) {
  const says = h("span", { class: "mll-br-name" }, h("span", {}, "a token"), " ", h("span", {}, topText(bars)));
  const bar = (_, i) => {
    const { share, cut } = heightOf(bars, i);
    const [first, last] = stepsOf(bars, i);
    const size = { "--mll-share": share.toFixed(4), "--mll-tokens": last - first + 1 };
    const style = { ...size, "--mll-stops": stopsOf(bars, i) };
    return h("i", { style, "data-cut": cut, "data-none": totalOf(bars, i) === null });
  };
  return h("div", { class: "mll-ts-lane" }, says, h("div", { class: "mll-ts-bars" }, bars.parts.decode.map(bar)));
}

function partOf(bars, sums, name) {
  const [ms, share] = sums.parts[name];
  const swatch = h("i", { style: { "--mll-part": colourOf(namesOf(bars), name) } });
  return h("li", {}, swatch, `${bars.labels[name]} ${duration(ms)}, ${percent(share)}`);
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  const help = keyHelp(HELP);
  const about = h("span", { class: "mll-quiet mll-figures" });
  const title = h("h3", { class: "mll-title" }, "Time of each token");
  const head = h("header", { class: "mll-ts-head" }, title, about, help.button);
  const lanes = h("div");
  const barAt = (place) => Math.floor(place / get("bars").per);
  const range = brush({
    ...{ title: "Time", noun: "step", lanes },
    held: () => (get("chosen").length ? get("chosen") : undefined),
    send: (chosen, seq) => link.ask("set", { chosen, seq }),
    idText: (place) => barText(get("bars"), barAt(place)),
    rangeText: (chosen) => span(chosen, "step"),
  });
  const parts = h("ul", { class: "mll-legend mll-ts-parts mll-figures" });
  const lines = h("ul", { class: "mll-ts-lines mll-quiet mll-figures" });
  const body = h("div", { class: "mll-live mll-ts-body" }, range.node, parts, lines);
  const empty = h("p", { class: "mll-quiet" }, NONE);
  const gone = goneNote(model);
  const columns = () => ["steps", "a token", ...Object.values(get("bars").labels ?? {})];
  const rows = () => tableRows(get("bars"));
  const table = tableView(columns, rows, { caption: "Mean time of a token in each bar" });
  const problem = h("p", { class: "mll-problem", role: "alert" });
  const all = [head, gone, empty, problem, body, table.node, help.node];
  const root = h("section", { class: "mll mll-headed mll-ts", "aria-label": "Time of each token" }, all);

  function draw() {
    const bars = get("bars");
    const some = Boolean(bars.n);
    problem.textContent = get("problem");
    empty.hidden = some || Boolean(get("problem"));
    body.hidden = table.node.hidden = !some;
    about.textContent = some ? scaleText(bars) : "";
    lanes.replaceChildren(...(some ? [laneOf(bars)] : []));
    range.show(Array.from({ length: bars.n ?? 0 }, (_, i) => bars.first + i));
    table.refresh();
  }
  function sum() {
    const [bars, sums] = [get("bars"), get("sums")];
    const means = sums.parts ? namesOf(bars).map((name) => partOf(bars, sums, name)) : [];
    parts.replaceChildren(h("li", {}, "a token on average:"), ...means);
    lines.replaceChildren(...(sums.lines ?? []).map((line) => h("li", {}, line)));
  }
  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    gone.hidden = alive;
    range.disable(!alive);
  }
  const unbind = keys(root, { ...help.keys });
  const unwatch = watch(model, { bars: draw, problem: draw, chosen: range.arrived, sums: sum });
  draw();
  sum();
  const unmount = mount(el, root);
  link.ping();
  return () => [unwatch, unbind, range.close, link.close, unmount].forEach((act) => act());
}

export default { render };
