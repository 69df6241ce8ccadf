/** What a view is built of: elements, key bindings, tables, and messages for a screen reader. */
import { floating, inSight } from "./floating.js";

/** Make an element. Strings become text nodes, never markup; `on` holds listeners. */
export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on") for (const [type, act] of Object.entries(value)) node.addEventListener(type, act);
    else if (key === "style") for (const [rule, set] of Object.entries(value)) node.style.setProperty(rule, set);
    else if (key === "value") node.value = value;
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** A button; what it does in full is its title. */
export const button = (text, hint, act, more = {}) =>
  h("button", { type: "button", class: "mll-button", title: hint, on: { click: act }, ...more }, text);

/** A button that is a sign: its name is its title. */
export const icon = (sign, name, act, more = {}) =>
  button(sign, name, act, { "data-plain": true, "aria-label": name, ...more });

/** Parts of `visible` or `pieceCells` as nodes. With `flow`, lines and spaces break as they would in text. */
export const glyphs = (parts, { flow = false } = {}) =>
  parts
    .map(({ kind, text }) => {
      if (kind === "text") return text;
      const real = flow ? ({ newline: "\n", tab: "\t" }[kind] ?? "") : "";
      return [h("span", { class: `mll-g-${kind}` }, flow && kind === "space" ? " " : text), real];
    })
    .flat()
    .filter((part) => part !== "");

const AWAY = "data-lm-suppress-shortcuts"; // JupyterLab looks away from keys in what is marked so

/**
 * Bind keys to a node, as "ArrowUp", "Alt+ArrowUp" or "Ctrl+Enter" (which Cmd also is). A bound
 * key stays here; of the others `mount` says which reach the notebook. Plain ones but Escape rest
 * while typing. The mark is for a JupyterLab that reads keys before any node does.
 */
export function keys(node, bindings) {
  const find = (event) => {
    if (!node.contains(event.target)) return null;
    const name = `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${event.altKey ? "Alt+" : ""}${event.key}`;
    const typing = event.target !== node && event.target.matches?.("input, textarea, select");
    return typing && name === event.key && name !== "Escape" ? null : (bindings[name] ?? null);
  };
  const ahead = (event) => {
    if (node.contains(event.target)) node.toggleAttribute(AWAY, Boolean(find(event)));
  };
  const press = (event) => {
    const act = find(event);
    if (!act || act(event) === false) return;
    event.preventDefault();
    event.stopPropagation();
  };
  window.addEventListener("keydown", ahead, true);
  node.addEventListener("keydown", press);
  return () => {
    window.removeEventListener("keydown", ahead, true);
    node.removeEventListener("keydown", press);
  };
}

/** A list of keys; rows are [keys, what they do]. */
export function keyList(rows) {
  const caps = (names) => names.split(" ").map((name) => h("kbd", {}, name));
  const line = ([names, what]) => [h("dt", {}, caps(names)), h("dd", {}, what)];
  return h("dl", {}, rows.map(line));
}

/** Whether a key is pressed for what it does with Ctrl, Cmd or Alt; AltGr writes characters. */
const isChord = (event) => (event.ctrlKey || event.metaKey || event.altKey) && !event.getModifierState?.("AltGraph");

/**
 * Whether a key writes, moves the cursor or presses a button where it is pressed, so that it is nobody else's.
 * Enter is that anywhere in a view, with whatever else is held: a cell that runs makes the view anew, without
 * what a hand has set.
 */
export function isTyping(event) {
  const { key = "" } = event;
  if (key === "Enter") return true;
  if (isChord(event)) return false;
  const field = event.target.matches?.("input, textarea, select");
  return key.length === 1 || Boolean(field && /^(Arrow|Home|End|Page|Backspace|Delete|Shift)/.test(key));
}

/**
 * Put a view into the page; returns what takes it away. What is typed in it stays in it; chords such as
 * Ctrl+S, Tab and Esc reach the notebook. JupyterLab reads keys as they leave the view, and until such a key,
 * be it Shift, is up again it lets no line break into a cell; before 4.1 it read them first, and looks for the mark.
 */
