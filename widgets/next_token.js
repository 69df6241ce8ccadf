/**
 * The next token after each stage: one column a stage, one row a token, one bar a cell.
 * State lives in the model: `view` and `scale`. A new view changes what is there in place; a row
 * keeps its element as long as its token is shown.
 */
import { connect, count, glyphs, h, keyHelp, keys, number, percent, pieceParts, plainParts, readable, unhex } from "./kit.js";

export const REMOVED = -1;
export const UNLISTED = -2;
const DECADES = 4; // a log bar runs from 0.01 % to 100 %

/** The length of a bar, 0 to 1. */
export function barLength(p, scale) {
  if (!(p > 0)) return 0;
  return scale === "log" ? Math.max(0, 1 + Math.log10(p) / DECADES) : Math.min(1, p);
}
export const scaleText = (scale) =>
  scale === "log" ? "bars: 0.01% to 100%, logarithmic" : "bars: 0% to 100%, linear";

/** A cell in words: exact, or why there is no number. */
export function cellText(p) {
  if (p === null || p === undefined) return "";
  if (p === REMOVED) return "✕";
  return p === UNLISTED ? "n/a" : percent(p);
}

/** A share in the width of a column: two digits, but never all of it for most of it. */
const shortly = (p) => (p >= 0.1 && p < 0.99 ? `${Math.round(p * 100)}%` : percent(p));

/** The lines in a column's head: what is left, what went, how uncertain it is. */
export function headLines(heads, i) {
  const head = heads[i];
  const entropy = `entropy ${head.entropy.toFixed(2)}`;
  if (i === 0) return ["before", count(head.kept), "tokens", entropy];
  const input = heads[i - 1].kept;
  const went = head.kept < input ? `removes ${shortly(head.removed)}` : head.changed ? "removes none" : "no change";
  if (head.inert) return [head.name.split("(")[0], "no effect", head.inert, entropy];
  return [head.name, head.kept < input ? `${count(head.kept)} of ${count(input)}` : `all ${count(input)}`, went, entropy];
}

/** Which draw it was; a note says the step in its own words. */
export const drawText = ({ seed, step, note }) => (note ? `${note} · seed ${seed}` : `seed ${seed} · step ${step}`);

/** What became of a row's token, in a sentence. */
export function fate(view, row) {
  const cells = view.cells.map((column) => column[row]);
  const { id, rank } = view.rows[row];
  const place = rank === null ? `not among the ${view.n_listed} likeliest before` : `number ${rank + 1} before`;
  const parts = [`id ${id}`, cells[0] >= 0 ? `${place} with ${percent(cells[0])}` : place];
  const out = cells.indexOf(REMOVED);
  const last = cells.at(-1);
  if (out > 0) {
    const had = cells[out - 1] >= 0 ? `, where it had ${percent(cells[out - 1])}` : "";
    parts.push(`removed by ${view.columns[out].name}${had}`);
  } else if (last === null) parts.push("out after the chain; at the stage that took it, too unlikely to be listed");
  else if (last >= 0 && cells.length > 1) parts.push(`after the chain ${percent(last)}`);
  else if (last === UNLISTED && cells.length > 1) parts.push("after the chain not among those listed");
  if (id === view.choice) parts.push(`drawn by seed ${view.seed}${view.note ? "" : ` at step ${view.step}`} (u = ${number(view.draw, 4)})`);
  return parts.join(" · ");
}

