/** What a grammar says of a text as files: a table of what may come next, and a picture with the text itself. */
import { choiceText, cutText, verdict } from "./grammar_bench_walk.js";
import { csvTable, figure } from "./shared/export.js";
import { palette } from "./shared/svg.js";
import { COLOURS, tablePicture } from "./shared/table_picture.js";
import { percent, plainParts, readable, textOf, visible } from "./shared/text.js";
import { pieceLabel, unhex } from "./shared/tokens.js";

const NEXT = "The likeliest tokens that may come next, with the model's chance of each.";

/** The tokens that are offered, likeliest first, and the rules that one goes through which spans a border. */
export const csvOf = ({ allowed = [] }) =>
  csvTable(
    ["token", "id", "probability", "across"],
    allowed.map(({ token, bytes, p, spans }) => [textOf(unhex(bytes)), token, figure(p), spans]),
  );

/** The tokens of the text with the rules that took them, what is said of it, and what may come. */
export function picture({ walk, measure }, colours) {
  const bar = (p) => [{ from: 0, to: p ?? 0, fill: colours.kept, "fill-opacity": 0.42 }];
  const taken = walk.tokens.map(({ text, rules }) => {
    return [{ text: plainParts(visible(text)), mono: true }, { text: rules.join(" › ") }, { text: "" }];
  });
  const notTaken = [{ text: readable(walk.rest), mono: true }, { text: "not taken", faint: true }, { text: "" }];
  const rest = walk.rest ? [notTaken] : [];
  const next = (walk.allowed ?? []).map(({ bytes, p, spans }) => [
    { text: pieceLabel(unhex(bytes)), mono: true, bold: true },
    { text: spans ? `may come, across ${spans}` : "may come", faint: true },
    { text: p === null ? "" : percent(p), bars: bar(p) },
  ]);
  const says = [verdict(walk), choiceText(walk), walk.tax, next.length && NEXT, cutText(walk)];
  const columns = [{ name: "token", least: 120 }, { name: "rule" }, { name: "chance", end: true, least: 120 }];
  return tablePicture({ says, columns, rows: [...taken, ...rest, ...next], measure }, colours);
}

/** Kinds for a menu of files; `walk()` is what the kernel says of the text. */
export const filesOf = (walk) => ({
  CSV: () => csvOf(walk()),
  SVG: (node) => (walk().tokens ? picture({ walk: walk() }, palette(node, COLOURS)) : null),
});
