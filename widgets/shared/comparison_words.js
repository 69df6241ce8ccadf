/** What two to four texts have in common and where they part, in words. */
import { count, counted, removedShare, visible } from "./text.js";

/** A divergence in words: "0.31 nats", "≥ 0.31 nats", "∞" or "n/a". */
export function nats(kl) {
  if (!kl) return "n/a";
  if (kl.infinite) return "∞";
  const shown =
    kl.nats === 0
      ? "0"
      : kl.nats < 0.001
        ? kl.nats.toPrecision(1)
        : kl.nats < 10
          ? kl.nats.toFixed(3)
          : kl.nats.toPrecision(3);
  return `${kl.exact ? "" : "≥ "}${shown} nats`;
}

/** The same for a divergence that is noise, where that is known: no figure that looks like an effect. */
export const said = (kl, noise) => (noise && kl.nats !== 0 ? "within noise" : nats(kl));

export const REMOVED = "Removed: how much of the model's chances the grammar took there.";
/** How much that is at a step, "93%"; "" of a text that was written without one. */
export function removedText([, , , , , cost]) {
  if (!cost) return "";
  const [low, high] = cost.map((bound) => bound ?? Infinity); // JSON has no infinity
  return low === 0 && high === Infinity ? "n/a" : removedShare(low, high);
}

/** What the grammars of the sides cost in all, a line for each that had one. */
export const costTexts = ({ sides }) => sides.filter(({ cost }) => cost).map(({ label, cost }) => `${label}: ${cost}.`);

/** A token of which even a blank is seen. */
export const marked = (text) =>
  visible(text)
    .map((part) => part.text)
    .join("") || "(nothing)";

/** What the sides have in common, in words. */
export function alikeText(c) {
  const alike = `${counted(c.shared, "token")} alike`;
  if (c.first === 0) return "the first token differs";
  if (c.first !== null) return `${alike}, then step ${count(c.first)} differs`;
  return c.sides.some((side) => side.token) ? `${alike}, then one goes on` : `the same ${alike.replace(" alike", "")}`;
}

/** Whether two rows are the model's answer to the same tokens, and alike to the last bit or but for noise. */
export const sameRow = (side, step, kl, noise) =>
  Boolean(side.same_prompt && kl && (kl.nats === 0 || noise) && (side.first === null || step <= side.first));

const NOISE_CODE = "ml.studies.noise.noise(model)";

/** What is known of the noise where a difference may be noise, and the code that measures it. */
export function noiseText(c) {
  if (c.sides.some((side) => side.noise || side.noise_after))
    return ["What is called the same is so but for rounding, which was measured with this model."];
  return c.may_be_noise
    ? ["A small difference may be rounding, which was not measured with this model. To measure it: ", NOISE_CODE]
    : [];
}
/** From how many nats on two distributions are said to differ so. */
const APART = [
  [1, "differ strongly"],
  [0.1, "differ clearly"],
  [0.01, "differ a little"],
  [0, "hardly differ"],
];
export const SCALE = "Below 0.01 nats is called hardly, from 0.01 a little, from 0.1 clearly, from 1 strongly.";

/** How far apart two distributions are, in words; `noise`: whether that is no more than rounding. */
function apart(kl, noise, [first, side]) {
  if (kl.nats === 0) return kl.exact ? "are the same" : "are the same as far as they were kept";
  if (noise) return "are the same but for rounding";
  if (kl.infinite) return `differ: ${side.label} excludes a token that ${first.label} could draw`;
  const words = APART.find(([least]) => kl.nats >= least)[1];
  return kl.exact ? words : `${words} or more`;
}

/** What was asked for otherwise than of the first side: "run 4 → run 5: seed 3 → 4". */
export const differsText = ([first], side) =>
  `${first.label} → ${side.label}: ${side.differs.join(", ") || "the same settings"}`;

/** Where one side parts from the first, and how far apart the chances of the next token are there. */
export function partingText(c, side) {
  const [first] = c.sides;
  if (side.first === null) return `${side.label}: no token differs from ${first.label}.`;
  const there = `${side.label} parts from ${first.label} at step ${count(side.first)}.`;
  const { kl, kl_after } = side;
  const before = kl ? `the model's chances ${apart(kl, side.noise, [first, side])}` : "";
  const after = kl_after ? `after the chain they ${apart(kl_after, side.noise_after, [first, side])}` : "";
  const words = [before, after].filter(Boolean).join("; ") || "how far apart the chances are is not known";
  const drawnAlike = (kl_after?.nats === 0 && kl_after.exact) || side.noise_after;
  const isSame = sameRow(side, side.first, kl, side.noise) && drawnAlike;
  const why = side.given ? ", but a token was given, not drawn" : ", so only the draw differs";
  return `${there} There ${words}${isSame ? why : ""}.`;
}

/** The same in the exact term, for who asks for it. */
export function exactText(c, side) {
  const [first] = c.sides;
  const [before, after] = [said(side.kl, side.noise), said(side.kl_after, side.noise_after)];
  const about = `KL(${first.label} ‖ ${side.label}) at step ${count(side.first ?? 0)}`;
  const known = c.floor !== null && nats({ nats: c.floor, exact: true });
  const floor = known ? ` Rounding makes up to ${known} with this model.` : "";
  return `${about}: ${before} before the chain, ${after} after.${floor}`;
}

/** The divergence at one step, of a row of the alignment: [bytes, chance, after, KL, noise, cost]. */
export const klText = ([, , , kl, noise], same) =>
  same && kl.nats === 0 ? "same row" : said(kl, noise).replace(" nats", "");
