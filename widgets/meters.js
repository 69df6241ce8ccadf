/**
 * What a Monitor reads, as sparklines. It is told when there is news and asks for nothing. State lives in the model:
 * `meters`, `state`, `n_readings`, `seconds` and `problem`.
 */
import { h, mount, tableView } from "./shared/dom.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { counted, duration, known } from "./shared/text.js";

const NONE = "Nothing to show yet: put_to(monitor) shows what a studies.monitor.Monitor reads.";

const TRAITS = ["meters", "state", "n_readings", "seconds", "problem"];

/**
 * Shares (0 to 1, null is not known) as the corners of an area: a step a reading. What is known is a pixel high at
 * least; where it is not, there is nothing.
 */
export function shapeOf(values) {
  const x = (i) => `${((100 * i) / values.length).toFixed(2)}%`;
  const corners = values.flatMap((value, i) => {
    if (!known(value)) return [`${x(i)} 100%`, `${x(i + 1)} 100%`];
    const y = `calc(${(100 * (1 - value)).toFixed(1)}% - 1px)`;
    return [`${x(i)} ${y}`, `${x(i + 1)} ${y}`];
  });
  return ["0% 100%", ...corners, "100% 100%"].join(",");
}

/** What a meter shows, in words. */
export const meterText = ({ name, now, average, top }) => `${name}: now ${now}, average ${average}, scale 0 to ${top}`;

/** What the meters show, over how long. */
export function aboutText(n, seconds, state) {
  if (!n) return state === "stopped" ? "the monitor was not started" : "";
  const said = `averages over ${counted(n, "reading")}, ${duration(seconds * 1000)}`;
  return state === "running" ? said : `${said}; stopped`;
}

/** The table: a row a meter. */
export const tableRows = (meters) => meters.map(({ name, now, average, top }) => [name, now, average, `0 to ${top}`]);

function meterOf(meter) {
  const name = h("span", { class: "mll-me-name", title: meter.name }, meter.name);
  const line = h("div", { class: "mll-me-line" }, name, h("span", { class: "mll-me-now" }, meter.now));
  const shape = h("i", { style: { "--mll-shape": shapeOf(meter.values) } });
  const spark = h("div", { class: "mll-me-spark", role: "img", "aria-label": meterText(meter) }, shape);
  const scale = h("p", { class: "mll-quiet" }, `average ${meter.average}, to ${meter.top}`);
  return h("section", { class: "mll-me-meter mll-figures" }, line, spark, scale);
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  const about = h("span", { class: "mll-quiet mll-figures" });
  const head = h("header", { class: "mll-me-head" }, h("h3", { class: "mll-title" }, "Meters"), about);
  const all = h("div", { class: "mll-me-all mll-live" });
  const empty = h("p", { class: "mll-quiet" }, NONE);
  const problem = h("p", { class: "mll-problem", role: "alert" });
  const gone = goneNote(model);
  const table = tableView(
    () => ["meter", "now", "average", "scale"],
    () => tableRows(get("meters")),
    { caption: "What was read" },
  );
  const root = h("section", { class: "mll mll-headed mll-me", "aria-label": "Meters" }, [
    ...[head, gone, empty, all, problem, table.node],
  ]);

  function draw() {
    const meters = get("meters");
    root.dataset.state = get("state");
    about.textContent = aboutText(get("n_readings"), get("seconds"), get("state"));
    empty.hidden = get("state") !== "empty";
    all.hidden = table.node.hidden = !meters.length;
    all.replaceChildren(...meters.map(meterOf));
    problem.textContent = get("problem");
    table.refresh();
  }
  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    gone.hidden = alive;
  }
  const unwatch = watch(model, Object.fromEntries(TRAITS.map((name) => [name, draw])));
  draw();
  const unmount = mount(el, root);
  link.ping();
  return () => [unwatch, link.close, unmount].forEach((act) => act());
}

export default { render };
