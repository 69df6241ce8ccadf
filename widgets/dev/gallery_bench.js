/** Chain editor, next token and run panel in their states, on made-up numbers. */
import chain from "../chain_editor.js";
import explore from "../explore_bar.js";
import next from "../next_token.js";
import panel from "../run_panel.js";
import { fakeModel } from "./fake_model.js";

const hex = (text) => [...new TextEncoder().encode(text)].map((b) => b.toString(16).padStart(2, "0")).join("");
const setting = (name, low, high, value, more = {}) => ({
  name,
  label: name,
  kind: "float",
  slider: [low, high],
  step: 0.01,
  scale: "linear",
  default: value,
  help: `what ${name} is`,
  ...more,
});
const catalogue = [
  {
    stage: "Temperature",
    label: "Temperature",
    summary: "Divide the logits by t.",
    settings: [setting("t", 0, 2, 0.8)],
    texts: [],
  },
  {
    stage: "TopK",
    label: "Top-k",
    summary: "Keep the k likeliest tokens.",
    settings: [
      setting("k", 1, 1000, 40, { kind: "int", scale: "log", step: 1 }),
      setting("min_keep", 0, 20, 0, { kind: "int", step: 1 }),
    ],
    texts: [],
  },
  {
    stage: "Mask",
    label: "Mask",
    summary: "Allow or ban token ids.",
    settings: [],
    texts: [{ name: "ban", label: "ban", syntax: "token ids, as in 12, 15, 100-120", usual: "" }],
  },
];
const card = (key, stage, values, more = {}) => ({
  key,
  stage,
  on: true,
  custom: false,
  values,
  texts: {},
  inert: "",
  code: `${stage}(…)`,
  ...more,
});

const PRESETS = [
  { name: "default", own: false, code: "ml.TopK(40) | ml.Temperature(0.8)" },
  { name: "greedy", own: false, code: "ml.Chain([ml.Greedy()])" },
  { name: "my stories", own: true, code: "ml.MinP(0.1) | ml.Temperature(1.2)" },
];

/** A kernel of the simplest kind: it takes t up to 2 and can switch, move, remove and add. */
function chainModel(cards, traits = {}) {
  const change = (act) => {
    model.set("cards", act(model.get("cards")));
    model.set("changed", true);
    model.set(
      "code",
      model
        .get("cards")
        .filter((c) => c.on)
        .map((c) => `ml.${c.stage}(${Object.values(c.values)[0] ?? ""})`)
        .join(" | "),
    );
    return {};
  };
  const model = fakeModel(
    {
      cards,
      catalogue,
      code: "ml.TopK(40) | ml.Temperature(0.8)",
      notes: {},
      changed: false,
      presets: PRESETS,
      preset: "",
      ...traits,
    },
    {
      list_presets: () => ({}),
      load_preset: ({ name }) => void model.set("code", PRESETS.find((preset) => preset.name === name).code) ?? {},
      save_preset: ({ name }) =>
        void model.set("presets", [...model.get("presets"), { name, own: true, code: model.get("code") }]) ??
        void model.set("preset", name) ??
        {},
      set: ({ key, name, value, seq }) => {
        if (name === "t" && value > 2) throw new Error(`Temperature(t=${value}): t must be from 0 to 2.`);
        change((all) => all.map((c) => (c.key === key ? { ...c, values: { ...c.values, [name]: value } } : c)));
        return { seq };
      },
      toggle: ({ key, on }) => change((all) => all.map((c) => (c.key === key ? { ...c, on } : c))),
      remove: ({ key }) => change((all) => all.filter((c) => c.key !== key)),
      move: ({ key, to }) =>
        change((all) =>
          all
            .filter((c) => c.key !== key)
            .toSpliced(
              to,
              0,
              all.find((c) => c.key === key),
            ),
        ),
      add: ({ stage }) => {
        const key = `card${Math.random()}`;
        const { settings } = catalogue.find((entry) => entry.stage === stage);
        change((all) => [
          ...all,
          card(key, stage, Object.fromEntries(settings.map((s) => [s.name, s.default])), { texts: { ban: "" } }),
        ]);
        return { key };
      },
      reset: () => change(() => cards),
    },
  );
  return model;
}

const CARDS = [
  card("a", "TopK", { k: 40, min_keep: 0 }),
  card("b", "Temperature", { t: 1 }, { inert: "t is 1: the logits stay as they are" }),
  card("c", "Mask", {}, { on: false, texts: { ban: "1-3" } }),
  card("d", "Custom", {}, { custom: true, code: "Custom(swing)" }),
];

