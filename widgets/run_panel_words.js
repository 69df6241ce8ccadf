/** What a panel says of a run: its state, how far it is, and its figures. */
import { count, counted, duration, number } from "./shared/text.js";

/** The state in words, without numbers that change with every token; why it failed is part of it. */
export function stateText(state, meters = {}, message = "") {
  if (state === "failed" && message) return `Failed: ${message}`;
  if (state === "queued") return "Waiting for the session…";
  if (state === "prompt") return "Reading the prompt…";
  if (state === "running") return "Generating…";
  return endText(state, meters);
}

const AT_REST = new Set(["idle", "finished", "stopped"]);

/** What else is to be said while nothing goes on: it stands after the figures, which it does not move. */
export const remarkText = (state, message) => (AT_REST.has(state) ? message : "");

const NO_FINISH = new Set(["stopped", "scored", "explored", "failed", "cut"]); // they say themselves what it is

/** How the text that is shown has ended. */
function endText(state, { finish, ended }) {
  if (state === "idle") return "Ready.";
  if (state === "stopped" || state === "failed") return sentence(state);
  if (!ended) return "Finished.";
  return NO_FINISH.has(finish) ? sentence(ended) : `Finished: ${ended}.`;
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

/** How far a run is, 0 to 1, and in words; what a branch took over counts as nothing drawn. */
export function progressOf(state, [done, all], { tokens = 0, copied = 0 }, most) {
  const drawn = tokens - copied;
  const share = (part, whole) => (whole ? Math.min(1, part / whole) : 0);
  if (state === "prompt") return { share: share(done, all), text: `${count(done)} of ${counted(all, "prompt token")}` };
  if (state === "running")
    return { share: share(drawn, most), text: `${count(drawn)} of at most ${counted(most, "token")}` };
  return { share: 0, text: "" };
}

const inMs = (seconds) => duration(seconds * 1000);
const signed = (x) => number(x).replace("-", "−");
const has = (x) => x !== null && x !== undefined;

/** The figures of a run as [text, curve or null], what matters most first; while it goes on, those with a curve. */
export function figuresOf(meters, state) {
  if (!("tokens" in meters)) return [];
  const [decoded, reused] = [count(meters.prompt_decoded), count(meters.prompt_reused)];
  const moving = [
    [has(meters.tokens_per_second) && `${number(meters.tokens_per_second)} tokens/s`, meters.speeds],
    [has(meters.logprob) && `logprob ${signed(meters.logprob)}`, meters.logprobs],
  ];
  const all = [
    [counted(meters.tokens, "token")],
    ...moving,
    [has(meters.first_token_seconds) && `first ${inMs(meters.first_token_seconds)}`],
    [has(meters.prompt_decoded) && `prompt ${decoded} decoded, ${reused} reused`],
  ];
  return (state === "running" ? moving : all).filter(([text]) => text).map(([text, curve]) => [text, curve ?? null]);
}

/** From the least to the most of a curve, in words. */
const spanText = (curve, unit) =>
  curve?.length > 1 ? ` From ${signed(Math.min(...curve))} to ${signed(Math.max(...curve))}${unit} on the way.` : "";

/** The same in whole sentences, for who asks. */
export function figuresInWords(meters) {
  if (!has(meters.tokens_per_second)) return [];
  const first = has(meters.first_token_seconds)
    ? `The first token came after ${inMs(meters.first_token_seconds)}.`
    : "No token was drawn.";
  const reused = counted(meters.prompt_reused, "more was", "more were");
  return [
    `${number(meters.tokens_per_second)} tokens a second after the first.${spanText(meters.speeds, "")}`,
    `${first} ${counted(meters.prompt_decoded, "token")} of the prompt read for it, ${reused} in the cache already.`,
    has(meters.logprob) &&
      `logprob: how likely the model found each token before the chain, as ln of its chance: 0 is certain. ` +
        `${signed(meters.logprob)} nats on the average.${spanText(meters.logprobs, "")}`,
    "The curves go along the tokens that the run drew itself: speed stands on 0, logprob hangs from 0.",
  ];
}

/** Stop strings as one line of text, as it may be typed; one without commas or backslashes needs no quotes. */
export function stopText(texts) {
  const plain = texts.length === 1 && !/^\s*\u0022|[,\\]|^\x20|\x20$|[^\P{Cc}\n\t]/u.test(texts[0]);
  if (plain) return texts[0].replaceAll("\n", "\\n").replaceAll("\t", "\\t");
  return texts.map((text) => JSON.stringify(text)).join(", ");
}