export function mount(el, root) {
  const ahead = (event) => {
    if (root.contains(event.target)) el.toggleAttribute(AWAY, isTyping(event));
  };
  const keep = (event) => isTyping(event) && event.stopPropagation();
  window.addEventListener("keydown", ahead, true);
  root.addEventListener("keydown", keep);
  el.append(root);
  return () => {
    window.removeEventListener("keydown", ahead, true);
    root.remove();
  };
}

/** Keys that act while something under the pointer is shown, wherever the focus is but where one writes. */
export function pointerKeys(bindings) {
  const press = (event) => {
    const writes = document.activeElement?.matches(":read-write, select");
    const act = writes || isChord(event) ? null : bindings[event.key];
    if (!act || act(event) === false) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  };
  const listen = (on) => window[on ? "addEventListener" : "removeEventListener"]("keydown", press, true);
  return { bindings, listen };
}

/** A panel that lists keys, and the button and the keys that open it; rows are [keys, what they do]. */
export function keyHelp(rows) {
  const close = icon("✕", "Close the keys (Esc)", () => float.hide());
  const node = h("div", { class: "mll-help", role: "note", "aria-label": "Keys" }, keyList(rows), close);
  const opener = icon("?", "Keys (?)", () => toggle(), { "aria-label": "Keys" });
  const float = floating(node, () => {
    const box = opener.getBoundingClientRect();
    if (opener.isConnected && inSight(opener, box)) return box;
    const { right, top } = node.parentElement.getBoundingClientRect();
    return { left: right, top: Math.max(0, top), bottom: Math.max(0, top) };
  });
  const toggle = () => (float.open ? float.hide() : float.show());
  return {
    node,
    toggle,
    hide: float.hide,
    button: opener,
    keys: { "?": toggle, Escape: () => (float.open ? float.hide() : false) },
    get open() {
      return float.open;
    },
  };
}

/** Rows as a spreadsheet takes them: tabs between cells, a line a row. */
export const tabbed = (rows) =>
  rows.map((row) => row.map((cell) => String(cell).replace(/[\t\r\n]+/g, " ")).join("\t")).join("\n");

/** "Show as table": the rows are asked for when it opens. `columns` are headings. Copy takes all of them. */
export function tableView(columns, rows, { caption = "", title = "Show as table" } = {}) {
  const head = h("tr");
  const body = h("tbody");
  const more = h("p", { class: "mll-quiet" });
  const copy = button("Copy", "Copy all rows, as a spreadsheet takes them", take, {
    class: "mll-button mll-table-copy",
    hidden: !navigator.clipboard,
  });
  async function take() {
    try {
      await navigator.clipboard.writeText(tabbed([columns(), ...rows()]));
      copy.textContent = "Copied";
    } catch {
      copy.textContent = "The browser does not allow it";
    }
    setTimeout(() => {
      copy.textContent = "Copy";
    }, 1500);
  }
  const table = h("table", {}, h("caption", {}, caption), h("thead", {}, head), body);
  const shown = h("div", { class: "mll-table-body" }, copy, h("div", { class: "mll-table-scroll" }, table), more);
  const node = h("details", { class: "mll-table" }, h("summary", {}, title), shown);
  const refresh = () => {
    if (!node.open) return;
    const all = rows();
    head.replaceChildren(...columns().map((name) => h("th", { scope: "col" }, name)));
    body.replaceChildren(
      ...all.slice(0, 500).map((row) =>
        h(
          "tr",
          {},
          row.map((cell) => h("td", {}, String(cell))),
        ),
      ),
    );
    more.textContent = all.length > 500 ? `The first 500 of ${all.length}; Python has all of them.` : "";
  };
  node.addEventListener("toggle", refresh);
  return { node, refresh };
}

/** Says things to a screen reader, politely, the last one at most once a second. */
export function announcer() {
  const node = h("div", { class: "mll-spoken", role: "status", "aria-live": "polite" });
  let timer = null;
  let next = "";
  const say = (text) => {
    next = text;
    timer ??= setTimeout(() => {
      timer = null;
      node.textContent = next;
    }, 1000);
  };
  return { node, say, close: () => clearTimeout(timer) };
}
