/**
 * What holds how many bytes: the buffers of llama.cpp, the cache and the process, each as a bar of its parts.
 * State lives in the model: `name`, `wholes` and `problem`.
 */
import { h, mount, tableView } from "./shared/dom.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { shareOf, stackedBar, swatch } from "./shared/stacked.js";
import { count, percent } from "./shared/text.js";

const NONE = "Nothing to show yet: put_to(session) shows the memory of a session.";
const SOON = "Being read…";

/** The table: a row a part. */
export const tableRows = (wholes) =>
  wholes.flatMap((whole) =>
    whole.parts.map((part) => [whole.title, part.label, count(part.bytes), percent(shareOf(part, whole))]),
  );

function partOf(part, whole) {
  const share = h("span", { class: "mll-mm-share" }, percent(shareOf(part, whole)));
  const label = h("span", { class: "mll-mm-label", title: part.label }, part.label);
  return h("li", {}, swatch(part), label, h("span", {}, part.words), share);
}

function wholeOf(whole) {
  const parts = h("ul", { class: "mll-mm-parts mll-figures" }, whole.parts.map((part) => partOf(part, whole)));
  const head = h("h4", {}, h("span", {}, whole.title), h("span", { class: "mll-figures" }, whole.words));
  const note = h("p", { class: "mll-quiet" }, whole.note);
  return h("section", { class: "mll-mm-whole" }, head, stackedBar(whole), parts, note);
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  const name = h("bdi");
  const title = h("h3", { class: "mll-title" }, "Memory ", name);
  const all = h("div", { class: "mll-mm-wholes mll-live" });
  const empty = h("p", { class: "mll-quiet" });
  const problem = h("p", { class: "mll-problem", role: "alert" });
  const gone = goneNote(model);
  const table = tableView(
    () => ["of", "part", "bytes", "share"],
    () => tableRows(get("wholes")),
    { caption: "What holds how many bytes" },
  );
  const parts = [title, gone, empty, all, problem, table.node];
  const root = h("section", { class: "mll mll-headed mll-mm", "aria-label": "Memory" }, parts);

  function draw() {
    const wholes = get("wholes");
    name.textContent = get("name") && `of ${get("name")}`;
    empty.textContent = get("name") ? SOON : NONE;
    empty.hidden = wholes.length > 0 || Boolean(get("problem"));
    all.hidden = table.node.hidden = !wholes.length;
    all.replaceChildren(...wholes.map(wholeOf));
    problem.textContent = get("problem");
    root.toggleAttribute("data-stale", Boolean(get("problem")));
    table.refresh();
  }
  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    gone.hidden = alive;
  }
  const unwatch = watch(model, { name: draw, wholes: draw, problem: draw });
  draw();
  const unmount = mount(el, root);
  link.ping();
  return () => [unwatch, link.close, unmount].forEach((act) => act());
}

export default { render };
