/**
 * Prompt, Run and Stop, figures, and the runs so far. State lives in the model: `prompt`, `seed`,
 * `max_tokens`, `state`, `message`, `progress`, `meters`, `history`, `shown`, `listed`.
 */
import { comparisonView, ticked } from "./shared/comparison.js";
import { announcer, button, h, icon, keys } from "./shared/dom.js";
import { fieldState, kernelText } from "./shared/field.js";
import { connect, goneNote, watch } from "./shared/kernel.js";
import { count, duration, number, readable } from "./shared/text.js";
import { ENDINGS } from "./shared/tokens.js";

const BUSY = new Set(["queued", "prompt", "running"]);

/** The state in words, without numbers that change with every token. */
export function stateText(state, meters = {}, message = "") {
  if (state === "failed") return `Failed: ${message}`;
  if (state === "queued") return "Waiting for the session…";
  if (state === "prompt") return "Reading the prompt…";
  if (state === "running") return "Generating…";
  if (state === "idle") return "Ready.";
  if (state === "stopped") return "Stopped.";
  return meters.finish ? `Finished: ${ENDINGS[meters.finish]}.` : "Finished.";
}

/** How far a run is, 0 to 1, and in words. */
export function progressOf(state, [done, all], tokens, most) {
  if (state === "prompt") return { share: all ? done / all : 0, text: `${count(done)} of ${count(all)} prompt tokens` };
  if (state === "running")
    return { share: most ? Math.min(1, tokens / most) : 0, text: `${count(tokens)} of at most ${count(most)} tokens` };
  return { share: 0, text: "" };
}

export const METERS = [
  ["tokens", "tokens", (m) => count(m.tokens)],
  ["tokens/s", "tokens_per_second", (m) => number(m.tokens_per_second)],
  [
    "first token",
    "first_token_seconds",
    (m) => duration(m.first_token_seconds === null ? null : m.first_token_seconds * 1000),
  ],
  ["prompt decoded", "prompt_decoded", (m) => count(m.prompt_decoded)],
  ["reused from cache", "prompt_reused", (m) => count(m.prompt_reused)],
];

const HEADS = ["", "run", "stages with effect", "seed", "tokens", "tokens/s", "mean logprob", "ended", "text"];