/** A picture of `n` rows and four stages; `t` is a temperature. */
export function pictureAt(t, seq, n = 20) {
  const before = Array.from({ length: n }, (_, i) => 0.4 * 0.7 ** i);
  const weights = before.slice(0, 8).map((p) => p ** (1 / t));
  const total = weights.reduce((a, b) => a + b);
  const after = before.map((_, i) => (i < 8 ? weights[i] / total : null));
  const cut = before.map((p, i) => (i < 8 ? p / 0.94 : -1));
  const head = (name, kept, removed, changed, inert = "") => ({ name, kept, removed, entropy: 2.1, changed, inert });
  return {
    seq,
    n_vocab: 49152,
    n_listed: 64,
    seed: 7,
    step: 0,
    draw: 0.6312,
    choice: 2,
    note: "at the end of the prompt",
    after: "The capital of France is",
    error: "",
    columns: [
      head("row", 49152, 0, true),
      head("Penalties()", 49152, 0, false, "repeat is 1"),
      head("TopK(8)", 8, 0.063, true),
      head("MinP(0.01)", 8, 0, false),
      head(`Temperature(${t})`, 8, 0, true),
    ],
    rows: before.map((_, i) => ({
      id: i,
      bytes: i === 5 ? "e697" : hex([" Paris", " the", "\n", "\u200b", " שלום"][i] ?? ` word${i}`),
      rank: i,
    })),
    cells: [before, before, cut, cut.map((p) => (p === -1 ? null : p)), after],
  };
}
const nextModel = (view, traits = {}) => {
  const model = fakeModel(
    { view, scale: "linear", ...traits },
    { scale: ({ scale }) => void model.set("scale", scale) ?? {} },
  );
  return model;
};

const run = (number, more = {}) => ({
  number,
  prompt: "Once upon a time",
  chain: "TopK(40) | Temperature(0.8)",
  seed: 7,
  tokens: 48,
  speed: 171.2,
  logprob: -1.42,
  finish: "length",
  ended: "reached max tokens",
  text: " a young sailor named Finn…",
  ...more,
});
const figures = {
  tokens: 48,
  tokens_per_second: 171.2,
  first_token_seconds: 0.031,
  prompt_decoded: 1,
  prompt_reused: 14,
  finish: "length",
  ended: "reached max tokens",
};
function panelModel(traits = {}) {
  const model = fakeModel(
    {
      prompt: "Once upon a time",
      seed: 7,
      max_tokens: 64,
      state: "finished",
      message: "",
      progress: [15, 15],
      meters: figures,
      history: [run(1), run(2, { seed: 8, text: " an old wizard…\n" })],
      shown: 2,
      ...traits,
    },
    {
      set: ({ name, value }) => void model.set(name, value) ?? {},
      run: () => ({}),
      stop: () => ({}),
      dice: () => void model.set("seed", 123456) ?? {},
      select: ({ number }) => void model.set("shown", number) ?? {},
      compare: ({ numbers }) => ({
        first: 2,
        shared: 2,
        common: " there lived",
        same_prompt: true,
        rows: [],
        n: 8,
        floor: numbers.length > 2 ? 0.0123 : null,
        may_be_noise: false,
        sides: numbers.map((number, k) => ({
          number,
          label: `run ${number}`,
          first: k ? 2 : null,
          same_prompt: true,
          token: k ? " an" : " a",
          rest: " old wizard.",
          kl: k ? { nats: 0, exact: true } : null,
          kl_after: k ? { nats: 0.3, exact: false } : null,
          differs: k ? ["Temperature 0.8 → 1.2"] : [],
        })),
      }),
    },
  );
  return model;
}
const exploreModel = (traits = {}) =>
  fakeModel(
    {
      budget: 64,
      length: 8,
      state: "finished",
      message: "",
      origin: "In 19th century",
      prompt: "",
      found: { expanded: 64, prefixes: 64, leaves: 34, mass: 0.301 },
      room: [600, 4096],
      note: "Runs and branches are drawn by: MinP(0.05) | Temperature(0.8).",
      ...traits,
    },
    { set: () => ({}), explore: () => ({}), stop: () => ({}), trim: () => ({}) },
  );
const gone = (model) => {
  setTimeout(() => (model.alive = false), 500);
  return model;
};

export const bench = [
  [chain, chainModel(CARDS, { notes: { a: "keeps 40 of 49,152 · removes 12.3%" } })],
  [chain, chainModel([], { code: "ml.Chain([])" })],
  [next, nextModel(pictureAt(0.8, 1))],
  [next, nextModel({})],
  [next, nextModel({ ...pictureAt(0.8, 1), error: "MinP(1) left no candidate. Make p smaller." })],
  [explore, exploreModel()],
  [
    explore,
    exploreModel({
      state: "running",
      found: { expanded: 20, prefixes: 12, leaves: 7, mass: 0.4 },
      origin: "",
      prompt: "In 19th",
      room: [5120, 4096],
    }),
  ],
  [panel, panelModel()],
  [panel, panelModel({ state: "prompt", progress: [700, 2000], meters: {}, history: [], shown: 0 })],
  [
    panel,
    panelModel({
      state: "failed",
      message: "the prompt has 9000 tokens but 4096 are free. Open the session with a larger n_ctx.",
      history: [],
      shown: 0,
      meters: {},
    }),
  ],
  [panel, gone(panelModel({ history: [], shown: 0, state: "idle", meters: {} }))],
];
