/** What levers make of the next token, in a line and as a table; a row is [bytes, id, without, with]. */
import { glyphs, h } from "./dom.js";
import { filesOf } from "./effect_file.js";
import { exportMenu } from "./export.js";
import { scrollBox } from "./lines.js";
import { number, percent, plainParts } from "./text.js";
import { pieceParts, unhex } from "./tokens.js";

const NOISE = { true: " (within noise)", false: " (more than noise)", null: "" };

/** What it does to the next token, in a line. */
export function effectText({ kl, noise, changed, tops }) {
  const [before, after] = tops.map((piece) => plainParts(pieceParts(unhex(piece))));
  const likeliest = changed
    ? `“${before}” was the likeliest token, now “${after}”`
    : `“${before}” stays the likeliest`;
  return `KL ${number(kl)} nats${NOISE[noise]}: ${likeliest}`;
}

/** A share with its bar under it. */
function share(p, isTop) {
  const bar = h("span", { class: "mll-effect-bar", style: { transform: `scaleX(${p.toFixed(4)})` } });
  const figure = h("span", { class: "mll-effect-figure" }, percent(p), isTop ? " ◆" : "");
  return h("td", { "data-top": isTop }, bar, figure);
}

/**
 * A table of both distributions, which `show(rows, without, with)` fills; a diamond marks the likeliest of each.
 * `saving` is the menu of its files, under the lines that `says()` gives.
 */
export function effectTable(says) {
  let shown = { rows: [], heads: [] };
  const menu = exportMenu("effect", filesOf(() => ({ ...shown, says: says() })));
  const table = h("table", { class: "mll-effect", "aria-label": "Probability of the next token" });
  const show = (rows, ...heads) => {
    shown = { rows, heads };
    const most = [2, 3].map((k) => Math.max(...rows.map((row) => row[k])));
    const line = ([piece, id, p, q]) => {
      const token = h("th", { scope: "row", dir: "auto", title: `id ${id}` }, glyphs(pieceParts(unhex(piece))));
      return h("tr", {}, token, share(p, p === most[0]), share(q, q === most[1]));
    };
    const head = ["token", ...heads].map((text) => h("th", { scope: "col" }, text));
    table.replaceChildren(h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows.map(line)));
  };
  return { node: scrollBox("mll-effect-scroll", table), saving: menu.node, show };
}
