/** The card of one token: how likely it was, what else was likely, what the chain left, what it cost. */
import { glyphs, h } from "./shared/dom.js";
import { count, duration, number, percent } from "./shared/text.js";
import { pieceLabel, pieceParts, unhex } from "./shared/tokens.js";

const change = (before, after) => `${percent(before)} → ${percent(after)}`;

/** Rows of the card out of the kernel's details: the alternatives, then all others together. */
export function alternatives(details) {
  const rows = details.top.map((row, k) => ({ ...row, rank: k + 1, chosen: row.token === details.token }));
  if (!rows.some((row) => row.chosen)) {
    const { token, hex, p, after, rank } = details;
    rows.push({ token, hex, p, after, rank: rank === null ? null : rank + 1, chosen: true });
  }
  return rows;
}

/** "TopK(40) 40 · MinP(0.05) 7" */
export const survivors = (stages) => stages.map(([name, kept]) => `${name} ${count(kept)}`).join(" · ");

function alternativeRow(row, most) {
  const wide = (p) => `${Math.max(0, Math.min(100, ((p ?? 0) / most) * 100))}%`;
  return h(
    "li",
    {
      class: "mll-alt",
      role: "option",
      "aria-selected": "false",
      "data-chosen": row.chosen,
      "data-removed": row.after === 0,
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
  );
}

export function tokenCard({ onChoose = () => {}, onSelect = () => {}, onLook = () => {} } = {}) {
  const head = h("div", { class: "mll-card-head" });
  const facts = h("div", { class: "mll-card-facts mll-figures" });
  const list = h("ol", { class: "mll-alts mll-figures", role: "listbox", "aria-label": "Alternatives" });
  const why = h("div", { class: "mll-card-why mll-figures", hidden: true });
  const foot = h("div", { class: "mll-card-foot mll-figures" });
  const node = h(
    "div",
    { class: "mll-card", role: "group", "aria-label": "Token" },
    head,
    facts,
    h(
      "div",
      { class: "mll-alt mll-alt-names" },
      h("span"),
      h("span", {}, "token"),
      h("span"),
      h("span", {}, "before"),
      h("span", {}, "after"),
    ),
    list,
    why,
    foot,
  );
  let rows = [];
  let at = -1;
  list.addEventListener("click", (event) => {
    const k = [...list.children].indexOf(event.target.closest("li"));
    if (rows[k]) onChoose(rows[k]);
  });
  list.addEventListener("pointerover", (event) => {
    const k = [...list.children].indexOf(event.target.closest("li"));
    if (rows[k]) onLook(rows[k]);
  });
  const card = {
    node,
    /** Say what decided about a row's token; room for it is kept from the first time on. */
    explain(row, text) {
      why.hidden = false;
      why.replaceChildren(h("b", {}, pieceLabel(unhex(row.hex))), ` ${text}`);
    },
    get selected() {
      return rows[at] ?? null;
    },
    /** What the view knows by itself, at once; the rest follows from the kernel. */
    begin({ piece, step, n, p, rank, entropy, ms }) {
      rows = [];
      at = -1;
      head.replaceChildren(
        h("span", { class: "mll-card-piece", dir: "auto" }, glyphs(pieceParts(piece))),
        h("span", { class: "mll-quiet" }, `step ${step + 1} of ${n}`),
      );
      facts.replaceChildren(
        h("span", {}, "chance ", h("b", {}, percent(p))),
        h("span", {}, "rank ", h("b", {}, rank < 0 ? "n/a" : String(rank + 1))),
        h("span", {}, "entropy ", h("b", {}, number(entropy)), " nats"),
      );
      list.replaceChildren();
      why.replaceChildren();
      foot.replaceChildren(h("div", {}, `time ${duration(ms)}`));
    },
    /** Alternatives and costs, from the kernel. */
    complete(details) {
      rows = alternatives(details);
      facts.firstChild.replaceChildren("chance ", h("b", {}, change(details.p, details.after)));
      const most = Math.max(1e-9, ...rows.map((row) => Math.max(row.p ?? 0, row.after ?? 0)));
      list.replaceChildren(...rows.map((row) => alternativeRow(row, most)));
      const { decode, sample, constraint, capture } = details.ms;
      const times = [
        ["decode", decode],
        ["sample", sample],
        ["constraint", constraint],
        ["capture", capture],
      ];
      onLook(rows.find((row) => row.chosen));
      foot.replaceChildren(
        h("div", {}, `all other tokens: ${percent(details.remaining)} before the chain`),
        h("div", {}, details.stages.length ? `left by each stage: ${survivors(details.stages)}` : "no chain"),
        h(
          "div",
          {},
          `token ${details.token} · bytes ${details.hex.replace(/(..)(?=.)/g, "$1 ").toUpperCase() || "none"}`,
        ),
        h(
          "div",
          {},
          times
            .filter(([, ms]) => ms)
            .map(([name, ms]) => `${name} ${duration(ms)}`)
            .join(" · "),
        ),
      );
    },
    /** Say what went wrong; one line, whatever went wrong before. */
    failed(text) {
      foot.querySelector(".mll-problem")?.remove();
      foot.append(h("div", { class: "mll-problem", role: "alert" }, text));
    },
    /** Move the mark by one alternative; the ends hold. */
    move(by) {
      if (!rows.length) return;
      list.children[at]?.setAttribute("aria-selected", "false");
      at = Math.max(0, Math.min(rows.length - 1, at < 0 ? (by > 0 ? 0 : rows.length - 1) : at + by));
      const item = list.children[at];
      item.setAttribute("aria-selected", "true");
      list.scrollTop = Math.max(0, item.offsetTop - list.offsetTop - list.clientHeight / 2);
      const row = rows[at];
      onLook(row);
      const after = row.after === 0 ? "removed" : percent(row.after);
      onSelect(
        `alternative ${row.rank ?? ""}: ${pieceLabel(unhex(row.hex))}, ${percent(row.p)} before, ${after} after`,
      );
    },
  };
  return card;
}