function rowView(row, act) {
  const parts = pieceParts(unhex(row.bytes));
  const mark = h("span", { class: "mll-nt-mark", "aria-hidden": "true" });
  const head = h("th", { scope: "row", class: "mll-nt-token" }, mark, h("span", { class: "mll-nt-text", dir: "auto" }, glyphs(parts)));
  const node = h("tr", { tabindex: -1, on: { pointerenter: () => act.point(row.id), pointerleave: () => act.point(null), focus: () => act.focus(row.id) } }, head);
  const cells = [];
  const shown = [];
  return {
    node, text: plainParts(parts),
    update(view, i, scale) {
      const n = view.cells.length;
      while (cells.length > n) cells.pop().node.remove();
      while (cells.length < n) {
        const bar = h("span", { class: "mll-nt-bar" });
        const figure = h("span", { class: "mll-nt-figure" });
        const cell = h("td", {}, bar, figure);
        node.append(cell);
        cells.push({ node: cell, bar, figure });
      }
      const chosen = row.id === view.choice;
      if (node.hasAttribute("data-choice") !== chosen) {
        node.toggleAttribute("data-choice", chosen);
        mark.textContent = chosen ? "◆" : "";
        head.setAttribute("aria-label", chosen ? `${this.text}, drawn` : this.text);
      }
      node.toggleAttribute("data-out", view.cells[n - 1][i] === null || view.cells[n - 1][i] === REMOVED);
      for (let c = 0; c < n; c++) {
        const p = view.cells[c][i];
        const key = `${p}${scale}${view.columns[c].inert}${p === REMOVED ? view.cells[c - 1]?.[i] : ""}`;
        if (shown[c] === key) continue;
        shown[c] = key;
        const { node: cell, bar, figure } = cells[c];
        const out = p === REMOVED;
        bar.style.transform = `scaleX(${barLength(out ? Math.max(0, view.cells[c - 1]?.[i] ?? 0) : p, scale).toFixed(4)})`;
        cell.toggleAttribute("data-removed", out);
        cell.toggleAttribute("data-inert", Boolean(view.columns[c].inert));
        figure.textContent = cellText(p);
        if (out) cell.setAttribute("aria-label", "removed");
        else cell.removeAttribute("aria-label");
      }
      shown.length = n;
    },
  };
}

function headView() {
  const name = [h("span"), h("span")]; // the settings go to a line of their own where both are too long for one
  const lines = [h("span", { class: "mll-nt-headline mll-nt-name" }, name[0], h("wbr"), name[1])];
  for (let k = 0; k < 3; k++) lines.push(h("span", { class: "mll-nt-headline" }));
  const mass = h("span", { class: "mll-nt-mass", "aria-hidden": "true" }, h("i"));
  const node = h("th", { scope: "col" }, lines, mass);
  return {
    node,
    update(heads, i) {
      const [named, ...rest] = headLines(heads, i);
      const cut = named.includes("(") ? named.indexOf("(") : named.length;
      [named.slice(0, cut), named.slice(cut)].forEach((text, k) => { if (name[k].textContent !== text) name[k].textContent = text; });
      rest.forEach((text, k) => { if (lines[k + 1].textContent !== text) lines[k + 1].textContent = text; });
      const { inert } = heads[i];
      const title = inert ? `${heads[i].name} · no effect: ${inert}` : headLines(heads, i).filter(Boolean).join(" · ");
      node.toggleAttribute("data-inert", Boolean(inert));
      if (node.title !== title) node.title = title;
      const left = i === 0 ? 1 : 1 - heads[i].removed;
      mass.firstChild.style.transform = `scaleX(${left.toFixed(4)})`;
      node.toggleAttribute("data-same", i > 0 && !heads[i].changed);
    },
  };
}

