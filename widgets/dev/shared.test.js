import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { tabbed } from "../shared/dom.js";
import { connect, watch } from "../shared/kernel.js";
import { newestWins } from "../shared/newest_wins.js";
import { typedAs } from "../shared/number.js";
import { switchState } from "../shared/switch.js";
import {
  count,
  counted,
  duration,
  number,
  percent,
  pieceCells,
  plainParts,
  splitPieces,
  visible,
} from "../shared/text.js";
import { LAYERS, tokenColumns } from "../token_strip_columns.js";
import { alternatives } from "../token_strip_alternatives.js";
import { survivors } from "../token_strip_card.js";
import { endsBlock, lookOf } from "../token_strip_flow.js";
import { fakeModel, pieceBuffers, stepBuffers } from "./fake_model.js";

const bytes = (text) => new TextEncoder().encode(text);
const show = (pieces) => pieceCells(pieces).cells.map(plainParts);

test("a number and its noun agree", () => {
  assert.equal(counted(1, "token"), "1 token");
  assert.equal(counted(0, "token"), "0 tokens");
  assert.equal(counted(1200, "branch", "branches"), "1,200 branches");
});

test("hidden characters are written as both halves of a view name them", () => {
  const cases = JSON.parse(readFileSync(new URL("glyphs.json", import.meta.url)));
  for (const { text, shown } of cases) {
    const parts = visible(text).map(({ kind, text: part }) =>
      kind === "hidden" ? `[${part}]` : ({ space: " ", newline: "\n", tab: "\t" }[kind] ?? part),
    );
    assert.equal(parts.join(""), shown);
  }
});

test("a combining mark at the start of a token stands on a circle", () => {
  assert.equal(plainParts(visible("\u0301")), "◌\u0301");
});

test("a character of several pieces is in the first of them and ticks are in the others", () => {
  const [a, b, c] = [bytes("😀").slice(0, 1), bytes("😀").slice(1, 3), bytes("😀").slice(3)];
  assert.deepEqual(show([a, b, Uint8Array.from([...c, 33])]), ["😀", "‧", "‧!"]);
});

test("bytes that are no character are shown as numbers, also overlong ones and surrogates", () => {
  assert.deepEqual(show([Uint8Array.of(0xff), Uint8Array.of(0xc0, 0x80), Uint8Array.of(0xed, 0xa0, 0x80)]), [
    "FF",
    "C0 80",
    "ED A0 80",
  ]);
});

test("pieces that the next one may complete stay open", () => {
  const half = bytes("é").slice(0, 1);
  assert.equal(pieceCells([bytes("a"), half]).open, 1);
  assert.equal(pieceCells([bytes("a"), bytes("b")]).open, 2);
});

test("half a character before a whole one is not joined with it", () => {
  assert.deepEqual(show([bytes("😀").slice(0, 2), bytes("hi")]), ["F0 9F", "hi"]);
});

test("numbers that are not known are n/a, small chances keep two digits", () => {
  assert.deepEqual(
    [percent(NaN), percent(null), number(undefined), count(NaN), duration(Infinity)],
    Array(5).fill("n/a"),
  );
  assert.deepEqual([0, 1, 0.5, 0.1234, 0.00042, 1e-9, 0.99995].map(percent), [
    "0%",
    "100%",
    "50.0%",
    "12.3%",
    "0.042%",
    "<0.001%",
    ">99.99%",
  ]);
  assert.deepEqual([0.08, 5.31, 1234].map(duration), ["80 µs", "5.31 ms", "1.23 s"]);
});

test("a comma is a decimal point, but between thousands of a whole number", () => {
  assert.deepEqual([typedAs("0,8"), typedAs(" 49,152 ", true), typedAs("1,5", true)], [0.8, 49152, 1.5]);
  assert.deepEqual([typedAs(" "), typedAs("many")], [NaN, NaN]);
});

test("the newest value wins: at once, then one send a frame; answers out of order are dropped", () => {
  const frames = [];
  const sent = [];
  const queue = newestWins((value, seq) => sent.push([value, seq]), { frame: (act) => frames.push(act), now: () => 0 });
  for (const value of [1, 2, 3]) queue.push(value);
  frames.shift()();
  queue.push(4);
  frames.shift()();
  assert.deepEqual(sent, [
    [1, 1],
    [3, 2],
  ]);
  assert.deepEqual([queue.accept(2), queue.accept(1)], [true, false]);
});

