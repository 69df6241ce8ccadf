/** An anywidget model without a kernel: traits in a Map, requests answered by functions. */

export function fakeModel(traits, answers = {}) {
  const values = new Map(Object.entries(traits));
  const listeners = new Map();
  const emit = (name, ...args) => [...(listeners.get(name) ?? [])].forEach((act) => act(...args));
  const model = {
    sent: [],
    alive: true,
    get: (name) => values.get(name),
    set(name, value) {
      if (values.get(name) === value) return;
      values.set(name, value);
      emit(`change:${name}`);
    },
    save_changes() {},
    on(name, act) {
      listeners.set(name, [...(listeners.get(name) ?? []), act]);
    },
    off(name, act) {
      listeners.set(
        name,
        (listeners.get(name) ?? []).filter((other) => other !== act),
      );
    },
    send(message) {
      model.sent.push(message);
      if (!model.alive || message.kind !== "request") return;
      queueMicrotask(async () => {
        try {
          const given = message.op === "ping" ? {} : await answers[message.op](message);
          const [reply, buffers] = Array.isArray(given) ? given : [given, []];
          emit("msg:custom", { ...reply, kind: "reply", id: message.id, ok: true }, buffers);
        } catch (error) {
          emit("msg:custom", { kind: "reply", id: message.id, ok: false, error: error.message }, []);
        }
      });
    },
    /** A message from the kernel. */
    receive: (message, buffers = []) => emit("msg:custom", message, buffers),
    get listening() {
      return [...listeners.values()].flat().length;
    },
  };
  return model;
}

const encoder = new TextEncoder();
const view = (array) => new DataView(array.buffer, array.byteOffset, array.byteLength);
const joined = (pieces) => Uint8Array.from(pieces.flatMap((piece) => [...piece]));

/** Texts or bytes -> the buffers that `_columns.pieces` sends. */
export function pieceBuffers(texts) {
  const pieces = texts.map((text) => (typeof text === "string" ? encoder.encode(text) : text));
  return [view(Int32Array.from(pieces, (piece) => piece.length)), view(joined(pieces))];
}

/** Steps -> the buffers that `_columns.steps` sends. */
export const stepBuffers = (steps) => [
  view(Int32Array.from(steps, (step) => step.token ?? 0)),
  view(Float32Array.from(steps, (step) => step.logprob ?? -1)),
  view(Float32Array.from(steps, (step) => step.entropy ?? 1)),
  view(Int32Array.from(steps, (step) => step.rank ?? 0)),
  view(Float32Array.from(steps, (step) => step.ms ?? 5)),
  view(Uint8Array.from(steps, (step) => step.ahead ?? 0)),
  view(Uint8Array.from(steps, (step) => step.stale ?? 0)),
  ...pieceBuffers(steps.map((step) => step.piece)),
];

/** Costs, each [nats at least, at most, wanted piece, its logprob] -> what `_columns.aside` sends of a grammar. */
export const costBuffers = (costs) => [
  ...[0, 1, 3].map((k) => view(Float32Array.from(costs, (cost) => cost[k]))),
  ...pieceBuffers(costs.map((cost) => cost[2])),
];

/** Effects, each [nats, logprob without it, likeliest piece without it] -> those that it sends of the effect. */
export const effectBuffers = (effects) => [
  ...[0, 1].map((k) => view(Float32Array.from(effects, (effect) => effect[k]))),
  ...pieceBuffers(effects.map((effect) => effect[2])),
];

/** Remarks, each [number, words] -> the buffers that it sends of a layer that says something in words. */
export const wordBuffers = (remarks) => [
  view(Float32Array.from(remarks, ([number]) => number)),
  ...pieceBuffers(remarks.map(([, words]) => words)),
];
