/** The card beside a token: there while the pointer is on it, and kept by a click or a key. */
import { percent } from "./shared/text.js";
import { tokenCard } from "./token_strip_card.js";
import { floating } from "./token_strip_floating.js";

const MOST_REMEMBERED = 500;

const listen = (node, acts) => Object.entries(acts).forEach(([type, act]) => node.addEventListener(type, act));

/** `line` asks the kernel, `say` speaks; the card stands at a token of `flow`, whose numbers `columns` has. */
export function tokenDetails({ model, line, columns, flow, say }) {
  const remembered = new Map(); // what the kernel said of a step
  let at = -1;
  let pinned = false;
  let wait = null; // before the card comes and goes
  let lookWait = null;
  let looked = null; // the alternative that is explained
  const epoch = () => model.get("epoch");
  const card = tokenCard({ onChoose: (row) => choose(row.token), onSelect: say, onLook: explain });
  const float = floating(card.node);

  function show(step, { pin = false } = {}) {
    if (step < 0 || step >= flow.length) return;
    at = step;
    pinned = pinned || pin;
    const { token, logprob, rank, entropy, ms, piece } = columns;
    const p = Math.exp(logprob[at]);
    flow.mark(at, `${flow.text(at)}, step ${at + 1} of ${flow.length}, ${percent(p)}, rank ${rank[at] + 1}`);
    card.begin({ piece: piece[at], step: at, n: token.length, p, rank: rank[at], entropy: entropy[at], ms: ms[at] });
    float.show(flow.box(at));
    const known = remembered.get(step);
    if (known) card.complete(known);
    else fetchDetails(step);
  }
  function fetchDetails(step) {
    const asked = epoch();
    const here = () => at === step && asked === epoch() && float.open;
    line
      .ask("details", { step })
      .then((details) => {
        if (remembered.size > MOST_REMEMBERED) remembered.clear();
        if (asked === epoch()) remembered.set(step, details);
        if (here()) card.complete(details);
      })
      .catch((error) => here() && card.failed(`Alternatives: n/a. ${error.message}`));
  }
  /** Ask what would have kept an alternative; an answer for another one comes too late. */
  function explain(row) {
    if (!model.get("explains")) return;
    const [step, asked] = [at, epoch()];
    looked = row;
    clearTimeout(lookWait);
    lookWait = setTimeout(async () => {
      const reply = line.ask("explain", { step, token: row.token }, { patience: 20000 });
      const text = await reply.then(
        (said) => said.text,
        (error) => `n/a: ${error.message}`,
      );
      if (looked === row && at === step && asked === epoch()) card.explain(row, text);
    }, 60);
  }
  function choose(token) {
    if (!line.alive) return;
    line.ask("choose", { step: at, token }).then(
      () => say(`chosen at step ${at + 1}`),
      (error) => card.failed(error.message),
    );
  }
  function hide() {
    clearTimeout(wait);
    pinned = false;
    float.hide();
    flow.mark(-1);
  }
  function go(step) {
    if (!flow.length) return;
    show(Math.max(0, Math.min(flow.length - 1, step)), { pin: true });
    flow.reveal(at);
    float.show(flow.box(at));
  }
  const later = (act, ms) => {
    if (pinned) return;
    clearTimeout(wait);
    wait = setTimeout(act, ms);
  };
  const follow = () => float.open && at >= 0 && float.show(flow.box(at));
  const stepAt = ({ target }) => flow.stepOf(target);
  listen(flow.node, {
    pointerover: (event) => stepAt(event) >= 0 && later(() => show(stepAt(event)), float.open ? 20 : 120),
    pointerleave: () => later(hide, 200),
    click: (event) => (stepAt(event) < 0 ? hide() : show(stepAt(event), { pin: true })),
    focus: () => flow.node.matches(":focus-visible") && flow.length && go(Math.max(0, at)),
    blur: ({ relatedTarget }) => !card.node.contains(relatedTarget) && hide(),
    scroll: follow,
  });
  listen(card.node, {
    pointerenter: () => clearTimeout(wait),
    pointerleave: () => later(hide, 200),
    pointerdown: (event) => event.preventDefault(),
  });
  /** Another trace: nothing of this one is known any more. */
  function restart() {
    hide();
    remembered.clear();
    at = -1;
  }
  function close() {
    hide();
    clearTimeout(lookWait);
  }
  const bindings = {
    ArrowLeft: () => go(at < 0 ? flow.length - 1 : at - 1),
    ArrowRight: () => go(at + 1),
    ArrowUp: () => (float.open ? card.move(-1) : go(Math.max(0, at))),
    ArrowDown: () => (float.open ? card.move(1) : go(Math.max(0, at))),
    Home: () => go(0),
    End: () => go(flow.length - 1),
    Enter: () => (at >= 0 && float.open ? choose(card.selected?.token ?? columns.token[at]) : go(Math.max(0, at))),
    Escape: () => (float.open ? hide() : false),
  };
  return { node: card.node, restart, close, bindings };
}
