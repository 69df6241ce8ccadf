/** The card of one token: how likely it was, what else was likely, what the chain left, what it cost. */
import { glyphs, h } from "./shared/dom.js";
import { count, duration, number, percent } from "./shared/text.js";
import { pieceLabel, pieceParts } from "./shared/tokens.js";
import { alternativeList } from "./token_strip_alternatives.js";
import { tokenText } from "./token_strip_words.js";

const change = (before, after) => `${percent(before)} → ${percent(after)}`;

/** "TopK(40) 40 · MinP(0.05) 7" */
export const survivors = (stages) => stages.map(([name, kept]) => `${name} ${count(kept)}`).join(" · ");

/** What is told below the alternatives: the rest of the row, the stages, the token's bytes and its times. */
function footLines(details) {
  const { decode, sample, constraint, capture } = details.ms;
  const times = Object.entries({ decode, sample, constraint, capture }).filter(([, ms]) => ms);
  return [
    `all other tokens: ${percent(details.remaining)} before the chain`,
    details.stages.length ? `left by each stage: ${survivors(details.stages)}` : "no chain",
    tokenText(details),
    times.map(([name, ms]) => `${name} ${duration(ms)}`).join(" · "),
  ].map((line) => h("div", {}, line));
}

/** The model says where a token was chosen by hand; the acts are those of the alternatives. */
export function tokenCard(model, acts) {
  const piece = h("span", { class: "mll-card-piece", dir: "auto" });
  const place = h("span", { class: "mll-quiet" });
  const head = h("div", { class: "mll-card-head" }, piece, place);
  const facts = h("div", { class: "mll-card-facts mll-figures" });
  const aside = h("div", { class: "mll-card-aside", dir: "auto", hidden: true });
  const why = h("div", { class: "mll-card-why mll-figures", hidden: true });
  const foot = h("div", { class: "mll-card-foot mll-figures" });
  const list = alternativeList(model, acts);
  const all = [head, facts, aside, list.node, why, foot];
  const node = h("div", { class: "mll-card", role: "group", "aria-label": "Token" }, all);
  return {
    node,
    /** Say something of a token: what decided about it, or what a key did to it. */
    tell(about, text) {
      why.hidden = false;
      why.replaceChildren(h("b", {}, pieceLabel(about)), ` ${text}`);
    },
    list,
    /** What the view knows by itself, at once; the rest follows from the kernel. */
    begin({ piece: bytes, step, p, rank, entropy, ms, explains, more }) {
      aside.hidden = !more;
      aside.textContent = aside.title = more;
      why.hidden = !explains; // its room is kept, so that the card stays as high
      piece.replaceChildren(...glyphs(pieceParts(bytes)));
      place.textContent = `step ${step}`;
      facts.replaceChildren(
        h("span", {}, "chance ", h("b", {}, percent(p))),
        h("span", {}, "rank ", h("b", {}, rank < 0 ? "n/a" : String(rank))),
        h("span", {}, "entropy ", h("b", {}, number(entropy)), " nats"),
      );
      list.clear();
      why.replaceChildren();
      foot.replaceChildren(h("div", {}, `time ${duration(ms)}`));
    },
    /** Alternatives and costs, from the kernel. */
    complete(details) {
      const byHand = model.get("branched").step === details.step;
      const how = `${byHand ? "chosen by hand" : "given"} (forced), not drawn`;
      const said = [`step ${details.step}`, details.stale && "stale", details.forced && how];
      place.textContent = said.filter(Boolean).join(" · ");
      facts.firstChild.replaceChildren("chance ", h("b", {}, change(details.p, details.after)));
      list.show(details);
      foot.replaceChildren(...footLines(details));
    },
    /** Say what went wrong; one line, whatever went wrong before. */
    failed(text) {
      foot.querySelector(".mll-problem")?.remove();
      foot.append(h("div", { class: "mll-problem", role: "alert" }, text));
    },
  };
}