test("no more than two requests are under way, and the newest value goes as soon as one is answered", () => {
  const sent = [];
  let time = 0;
  const queue = newestWins((value, seq) => sent.push([value, seq]), { frame: (act) => act(), now: () => time });
  for (const value of [1, 2, 3, 4, 5]) queue.push(value);
  assert.deepEqual(sent, [
    [1, 1],
    [2, 2],
  ]);
  queue.accept(1);
  assert.deepEqual(sent.at(-1), [5, 3]);
  queue.push(6);
  time = 3000; // no answer came
  queue.push(7);
  assert.deepEqual(sent.at(-1), [7, 4]);
});

test("where answers are mostly slow, values wait for the hand to let go, but one is tried now and then", () => {
  let time = 0;
  const sent = [];
  const queue = newestWins((value, seq) => sent.push(seq), { frame: (act) => act(), now: () => time });
  const answered = (after) => {
    queue.push(time, { released: true });
    time += after;
    queue.accept(queue.seq);
  };
  answered(900);
  assert.equal(queue.slow, false);
  answered(900);
  answered(900);
  assert.equal(queue.slow, true);
  answered(10);
  queue.push(2);
  assert.equal(sent.length, 4);
  queue.push(3, { released: true });
  assert.equal(sent.length, 5);
  queue.accept(5);
  time += 600;
  queue.push(4);
  assert.equal(sent.length, 6);
});

test("a request is answered by its id, and an error arrives as an error", async () => {
  const model = fakeModel(
    {},
    {
      add: ({ a, b }) => ({ sum: a + b }),
      bad: () => {
        throw new Error("no such step");
      },
    },
  );
  const line = connect(model);
  const [sum, error] = await Promise.all([line.ask("add", { a: 1, b: 2 }), line.ask("bad").catch((e) => e)]);
  assert.deepEqual([sum.sum, error.message], [3, "no such step"]);
  line.close();
  assert.equal(model.listening, 0);
});

test("a watched trait calls its act until that is undone", () => {
  const model = fakeModel({ n: 0, title: "" });
  const heard = [];
  const unwatch = watch(model, { n: () => heard.push("n"), title: () => heard.push("title") });
  model.set("n", 1);
  model.set("title", "a");
  unwatch();
  model.set("n", 2);
  assert.deepEqual([heard, model.listening], [["n", "title"], 0]);
});

test("a kernel that does not answer in time is gone, and back when it answers", async () => {
  const heard = [];
  const model = fakeModel({});
  model.alive = false;
  const line = connect(model, { onAlive: (alive) => heard.push(alive) });
  line.ask("ping", {}, { patience: 5, timeout: 1000 }).catch(() => {});
  await new Promise((done) => setTimeout(done, 30));
  model.receive({ kind: "delta" });
  assert.deepEqual(heard, [false, true]);
  line.close();
});

test("what cannot be sent is a kernel that does not answer", async () => {
  const heard = [];
  const model = {
    ...fakeModel({}),
    send: () => {
      throw new Error("Cannot send");
    },
  };
  const line = connect(model, { onAlive: (alive) => heard.push(alive) });
  await assert.rejects(line.ask("ping"), /^Error: the kernel did not answer$/);
  assert.deepEqual(heard, [false]);
  line.close();
});

test("levels go from calm to loud on fixed scales", () => {
  const at = (layer, column, values) => {
    const columns = { ...tokenColumns(), [column]: values, usual: 10 };
    return values.map((_, i) => lookOf(layer, columns, i));
  };
  const ln = [0.95, 0.5, 0.2, 0.05, 0.01, 0.001].map(Math.log);
  assert.deepEqual(
    at("probability", "logprob", ln),
    [0, 1, 2, 3, 4, 5].map((k) => `warm-${k}`),
  );
  assert.deepEqual(
    at("rank", "rank", [0, 1, 2, 5, 10, 100]),
    [0, 1, 2, 3, 4, 5].map((k) => `warm-${k}`),
  );
  assert.deepEqual(at("time", "ms", [10, 11, 20, 40]), ["teal-0", "teal-1", "teal-4", "teal-5"]);
  assert.deepEqual(at("entropy", "entropy", [NaN, 9]), ["unknown", "violet-5"]);
  for (const layer of Object.values(LAYERS)) assert.equal(layer.marks.length, 6);
});