function historyView({ select, choose }) {
  const body = h("tbody");
  const none = h("p", { class: "mll-quiet mll-rp-none" }, "No runs yet. Each gets a line here.");
  const node = h(
    "div",
    { class: "mll-rp-scroll mll-live" },
    h(
      "table",
      { role: "grid", "aria-label": "Runs so far" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          HEADS.map((text, i) => h("th", { scope: "col" }, i ? text : h("span", { class: "mll-spoken" }, "compare"))),
        ),
      ),
      body,
    ),
    none,
  );
  let at = 0;
  const rows = () => [...body.children];
  const go = (by) => (event) => {
    const i = rows().indexOf(event.target.closest("tr"));
    const next = rows()[i + by];
    if (i < 0) return false;
    next?.focus();
  };
  const unbind = keys(node, {
    ArrowUp: go(-1),
    ArrowDown: go(1),
    Enter: (event) => (event.target.dataset?.run ? select(Number(event.target.dataset.run)) : false),
    " ": (event) => (event.target.dataset?.run ? choose(Number(event.target.dataset.run)) : false),
  });
  const row = (run, shown, ticks) => {
    const box = h("input", {
      type: "checkbox",
      tabindex: -1,
      "aria-label": `Compare run ${run.number}`,
      on: { change: () => choose(run.number), click: (event) => event.stopPropagation() },
    });
    box.checked = ticks.includes(run.number);
    const cells = [
      run.number,
      run.chain,
      run.seed ?? "n/a",
      count(run.tokens),
      number(run.speed),
      run.logprob === null ? "n/a" : run.logprob.toFixed(2).replace("-", "−"),
      run.finish,
      readable(run.text),
    ];
    return h(
      "tr",
      {
        tabindex: -1,
        "data-run": run.number,
        "aria-selected": String(run.number === shown),
        on: { click: () => select(run.number), focus: () => (at = run.number) },
      },
      h("td", {}, box),
      cells.map((text, i) =>
        h("td", { title: i === 1 || i === 7 ? String(text) : null, dir: i === 7 ? "auto" : null }, String(text)),
      ),
    );
  };
  return {
    node,
    unbind,
    draw(history, shown, ticks) {
      const focused = node.contains(node.ownerDocument.activeElement) ? at : 0;
      body.replaceChildren(...[...history].reverse().map((run) => row(run, shown, ticks)));
      const stop = rows().find((tr) => Number(tr.dataset.run) === at) ?? rows()[0];
      if (stop) stop.tabIndex = 0;
      if (focused) stop?.focus({ preventScroll: true });
      none.hidden = history.length > 0;
    },
  };
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  const link = connect(model, { onAlive: (alive) => setAlive(alive) });
  const voice = announcer();
  let ticks = [];
  let timer = null;
  let asked = 0;

  const problem = h("p", { class: "mll-problem", role: "alert" });
  const gone = goneNote(model);
  const attempt = (op, args = {}) => {
    problem.textContent = "";
    return link.ask(op, args).catch((error) => {
      problem.textContent = error.message;
    });
  };
  const area = h("textarea", {
    class: "mll-field mll-rp-prompt",
    rows: 3,
    maxlength: 100000,
    spellcheck: "false",
    dir: "auto",
    "aria-label": "Prompt",
    placeholder: "A prompt for the model to go on from",
    on: { input: () => typed(), change: () => sendPrompt() },
  });
  const run = button("Run", "Run this prompt (Ctrl+Enter or Cmd+Enter in the prompt)", () => start(), {
    "data-main": true,
  });
  const stop = button("Stop", "Stop the run (Esc)", () => attempt("stop"));
  const whole = (name, label) =>
    kernelText({
      name,
      label,
      title: "Run",
      value: String(get(name)),
      held: () => String(get(name)),
      send: (value, seq) =>
        link.ask("set", { name, value: /^\s*\d+\s*$/.test(value) ? Number(value) : value.slice(0, 40), seq }),
    });
  const seed = whole("seed", "seed");
  const most = whole("max_tokens", "max tokens");
  const dice = icon("⚄", "Another seed by chance", () => attempt("dice"));
  const line = h("span", { class: "mll-rp-state" });
  const far = h("span", { class: "mll-quiet mll-figures" });
  const bar = h(
    "div",
    {
      class: "mll-rp-progress",
      role: "progressbar",
      "aria-label": "Progress of the run",
      "aria-valuemin": 0,
      "aria-valuemax": 100,
    },
    h("i"),
  );
  const meters = METERS.map(([label]) => [label, h("span", { class: "mll-rp-figure" }, "n/a")]);
  const history = historyView({ select: (n) => attempt("select", { number: n }), choose: (n) => choose(n) });
  const hint = h("p", { class: "mll-quiet" }, "Choose a run to show it; tick two to four to compare them.");
  const compared = h("div");
  const root = h(
    "section",
    { class: "mll mll-rp", "aria-label": "Run" },
    gone,
    area,
    h("div", { class: "mll-rp-bar mll-live" }, run, stop, seed.node, dice, most.node),
    problem,
    h("div", { class: "mll-rp-status" }, line, far),
    bar,
    h(
      "div",
      { class: "mll-rp-meters mll-figures", role: "group", "aria-label": "Figures of the run" },
      meters.map(([label, value]) => h("div", {}, h("span", { class: "mll-quiet" }, label), " ", value)),
    ),
    history.node,
    hint,
    compared,
    voice.node,
  );

  // The prompt: the hand leads, the kernel follows a quarter of a second later.
  const prompt = fieldState(get("prompt"));
  area.value = get("prompt");
  function typed() {
    prompt.moved();
    clearTimeout(timer);
    timer = setTimeout(sendPrompt, 250);
  }
  function sendPrompt() {
    clearTimeout(timer);
    const seq = ++asked;
    prompt.sent(seq);
    return attempt("set", { name: "prompt", value: area.value }).then(
      (reply) => prompt.answered(seq, Boolean(reply)) && drawPrompt(),
    );
  }
  function drawPrompt() {
    const now = get("prompt");
    if (prompt.shows(now) && area.value !== now) area.value = now;
  }
  function start() {
    if (run.disabled) return;
    clearTimeout(timer);
    const seq = ++asked;
    prompt.sent(seq);
    attempt("run", { prompt: area.value }).then((reply) => prompt.answered(seq, Boolean(reply)) && drawPrompt());
  }
  const unbind = keys(root, {
    "Ctrl+Enter": (event) => (event.target === area ? start() : false),
    Escape: () => (BUSY.has(get("state")) ? void attempt("stop") : false),
  });

  async function choose(n) {
    ticks = ticked(ticks, n);
    drawHistory();
    if (ticks.length < 2) return compared.replaceChildren();
    const asked = ticks.join();
    const reply = await attempt("compare", { numbers: ticks });
    if (reply && asked === ticks.join()) compared.replaceChildren(comparisonView(reply));
  }

  function drawState() {
    const state = get("state");
    const text = stateText(state, get("meters"), get("message"));
    if (line.textContent !== text) {
      line.textContent = text;
      voice.say(text);
    }
    line.toggleAttribute("data-bad", state === "failed");
    root.dataset.state = state;
    run.disabled = BUSY.has(state) || !link.alive;
    stop.disabled = !BUSY.has(state) || !link.alive;
    const { share, text: words } = progressOf(state, get("progress"), get("meters").tokens ?? 0, get("max_tokens"));
    far.textContent = words;
    bar.firstChild.style.transform = `scaleX(${share.toFixed(4)})`;
    bar.setAttribute("aria-valuenow", String(Math.round(share * 100)));
    bar.setAttribute("aria-valuetext", words || text);
  }
  function drawMeters() {
    const now = get("meters");
    METERS.forEach(([, name, show], i) => {
      meters[i][1].textContent = name in now ? show(now) : "n/a";
    });
    drawState();
  }
  function drawHistory() {
    const runs = get("listed") ? get("history") : [];
    ticks = ticks.filter((n) => runs.some((one) => one.number === n));
    history.draw(runs, get("shown"), ticks);
    history.node.hidden = hint.hidden = !get("listed");
  }
  function setAlive(alive) {
    root.toggleAttribute("data-gone", !alive);
    gone.hidden = alive;
    area.readOnly = !alive;
    for (const node of root.querySelectorAll("button, input")) node.disabled = !alive;
    drawState();
  }

  const unwatch = watch(model, {
    prompt: drawPrompt,
    seed: () => seed.show(String(get("seed"))),
    max_tokens: () => most.show(String(get("max_tokens"))),
    state: drawState,
    message: drawState,
    progress: drawState,
    meters: drawMeters,
    history: drawHistory,
    shown: drawHistory,
    listed: drawHistory,
  });
  drawMeters();
  drawHistory();
  el.append(root);
  link.ping();
  root.addEventListener("pointerenter", link.ping);
  return () => {
    unwatch();
    clearTimeout(timer);
    unbind();
    history.unbind();
    voice.close();
    link.close();
    root.remove();
  };
}

export default { render };
