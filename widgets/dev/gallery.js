/** Every state of the views on made-up numbers, to look at without Jupyter. */
import { h } from "../shared/dom.js";
import strip from "../token_strip.js";
import { bench } from "./gallery_bench.js";
import { retrieval } from "./gallery_retrieval.js";
import { trees } from "./gallery_tree.js";
import { fakeModel, pieceBuffers, stepBuffers } from "./fake_model.js";

const WORDS = [
  " the",
  " quiet",
  " river",
  " ran",
  " past",
  " a",
  " house",
  ",",
  ".",
  "\n",
  " 😀",
  " שלום",
  "\u200b",
  "\t",
];
const wave = (i) => Math.abs(Math.sin(i * 12.9898) * 43758.5453) % 1;
const steps = (n) =>
  Array.from({ length: n }, (_, i) => ({
    piece: WORDS[Math.floor(wave(i) * WORDS.length)],
    token: i,
    logprob: -6 * wave(i + 1) ** 2,
    entropy: 5 * wave(i + 2),
    rank: Math.floor(200 * wave(i + 3) ** 6),
    ms: 5 + 5 * wave(i + 4) ** 8,
  }));
const hex = (text) => [...new TextEncoder().encode(text)].map((b) => b.toString(16).padStart(2, "0")).join("");

function stripModel(all, traits) {
  const model = fakeModel(
    {
      n: all.length,
      state: "finished",
      finish: "length",
      ended: "reached max tokens",
      note: "",
      progress: [0, 0],
      layer: "probability",
      title: "",
      epoch: 1,
      branched: {},
      more: {},
      choosing: "branch here",
      ...traits,
    },
    {
      prompt: () => [{ epoch: 1, skipped: 0 }, pieceBuffers(["Once", " upon", " a", " time"])],
      steps: ({ from }) => [{ epoch: 1, from, n: all.length }, stepBuffers(all.slice(from))],
      choose: () => ({}),
      details: ({ step }) => ({
        step,
        token: step,
        hex: hex(all[step].piece),
        p: Math.exp(all[step].logprob),
        after: 0.4,
        rank: all[step].rank,
        entropy: all[step].entropy,
        remaining: 0.12,
        stages: [
          ["TopK(40)", 40],
          ["MinP(0.05)", 7],
        ],
        top: WORDS.map((word, k) => ({
          token: 1000 + k,
          hex: hex(word),
          p: 0.4 / (k + 1),
          after: k < 7 ? 0.5 / (k + 1) : 0,
        })),
        ms: { decode: 5.3, sample: 0.08, constraint: 0, capture: 0.07 },
      }),
    },
  );
  return model;
}

function running() {
  const all = steps(2000);
  const model = stripModel([], { state: "running", finish: "", ended: "", title: "running" });
  let sent = 0;
  const timer = setInterval(() => {
    const next = Math.min(all.length, sent + 3);
    model.receive({ kind: "delta", epoch: 1, from: sent, n: next }, stepBuffers(all.slice(sent, next)));
    sent = next;
    if (sent < all.length) return;
    clearInterval(timer);
    model.set("finish", "length");
    model.set("ended", "reached max tokens");
    model.set("state", "finished");
  }, 40);
  return model;
}

const gone = () => {
  const model = stripModel(steps(40), { title: "kernel gone" });
  setTimeout(() => (model.alive = false), 500);
  return model;
};

const states = [
  [strip, stripModel(steps(150), { title: "finished" })],
  [strip, running()],
  [strip, stripModel([], { state: "empty", title: "empty" })],
  [strip, stripModel([], { state: "prompt", progress: [700, 2000], title: "reading the prompt" })],
  [
    strip,
    stripModel(steps(9), {
      state: "failed",
      finish: "failed",
      ended: "failed",
      note: "the prompt has 9000 tokens but 4096 are free. Open the session with a larger n_ctx.",
      title: "failed",
    }),
  ],
  [strip, gone()],
];
const main = document.querySelector("main");
for (const [view, model] of [...states, ...bench, ...trees, ...retrieval]) {
  const el = h("section");
  main.append(el);
  view.render({ model, el });
}
document.querySelector("#theme").addEventListener("click", () => {
  const root = document.documentElement;
  root.setAttribute("theme", root.getAttribute("theme") === "dark" ? "light" : "dark");
});
