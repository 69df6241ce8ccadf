/** What a grammar says of a text: its tokens with the rules that took them, why no further, what may come. */
import { glyphs, h } from "./shared/dom.js";
import { count, counted, percent, readable } from "./shared/text.js";
import { pieceLabel, pieceParts, unhex } from "./shared/tokens.js";

export const HUES = 6;

/** The rules of a walk, each with a hue, in the order in which the text comes to them. */
export function huesOf(tokens) {
  const rules = [...new Set(tokens.flatMap((token) => token.rules))];
  return new Map(rules.map((rule, i) => [rule, i % HUES]));
}

/** Where the text is, in a sentence. */
export function verdict(walk) {
  if (walk.refusal) return walk.refusal;
  if (walk.is_ended || walk.can_only_end) return "Complete: nothing but the end may come.";
  const next = walk.expected ? ` Expected: ${walk.expected}.` : "";
  return `${walk.is_complete ? "Complete, and may go on." : "A beginning."}${next}`;
}

/** That the text is shown from some token on, where it is long. */
export function cutText({ tokens, n_tokens }) {
  return tokens.length < n_tokens ? `The last ${count(tokens.length)} of ${counted(n_tokens, "token")}.` : "";
}

/** How many tokens may come, and which text must. */
export function choiceText(walk) {
  if (walk.is_ended || walk.can_only_end) return "";
  const ends = walk.is_complete ? ", or the end" : "";
  const forced = walk.forced ? ` · must go on with “${readable(walk.forced)}”` : "";
  return `${counted(walk.n_allowed, "token")} of ${count(walk.n_vocab)} may come${ends}${forced}`;
}

/** What a token of the text is, in words: its rules, and that it spans a border. */
export function tokenTitle({ text, rules }) {
  if (!rules.length) return text;
  const spans = rules.length > 1 ? `spans the border of ${rules.join(" and ")}` : `in ${rules[0]}`;
  return `${text} · one token, ${spans}`;
}

/** What may come next, as a chip says it. */
export function chanceText({ p, spans }) {
  const chance = p === null ? "" : percent(p);
  return [chance, spans && `across ${spans}`].filter(Boolean).join(" · ");
}

export function walkView({ step }) {
  const taken = h("p", { class: "mll-gb-taken mll-code", dir: "auto", "aria-label": "The text as tokens" });
  const cut = h("p", { class: "mll-quiet mll-figures" });
  const said = h("p", { class: "mll-gb-said", role: "status" });
  const rules = h("p", { class: "mll-quiet mll-gb-rules" });
  const choice = h("p", { class: "mll-quiet mll-figures" });
  const chips = h("ul", { class: "mll-gb-chips", "aria-label": "Tokens that may come next" });
  const tax = h("p", { class: "mll-quiet mll-figures mll-gb-tax" });
  const node = h("div", { class: "mll-gb-walk" }, cut, taken, said, rules, choice, chips, tax);

  function drawTaken(walk) {
    const hues = huesOf(walk.tokens);
    const spans = walk.tokens.map((token) => {
      const hue = token.rules.length === 1 ? hues.get(token.rules[0]) : token.rules.length ? "many" : null;
      return h("span", { class: "mll-gb-token", "data-hue": hue, title: tokenTitle(token) }, token.text);
    });
    const rest = walk.rest && h("span", { class: "mll-gb-rest", title: "Not taken" }, readable(walk.rest));
    const end = walk.is_ended && h("span", { class: "mll-gb-end" }, "end");
    taken.replaceChildren(...spans, ...[rest, end].filter(Boolean));
    taken.hidden = !taken.childNodes.length;
  }
  function chip(token) {
    const piece = unhex(token.bytes);
    const does = { type: "button", class: "mll-gb-chip", title: `Go on with ${pieceLabel(piece)}` };
    const note = chanceText(token);
    const text = h("b", {}, glyphs(pieceParts(piece)));
    const press = h("button", { ...does, on: { click: () => step(token.token) } }, text, note);
    return h("li", {}, press);
  }
  /** Others take their places; whoever pressed one stays among them. */
  function drawChips(allowed) {
    const had = chips.contains(chips.ownerDocument.activeElement);
    chips.replaceChildren(...allowed.map(chip));
    if (had) chips.querySelector("button")?.focus({ preventScroll: true });
  }
  return {
    node,
    draw(walk) {
      drawTaken(walk);
      cut.textContent = cutText(walk);
      cut.hidden = !cut.textContent;
      said.textContent = verdict(walk);
      said.toggleAttribute("data-bad", Boolean(walk.refusal));
      rules.textContent = walk.stack?.length ? `In ${walk.stack.join(" › ")}` : "";
      rules.hidden = !walk.stack?.length;
      choice.textContent = choiceText(walk);
      choice.hidden = !choice.textContent;
      drawChips(walk.allowed ?? []);
      tax.textContent = walk.tax ?? "";
      tax.hidden = !walk.tax;
    },
  };
}