test("columns take what is new, skip what they have, and notice a gap", () => {
  const steps = ["a", "b", "c", "d"].map((piece, token) => ({ piece, token }));
  const columns = tokenColumns();
  assert.equal(columns.append({ from: 0 }, stepBuffers(steps.slice(0, 2))), true);
  assert.equal(columns.append({ from: 1 }, stepBuffers(steps.slice(1, 3))), true);
  assert.equal(columns.append({ from: 4 }, stepBuffers(steps.slice(3))), false);
  assert.deepEqual(columns.token, [0, 1, 2]);
  assert.deepEqual(
    columns.piece.map((piece) => String.fromCharCode(...piece)),
    ["a", "b", "c"],
  );
});

test("the usual time is the median of the first tokens and does not move later", () => {
  const columns = tokenColumns();
  const steps = (ms, n) => Array.from({ length: n }, () => ({ piece: "x", ms }));
  columns.append({ from: 0 }, stepBuffers(steps(5, 10)));
  columns.append({ from: 10 }, stepBuffers(steps(500, 100)));
  assert.equal(columns.usual, 5);
});

test("pieces come out of a message as they went in", () => {
  assert.deepEqual(
    splitPieces(...pieceBuffers(["a", "", "é"])).map((piece) => [...piece]),
    [[97], [], [195, 169]],
  );
});

test("a block ends at a line once it is long enough, and never grows without end", () => {
  assert.deepEqual(
    [endsBlock(10, bytes("\n")), endsBlock(64, bytes("\n")), endsBlock(64, bytes("a")), endsBlock(600, bytes("a"))],
    [false, true, false, true],
  );
});

test("the card lists the chosen token even when it is not among the likeliest", () => {
  const details = {
    token: 9,
    hex: "21",
    p: 0.001,
    after: 0.1,
    rank: 400,
    top: [{ token: 1, hex: "61", p: 0.9, after: 0.8 }],
  };
  assert.deepEqual(
    alternatives(details).map(({ token, rank, chosen }) => [token, rank, chosen]),
    [
      [1, 0, false],
      [9, 400, true],
    ],
  );
});

test("survivors read as stage and number", () => {
  assert.equal(
    survivors([
      ["TopK(40)", 40],
      ["MinP(0.05)", null],
    ]),
    "TopK(40) 40 · MinP(0.05) n/a",
  );
});

test("a table is copied with tabs between cells and a line a row, whatever a cell holds", () => {
  assert.equal(
    tabbed([
      ["token", "adds"],
      ["a\tb\nc", 0.5],
    ]),
    "token\tadds\na b c\t0.5",
  );
});

test("a closed view is told once and asks nobody any more", async () => {
  const heard = [];
  const model = fakeModel({ closed: "" }, { add: () => ({}) });
  const line = connect(model, { onAlive: (alive) => heard.push(alive) });
  await line.ask("add");
  model.set("closed", "The lab was closed.");
  await assert.rejects(line.ask("add"), /^Error: The lab was closed\.$/);
  assert.deepEqual([heard, model.sent.length, line.alive], [[false], 1, false]);
  line.close();
});

test("a switch keeps to the hand until the answer has come, whatever it is told meanwhile", async () => {
  const drawn = [];
  const state = switchState((on) => drawn.push(on));
  state.show(false);
  let answer;
  const done = state.moved(new Promise((resolve) => (answer = resolve)));
  state.show(false);
  assert.deepEqual(drawn, [false], "an older value does not move it back");
  answer();
  await done;
  assert.deepEqual(drawn, [false, false], "what was not taken moves back");
  const again = state.moved(Promise.resolve());
  state.show(true);
  await again;
  assert.equal(drawn.at(-1), true);
});
