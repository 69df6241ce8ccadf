/** A menu that saves a table or a picture as a file, made in the browser: nothing goes over a network. */
import { button, h, icon } from "./dom.js";
import { besideOpener } from "./floating.js";

const TYPES = { CSV: "text/csv;charset=utf-8", PNG: "image/png", SVG: "image/svg+xml" };

const QUOTE = "\u0022";
const quoted = (cell) => {
  const text = String(cell ?? "");
  return /[\u0022,\r\n]|^\s|\s$/.test(text) ? QUOTE + text.replaceAll(QUOTE, QUOTE + QUOTE) + QUOTE : text;
};
/** Rows of cells as CSV (RFC 4180); give the headings as the first of them, numbers as numbers. */
export const csv = (rows) => rows.map((row) => `${Array.from(row, quoted).join(",")}\r\n`).join("");

/** The same under their headings; nothing where there are none. */
export const csvTable = (columns, rows) => (rows.length ? csv([columns, ...rows]) : null);
/** A number as a cell: with the six digits that a float32 is sure of, nothing where it is not known. */
export const figure = (x) => (Number.isFinite(x) ? Number(x.toPrecision(6)) : null);

/** What any text makes as the name of a file, with the suffix of its kind. */
export function fileName(name, kind) {
  const plain = name.replace(/[^\p{L}\p{N}._-]+/gu, "-").replace(/^[-.]+|[-.]+$/g, "");
  return `${[...plain].slice(0, 80).join("") || "export"}.${kind.toLowerCase()}`;
}

/** Hand a text or a Blob to the browser as a file. */
export function save(made, kind, name) {
  const blob = made instanceof Blob ? made : new Blob([made], { type: TYPES[kind] });
  const url = URL.createObjectURL(blob);
  const link = h("a", { href: url, download: fileName(name, kind) });
  document.body.append(link); // some browsers follow only a link that is on the page
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** A picture in SVG as a PNG, at twice its size. */
export async function pixels(svg) {
  const image = new Image();
  image.src = `data:${TYPES.SVG},${encodeURIComponent(svg)}`;
  await image.decode();
  const sheet = h("canvas", { width: 2 * image.width, height: 2 * image.height });
  sheet.getContext("2d").drawImage(image, 0, 0, sheet.width, sheet.height);
  const blob = await new Promise((resolve) => sheet.toBlob(resolve, TYPES.PNG));
  if (!blob) throw new Error("The browser makes no picture of this size. Save it as SVG.");
  return blob;
}

/**
 * A button that opens a menu with one entry a kind of file, as `node`.
 *
 *     exportMenu("results", { CSV: () => csvTable(columns, rows()), SVG: (node) => picture(palette(node, COLOURS)) });
 *
 * `what` is saved; `kinds` are functions that make a text, a Blob or a promise of one, or null where there
 * is nothing yet. They are given the node, which has the colours of the page. What they throw stands in
 * the menu. `name()` gives the file another name. What is there as SVG is offered as PNG too.
 */
export function exportMenu(what, kinds, name = () => what) {
  const problem = h("p", { class: "mll-problem", role: "alert" });
  const entry = ([kind, make]) => button(kind, null, () => take(kind, make), { "data-plain": true });
  const drawn = async (node) => {
    const svg = await kinds.SVG(node);
    return svg === null ? null : pixels(svg);
  };
  const entries = Object.entries(kinds.SVG ? { ...kinds, PNG: drawn } : kinds).map(entry);
  const menu = h("div", { class: "mll-floating mll-export", popover: "auto" }, entries, problem);
  const opener = icon(h("span", { class: "mll-export-sign" }, "↓"), `Save ${what} as…`);
  opener.popoverTargetElement = menu; // the browser opens it, closes it on Esc and on a click elsewhere
  async function take(kind, make) {
    problem.textContent = "";
    try {
      const made = await make(node);
      if (made === null) throw new Error("There is nothing to save yet.");
      save(made, kind, name());
      menu.hidePopover();
    } catch (error) {
      problem.textContent = error.message;
    }
  }
  besideOpener(menu, opener);
  menu.addEventListener("toggle", () => (problem.textContent = ""));
  /** Esc closes the menu, and nothing of the view around it. */
  const keydown = (event) => event.key === "Escape" && menu.matches(":popover-open") && event.stopPropagation();
  const node = h("span", { class: "mll-export-menu", on: { keydown } }, opener, menu);
  return { node };
}
