/** The runs so far in a drawer: their table, a comparison of some, and a file of them; and the button that opens it. */
import { comparisonView, ticked } from "./shared/comparison.js";
import { button, h } from "./shared/dom.js";
import { csvTable, exportMenu } from "./shared/export.js";
import { COLUMNS, csvRows, historyView } from "./run_panel_history.js";

const HINT = "Enter or a click shows a run, Space or a tick compares some, r or ↺ restores its settings.";
const OPENS = "The runs so far: show one again, compare some";

/** `attempt(op, args)` asks the kernel, its promise is of nothing where it refused; `say(text)` speaks. */
export function runsDrawer({ model, attempt, say }) {
  const get = (name) => model.get(name);
  let ticks = []; // the runs that are compared
  let opened = false;
  const select = (number) => attempt("select", { number });
  const history = historyView({ select, restore, choose });
  const saving = exportMenu("runs", { CSV: () => csvTable(COLUMNS, csvRows(get("history"))) });
  const told = h("p", { class: "mll-quiet" }, HINT);
  const hint = h("div", { class: "mll-rp-hint" }, told, saving.node);
  const compared = h("div");
  const named = { class: "mll-rp-drawer", role: "group", "aria-label": "Runs so far", hidden: true };
  const node = h("div", named, history.node, hint, compared);
  const opener = button("", OPENS, toggle, { class: "mll-button mll-rp-past" });

  function toggle() {
    opened = !opened;
    told.textContent = HINT;
    draw();
    if (opened) history.goTo(get("shown"));
  }
  async function restore(number) {
    const reply = await attempt("restore", { number });
    if (!reply) return;
    told.textContent = reply.said;
    say(reply.said);
  }
  /** Compare from the older run to the newer one, as the table says what became another. */
  function choose(n) {
    return compare(ticked(ticks, n).sort((a, b) => a - b));
  }
  /** Python asks for a comparison, which opens the drawer, or for none. */
  function compareAsked() {
    const numbers = get("compared");
    opened ||= numbers.length > 0;
    compare(numbers);
  }
  async function compare(numbers) {
    ticks = numbers;
    draw();
    if (ticks.length < 2) return compared.replaceChildren();
    const asked = ticks.join();
    const reply = await attempt("compare", { numbers: ticks });
    if (reply && asked === ticks.join()) compared.replaceChildren(comparisonView(reply));
  }
  function draw() {
    const runs = get("history");
    const had = ticks.length;
    ticks = ticks.filter((n) => runs.some((one) => one.number === n));
    if (ticks.length < had) compared.replaceChildren();
    history.draw(runs, get("shown"), ticks);
    opener.textContent = `Runs (${runs.length})`;
    opener.setAttribute("aria-expanded", String(opened));
    node.hidden = !opened;
  }
  const close = () => (opened ? toggle() : false);
  return { node, opener, draw, close, compareAsked, unbind: history.unbind };
}
