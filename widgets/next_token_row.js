/** The next token after each stage: a row a token, a head a stage, and what became of a token in words. */
import { biasButtons } from "./shared/bias.js";
import { glyphs, h } from "./shared/dom.js";
import { count, percent, plainParts } from "./shared/text.js";
import { pieceParts, unhex } from "./shared/tokens.js";

export const REMOVED = -1;
export const UNLISTED = -2;
const DECADES = 4; // a log bar runs from 0.01 % to 100 %

/** The length of a bar, 0 to 1. */
export function barLength(p, scale) {
  if (!(p > 0)) return 0;
  return scale === "log" ? Math.max(0, 1 + Math.log10(p) / DECADES) : Math.min(1, p);
}
/** A cell in words: exact, or why there is no number. */
export function shareText(p) {
  if (p === null || p === undefined) return "";
  if (p === REMOVED) return "✕";
  return p === UNLISTED ? "n/a" : percent(p);
}

/** A share in the width of a column: two digits, but never all of it for most of it. */
export const shortly = (p) => (p >= 0.1 && p < 0.99 ? `${Math.round(p * 100)}%` : percent(p));

/** The lines in a column's head: what is left, what went, how uncertain it is; figures first, as a narrow one cuts. */
export function headLines(heads, i) {
  const head = heads[i];
  const entropy = `${head.entropy.toFixed(2)} entropy`;
  if (i === 0) return ["before", count(head.kept), "tokens", entropy];
  if (head.inert) return [head.name.split("(")[0], "no effect", head.inert, entropy];
  const input = heads[i - 1].kept;
  const went = head.kept < input ? `${shortly(head.removed)} gone` : head.changed ? "none gone" : "no change";
  return [head.name, head.kept < input ? `${count(head.kept)} left` : `all ${count(input)}`, went, entropy];
}

/** The place of the last column that is shown: what the chain leaves. */
export const lastShown = (columns) => columns.findLastIndex((head) => !head.inert);

/** What became of a row's token, in a sentence; what matters most first, as a narrow line cuts. */
export function fate(view, row) {
  const cells = view.cells.map((column) => column[row]);
  const { id, rank } = view.rows[row];
  const place = rank === null ? `not among the ${view.n_listed} likeliest` : `rank ${rank}`;
  const parts = [cells[0] >= 0 ? `${place}, ${percent(cells[0])} before` : `${place} before`];
  const out = cells.indexOf(REMOVED);
  const last = cells.at(-1);
  if (out > 0) {
    const had = cells[out - 1] >= 0 ? `, where it had ${percent(cells[out - 1])}` : "";
    parts.push(`removed by ${view.columns[out].name}${had}`);
  } else if (last === null) parts.push("out after the chain; at the stage that took it, too unlikely to be listed");
  else if (last >= 0 && cells.length > 1) parts.push(`${percent(last)} after`);
  else if (last === UNLISTED && cells.length > 1) parts.push("after not among those listed");
  if (id === view.choice) parts.push(`drawn, u = ${view.draw.toFixed(4)}`);
  return [...parts, `id ${id}`].join(" · ");
}

/** One token as a row; `act`: point(id), null for nothing pointed at, focus(id) and bias(id, ban). */
export function tokenRow(row, act) {
  const parts = pieceParts(unhex(row.bytes));
  const mark = h("span", { class: "mll-nt-mark", "aria-hidden": "true" });
  const acts = biasButtons((ban) => act.bias(row.id, ban), ["⊘", "+"]);
  acts.name(plainParts(parts));
  const head = h(
    "th",
    { scope: "row", class: "mll-nt-token" },
    mark,
    h("span", { class: "mll-nt-text", dir: "auto" }, glyphs(parts)),
    acts.node,
  );
  const node = h(
    "tr",
    {
      tabindex: -1,
      on: {
        pointerenter: () => act.point(row.id),
        pointerleave: () => act.point(null),
        focus: () => act.focus(row.id),
      },
    },
    head,
  );
  const cells = [];
  const shown = [];
  return {
    node,
    text: plainParts(parts),
    update(view, i, scale, places) {
      const n = view.cells.length;
      const last = lastShown(view.columns);
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
        const key = `${p}${scale}${places.has(c)}${c === last}${p === REMOVED ? view.cells[c - 1]?.[i] : ""}`;
        if (shown[c] === key) continue;
        shown[c] = key;
        const { node: cell, bar, figure } = cells[c];
        const out = p === REMOVED;
        const length = out ? Math.max(0, view.cells[c - 1]?.[i] ?? 0) : p;
        bar.style.transform = `scaleX(${barLength(length, scale).toFixed(4)})`;
        cell.toggleAttribute("data-removed", out);
        cell.toggleAttribute("data-off", !places.has(c));
        cell.toggleAttribute("data-last", c === last);
        figure.textContent = shareText(p);
        if (out) cell.setAttribute("aria-label", "removed");
        else cell.removeAttribute("aria-label");
      }
      shown.length = n;
    },
  };
}

/** The head of one stage's column. */
export function stageHead() {
  const name = [h("span"), h("span")]; // the settings go to a line of their own where both are too long for one
  const lines = [h("span", { class: "mll-nt-headline mll-nt-name" }, name[0], h("wbr"), name[1])];
  for (const says of ["kept", "went", "entropy"])
    lines.push(h("span", { class: "mll-nt-headline", "data-says": says }));
  const mass = h("span", { class: "mll-nt-mass", "aria-hidden": "true" }, h("i"));
  const node = h("th", { scope: "col" }, lines, mass);
  return {
    node,
    update(heads, i, isShown) {
      const [named, ...rest] = headLines(heads, i);
      const cut = named.includes("(") ? named.indexOf("(") : named.length;
      [named.slice(0, cut), named.slice(cut)].forEach((text, k) => {
        if (name[k].textContent !== text) name[k].textContent = text;
      });
      rest.forEach((text, k) => {
        if (lines[k + 1].textContent !== text) lines[k + 1].textContent = text;
      });
      const { inert } = heads[i];
      const said = inert ? [heads[i].name, `no effect: ${inert}`] : headLines(heads, i);
      const title = said.filter(Boolean).join(" · ");
      node.toggleAttribute("data-off", !isShown);
      node.toggleAttribute("data-last", i === lastShown(heads));
      if (node.title !== title) node.title = title;
      const left = i === 0 ? 1 : 1 - heads[i].removed;
      mass.firstChild.style.transform = `scaleX(${left.toFixed(4)})`;
      node.toggleAttribute("data-same", i > 0 && !heads[i].changed);
    },
  };
}
