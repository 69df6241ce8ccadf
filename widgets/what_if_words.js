/** What a change of a setting would have changed: which tokens, and that in words. Plain functions. */
import { count, counted, number, visible } from "./shared/text.js";

// The bits of a token's mark.
export const LOW_FLIPS = 1;
export const HIGH_FLIPS = 2;
export const UNSURE = 4;
export const GIVEN = 8;

/** Where a value lies on the scale of the bars, 0 to 1. */
export function placeOf(value, { range: [low, high], scale }) {
  const at = scale === "log" && low > 0 ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
  return Math.max(0, Math.min(1, Number.isFinite(at) ? at : 0));
}

/** The tokens that are another choice at a value: as a replay saw it there, else as the bars say. */
export function flippedAt(value, { low, high, marks }, seen = {}) {
  if (value === null || value === undefined) return [];
  if (seen.at === value) return seen.differs;
  return marks
    .map((_, i) => i)
    .filter(
      (i) =>
        low[i] !== null && ((value < low[i] && marks[i] & LOW_FLIPS) || (value > high[i] && marks[i] & HIGH_FLIPS)),
    );
}

/** The interval of a token in words. */
export function intervalText({ low, high, marks, setting }, i) {
  if (marks[i] & GIVEN) return "given, not drawn: no setting changes it";
  if (low[i] > high[i]) return `is the choice with no value of ${setting} that was tried`;
  const [down, up] = [marks[i] & LOW_FLIPS, marks[i] & HIGH_FLIPS];
  const same = number(low[i], 4) === number(high[i], 4); // nearer than the digits that are shown
  if (down && up && same) return `stays the choice with ${setting} only at about ${number(low[i], 4)}`;
  const ends =
    down && up
      ? `from ${number(low[i], 4)} to ${number(high[i], 4)}`
      : down
        ? `from ${number(low[i], 4)} on`
        : up
          ? `up to ${number(high[i], 4)}`
          : "over all of the scale";
  return `stays the choice with ${setting} ${ends}${marks[i] & UNSURE ? ", as far as what was kept tells" : ""}`;
}

/** How many tokens a value changes, in words. */
export function flipText(value, bars, seen = {}) {
  const drawn = seen.at === value ? seen.of : bars.marks.filter((mark) => !(mark & GIVEN)).length;
  if (value === null || value === undefined) return `${bars.label} is not in the chain now`;
  const gone = flippedAt(value, bars, seen);
  const told = `${bars.label} at ${number(value, 4)} changes ${count(gone.length)} of ${counted(drawn, "choice")}`;
  return gone.length ? `${told}, the first at step ${gone[0]}` : told;
}

/** What a bar is, on which scale, and how far it holds. */
export function legendText({ label, marks, more, scale, range: [low, high], was }) {
  const part = more ? `the first ${counted(marks.length, "token")}; ` : "";
  return [
    `${part}a bar spans the values of ${label} that keep its token, ` +
      "with the same draws, the text before it and the other settings as they are now",
    `scale ${scale}, ${number(low, 4)} to ${number(high, 4)}; ` +
      (was === null ? "the run had no such stage" : `it was ${number(was, 4)}`),
    "after the first change, a rerun would have other text",
  ].join(" · ");
}

/** "changed 3 of 24", "n/a" where nothing could be compared, and why the stage does nothing. */
export const effectText = ([, changed, of, why]) =>
  [of ? `changed ${count(changed)} of ${count(of)}` : "n/a", why].filter(Boolean).join(" · ");

export const COLUMNS = ["step", "token", "stays from", "to", "now"];

/** The bars as rows of a table; `at` is where the setting is now. */
export function tableRows(bars, at, seen) {
  if (!bars.marks) return [];
  const out = new Set(flippedAt(at, bars, seen));
  return bars.texts.map((text, i) => {
    const plain = visible(text)
      .map((part) => part.text)
      .join("");
    const [low, high] = [bars.low[i], bars.high[i]];
    const ends = low > high ? ["nowhere", ""] : [number(low, 4), number(high, 4)];
    return [i, plain, ...ends, out.has(i) ? "another choice" : "stays"];
  });
}
