/** Texts in lines of so many pixels, for pictures. */

/** The parts of a text between which a line may end: after a space and an opening bracket. */
export const breakable = (text) => text.split(/(?<=[ (])/);

/** A text in lines of at most `room` pixels, broken where it may be, and a part with no such place anywhere. */
export function fitted(text, room, measure) {
  const lines = [""];
  for (const part of breakable(text))
    for (const piece of measure(part.trimEnd()) > room ? part : [part]) {
      if (lines.at(-1) && measure((lines.at(-1) + piece).trimEnd()) > room) lines.push("");
      lines[lines.length - 1] += piece;
    }
  return lines.map((line) => line.trimEnd());
}
