/**
 * The next token after each stage: one column a stage, one row a token, one bar a cell.
 * State lives in the model: `view` and `scale`. A new view changes what is there in place; a row
 * keeps its element as long as its token is shown.
 */
import { fate, stageHead, tokenRow } from "./next_token_row.js";
import { announcer, h, keyHelp, keys } from "./shared/dom.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { readable } from "./shared/text.js";

const SIGNS = [
  "◆ drawn by this seed at this step",
  "✕ removed here, the outline is what it had",
  "rows in the order before the chain",
  "entropy in nats",
].join(" · ");

export const scaleText = (scale) => (scale === "log" ? "bars: 0.01% to 100%, logarithmic" : "bars: 0% to 100%, linear");

/** Which draw it was; a note says the step in its own words. */
export const drawText = ({ seed, step, note }) => (note ? `${note} · seed ${seed}` : `seed ${seed} · step ${step}`);

function render({ model, el }) {
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  const rows = new Map();
  const heads = [];
  let focused = null;
  let pointed = null;
  let asTable = false;
  let wait = null;
  let unsaid = null; // the token that a key led to, until its explanation was spoken
  const voice = announcer();

  const about = h("span", { class: "mll-quiet mll-figures mll-nt-about" });
  const tab = (name, text) =>
    h(
      "button",
      { type: "button", "aria-pressed": "false", "data-scale": name, on: { click: () => setScale(name) } },
      text,
    );
  const tabs = [tab("linear", "Linear"), tab("log", "Log")];
  const tableButton = h(
    "button",
    { type: "button", "aria-pressed": "false", on: { click: () => setTable(!asTable) } },
    "Show as table",
  );
  const problem = h("p", { class: "mll-note", "data-kind": "bad", role: "alert", hidden: true });
  const gone = goneNote(model);
  const empty = h(
    "p",
    { class: "mll-note" },
    "No distribution yet. It appears here as soon as there is a prompt and a chain.",
  );
  const corner = h("th", { scope: "col", class: "mll-nt-token" }, "token");
  const headRow = h("tr", {}, corner);
  const body = h("tbody");
  const table = h(
    "table",
    { role: "grid", "aria-label": "Probability of the likeliest tokens after each stage" },
    h("thead", {}, headRow),
    body,
  );
  const scroll = h("div", { class: "mll-nt-scroll mll-live" }, table);
  const details = h("p", { class: "mll-nt-details mll-figures" });
  const why = h("p", { class: "mll-nt-why mll-figures" });
  const legend = h("p", { class: "mll-quiet mll-nt-legend" });
  const help = keyHelp([
    ["↑ ↓", "token"],
    ["Home End", "first, last token"],
    ["← →", "scroll to the stages"],
    ["d", "to the drawn token"],
    ["l", "linear or log bars"],
    ["t", "numbers or bars"],
    ["?", "these keys"],
  ]);
  const root = h(
    "section",
    { class: "mll mll-nt", "aria-label": "Next token" },
    h(
      "header",
      { class: "mll-nt-bar" },
      h("h3", { class: "mll-title" }, "Next token"),
      about,
      h("span", { class: "mll-tabs", role: "group", "aria-label": "Length of the bars" }, tabs),
      h("span", { class: "mll-tabs" }, tableButton),
    ),
    gone,
    problem,
    empty,
    scroll,
    details,
    why,
    legend,
    help.node,
    voice.node,
  );

  const view = () => model.get("view");
  const indexOf = (id) => view().rows?.findIndex((row) => row.id === id) ?? -1;

  function setTable(on) {
    asTable = on;
    tableButton.setAttribute("aria-pressed", String(on));
    root.toggleAttribute("data-table", on);
  }
  function setScale(name) {
    link.ask("scale", { scale: name }).catch((error) => {
      problem.textContent = error.message;
      problem.hidden = false;
    });
  }
  function describe() {
    const id = pointed ?? focused ?? view().choice;
    const i = indexOf(id);
    details.replaceChildren(...(i < 0 ? [] : [h("b", { dir: "auto" }, rows.get(id).text), ` ${fate(view(), i)}`]));
    clearTimeout(wait);
    why.textContent = "";
    if (i >= 0 && model.get("explains")) wait = setTimeout(explain, 80, id);
  }
  /** Ask what would have kept a token; an answer for another token or picture comes too late. */
  function explain(id) {
    const here = (seq) => seq === view().seq && id === (pointed ?? focused ?? view().choice);
    link
      .ask("explain", { token: id }, { patience: 20000 })
      .then(({ seq, text }) => {
        if (!here(seq)) return;
        why.textContent = text;
        if (id === unsaid) voice.say(`${details.textContent} · ${text}`);
        unsaid = null;
      })
      .catch((error) => {
        if (link.alive) why.textContent = `n/a: ${error.message}`;
      });
  }
  const act = {
    point(id) {
      pointed = id;
      describe();
    },
    focus(id) {
      [focused, pointed] = [id, null];
      for (const [key, row] of rows) row.node.tabIndex = key === id ? 0 : -1;
      describe();
    },
  };
  function go(to) {
    const all = view().rows;
    const next = all?.[Math.max(0, Math.min(all.length - 1, to))];
    if (!next) return false;
    rows.get(next.id).node.focus();
    unsaid = next.id;
    voice.say(details.textContent);
  }
  const now = () => Math.max(0, indexOf(focused));
  const pan = (by) => () => {
    scroll.scrollLeft += by * 96;
  };
  const unbind = keys(root, {
    ArrowUp: () => go(now() - 1),
    ArrowDown: () => go(now() + 1),
    Home: () => go(0),
    End: () => go(Infinity),
    ArrowLeft: pan(-1),
    ArrowRight: pan(1),
    d: () => go(indexOf(view().choice)),
    l: () => setScale(model.get("scale") === "log" ? "linear" : "log"),
    t: () => setTable(!asTable),
    "?": () => help.toggle(),
    Escape: () => (help.open ? help.hide() : false),
  });

  function drawRows(shown, scale) {
    const ids = new Set(shown.rows.map((row) => row.id));
    const hadFocus = body.contains(root.ownerDocument.activeElement);
    for (const [id, row] of rows) {
      if (ids.has(id)) continue;
      row.node.remove();
      rows.delete(id);
    }
    shown.rows.forEach((row, i) => {
      if (!rows.has(row.id)) rows.set(row.id, tokenRow(row, act));
      const { node } = rows.get(row.id);
      if (body.children[i] !== node) body.insertBefore(node, body.children[i] ?? null);
      rows.get(row.id).update(shown, i, scale);
    });
    if (!rows.has(focused)) focused = null;
    const stop = focused ?? shown.rows[0]?.id;
    for (const [id, row] of rows) row.node.tabIndex = id === stop ? 0 : -1;
    if (hadFocus && !body.contains(root.ownerDocument.activeElement))
      rows.get(stop)?.node.focus({ preventScroll: true });
  }

  function draw() {
    const shown = view();
    const scale = model.get("scale");
    const some = Boolean(shown.rows);
    empty.hidden = some || Boolean(shown.error);
    scroll.hidden = details.hidden = legend.hidden = !some;
    why.hidden = !some || !model.get("explains");
    problem.hidden = !shown.error;
    problem.textContent = shown.error ?? "";
    root.toggleAttribute("data-stale", Boolean(shown.error));
    for (const button of tabs) button.setAttribute("aria-pressed", String(button.dataset.scale === scale));
    if (!some) return;
    while (heads.length > shown.columns.length) heads.pop().node.remove();
    while (heads.length < shown.columns.length) headRow.append(heads[heads.push(stageHead()) - 1].node);
    heads.forEach((head, i) => head.update(shown.columns, i));
    drawRows(shown, scale);
    about.textContent = `${shown.after ? `after “${readable(shown.after)}” · ` : ""}${drawText(shown)}`;
    legend.textContent = `${scaleText(scale)} · ${SIGNS}`;
    describe();
  }

  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    gone.hidden = alive;
    for (const button of tabs) button.disabled = !alive;
  }

  const unwatch = watch(model, { view: draw, scale: draw, explains: draw });
  draw();
  el.append(root);
  link.ping();
  root.addEventListener("pointerenter", link.ping);
  return () => {
    unwatch();
    clearTimeout(wait);
    unbind();
    voice.close();
    link.close();
    root.remove();
  };
}

export default { render };
