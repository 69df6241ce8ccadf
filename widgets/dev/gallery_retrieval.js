/** Similarity grid and rank board in their states, on made-up numbers. */
import board from "../rank_board.js";
import grid from "../similarity_grid.js";
import { fakeModel, pieceBuffers } from "./fake_model.js";

const view = (array) => new DataView(array.buffer, array.byteOffset, array.byteLength);
const wave = (i) => Math.abs(Math.sin(i * 12.9898 + 4.1) * 43758.5453) % 1;
const SAYS = {
  "[CLS]": "[CLS], a special token: begins a text",
  "[Q]": "[unused0], the query marker: tells the model that this is a query",
  "[SEP]": "[SEP], a special token: ends a text",
};
const special = (pieces) => pieceBuffers(pieces.map((piece) => SAYS[piece] ?? ""));
const QUERY = ["[CLS]", "[Q]", " remove", " common", " lead", "ing", " white", "space", "?", "[SEP]"];
const TEXT =
  "textwrap.dedent(text)\n\nRemove any common leading whitespace from every line in text. This can be used to " +
  "make triple-quoted strings line up with the left edge of the display, while still presenting them in the " +
  "source code in indented form. \u202eevil\u200b 😀 שלום";

/** Cut a text as a vocabulary might: words, in halves when long. */
const cut = (text) => [...text.matchAll(/\s*(\w{1,6}|[^\w\s])/gu)].map(([piece]) => piece);

export function gridModel({ query = QUERY, document = cut(TEXT), low = 0, ...traits } = {}) {
  const [rows, cols] = [query.length, document.length];
  const values = Float32Array.from({ length: rows * cols }, (_, k) => {
    const [i, j] = [Math.floor(k / cols), k % cols];
    const same = query[i].trim().toLowerCase().slice(0, 4) === document[j].trim().toLowerCase().slice(0, 4);
    return (
      low + (1 - low) * (same ? 0.86 + 0.1 * wave(k) : 0.15 + 0.5 * wave(k) * wave(j + 7) + (i % 3 === 0 ? 0.1 : 0))
    );
  });
  const starts = (pieces) => {
    let word = -1;
    return Int32Array.from(pieces, (piece) => (word += /^[a-z]/.test(piece) && word >= 0 ? 0 : 1));
  };
  const model = fakeModel(
    {
      n_query: rows,
      n_document: cols,
      epoch: 1,
      scale: "raw",
      unit: "pieces",
      off: [],
      title: "",
      note: "",
      ...traits,
    },
    {
      texts: () => [
        { epoch: 1, scale: [0, 1] },
        [
          ...pieceBuffers(query),
          ...pieceBuffers(document.map((piece) => piece.trimStart())),
          ...pieceBuffers([...document.map((piece) => piece.slice(0, piece.length - piece.trimStart().length)), ""]),
          ...special(query),
          ...special(document),
          view(starts(query)),
          view(starts(document)),
        ],
      ],
      matrix: ({ from }) => [
        { epoch: 1, rows: Math.min(64, rows - from) },
        [view(values.slice(from * cols, (from + 64) * cols))],
      ],
    },
  );
  return model;
}

const NAMES = [
  "textwrap.dedent",
  "textwrap.indent",
  "str.strip",
  "inspect.cleandoc",
  "textwrap.fill",
  "os.remove",
  "shutil.rmtree",
  "string.capwords",
  "re.sub",
  "html.escape",
  "textwrap.shorten",
  "str.expandtabs",
];
export function boardModel(traits = {}) {
  const values = Float32Array.from(
    { length: NAMES.length * QUERY.length },
    (_, k) => 0.95 - 0.03 * Math.floor(k / QUERY.length) - 0.5 * wave(k) ** 3,
  );
  const model = fakeModel(
    {
      query: "remove common leading whitespace?",
      n_query: QUERY.length,
      total: 412,
      epoch: 1,
      off: [],
      bars: "difference",
      state: "ready",
      progress: [412, 412],
      note: "",
      problem: "",
      baseline: "the query before: “remove spaces”",
      selected: 0,
      pair: [],
      title: "",
      searchable: true,
      rivals: ["float16", "int8"],
      rival: "",
      ...traits,
    },
    {
      board: () => [
        { epoch: 1, rows: NAMES.length },
        [
          ...pieceBuffers(QUERY),
          ...pieceBuffers(NAMES),
          ...pieceBuffers(
            NAMES.map((name) => `${name}(text) does what its name says to every line of the text, and returns it.`),
          ),
          view(values),
          view(Int32Array.from(NAMES, (_, k) => [2, 1, 3, 0, 4, 6, 5, 0, 8, 9, 10, 11][k])),
          ...special(QUERY),
        ],
      ],
      matches: () => [
        {},
        [QUERY.map((piece) => piece.trim()), QUERY.map((_, i) => ` word${i}`)].flatMap((pieces) => [
          ...pieceBuffers(pieces),
          ...special(pieces),
        ]),
      ],
      search: () => ({}),
      stop: () => ({}),
      open: () => ({}),
      rank_all: () => ({}),
      go_on: () => ({}),
      compare: ({ name }) => void model.set("rival", name) ?? {},
    },
  );
  return model;
}
const gone = (model) => {
  setTimeout(() => (model.alive = false), 500);
  return model;
};
const LONG = Array.from({ length: 2048 }, (_, i) => ` word${i % 97}`);

export const retrieval = [
  [grid, gridModel({ title: "remove common leading whitespace × textwrap.dedent" })],
  [
    grid,
    gridModel({
      title: "each row on its own scale, words",
      scale: "by query",
      unit: "words",
      off: [0, 1, 9],
      note: "llama is a generative model that nobody trained for retrieval: its vectors were not made to be compared.",
    }),
  ],
  [grid, gridModel({ query: LONG.slice(0, 512), document: LONG, title: "512 x 2048" })],
  [grid, gridModel({ query: [], title: "empty query" })],
  [grid, gridModel({ document: [], title: "empty document" })],
  [grid, gone(gridModel({ title: "kernel gone" }))],
  [board, boardModel({ title: "documents of the standard library" })],
  [board, boardModel({ title: "whole bars, two compared", bars: "whole", pair: [0, 3], off: [0, 9] })],
  [board, boardModel({ title: "indexing", n_query: 0, state: "indexing", progress: [120, 412], epoch: 0 })],
  [
    board,
    boardModel({
      title: "stopped",
      n_query: 0,
      state: "stopped",
      progress: [120, 412],
      epoch: 0,
      problem: "the query has 600 tokens and the model reads 512. Shorten it, or pass cut=True.",
    }),
  ],
];
