/** Two to four texts side by side, aligned by token: where they part, and how far apart there. */
import { glyphs, h } from "./dom.js";
import { count, percent, readable, visible } from "./text.js";
import { pieceParts, unhex } from "./tokens.js";

const MOST_COMPARED = 4;
/** What is ticked after ticking `n`: the oldest tick gives way when there are too many. */
export const ticked = (now, n) => (now.includes(n) ? now.filter((x) => x !== n) : [...now, n].slice(-MOST_COMPARED));

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
const said = (kl, noise) => (noise && kl.nats !== 0 ? "within noise" : nats(kl));

/** A token of which even a blank is seen. */
const marked = (text) =>
  visible(text)
    .map((part) => part.text)
    .join("") || "(nothing)";

/** What the sides have in common, in words. */
export function alikeText(c) {
  const alike = `${count(c.shared)} ${c.shared === 1 ? "token" : "tokens"} alike`;
  if (c.first === 0) return "the first token differs";
  if (c.first !== null) return `${alike}, then token ${count(c.first + 1)} differs`;
  return c.sides.some((side) => side.token) ? `${alike}, then one goes on` : `the same ${alike.replace(" alike", "")}`;
}

/** Whether two rows are the model's answer to the same tokens, and alike to the last bit or but for noise. */
const sameRow = (side, step, kl, noise) =>
  Boolean(side.same_prompt && kl && (kl.nats === 0 || noise) && (side.first === null || step <= side.first));

/** Whether a difference is shown of which nobody knows if it is noise. */
const unsure = (c) => c.floor === null && c.sides.some(({ kl, kl_after }) => [kl, kl_after].some((one) => one?.nats));

/** What is known of the noise, and the code that measures it; nothing where no difference is shown. */
export function noiseText(c) {
  if (c.floor !== null)
    return [`Within noise: up to ${nats({ nats: c.floor, exact: true })}, as measured with this model.`];
  return unsure(c)
    ? ["Noise not measured, so a small KL may be rounding. To measure it: ", "ml.studies.noise.noise(model)"]
    : [];
}

/** Where one side parts from the first, and the divergence there. */
export function partingText(c, side) {
  const [first] = c.sides;
  if (side.first === null) return `${side.label}: no token differs from ${first.label}.`;
  const there = `${side.label} parts from ${first.label} at token ${count(side.first + 1)}.`;
  const after = said(side.kl_after, side.noise_after);
  if (sameRow(side, side.first, side.kl, side.noise)) {
    const noise = side.kl.nats === 0 ? "" : ", within noise";
    return `${there} The model's row is the same there${noise}; after the chain KL is ${after}.`;
  }
  return `${there} KL there: ${said(side.kl, side.noise)} before the chain, ${after} after.`;
}

function cell(row, k, alike, same) {
  if (!row) return h("td", { class: "mll-cmp-none" }, "–");
  const [hex, p, after, kl, noise] = row;
  const measured = k && kl && !same ? `; KL ${nats(kl)}${noise ? ", within noise" : ""}` : "";
  return h(
    "td",
    { "data-alike": alike, title: `${percent(p)} before the chain, ${percent(after)} after${measured}` },
    h("span", { class: "mll-cmp-piece", dir: "auto" }, glyphs(pieceParts(unhex(hex)))),
    h("span", { class: "mll-cmp-p" }, percent(p)),
    k
      ? h("span", { class: "mll-cmp-kl" }, same && kl.nats === 0 ? "same row" : said(kl, noise).replace(" nats", ""))
      : null,
  );
}

const CAPTION = "Token by token; chance before the chain, KL of the first one's row from this one's, in nats.";

function alignedRow(c, [step, cells]) {
  const same = cells.every((other) => other?.[0] === cells[0]?.[0]);
  const side = (one, k) => cell(one, k, same, sameRow(c.sides[k], step, one?.[3], one?.[4]));
  return h("tr", { "data-part": step === c.first }, h("th", { scope: "row" }, String(step + 1)), cells.map(side));
}

function aligned(c) {
  const heads = c.sides.map((side, k) => {
    const columns = h("span", { class: "mll-quiet" }, k ? " · chance · KL" : " · chance");
    return h("th", { scope: "col" }, h("bdi", {}, side.label), columns);
  });
  const table = h(
    "table",
    { class: "mll-figures" },
    h("caption", {}, CAPTION),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "token"), heads)),
    h(
      "tbody",
      {},
      c.rows.map((row) => alignedRow(c, row)),
    ),
  );
  const region = { class: "mll-cmp-scroll", tabindex: 0, role: "region", "aria-label": "Token by token" };
  const last = c.rows.at(-1)?.[0] ?? -1;
  const rest = h("p", { class: "mll-quiet" }, `Up to token ${count(last + 1)} of ${count(c.n)}.`);
  return h("div", { class: "mll-cmp-aligned" }, h("div", region, table), last + 1 < c.n ? rest : null);
}

/** The whole comparison as a node. */
export function comparisonView(c) {
  const others = c.sides.slice(1);
  const [noise, code] = noiseText(c);
  const side = (one) =>
    h(
      "section",
      { class: "mll-cmp-side", "aria-label": one.label },
      h("h4", { class: "mll-quiet" }, h("bdi", {}, one.label)),
      h(
        "p",
        { class: "mll-cmp-text", dir: "auto" },
        h("span", { class: "mll-cmp-common" }, readable(c.common, { lines: true })),
        one.token || c.first !== null ? h("mark", { class: "mll-cmp-diff" }, marked(one.token)) : null,
        readable(one.rest, { lines: true }),
      ),
    );
  return h(
    "div",
    { class: "mll-cmp" },
    h(
      "p",
      {},
      h("bdi", {}, c.sides.map((one) => one.label).join(", ")),
      `: ${alikeText(c)}.${c.same_prompt ? "" : " The prompts differ."}`,
    ),
    h(
      "ul",
      { class: "mll-cmp-parts mll-quiet" },
      others.map((one) => h("li", { dir: "auto" }, partingText(c, one))),
      noise ? h("li", {}, noise, code ? h("code", {}, code) : null) : null,
    ),
    h("div", { class: "mll-cmp-sides", "data-n": c.sides.length }, c.sides.map(side)),
    aligned(c),
  );
}
