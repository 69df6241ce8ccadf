/** What the texts that were tried use of a grammar: a count, and the alternatives that none of them uses. */
import { h } from "./shared/dom.js";
import { counted } from "./shared/text.js";

const TITLE =
  "Counted are the texts put to the grammar, its examples and what runs wrote. " +
  "One that breaks off, or is none of the grammar, uses nothing.";

/** "3 of 4 texts tried: 7 of 9 alternatives used"; "" where no text was tried. */
export function triedText(tried) {
  if (tried.problem) return `Which alternatives the texts use is not known: ${tried.problem}`;
  if (!tried.n_tried) return "";
  const { n_tried: all, n_texts: n, n_unread: unread } = tried;
  const texts = n === all ? `${counted(n, "text")} tried` : `${n} of ${counted(all, "text")} tried`;
  const used = `${tried.n_used} of ${counted(tried.n_alternatives, "alternative")} used`;
  const left = unread ? ` · ${counted(unread, "text")} too long to be read` : "";
  return `${texts}: ${used}${left}`;
}

/** The view; `go(line, column)` shows the rule of an alternative. */
export function triedView({ go }) {
  const said = h("span", { role: "status" });
  const unused = h("span", { class: "mll-gb-unused" });
  const node = h("p", { class: "mll-quiet mll-figures mll-gb-tried", title: TITLE }, said, unused);
  function draw(tried) {
    const text = triedText(tried);
    if (said.textContent !== text) said.textContent = text; // read aloud once
    node.hidden = !text;
    const names = tried.n_texts ? tried.unused : [];
    const more = names.length && tried.n_unused - names.length;
    const buttons = names.map(({ text, line, column }) =>
      h("button", { class: "mll-gb-go", type: "button", on: { click: () => go(line, column) } }, text),
    );
    unused.replaceChildren(names.length ? ". Never used: " : "", ...buttons, more ? ` and ${more} more` : "");
  }
  return { node, draw };
}
