/** The documents of a result, best first: rows that slide when their order changes; one is a tab stop. */
import { arrange, resultRow } from "./rank_board_result.js";
import { button, h } from "./shared/dom.js";

const PAGE = 10;

/** `act`: open(k), compare(side, k), describe(k, i) with -1 for none. */
export function resultList(act) {
  let board = null;
  let facts = null; // what a row shows of itself: see `resultRow`
  let rows = [];
  let listed = PAGE;
  let focus = -1; // a document
  const node = h("div", { class: "mll-rb-list", role: "list", "aria-label": "Results" });
  const showMore = () => {
    listed += PAGE;
    draw(facts);
  };
  const more = button("", null, showMore, { class: "mll-button mll-rb-small" });
  const visible = () => facts.now.order.slice(0, listed);

  function restart(next) {
    [board, rows, focus, listed] = [next, [], -1, PAGE];
    node.replaceChildren();
  }
  function rove() {
    const shown = visible();
    const stop = shown.includes(focus) ? focus : facts.now.order[0];
    for (const k of shown) if (rows[k]) rows[k].node.tabIndex = k === stop ? 0 : -1;
  }
  const acts = {
    ...act,
    focus(k) {
      focus = k;
      act.describe(k);
      rove();
    },
    point: (k, i) => (k < 0 ? act.describe() : act.describe(k, i)),
  };
  function draw(next) {
    facts = next;
    const order = visible();
    const had = node.contains(node.ownerDocument.activeElement);
    const nodes = order.map((k) => (rows[k] ??= resultRow(board, k, acts)).node);
    if (arrange(node, nodes) && had) rows[focus]?.node.focus({ preventScroll: true });
    for (const k of order) rows[k].update(facts);
    more.hidden = listed >= board.rows;
    more.textContent = `Show ${Math.min(PAGE, board.rows - listed)} more`;
    rove();
  }
  /** Show other facts in every row, in the order that they have. */
  function update(next) {
    facts = next;
    for (const row of rows) row?.update(facts);
  }
  function go(to) {
    if (!board?.rows) return false;
    const order = visible();
    rows[order[Math.max(0, Math.min(order.length - 1, to))]].node.focus();
  }
  const place = () => (facts?.now ? visible().indexOf(focus) : -1);
  return { node, more, restart, draw, update, go, place, listed: visible, focus: () => focus };
}
