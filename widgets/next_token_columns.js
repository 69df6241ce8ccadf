/** The columns: the raw row and the stages that act; without room, some of these and what the chain leaves. */
import { stageHead } from "./next_token_row.js";
import { h, icon } from "./shared/dom.js";
import { scrollBox } from "./shared/lines.js";

const NARROWEST = 48; // pixels that a column needs for its number

/**
 * Places of the columns that are shown where `room` of them fit: the first, the last, and of those between them
 * the ones that end `back` before the last. `folded` are the places that have no room.
 */
export function columnsInRoom(columns, room, back = 0) {
  const active = [...columns.keys()].filter((i) => !columns[i].inert);
  const hidden = Math.max(0, active.length - Math.max(2, room));
  const end = active.length - 1 - Math.min(back, hidden);
  const isShown = (k) => k === 0 || k === active.length - 1 || (k < end && k >= 1 + hidden - Math.min(back, hidden));
  const folded = hidden ? active.filter((_, k) => !isShown(k)) : [];
  return { shown: new Set(active.filter((i) => !folded.includes(i))), folded };
}

/** The table and its heads; `refit()` is called when another number of columns fits. */
export function grid(label, refit) {
  const bars = h("span", { class: "mll-nt-headline" });
  const more = h("span", { class: "mll-nt-more", hidden: true });
  const named = h("th", { scope: "col", class: "mll-nt-token" }, "token", bars, more);
  const headRow = h("tr", {}, named);
  const body = h("tbody");
  const table = h("table", { role: "grid", "aria-label": label }, h("thead", {}, headRow), body);
  const scroll = scrollBox("mll-nt-scroll", table);
  const said = h("span", { class: "mll-figures" });
  const earlier = icon("‹", "Show an earlier stage (←)", () => pan(-1), { tabindex: -1 });
  const later = icon("›", "Show a later stage (→)", () => pan(1), { tabindex: -1 });
  more.append(earlier, said, later);
  const heads = [];
  let back = 0; // columns of later stages that have no room
  let folded = [];
  const fits = () => Math.floor((scroll.clientWidth - named.offsetWidth) / NARROWEST);
  let room = 0;

  function pan(by) {
    const to = Math.max(0, Math.min(folded.length, back - by));
    if (to === back) return false;
    back = to;
    refit();
  }
  /** Show the heads of these columns; returns the places that have room. */
  function draw(columns) {
    while (heads.length > columns.length) heads.pop().node.remove();
    while (heads.length < columns.length) headRow.append(heads[heads.push(stageHead()) - 1].node);
    room = fits();
    const found = columnsInRoom(columns, room, back);
    folded = found.folded;
    back = Math.min(back, folded.length);
    heads.forEach((head, i) => head.update(columns, i, found.shown.has(i)));
    more.hidden = !folded.length;
    said.textContent = `+${folded.length}`;
    more.title = `Without room for a column: ${folded.map((i) => columns[i].name).join(", ")}. ← and → show them.`;
    earlier.disabled = back === folded.length;
    later.disabled = back === 0;
    return found.shown;
  }
  const sight = new ResizeObserver(() => fits() !== room && refit());
  sight.observe(scroll);
  return { bars, body, scroll, pan, drawHeads: draw, close: () => sight.disconnect() };
}
