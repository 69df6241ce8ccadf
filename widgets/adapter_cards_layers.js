/** What the card of a vector unfolds: its layers to choose from; and if it was learnt here, a name to keep it by. */
import { button, h } from "./shared/dom.js";
import { layerBars } from "./shared/layer_bars.js";

const KEEP = "Have it in every notebook by this name, in the layers that are chosen: ControlVector.named(name)";
const TAKEN = "You keep another vector by this name.";

/** A name and a button that keeps; one of a person's own by that name is replaced by a second press. */
function keeping(name, keep) {
  let taken = false;
  const field = h("input", {
    type: "text",
    class: "mll-field",
    maxlength: 40,
    value: name,
    spellcheck: "false",
    "aria-label": "Name to keep it by",
    on: { input: () => turn(false), keydown: (event) => event.key === "Enter" && act() },
  });
  const go = button("Keep", KEEP, () => act());
  const said = h("span", { class: "mll-quiet", role: "status" });
  const node = h("div", { class: "mll-ac-keep" }, field, go, said);
  function turn(on) {
    taken = on;
    go.textContent = on ? "Replace it" : "Keep";
    said.textContent = on ? TAKEN : "";
  }
  async function act() {
    const as = field.value.trim();
    const reply = await keep(as, taken);
    if (!reply) return;
    turn(reply.taken);
    said.title = reply.taken ? "" : `ControlVector.named(${JSON.stringify(as)})`;
    if (!reply.taken) said.textContent = "Kept.";
  }
  return { node };
}

/** The layers of one card. `held(key)` is the card as the kernel has it. */
function cardLayers(card, { ask, held, keep }) {
  const { key, name } = card;
  const bars = layerBars({
    title: name,
    held: () => held(key)?.layers,
    send: (layers, seq) => ask("layers", { key, layers, seq }),
  });
  const kept = keeping(name, (as, replace) => keep(key, as, replace));
  const node = h("div", { class: "mll-ac-layers" }, bars.node, kept.node);
  return {
    node,
    key,
    close: () => [bars.close, () => node.remove()].forEach((act) => act()),
    disable: bars.disable,
    show(rows) {
      kept.node.hidden = !rows.can_keep;
      bars.show(rows);
    },
  };
}

/** The layers of the card that is looked at, one at a time. `attempt(op, args)` gives nothing where it is refused. */
export function chosenLayers(model, { ask, attempt, held, warn, say }) {
  let layers = null;
  async function keep(key, name, replace) {
    const reply = await attempt("keep", { key, name, replace });
    if (!reply || reply.taken) return reply;
    warn(reply.warned);
    say(`Kept as ${name}`);
    return reply;
  }
  function close() {
    layers?.close();
    layers = null;
  }
  return {
    close,
    disable: (off) => layers?.disable(off),
    /** Have them under the card that they are of; `viewOf(key)` is that. */
    draw(viewOf) {
      const rows = model.get("rows");
      const isSeen = rows.key === model.get("chosen") && viewOf(rows.key) && rows.layers.length > 1;
      if (layers && !(isSeen && layers.key === rows.key)) close();
      if (!isSeen) return;
      layers ??= cardLayers(held(rows.key), { ask, held, keep });
      viewOf(rows.key).unfold(layers.node);
      layers.show(rows);
    },
  };
}
