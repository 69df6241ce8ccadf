/** Pictures as SVG text: boxes and words in pixels. A view's picture is a function of its values and a palette. */
import { colours } from "./colours.js";
import { readable } from "./text.js";

export const MONO = "ui-monospace, Menlo, Consolas, monospace";
export const SANS = "system-ui, sans-serif";
export const SIZE = 11; // pixels of words that say no other
export const EDGE = 12; // pixels around a picture
const LINE = 16; // of the lines above it
const CHARACTER = 6; // pixels that one of them takes

/** Characters that XML has not, not even written as numbers; halves of one among them. */
const NOT_IN_XML = /[^\t\n\r -\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu;
const escaped = (text) =>
  String(text)
    .replace(NOT_IN_XML, "\ufffd")
    .replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
const value = (x) => (typeof x === "number" ? Number(x.toFixed(2)) : escaped(x));
const tag = (name, attributes, inside = "") => {
  const given = Object.entries(attributes).filter(([, x]) => x !== null);
  const written = given.map(([key, x]) => ` ${key}="${value(x)}"`).join("");
  return `<${name}${written}>${inside}</${name}>`;
};

export const box = (x, y, width, height, more) => tag("rect", { x, y, width, height, ...more });
export const words = (x, y, text, more = {}) => tag("text", { x, y, ...more }, escaped(text));
/** A picture of pixels, given as a data: address. */
export const image = (x, y, width, height, href) =>
  tag("image", { x, y, width, height, href, preserveAspectRatio: "none" });
/** Words of a token: its spaces are faint dots, as on the page. */
export function tokenWords(x, y, text, more = {}) {
  const dot = tag("tspan", { "fill-opacity": 0.4 }, "·");
  return tag("text", { x, y, ...more }, escaped(text).replaceAll(" ", dot));
}

/** The variables `--mll-<name>` of a node as {name: "#rrggbb"}. */
export function palette(node, names) {
  const hex = (rgb) => `#${rgb.map((x) => x.toString(16).padStart(2, "0")).join("")}`;
  const found = colours(
    node,
    names.map((name) => `--mll-${name}`),
  );
  return Object.fromEntries(names.map((name, k) => [name, hex(found[k])]));
}

/** A text in lines of at most so many characters, broken between words. */
export function wrapped(text, most) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const now = lines.at(-1);
    if (now && now.length + 1 + word.length > most) lines.push(word);
    else lines[lines.length - 1] = now ? `${now} ${word}` : word;
  }
  return lines;
}

/** `measure(text)`: how many pixels wide a text is in a font, given as CSS has it. */
export function measuring(font) {
  const context = document.createElement("canvas").getContext("2d");
  context.font = font;
  return (text) => context.measureText(text).width;
}

/** What a picture shows, in lines above it with nothing invisible: their markup, and where the picture begins. */
export function heading(texts, width, { ink }) {
  const most = Math.floor((width - 2 * EDGE) / CHARACTER);
  const lines = texts.filter(Boolean).flatMap((text) => wrapped(readable(text), most));
  const parts = lines.map((line, k) => words(EDGE, EDGE + (k + 0.75) * LINE, line, { fill: ink }));
  return { parts, bottom: EDGE + lines.length * LINE + 8 };
}

/** Parts on a sheet of paper; needs `paper` and `ink` of the palette. */
export function svg(width, height, parts, { paper, ink }) {
  const more = { viewBox: `0 0 ${Math.ceil(width)} ${Math.ceil(height)}`, fill: ink };
  const font = { "font-family": SANS, "font-size": SIZE };
  const size = { xmlns: "http://www.w3.org/2000/svg", width: Math.ceil(width), height: Math.ceil(height) };
  const sheet = box(0, 0, Math.ceil(width), Math.ceil(height), { fill: paper });
  return `${tag("svg", { ...size, ...more, ...font }, [sheet, ...parts].join("\n"))}\n`;
}
