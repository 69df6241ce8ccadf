/** States of the branch tree on made-up paths: a trunk with its branches, a deep tree, none. */
import tree from "../branch_tree.js";
import { fakeModel } from "./fake_model.js";

const hex = (text) => [...new TextEncoder().encode(text)].map((b) => b.toString(16).padStart(2, "0")).join("");
const PROMPT = { prompt: hex("Once upon a time"), prompt_shown: 4, prompt_tokens: 4, mass: 0.01 };

/** A row as the kernel sends it: what is not said of it is made up from what is. */
function row(key, parent, [first, rest], more = {}) {
  const start = Number(key.split(".")[1] ?? 0);
  const branch = more.branch ?? 0;
  const chances = { p: 0.3, logprob: -1 - start, logprob_after: more.branch === 2 ? "-inf" : -start };
  const place = { level: 1 + (more.indent ?? 0), indent: 0, turns: false, place: 1, family: 2, children: 0 };
  const text = { first: hex(first), rest: hex(rest), tail: "", cut: false };
  const ended = branch ? { finish: "length", ended: "reached max tokens" } : { finish: "", ended: "" };
  const called = branch ? `run ${branch}` : "";
  const ends = { start, stop: start + 6, branches: 1, branch, name: "", called, ...ended };
  return { key, parent, ...place, ...text, ...chances, ...ends, ...more };
}

const LIST = " the north.\n\n- He had a boat.\n- He had a dog.";
const branches = [
  row("root", null, ["", ""], { children: 1, family: 1 }),
  row("1.0", "root", [",", " there was an old man who lived by the quiet river"], { children: 2, family: 1 }),
  row("2.12", "1.0", [" in", LIST], { indent: 1, turns: true, branch: 2 }),
  row("3.12", "1.0", [" with", " שלום עולם"], { indent: 1, turns: true, branch: 3, name: "right to left" }),
  row("1.12", "1.0", [" and", " a house, until one day"], { branch: 1, cut: true }),
];

function deep(depth) {
  const rows = [row("root", null, ["", ""], { children: 2, family: 1 })];
  for (let k = 1; k <= depth; k++) {
    const parent = k > 1 ? `${k}.${k - 1}` : "root";
    const children = k < depth ? 2 : 0;
    rows.push(row(`${k + 1}.${k}`, parent, ["\n", ` turn ${k}`], { indent: k, turns: true, children }));
  }
  for (let k = depth; k >= 1; k--)
    rows.push(row(`${k}.${k}`, k > 1 ? `${k}.${k - 1}` : "root", [" and", " on"], { indent: k - 1, branch: k }));
  return rows;
}

const treeModel = (rows, traits = {}) =>
  fakeModel(
    {
      revision: 1,
      n: rows.filter((one) => one.branch).length,
      selected: rows.at(2)?.key ?? "",
      to_undo: "",
      to_redo: "",
      compared: [],
      growing: [],
      title: "",
      ...traits,
    },
    {
      rows: () => ({ ...PROMPT, rows, nodes: rows.length, revision: 1, tree: 1 }),
      text: ({ key }) => {
        const { first, rest } = rows.find((one) => one.key === key);
        return { before: hex("Once upon a time"), text: first + rest, cut: false };
      },
      select: () => ({}),
    },
  );

const growing = [{ from: 12, state: "running", tokens: 20, text: hex(" and then he saw"), cut: true }];

export const trees = [
  [tree, treeModel(branches, { growing, title: "a trunk, two branches, one in the making" })],
  [tree, treeModel(deep(11), { selected: "12.11", title: "a path that turns off eleven times" })],
  [tree, treeModel([], { title: "no branches" })],
];
