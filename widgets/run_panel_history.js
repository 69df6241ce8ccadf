/** The runs so far as a table: Enter shows a run, Space ticks it to be compared. */
import { h, keys } from "./shared/dom.js";
import { count, number, readable } from "./shared/text.js";

const HEADS = ["", "run", "stages with effect", "seed", "tokens", "tokens/s", "mean logprob", "ended", "text"];
const CHAIN = 1; // cells that may be too long, and say all of it as a title
const TEXT = 7;

function cellsOf(run) {
  const logprob = run.logprob === null ? "n/a" : run.logprob.toFixed(2).replace("-", "−");
  const [tokens, speed] = [count(run.tokens), number(run.speed)];
  return [run.number, run.chain, run.seed ?? "n/a", tokens, speed, logprob, run.finish, readable(run.text)];
}

function elements() {
  const head = (text, i) => h("th", { scope: "col" }, i ? text : h("span", { class: "mll-spoken" }, "compare"));
  const body = h("tbody");
  const table = { role: "grid", "aria-label": "Runs so far" };
  const none = h("p", { class: "mll-quiet mll-rp-none" }, "No runs yet. Each gets a line here.");
  const grid = h("table", table, h("thead", {}, h("tr", {}, HEADS.map(head))), body);
  return { node: h("div", { class: "mll-rp-scroll mll-live" }, grid, none), body, none };
}

/** `select(number)` a run, `choose(number)` it for a comparison. */
export function historyView({ select, choose }) {
  const { node, body, none } = elements();
  let at = 0; // the run with the tab stop
  const rows = () => [...body.children];
  const go = (by) => (event) => {
    const i = rows().indexOf(event.target.closest("tr"));
    if (i < 0) return false;
    rows()[i + by]?.focus();
  };
  const onRun = (act) => (event) => (event.target.dataset?.run ? act(Number(event.target.dataset.run)) : false);
  const unbind = keys(node, { ArrowUp: go(-1), ArrowDown: go(1), Enter: onRun(select), " ": onRun(choose) });

  function tickBox(run, ticks) {
    const on = { change: () => choose(run.number), click: (event) => event.stopPropagation() };
    const box = h("input", { type: "checkbox", tabindex: -1, "aria-label": `Compare run ${run.number}`, on });
    box.checked = ticks.includes(run.number);
    return box;
  }
  function row(run, shown, ticks) {
    const cell = (text, i) => {
      const long = i === CHAIN || i === TEXT;
      return h("td", { title: long ? String(text) : null, dir: i === TEXT ? "auto" : null }, String(text));
    };
    const on = { click: () => select(run.number), focus: () => (at = run.number) };
    const chosen = String(run.number === shown);
    const attributes = { tabindex: -1, "data-run": run.number, "aria-selected": chosen, on };
    return h("tr", attributes, h("td", {}, tickBox(run, ticks)), cellsOf(run).map(cell));
  }
  function draw(history, shown, ticks) {
    const focused = node.contains(node.ownerDocument.activeElement) ? at : 0;
    body.replaceChildren(...[...history].reverse().map((run) => row(run, shown, ticks)));
    const stop = rows().find((tr) => Number(tr.dataset.run) === at) ?? rows()[0];
    if (stop) stop.tabIndex = 0;
    if (focused) stop?.focus({ preventScroll: true });
    none.hidden = history.length > 0;
  }
  return { node, unbind, draw };
}
