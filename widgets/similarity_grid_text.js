/** The document's text; where a token is a best match, the numbers of its query tokens stand at it. */
import { glyphs, h } from "./shared/dom.js";
import { HUES } from "./shared/hues.js";
import { tokenName } from "./shared/special.js";
import { visible } from "./shared/text.js";
import { markText } from "./similarity_grid_match.js";

const inFlow = (string) => glyphs(visible(string), { flow: true });

/** `point(column)` when the pointer is on a token, -1 when on none; `go(column)` on a click. */
export function documentText({ point, go }) {
  const node = h("div", {
    class: "mll-sg-text",
    role: "group",
    "aria-label": "Document, with the numbers of the query tokens that match best",
    tabindex: 0,
    dir: "auto",
  });
  let tokens = []; // {node, sup} for each column
  let lit = [];
  const columnOf = (target) => Number(target.closest?.(".mll-sg-match")?.dataset.column ?? -1);
  node.addEventListener("pointerover", ({ target }) => point(columnOf(target)));
  node.addEventListener("pointerleave", () => point(-1));
  node.addEventListener("click", ({ target }) => columnOf(target) >= 0 && go(columnOf(target)));

  function draw(pair, view) {
    node.replaceChildren();
    tokens = view.colLabels.map((_, j) => {
      const token = tokenOf(pair, view, j);
      node.append(...inFlow(pair.gaps[view.colStarts[j]]), token.node);
      return token;
    });
    node.append(...inFlow(pair.gaps.at(-1) ?? ""));
  }
  /** `marks` has the query tokens, by their places, whose best match each column is. */
  function mark(marks) {
    marks.forEach((rows, j) => {
      const { node: token, sup } = tokens[j];
      const words = rows.length ? markText(rows) : "";
      if (sup.textContent !== words) sup.textContent = words;
      if (rows.length) token.dataset.hue = rows[0] % HUES;
      else delete token.dataset.hue;
    });
  }
  const dim = () => {
    for (const token of lit) token.removeAttribute("data-at");
    lit = [];
  };
  /** Show the token of a cell, and the best match of its row. */
  function light(column, best) {
    const [here, there] = [tokens[column]?.node, tokens[best]?.node];
    here?.setAttribute("data-at", "here");
    if (there !== here) there?.setAttribute("data-at", "best");
    lit = [here, there].filter(Boolean);
    const top = here ? here.offsetTop - node.offsetTop : 0;
    const hidden = top < node.scrollTop || top + (here?.offsetHeight ?? 0) > node.scrollTop + node.clientHeight;
    if (here && hidden) node.scrollTop = top - node.clientHeight / 2;
  }
  return { node, draw, mark, dim, light };
}

function tokenOf(pair, view, j) {
  const [from, to] = [view.colStarts[j], view.colStarts[j + 1]];
  const label = view.colLabels[j];
  const parts = pair.shown.slice(from, to).map((part, k) => (k ? pair.gaps[from + k] : "") + part);
  const says = pair.documentSpecial[from];
  const name = says ? tokenName(label, says) : inFlow(parts.join("") || label);
  const sup = h("sup", { "aria-hidden": "true" });
  return { node: h("span", { class: "mll-sg-match", "data-column": j }, name, sup), sup };
}