function render({ model, el }) {
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  const rows = new Map();
  const heads = [];
  let focused = null;
  let pointed = null;
  let asTable = false;
  let wait = null;

  const about = h("span", { class: "mll-quiet mll-figures mll-nt-about" });
  const tab = (name, text) => h("button", { type: "button", "aria-pressed": "false", "data-scale": name, on: { click: () => setScale(name) } }, text);
  const tabs = [tab("linear", "Linear"), tab("log", "Log")];
  const tableButton = h("button", { type: "button", "aria-pressed": "false", on: { click: () => setTable(!asTable) } }, "Show as table");
  const problem = h("p", { class: "mll-note", "data-kind": "bad", role: "alert", hidden: true });
  const gone = h("p", { class: "mll-note", "data-kind": "bad", hidden: true }, "The kernel does not answer. Run the cell again to go on.");
  const empty = h("p", { class: "mll-note" }, "No distribution yet. It appears here as soon as there is a prompt and a chain.");
  const corner = h("th", { scope: "col", class: "mll-nt-token" }, "token");
  const headRow = h("tr", {}, corner);
  const body = h("tbody");
  const table = h("table", { role: "grid", "aria-label": "Probability of the likeliest tokens after each stage" }, h("thead", {}, headRow), body);
  const scroll = h("div", { class: "mll-nt-scroll mll-live" }, table);
  const details = h("p", { class: "mll-nt-details mll-figures" });
  const why = h("p", { class: "mll-nt-why mll-figures" });
  const legend = h("p", { class: "mll-quiet mll-nt-legend" });
  const help = keyHelp([["↑ ↓", "token"], ["Home End", "first, last token"], ["← →", "scroll to the stages"], ["d", "to the drawn token"], ["l", "linear or log bars"], ["t", "numbers or bars"], ["?", "these keys"]]);
  const root = h("section", { class: "mll mll-nt", "aria-label": "Next token" },
    h("header", { class: "mll-nt-bar" }, h("h3", { class: "mll-title" }, "Next token"), about,
      h("span", { class: "mll-tabs", role: "group", "aria-label": "Length of the bars" }, tabs),
      h("span", { class: "mll-tabs" }, tableButton)),
    gone, problem, empty, scroll, details, why, legend, help.node);

  const view = () => model.get("view");
  const indexOf = (id) => view().rows?.findIndex((row) => row.id === id) ?? -1;

  function setTable(on) {
    asTable = on;
    tableButton.setAttribute("aria-pressed", String(on));
    root.toggleAttribute("data-table", on);
  }
  function setScale(name) {
    link.ask("scale", { scale: name }).catch((error) => { problem.textContent = error.message; problem.hidden = false; });
  }
  function describe() {
    const id = pointed ?? focused ?? view().choice;
    const i = indexOf(id);
    details.textContent = i < 0 ? "" : `${rows.get(id).text}  ${fate(view(), i)}`;
    clearTimeout(wait);
    why.textContent = "";
    if (i >= 0 && model.get("explains")) wait = setTimeout(explain, 80, id);
  }
  /** Ask what would have kept a token; an answer for another token or picture comes too late. */
  function explain(id) {
    const here = (seq) => seq === view().seq && id === (pointed ?? focused ?? view().choice);
    link.ask("explain", { token: id }, { patience: 20000 })
      .then(({ seq, text }) => { if (here(seq)) why.textContent = text; })
      .catch((error) => { why.textContent = `n/a: ${error.message}`; });
  }
  const act = {
    point(id) {
      pointed = id;
      describe();
    },
    focus(id) {
      focused = id;
      for (const [key, row] of rows) row.node.tabIndex = key === id ? 0 : -1;
      describe();
    },
  };
  function go(to) {
    const all = view().rows;
    const next = all?.[Math.max(0, Math.min(all.length - 1, to))];
    if (!next) return false;
    rows.get(next.id).node.focus();
  }
  const now = () => Math.max(0, indexOf(focused));
  const pan = (by) => () => { scroll.scrollLeft += by * 96; };
  const unbind = keys(root, {
    ArrowUp: () => go(now() - 1), ArrowDown: () => go(now() + 1), Home: () => go(0), End: () => go(Infinity),
    ArrowLeft: pan(-1), ArrowRight: pan(1), d: () => go(indexOf(view().choice)),
    l: () => setScale(model.get("scale") === "log" ? "linear" : "log"), t: () => setTable(!asTable),
    "?": () => help.toggle(), Escape: () => (help.open ? help.hide() : false),
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
      if (!rows.has(row.id)) rows.set(row.id, rowView(row, act));
      const { node } = rows.get(row.id);
      if (body.children[i] !== node) body.insertBefore(node, body.children[i] ?? null);
      rows.get(row.id).update(shown, i, scale);
    });
    if (!rows.has(focused)) focused = null;
    const stop = focused ?? shown.rows[0]?.id;
    for (const [id, row] of rows) row.node.tabIndex = id === stop ? 0 : -1;
    if (hadFocus && !body.contains(root.ownerDocument.activeElement)) rows.get(stop)?.node.focus({ preventScroll: true });
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
    while (heads.length < shown.columns.length) headRow.append(heads[heads.push(headView()) - 1].node);
    heads.forEach((head, i) => head.update(shown.columns, i));
    drawRows(shown, scale);
    about.textContent = `${shown.after ? `after “${readable(shown.after)}” · ` : ""}${drawText(shown)}`;
    legend.textContent = `${scaleText(scale)} · ◆ drawn by this seed at this step · ✕ removed here, the outline is what it had · rows in the order before the chain · entropy in nats`;
    describe();
  }

  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    gone.hidden = alive;
    for (const button of tabs) button.disabled = !alive;
  }

  model.on("change:view", draw);
  model.on("change:scale", draw);
  model.on("change:explains", draw);
  draw();
  el.append(root);
  link.ping();
  root.addEventListener("pointerenter", link.ping);
  return () => {
    model.off("change:view", draw);
    model.off("change:scale", draw);
    model.off("change:explains", draw);
    clearTimeout(wait);
    unbind();
    link.close();
    root.remove();
  };
}

export default { render };
