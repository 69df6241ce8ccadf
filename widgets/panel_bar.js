/**
 * Which panels of a lab are shown: as tabs one at a time, or several beside each other; its file, and the model it
 * works on. State lives in the model: `titles`, `shown`, `has_files`, `model`. The panels are the boxes of the same
 * lab with the class `mll-panel-<key>`. It also puts the choice of a chain from the editor's head into the run bar.
 */
import { fileMenu } from "./panel_bar_file.js";
import { button, h, icon, keyHelp, keys, mount } from "./shared/dom.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { toolbar } from "./shared/toolbar.js";

const HELP = [
  ["← →", "another panel, the file, the model"],
  ["Alt+← Alt+→", "move the panel among those that are shown"],
  ["?", "these keys"],
  ["Esc", "close them"],
];

/** What is shown after a panel was added at the end, or taken away; one always stays. */
export function toggled(shown, key) {
  if (!shown.includes(key)) return [...shown, key];
  return shown.length > 1 ? shown.filter((one) => one !== key) : shown;
}

/** What is shown after a panel went one place to the left (-1) or the right (1). */
export function shifted(shown, key, by) {
  const [from, to] = [shown.indexOf(key), shown.indexOf(key) + by];
  if (from < 0 || to < 0 || to >= shown.length) return shown;
  const rest = shown.filter((one) => one !== key);
  return [...rest.slice(0, to), key, ...rest.slice(to)];
}

function tabOf(key, title, { only, beside }) {
  const moves = "Alt+← and Alt+→ move it among those that are shown";
  const main = { type: "button", "data-key": key, title: `Show ${title}. ${moves}`, on: { click: () => only(key) } };
  const name = h("button", main, title);
  const more = icon("", "", () => beside(key), { class: "mll-pb-more", "data-plain": true, "data-key": key });
  return { node: h("span", { class: "mll-pb-tab" }, name, more), name, more };
}

/** The button that names the model; what was refused is its title. */
function modelButton(link) {
  const PICK = "Work on another model or session";
  const pick = () => link.ask("pick").catch((error) => (node.title = error.message));
  const name = h("bdi");
  const node = button([h("span", { class: "mll-quiet" }, "model "), name, " ▾"], PICK, pick, {
    class: "mll-button mll-pb-model",
    "aria-haspopup": "dialog",
  });
  const show = (text, off) => {
    name.textContent = text;
    node.hidden = !text;
    node.disabled = off;
    node.title = `${PICK}. Now: ${text}`;
  };
  return { node, show };
}

/** The choice of a chain by its name goes into the run bar, which is in view whatever panel is; false if one lacks. */
function placePreset(lab) {
  const [place, choice] = [".mll-rp-preset", ".mll-ce-choice"].map((name) => lab.querySelector(name));
  if (place && choice && choice.parentElement !== place) place.append(choice);
  return Boolean(place && choice);
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  const link = connect(model, { onAlive: () => drawModel() });
  const picker = modelButton(link);
  const files = fileMenu(link.ask);
  const set = (shown) => {
    model.set("shown", shown);
    model.save_changes();
  };
  const only = (key) => set([key]);
  const beside = (key) => set(toggled(get("shown"), key));
  const tabs = new Map(Object.entries(get("titles")).map(([key, title]) => [key, tabOf(key, title, { only, beside })]));
  const list = { class: "mll-pb-tabs", role: "group", "aria-label": "Panels" };
  const gone = goneNote(model);
  const help = keyHelp(HELP);
  const nodes = [...tabs.values()].map(({ node }) => node);
  const line = h("div", { class: "mll-pb-line mll-live" }, h("div", list, nodes), files.node, picker.node);
  const root = h("nav", { class: "mll mll-pb", "aria-label": "Panels of the lab" }, line, gone, help.node);

  /** Put the boxes of the lab in order; false while the lab or one of them is still to come. */
  function arrange() {
    const lab = el.closest(".mll-lab");
    const shown = get("shown");
    const found = [...tabs.keys()].map((key) => [key, lab?.querySelector(`.mll-panel-${key}`)]);
    for (const [key, box] of found) {
      if (!box) continue;
      const place = shown.indexOf(key);
      box.style.order = String(place);
      box.toggleAttribute("data-shown", place >= 0);
    }
    lab?.querySelector(".mll-panels")?.setAttribute("data-columns", String(shown.length));
    return Boolean(lab) && found.every(([, box]) => box) && placePreset(lab);
  }
  const arrival = new MutationObserver(() => arrange() && arrival.disconnect());
  function draw() {
    const shown = get("shown");
    for (const [key, { name, more }] of tabs) {
      const on = shown.includes(key);
      const title = get("titles")[key];
      const does = on ? `Hide ${title}` : `Show ${title} beside`;
      name.setAttribute("aria-pressed", String(on));
      more.textContent = on ? "×" : "+";
      more.title = does;
      more.setAttribute("aria-label", does);
      more.disabled = on && shown.length === 1;
    }
    arrange();
  }
  const move = (by) => (event) => {
    const key = event.target.dataset.key;
    if (!key) return false;
    set(shifted(get("shown"), key, by));
  };
  const unbind = keys(root, { "Alt+ArrowLeft": move(-1), "Alt+ArrowRight": move(1), ...help.keys });
  const drawModel = () => {
    const off = !link.alive || Boolean(get("closed"));
    picker.show(get("model"), off);
    files.node.hidden = !get("has_files");
    files.opener.disabled = off;
  };
  const closed = () => {
    gone.hidden = !get("closed");
    drawModel();
  };
  const unwatch = watch(model, { shown: draw, model: drawModel, has_files: drawModel, closed });
  const untool = toolbar(line, "Panels, file and model");
  const unmount = mount(el, root);
  draw();
  closed();
  // the views of a lab come one after the other, this one into the page after it was made, and after a reload it
  // may be there before the box around it is known as a lab
  arrival.observe(el.ownerDocument.body, { childList: true, subtree: true, attributeFilter: ["class"] });
  return () => {
    arrival.disconnect();
    unwatch();
    unbind();
    untool();
    link.close();
    unmount();
  };
}

export default { render };
