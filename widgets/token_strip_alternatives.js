/** The alternatives in the card of a token: a row each, the row at hand, and what a hand does to it. */
import { biasButtons } from "./shared/bias.js";
import { glyphs, h } from "./shared/dom.js";
import { percent } from "./shared/text.js";
import { pieceLabel, pieceParts, unhex } from "./shared/tokens.js";

/** Rows of the card out of the kernel's details: the alternatives, then all others together. */
export function alternatives(details) {
  const rows = details.top.map((row, k) => ({ ...row, rank: k, chosen: row.token === details.token }));
  if (!rows.some((row) => row.chosen)) {
    const { token, hex, p, after, rank } = details;
    rows.push({ token, hex, p, after, rank, chosen: true });
  }
  return rows;
}

/** Where the mark goes from a row, or from that of the token that was chosen while none is marked; the ends hold. */
export function markAfter(rows, at, by) {
  const from = at < 0 ? rows.findIndex((row) => row.chosen) : at;
  return Math.max(0, Math.min(rows.length - 1, from + by));
}

function alternativeRow(row, most, does) {
  const wide = (p) => `${Math.max(0, Math.min(100, ((p ?? 0) / most) * 100))}%`;
  return h(
    "li",
    {
      class: "mll-alt",
      role: "option",
      "aria-selected": "false",
      "data-chosen": row.chosen,
      "data-removed": row.after === 0,
      title: row.chosen ? "The token of the text" : `${does} (click or Enter)`,
    },
    h("span", { class: "mll-alt-rank" }, row.rank === null ? "n/a" : String(row.rank)),
    h("span", { class: "mll-alt-piece", dir: "auto" }, glyphs(pieceParts(unhex(row.hex)))),
    h(
      "span",
      { class: "mll-alt-bar", "aria-hidden": "true" },
      h("i", { style: { width: wide(row.p) } }),
      h("b", { style: { width: wide(row.after) } }),
    ),
    h("span", { class: "mll-alt-p" }, percent(row.p)),
    h("span", { class: "mll-alt-p" }, row.after === 0 ? "out" : percent(row.after)),
    row.chosen ? null : h("span", { class: "mll-alt-does", "aria-hidden": "true" }, does),
  );
}

const NAMES = ["", "token", "", "before", "after"];

/**
 * The row at hand is the one that a key marked or the pointer came to, whichever was last, else that of the text.
 * The model says what choosing does, and whether somebody listens to bans; `act`: choose(row, if any), look(row),
 * bias(ban), say(text).
 */
export function alternativeList(model, act) {
  const acts = biasButtons(act.bias);
  const list = h("ol", { role: "listbox", "aria-label": "Alternatives" });
  const names = h("div", { class: "mll-alt mll-alt-names" }, NAMES.map((name) => h("span", {}, name)));
  const on = { click: (event) => act.choose(rowOf(event)), pointerover: over, pointerleave: rest };
  const scroll = h("div", { class: "mll-alts mll-figures", on }, list, acts.node);
  const node = h("div", { class: "mll-alts-box" }, names, scroll);
  let rows = [];
  let at = -1; // what a key marked
  let hand = -1;
  /** Scroll the list until a row is in its middle; the rows in sight stay whole. */
  function centre(row) {
    const above = Math.floor((scroll.clientHeight / row.offsetHeight - 1) / 2);
    scroll.scrollTop = row.offsetTop - above * row.offsetHeight;
  }
  /** Have a row at hand: the buttons stand on it. */
  function take(k) {
    list.children[hand]?.removeAttribute("data-hand");
    hand = k;
    const item = list.children[k];
    acts.node.hidden = !item;
    if (!item) return;
    item.setAttribute("data-hand", "");
    acts.node.style.top = `${item.offsetTop}px`;
    acts.name(pieceLabel(unhex(rows[k].hex)));
  }
  function rest() {
    take(at < 0 ? rows.findIndex((row) => row.chosen) : at);
  }
  const rowOf = ({ target }) => rows[[...list.children].indexOf(target.closest("li"))];
  function over(event) {
    const row = rowOf(event);
    if (!row) return;
    take(rows.indexOf(row));
    act.look(row);
  }
  function clear() {
    rows = [];
    at = -1;
    list.replaceChildren();
    take(-1);
    node.toggleAttribute("data-biases", model.get("biases"));
  }
  function show(details) {
    rows = alternatives(details);
    const most = Math.max(1e-9, ...rows.map((row) => Math.max(row.p ?? 0, row.after ?? 0)));
    list.replaceChildren(...rows.map((row) => alternativeRow(row, most, model.get("choosing"))));
    const own = list.querySelector("[data-chosen]");
    if (own.offsetTop + own.offsetHeight > scroll.clientHeight) centre(own);
    rest();
    act.look(rows[hand]);
  }
  /** Move the mark by one alternative, from the token that was chosen at first. */
  function move(by) {
    if (!rows.length) return;
    list.children[at]?.setAttribute("aria-selected", "false");
    at = markAfter(rows, at, by);
    const [item, row] = [list.children[at], rows[at]];
    item.setAttribute("aria-selected", "true");
    centre(item);
    take(at);
    act.look(row);
    const chances = `${percent(row.p)} before, ${row.after === 0 ? "removed" : percent(row.after)} after`;
    const enter = row.chosen ? "" : `; Enter: ${model.get("choosing")}`;
    act.say(`alternative ${row.rank ?? ""}: ${pieceLabel(unhex(row.hex))}, ${chances}${enter}`);
  }
  return { node, clear, show, move, marked: () => rows[at], atHand: () => rows[hand] };
}
