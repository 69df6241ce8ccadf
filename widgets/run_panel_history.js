/** The runs so far as a table: Enter shows a run, Space ticks it to be compared, r brings its settings back. */
import { h, icon, keys } from "./shared/dom.js";
import { figure } from "./shared/export.js";
import { count, number, readable, visible } from "./shared/text.js";

const CHAIN = "stages with effect";
/** The columns: what they are called, what they say of a run, and whether it may be long. */
const CELLS = [
  ["run", (run) => run.number],
  ["branch of", (run) => branchText(run.branch), true],
  ["prompt", (run) => readable(run.prompt), true],
  [CHAIN, chainText, true],
  ["seed", (run) => run.seed ?? "n/a"],
  ["tokens", (run) => count(run.tokens)],
  ["tokens/s", (run) => number(run.speed)],
  ["mean logprob", (run) => (run.logprob === null ? "n/a" : run.logprob.toFixed(2).replace("-", "−"))],
  ["ended", (run) => run.ended, true],
  ["text", (run) => readable(run.text), true],
];

/** What a run has otherwise than the one before it in the list, if anything, then its stages. */
export function chainText({ differs, chain }) {
  return [differs, chain].filter(Boolean).join(" · ");
}

const seen = (text) => visible(text).map((part) => part.text); // also its blanks

/** "run 2 at step 3: ·a"; "run 2, on" for what goes on from its end; "" for a run that is no branch. */
export function branchText(branch) {
  if (!branch) return "";
  const run = branch.number === null ? "a run before" : `run ${branch.number}`;
  return branch.token ? `${run} at step ${branch.step}: ${seen(branch.token).join("")}` : `${run}, on`;
}

const FILE = ["number", "branch", "prompt", "chain", "seed", "tokens", "speed", "logprob", "finish", "text"];
export const COLUMNS = CELLS.map(([name]) => name);
/** The runs as rows of a file, the oldest first. */
export const csvRows = (history) =>
  history.map((run) => {
    const figures = { branch: branchText(run.branch), speed: figure(run.speed), logprob: figure(run.logprob) };
    return FILE.map((name) => figures[name] ?? run[name]);
  });

function elements() {
  const head = (text) => h("th", { scope: "col", "data-cell": text }, text);
  const spoken = (text) => h("th", { scope: "col" }, h("span", { class: "mll-spoken" }, text));
  const heads = [spoken("compare"), spoken("restore"), COLUMNS.map(head)];
  const body = h("tbody");
  const table = { role: "grid", "aria-label": "Runs so far" };
  const none = h("p", { class: "mll-quiet mll-rp-none" }, "No runs yet. Each gets a line here.");
  const grid = h("table", table, h("thead", {}, h("tr", {}, heads)), body);
  return { node: h("div", { class: "mll-rp-scroll mll-live" }, grid, none), grid, body, none };
}

/** `select(number)` a run, `choose(number)` it for a comparison, `restore(number)` its settings. */
export function historyView({ select, restore, choose }) {
  const { node, grid, body, none } = elements();
  let at = 0; // the run with the tab stop
  const rows = () => [...body.children];
  const go = (by) => (event) => {
    const i = rows().indexOf(event.target.closest("tr"));
    if (i < 0) return false;
    rows()[i + by]?.focus();
  };
  const onRun = (act) => (event) => (event.target.dataset?.run ? act(Number(event.target.dataset.run)) : false);
  const unbind = keys(node, {
    ArrowUp: go(-1),
    ArrowDown: go(1),
    Enter: onRun(select),
    r: onRun(restore),
    " ": onRun(choose),
  });

  function tickBox(run, ticks) {
    const on = { change: () => choose(run.number), click: (event) => event.stopPropagation() };
    const box = h("input", { type: "checkbox", tabindex: -1, "aria-label": `Compare run ${run.number}`, on });
    box.checked = ticks.includes(run.number);
    return box;
  }
  function row(run, shown, ticks) {
    const cell = ([name, say, isLong]) => {
      const text = String(say(run));
      const dir = name === "text" || name === "prompt" ? "auto" : null;
      const parts = name === CHAIN && run.differs ? [h("b", {}, run.differs), run.chain] : text;
      const shown = isLong ? h("div", { class: "mll-rp-long" }, parts) : text;
      return h("td", { "data-cell": name, title: isLong && text ? text : null, dir }, shown);
    };
    const on = { click: () => select(run.number), focus: () => (at = run.number) };
    const chosen = String(run.number === shown);
    const attributes = { tabindex: -1, "data-run": run.number, "aria-selected": chosen, on };
    const what = "chain, adapters, seed, prompt, max tokens and stop strings";
    const brings = `Settings of run ${run.number} again: ${what} (r)`;
    const back = icon("↺", brings, () => restore(run.number), { tabindex: -1 });
    return h("tr", attributes, h("td", {}, tickBox(run, ticks)), h("td", {}, back), CELLS.map(cell));
  }
  /** The row of a run comes into view and has the tab stop; the newest if it has none. */
  function goTo(number) {
    at = number;
    const row = rows().find((tr) => Number(tr.dataset.run) === number) ?? body.firstElementChild;
    for (const tr of rows()) tr.tabIndex = tr === row ? 0 : -1;
    node.scrollTop = row === body.firstElementChild ? 0 : row.offsetTop - node.clientHeight / 2;
    row?.focus({ preventScroll: true });
  }
  function draw(history, shown, ticks) {
    const focused = node.contains(node.ownerDocument.activeElement) ? at : 0;
    body.replaceChildren(...[...history].reverse().map((run) => row(run, shown, ticks)));
    const stop = rows().find((tr) => Number(tr.dataset.run) === at) ?? rows()[0];
    if (stop) stop.tabIndex = 0;
    if (focused) stop?.focus({ preventScroll: true });
    grid.toggleAttribute("data-branches", history.some((run) => run.branch));
    none.hidden = history.length > 0;
  }
  return { node, unbind, draw, goTo };
}
