/** The search box, how far reading is, and what the moves are measured against. */
import { searchText } from "./rank_board_words.js";
import { button, h } from "./shared/dom.js";

const READING = ["indexing", "comparing"];
const BUSY = [...READING, "searching"];

const queryField = () =>
  h("input", {
    type: "search",
    class: "mll-field mll-rb-query",
    "aria-label": "Query",
    placeholder: "Ask the documents",
    maxlength: 4000,
    autocomplete: "off",
    spellcheck: "false",
    dir: "auto",
  });

/** `request(op, args)` asks the kernel, `say` speaks; `update` takes how many documents and query tokens there are. */
export function searchBar(model, { request, say }) {
  const get = (name) => model.get(name);
  const input = queryField();
  const search = h("button", { type: "submit", class: "mll-button", "data-main": true }, "Search");
  const stopOrGoOn = () => request(get("state") === "stopped" ? "go_on" : "stop");
  const stop = button("Stop", null, stopOrGoOn, { class: "mll-button mll-rb-stop" });
  const submit = (event) => {
    event.preventDefault();
    request("search", { text: input.value });
  };
  const form = h("form", { class: "mll-rb-form", role: "search", on: { submit } }, input, search, stop);
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault(); // JupyterLab would keep the form from being sent
    form.requestSubmit();
  });
  const bar = h("progress", { class: "mll-rb-progress", "aria-label": "Documents read" });
  const status = h("span", { class: "mll-quiet mll-figures" });
  let before = "";

  function update(sizes, alive) {
    const [state, progress] = [get("state"), get("progress")];
    stop.textContent = state === "stopped" ? "Go on" : "Stop";
    stop.disabled = !(BUSY.includes(state) || state === "stopped") || !alive;
    bar.style.visibility = READING.includes(state) ? "visible" : "hidden";
    if (progress[1] > 0) [bar.max, bar.value] = [progress[1], progress[0]];
    else bar.removeAttribute("value");
    form.hidden = bar.hidden = !get("searchable");
    const text = searchText(state, progress, sizes);
    const counting = state === before && READING.includes(state);
    if (before && text !== status.textContent && !counting) say(text); // not every document that was read
    before = state;
    status.textContent = text;
    if (input.ownerDocument.activeElement !== input) input.value = get("query");
  }
  const enable = (alive) => {
    for (const control of [input, search, stop]) control.disabled = !alive;
  };
  return { form, bar, status, update, enable };
}

/** A choice among the rivals that the moves can be measured against; no rivals, no choice. */
export function rivalChoice(model, request) {
  const change = () => request("compare", { name: choice.value }).then(() => update(true));
  const choice = h("select", { class: "mll-field mll-rb-choice", "aria-label": "Moves against", on: { change } });
  const node = h("label", { class: "mll-quiet mll-rb-against", hidden: true }, "moves against", choice);
  function update(alive) {
    const names = model.get("rivals");
    if (String(names) !== choice.dataset.names) {
      choice.dataset.names = String(names);
      const options = names.map((name) => h("option", { value: name }, name));
      choice.replaceChildren(h("option", { value: "" }, "the query before"), ...options);
    }
    choice.value = model.get("rival");
    choice.disabled = !alive;
    node.hidden = !names.length;
  }
  return { node, update };
}
