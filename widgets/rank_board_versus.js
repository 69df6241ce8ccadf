/** Two documents side by side: what each query token adds to either, and the difference as a bar. */
import { h } from "./shared/dom.js";
import { badge } from "./shared/hues.js";
import { tokenName } from "./shared/special.js";
import { counted, shown } from "./shared/text.js";

/** "A is 0.312 ahead of B: +0.551 from 6 query tokens, −0.239 from 4" */
export function verdict({ rows, by }) {
  if (by === 0) return "A and B have the same score";
  const side = (test) => rows.filter(({ by: x }) => test(x));
  const sum = (some) => some.reduce((total, { by: x }) => total + x, 0);
  const [plus, minus] = [side((x) => x > 0), side((x) => x < 0)];
  const tokens = (some) => counted(some.length, "query token");
  const parts = [
    plus.length ? `+${shown(sum(plus))} from ${tokens(plus)}` : "",
    minus.length ? `${shown(sum(minus))} from ${tokens(minus)}` : "",
  ];
  return `A is ${shown(Math.abs(by))} ${by > 0 ? "ahead of" : "behind"} B: ${parts.filter(Boolean).join(", ")}`;
}

const HEADS = ["query token", "A matched", "A", "B ahead · A ahead", "B", "B matched"];

const closeButton = (click) =>
  h(
    "button",
    {
      type: "button",
      class: "mll-button mll-versus-close",
      "data-plain": true,
      "aria-label": "Close the comparison",
      title: "Close (Esc)",
      on: { click },
    },
    "✕",
  );

/** The panel. `fill` takes what `versus` gives, names, query tokens, and what each of them matched. */
export function versusView({ onClose = () => {} } = {}) {
  const head = h("p", { class: "mll-versus-head" });
  const names = h("div", { class: "mll-versus-names" });
  const heads = HEADS.map((name) => h("th", { scope: "col" }, name));
  const body = h("tbody");
  const node = h(
    "section",
    { class: "mll-versus mll-live", "aria-label": "What differs between two documents", hidden: true },
    closeButton(onClose),
    head,
    names,
    h("div", { class: "mll-versus-scroll" }, h("table", {}, h("thead", {}, h("tr", {}, heads)), body)),
  );
  const piece = ([text, says] = ["", ""]) =>
    h("td", { class: "mll-versus-piece", dir: "auto", title: says || text }, tokenName(text, says));
  const row = ({ i, a, b, by }, most, name, [inA, inB]) => {
    const wide = most ? (Math.abs(by) / most) * 50 : 0;
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, badge(i), h("span", { dir: "auto" }, name)),
      piece(inA),
      h("td", {}, shown(a)),
      h(
        "td",
        { class: "mll-versus-by" },
        h("i", { "data-side": by < 0 ? "b" : "a", style: { width: `${wide}%`, [by < 0 ? "right" : "left"]: "50%" } }),
        h("span", {}, `${by > 0 ? "+" : ""}${shown(by)}`),
      ),
      h("td", {}, shown(b)),
      piece(inB),
    );
  };
  return {
    node,
    fill(result, { a, b, labels, special, matched }) {
      node.hidden = false;
      head.textContent = verdict(result);
      names.replaceChildren(
        h("span", {}, h("b", {}, "A "), h("span", { dir: "auto" }, a), ` ${shown(result.a)}`),
        h("span", {}, h("b", {}, "B "), h("span", { dir: "auto" }, b), ` ${shown(result.b)}`),
      );
      body.replaceChildren(
        ...result.rows.map((one) =>
          row(one, result.most, tokenName(labels[one.i], special[one.i]), [matched.a[one.i], matched.b[one.i]]),
        ),
        h(
          "tr",
          { class: "mll-versus-total" },
          h("th", { scope: "row" }, "score"),
          h("td"),
          h("td", {}, shown(result.a)),
          h("td", { class: "mll-versus-by" }, h("span", {}, `${result.by > 0 ? "+" : ""}${shown(result.by)}`)),
          h("td", {}, shown(result.b)),
          h("td"),
        ),
      );
    },
    hide() {
      node.hidden = true;
    },
  };
}
