/** What a panel says of a run: its state, how far it is, and its figures. */
import { count, duration, number } from "./shared/text.js";
import { ENDINGS } from "./shared/tokens.js";

/** The state in words, without numbers that change with every token. */
export function stateText(state, meters = {}, message = "") {
  if (state === "failed") return `Failed: ${message}`;
  if (state === "queued") return "Waiting for the session…";
  if (state === "prompt") return "Reading the prompt…";
  if (state === "running") return "Generating…";
  if (state === "idle") return "Ready.";
  if (state === "stopped") return "Stopped.";
  return meters.finish ? `Finished: ${ENDINGS[meters.finish]}.` : "Finished.";
}

/** How far a run is, 0 to 1, and in words. */
export function progressOf(state, [done, all], tokens, most) {
  if (state === "prompt") return { share: all ? done / all : 0, text: `${count(done)} of ${count(all)} prompt tokens` };
  if (state === "running")
    return { share: most ? Math.min(1, tokens / most) : 0, text: `${count(tokens)} of at most ${count(most)} tokens` };
  return { share: 0, text: "" };
}

const inMs = (seconds) => (seconds === null ? null : seconds * 1000);

/** Label, name and text of each figure. */
export const METERS = [
  ["tokens", "tokens", (m) => count(m.tokens)],
  ["tokens/s", "tokens_per_second", (m) => number(m.tokens_per_second)],
  ["first token", "first_token_seconds", (m) => duration(inMs(m.first_token_seconds))],
  ["prompt decoded", "prompt_decoded", (m) => count(m.prompt_decoded)],
  ["reused from cache", "prompt_reused", (m) => count(m.prompt_reused)],
];
