/**
 * The layers of a control vector as bars, of which a range is chosen. State lives in the model: `name`, `rows` and
 * `layers`.
 */
import { h, keyHelp, keys, mount, tableView } from "./shared/dom.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { layerBars } from "./shared/layer_bars.js";
import { number, percent } from "./shared/text.js";

const HELP = [
  ["← →", "on an end of the layers that are chosen: one less, one more"],
  ["Home End", "that end at the first layer, at the last"],
  ["?", "these keys"],
];
const NONE = "Nothing to show yet: put_to(...) shows the layers of a control vector.";

/** Headings of the table; what a training alone knows stands only in its own. */
export const columnsOf = (rows) => ["layer", "length", ...(rows.n_held_out ? ["sd apart", "in order"] : []), "chosen"];

/** The table: a row a layer. */
export function tableRows(rows, [first, last]) {
  return (rows.layers ?? []).map((layer, i) => {
    const held = rows.n_held_out ? [number(rows.separation[i]), percent(rows.accuracy[i])] : [];
    return [layer, number(rows.norms[i]), ...held, layer >= first && layer <= last ? "yes" : ""];
  });
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  const name = h("bdi");
  const title = h("h3", { class: "mll-title" }, "Layers ", name);
  const help = keyHelp(HELP);
  const head = h("header", { class: "mll-ls-bar" }, title, help.button);
  const bars = layerBars({
    title: "Vector",
    about: () => title.textContent,
    held: () => get("layers"),
    send: (layers, seq) => link.ask("set", { layers, seq }),
  });
  const body = h("div", { class: "mll-live" }, bars.node);
  const empty = h("p", { class: "mll-quiet" }, NONE);
  const gone = goneNote(model);
  const table = tableView(
    () => columnsOf(get("rows")),
    () => tableRows(get("rows"), get("layers")),
    { caption: "Length, and how well held-out pairs are told apart" },
  );
  const all = [head, gone, empty, body, table.node, help.node];
  const root = h("section", { class: "mll mll-ls", "aria-label": "Layers of a control vector" }, all);

  function draw() {
    const some = Boolean(get("rows").layers);
    name.textContent = get("name") && `of ${get("name")}`;
    empty.hidden = some;
    body.hidden = table.node.hidden = !some;
    if (some) bars.show(get("rows"));
    table.refresh();
  }
  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    gone.hidden = alive;
    bars.disable(!alive);
  }
  const unbind = keys(root, { ...help.keys });
  const unwatch = watch(model, { name: draw, rows: draw, layers: draw });
  draw();
  const unmount = mount(el, root);
  link.ping();
  return () => [unwatch, unbind, bars.close, link.close, unmount].forEach((act) => act());
}

export default { render };
