/**
 * What holds how many bytes: the buffers of llama.cpp, the cache and the process, each as a bar of its parts.
 * State lives in the model: `name`, `wholes` and `problem`.
 */
import { h, mount, tableView } from "./shared/dom.js";
import { HUES } from "./shared/hues.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { count, percent } from "./shared/text.js";

const NONE = "Nothing to show yet: put_to(session) shows the memory of a session.";

/** The share of a part in its whole; null where that is nothing. */
export const shareOf = (part, whole) => (whole.total ? part.bytes / whole.total : null);

/** The table: a row a part. */
export const tableRows = (wholes) =>
  wholes.flatMap((whole) =>
    whole.parts.map((part) => [whole.title, part.label, count(part.bytes), percent(shareOf(part, whole))]),
  );

/** What a screen reader says of a bar. */
export function barText(whole) {
  const held = whole.parts.map((part) => `${part.label} ${part.words}`);
  return `${whole.title}, ${whole.words}: ${held.join(", ")}`;
}

const looks = ({ look }) => (typeof look === "number" ? { "data-hue": look % HUES } : { "data-look": look });

function partOf(part, whole) {
  const share = h("span", { class: "mll-mm-share" }, percent(shareOf(part, whole)));
  const label = h("span", { class: "mll-mm-label", title: part.label }, part.label);
  return h("li", {}, h("i", looks(part)), label, h("span", {}, part.words), share);
}

function wholeOf(whole) {
  const held = whole.parts.filter((part) => part.bytes);
  const segment = (part) => {
    const style = { "--mll-share": shareOf(part, whole) };
    return h("i", { ...looks(part), title: `${part.label}: ${part.words}`, style });
  };
  const bar = h("div", { class: "mll-mm-bar", role: "img", "aria-label": barText(whole) }, held.map(segment));
  const parts = h("ul", { class: "mll-mm-parts mll-figures" }, whole.parts.map((part) => partOf(part, whole)));
  const head = h("h4", {}, h("span", {}, whole.title), h("span", { class: "mll-figures" }, whole.words));
  return h("section", { class: "mll-mm-whole" }, head, bar, parts, h("p", { class: "mll-quiet" }, whole.note));
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  const name = h("bdi");
  const title = h("h3", { class: "mll-title" }, "Memory ", name);
  const all = h("div", { class: "mll-mm-wholes mll-live" });
  const empty = h("p", { class: "mll-quiet" }, NONE);
  const problem = h("p", { class: "mll-problem", role: "alert" });
  const gone = goneNote(model);
  const table = tableView(
    () => ["of", "part", "bytes", "share"],
    () => tableRows(get("wholes")),
    { caption: "What holds how many bytes" },
  );
  const parts = [title, gone, empty, all, problem, table.node];
  const root = h("section", { class: "mll mll-mm", "aria-label": "Memory" }, parts);

  function draw() {
    const wholes = get("wholes");
    name.textContent = get("name") && `of ${get("name")}`;
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
