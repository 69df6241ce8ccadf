/** The card beside a token: there while the pointer is on it, and kept by a click or a key. */
import { percent } from "./shared/text.js";
import { tokenCard } from "./token_strip_card.js";
import { roomIn } from "./token_strip_lane.js";
import { effectText, layerText, removedText } from "./token_strip_words.js";
import { bias } from "./shared/bias.js";
import { pointerKeys } from "./shared/dom.js";
import { floating, inSight } from "./shared/floating.js";
import { pieceLabel, unhex } from "./shared/tokens.js";

const MOST_REMEMBERED = 500;

const listen = (node, acts) => Object.entries(acts).forEach(([type, act]) => node.addEventListener(type, act));

/** What the kernel says of steps: each is asked for once, unless that failed. */
function stepDetails(line) {
  const known = new Map();
  return {
    of(step) {
      if (known.size > MOST_REMEMBERED) known.clear();
      if (!known.has(step)) {
        const said = line.ask("details", { step });
        known.set(step, said);
        said.catch(() => known.get(step) === said && known.delete(step));
      }
      return known.get(step);
    },
    clear: () => known.clear(),
  };
}

/** Tells the kernel which token a hand picked, once it rests there. */
function restingPick(line, failed) {
  let wait = null;
  const close = () => clearTimeout(wait);
  function pick(step) {
    close();
    if (step >= 0) wait = setTimeout(() => line.ask("pick", { step }).catch(failed), 80);
  }
  return { pick, close };
}

/** `line` asks the kernel, `say` speaks; the card stands at a token of `flow`, whose numbers `columns` has. */
export function tokenDetails({ model, line, columns, flow, say }) {
  const details = stepDetails(line);
  let at = -1;
  let shown = 0; // how many cards there were
  let pinned = false;
  let wait = null; // before the card comes and goes
  let lookWait = null;
  let looked = null; // the alternative that is explained
  const card = tokenCard(model, { choose, say, look: explain, bias: (ban) => biasHere(ban) });
  const picked = restingPick(line, (error) => line.alive && card.failed(error.message));
  const float = floating(card.node, () => {
    const box = flow.box(at);
    if (!box || !inSight(flow.node, box)) return null;
    const text = inSight(flow.node, flow.node.getBoundingClientRect()); // its tokens stay within reach
    return { ...box, text, ...roomIn(card.node.closest(".mll-lab"), box.left) };
  });

  function show(step, { pin = false } = {}) {
    if (step < 0 || step >= flow.length) return;
    clearTimeout(wait); // a card that was to come would take the mark off this one
    pinned = pinned || pin;
    hoverKeys.listen(!pinned);
    if (float.open && step === at) return;
    at = step;
    const { logprob, rank, entropy, ms, piece, stale } = columns;
    const p = Math.exp(logprob[at]);
    const said = [removedText, effectText, layerText].map((say) => say(columns, at));
    const more = said.filter(Boolean).join("\n");
    const chance = [percent(p), `rank ${rank[at] < 0 ? "n/a" : rank[at]}`];
    const spoken = [flow.text(at), `step ${at}`, stale[at] > 0 && "stale", ...chance, more];
    flow.mark(at, spoken.filter(Boolean).join(", "));
    const first = { piece: piece[at], step: at, p, rank: rank[at], entropy: entropy[at], ms: ms[at], more };
    card.begin({ ...first, explains: model.get("explains") });
    float.show();
    complete(step);
  }
  /** Fill the card of a step; once, however often it was shown before the kernel answered. */
  function complete(step) {
    const mine = ++shown;
    const isNewest = () => mine === shown && float.open;
    details.of(step).then(
      (said) => isNewest() && card.complete(said),
      (error) => isNewest() && card.failed(`Alternatives n/a: ${error.message}`),
    );
  }
  /** Ask what would have kept an alternative; an answer for another one comes too late. */
  function explain(row) {
    if (!model.get("explains")) return;
    const [step, mine] = [at, shown];
    looked = row;
    clearTimeout(lookWait);
    lookWait = setTimeout(async () => {
      const reply = line.ask("explain", { step, token: row.token }, { patience: 20000 });
      const text = await reply.then(
        (said) => said.text,
        (error) => `n/a: ${error.message}`,
      );
      if (looked === row && mine === shown) card.tell(unhex(row.hex), text);
    }, 60);
  }
  function choose(row) {
    if (!line.alive || !row) return;
    line.ask("choose", { step: at, token: row.token }).then(
      () => say(`chosen at step ${at}`),
      (error) => card.failed(error.message),
    );
  }
  /** Ban or favour the alternative at hand, or else the token itself. */
  function biasHere(ban) {
    if (!float.open || !line.alive) return false;
    const [step, row] = [at, card.list.atHand()];
    const [token, piece] = row ? [row.token, unhex(row.hex)] : [columns.token[at], columns.piece[at]];
    const done = (what) => {
      say(`${pieceLabel(piece)} ${what}`);
      if (at !== step) return;
      looked = null; // a remark that is still to come would take its place
      card.tell(piece, `${what}. Run writes the text anew.`);
    };
    bias(line, token, ban).then(done, (error) => card.failed(error.message));
  }
  function hide() {
    clearTimeout(wait);
    pinned = false;
    float.hide();
    hoverKeys.listen(false);
    flow.mark(-1);
  }
  function go(step) {
    if (!flow.length) return -1;
    const next = Math.max(0, Math.min(flow.length - 1, step));
    flow.reveal(next);
    show(next, { pin: true });
    return next;
  }
  function goTo(step) {
    picked.pick(go(step));
  }
  const later = (act, ms) => {
    if (pinned) return;
    clearTimeout(wait);
    wait = setTimeout(act, ms);
  };
  const stepAt = ({ target }) => flow.stepOf(target);
  listen(flow.node, {
    pointerover: (event) => stepAt(event) >= 0 && later(() => show(stepAt(event)), float.open ? 20 : 120),
    pointerleave: () => later(hide, 200),
    click: (event) => (stepAt(event) < 0 ? hide() : goTo(stepAt(event))),
    focus: () => flow.node.matches(":focus-visible") && flow.length && go(Math.max(0, at)),
    blur: ({ relatedTarget }) => !card.node.contains(relatedTarget) && hide(),
  });
  listen(card.node, {
    pointerenter: () => clearTimeout(wait),
    pointerleave: () => later(hide, 200),
    pointerdown: (event) => event.preventDefault(),
  });
  /** Another trace: nothing of this one is known any more. */
  function restart() {
    hide();
    picked.close();
    shown++;
    details.clear();
    at = -1;
  }
  function close() {
    hide();
    clearTimeout(lookWait);
    picked.close();
  }
  const hoverKeys = pointerKeys({ b: () => biasHere(true), f: () => biasHere(false) });
  /** What a key does in an open card; without one it opens it. */
  const inCard = (act) => () => (float.open ? act() : goTo(Math.max(0, at)));
  const bindings = {
    ...{ ArrowLeft: () => goTo(at < 0 ? flow.length - 1 : at - 1), ArrowRight: () => goTo(at + 1) },
    ...{ ArrowUp: inCard(() => card.list.move(-1)), ArrowDown: inCard(() => card.list.move(1)) },
    ...{ Home: () => goTo(0), End: () => goTo(flow.length - 1) },
    Enter: inCard(() => choose(card.list.marked() ?? { token: columns.token[at] })),
    ...hoverKeys.bindings,
    Escape: () => (float.open ? hide() : false),
  };
  return { node: card.node, float, restart, close, bindings };
}
