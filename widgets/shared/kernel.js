/**
 * How a view talks with its Python half: requests and their answers, changes of traits, and a note
 * for when nothing answers. It knows an anywidget model; it does not know tokens, chains or runs.
 */
import { h } from "./dom.js";

const UNANSWERED =
  "The kernel does not answer. Run the cell again to go on. After a restart, run those above it first.";

/** Call `acts[trait]` whenever that trait changes; returns what undoes it. */
export function watch(model, acts) {
  for (const [trait, act] of Object.entries(acts)) model.on(`change:${trait}`, act);
  return () => {
    for (const [trait, act] of Object.entries(acts)) model.off(`change:${trait}`, act);
  };
}

/** What stands in a view whose kernel does not answer, or that was closed: the trait `closed` says why. */
export function goneNote(model) {
  const node = h("p", { class: "mll-note mll-gone", "data-kind": "bad", role: "status", hidden: true });
  const say = () => {
    node.textContent = model.get("closed") || UNANSWERED;
  };
  watch(model, { closed: say });
  say();
  return node;
}

/**
 * Ask the kernel. `onAlive(false)` follows a request that stays unanswered for `patience` ms, and
 * the end of a view: nobody is asked any more once it is closed.
 */
export function connect(model, { onAlive = () => {}, onMessage = () => {} } = {}) {
  const mark = Math.random().toString(36).slice(2, 8);
  const waiting = new Map();
  let count = 0;
  let alive = true;
  const tell = (now) => {
    if (now === alive) return;
    alive = now;
    onAlive(now);
  };
  const receive = (message, buffers = []) => {
    tell(true);
    if (message?.kind !== "reply") return onMessage(message, buffers);
    waiting.get(message.id)?.(message, buffers);
  };
  const broken = () => ask("ping").catch(() => {});
  model.on("msg:custom", receive);
  model.on("comm_live_update", broken);
  const unwatch = watch(model, { closed: () => tell(false) });
  const ask = (op, args = {}, { patience = 2000, timeout = 30000 } = {}) =>
    new Promise((resolve, reject) => {
      const id = `${mark}-${++count}`;
      const unanswered = new Error(model.get("closed") || "the kernel did not answer");
      const finish = (act, value) => {
        clearTimeout(doubt);
        clearTimeout(end);
        waiting.delete(id);
        act(value);
      };
      const doubt = setTimeout(() => tell(false), patience);
      const end = setTimeout(() => finish(reject, unanswered), timeout);
      waiting.set(id, (message, buffers) =>
        message.ok ? finish(resolve, { ...message, buffers }) : finish(reject, new Error(message.error)),
      );
      try {
        if (model.get("closed")) throw unanswered;
        model.send({ ...args, kind: "request", id, op });
      } catch {
        tell(false);
        finish(reject, unanswered);
      }
    });
  const close = () => {
    model.off("msg:custom", receive);
    model.off("comm_live_update", broken);
    unwatch();
    for (const answer of [...waiting.values()]) answer({ ok: false, error: "the view was closed" }, []);
  };
  return {
    ask,
    ping: () => ask("ping").catch(() => {}),
    close,
    get alive() {
      return alive;
    },
  };
}
