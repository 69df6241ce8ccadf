/** What is said of a file of adapters while it is read. */
import { h } from "./shared/dom.js";

/** What is said while a file is read. */
export const readingText = (file) => (file ? `Reading ${file}…` : "");

/** How long that has gone on, where a person would begin to wonder. */
export const waitedText = (seconds) => (seconds >= 2 ? ` ${Math.floor(seconds)} s` : "");

/** The line of the file that is being read; after two seconds it says for how long. */
export function readingLine() {
  const said = h("span", { role: "status" });
  const waited = h("span", { "aria-hidden": "true" });
  const node = h("p", { class: "mll-quiet mll-ac-reading", hidden: true }, said, waited);
  let clock = 0;
  const close = () => clearInterval(clock);
  const show = (file) => {
    const began = Date.now();
    const tick = () => (waited.textContent = waitedText((Date.now() - began) / 1000));
    close();
    if (file) clock = setInterval(tick, 500);
    tick();
    said.textContent = readingText(file);
    node.hidden = !file;
  };
  return { node, show, close };
}
