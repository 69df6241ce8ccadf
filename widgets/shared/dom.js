/** What a view is built of: elements, key bindings, tables, and messages for a screen reader. */

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

/**
 * Bind keys to a node, as "ArrowUp", "Alt+ArrowUp" or "Ctrl+Enter" (which Cmd also is). A bound
 * key stays here; every other key reaches the notebook. Plain ones but Escape rest while typing.
 * JupyterLab reads keys on the document before any node does, so the mark that tells it
 * to look away is set in the capture phase of the window, for bound keys only.
 */
export function keys(node, bindings) {
  const away = "data-lm-suppress-shortcuts";
  const find = (event) => {
    if (!node.contains(event.target)) return null;
    const name = `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${event.altKey ? "Alt+" : ""}${event.key}`;
    const typing = event.target !== node && event.target.matches?.("input, textarea, select");
    return typing && name === event.key && name !== "Escape" ? null : (bindings[name] ?? null);
  };
  const ahead = (event) => {
    if (node.contains(event.target)) node.toggleAttribute(away, Boolean(find(event)));
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

/** A panel that lists keys, and the button that opens it; rows are [keys, what they do]. */
export function keyHelp(rows) {
  const node = h(
    "div",
    { class: "mll-help", role: "note", "aria-label": "Keys", hidden: true },
    h(
      "dl",
      {},
      rows.map(([names, what]) => [
        h(
          "dt",
          {},
          names.split(" ").map((name) => h("kbd", {}, name)),
        ),
        h("dd", {}, what),
      ]),
    ),
    icon("✕", "Close the keys (Esc)", () => hide()),
  );
  const toggle = () => (node.hidden = !node.hidden);
  const hide = () => (node.hidden = true);
  return {
    node,
    toggle,
    hide,
    button: icon("?", "Keys (?)", toggle, { "aria-label": "Keys" }),
    get open() {
      return !node.hidden;
    },
  };
}

/** Rows as a spreadsheet takes them: tabs between cells, a line a row. */
export const tabbed = (rows) =>
  rows.map((row) => row.map((cell) => String(cell).replace(/[\t\r\n]+/g, " ")).join("\t")).join("\n");

/** "Show as table": the rows are asked for when it opens. `columns` are headings. Copy takes all of them. */
export function tableView(columns, rows, { caption = "", title = "Show as table" } = {}) {
  const body = h("tbody");
  const more = h("p", { class: "mll-quiet" });
  const copy = button("Copy", "Copy all rows, as a spreadsheet takes them", take, {
    class: "mll-button mll-table-copy",
    hidden: !navigator.clipboard,
  });
  async function take() {
    try {
      await navigator.clipboard.writeText(tabbed([columns, ...rows()]));
      copy.textContent = "Copied";
    } catch {
      copy.textContent = "The browser does not allow it";
    }
    setTimeout(() => {
      copy.textContent = "Copy";
    }, 1500);
  }
  const node = h(
    "details",
    { class: "mll-table" },
    h("summary", {}, title),
    copy,
    h(
      "div",
      { class: "mll-table-scroll" },
      h(
        "table",
        {},
        h("caption", {}, caption),
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            columns.map((name) => h("th", { scope: "col" }, name)),
          ),
        ),
        body,
      ),
    ),
    more,
  );
  const refresh = () => {
    if (!node.open) return;
    const all = rows();
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
