"""A Tree as the rows that `branch_tree` draws, and as text and elements without a browser half."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, TypeAlias
from xml.etree.ElementTree import Element

import numpy as np

from mullama_lab.counted import counted
from mullama_lab.engine.trace.stale import STALE, is_stale_at
from mullama_lab.engine.tree import Tree
from mullama_lab.engine.tree.nodes import Branch, Node
from mullama_lab.engine.tree.text import chance, rails
from mullama_lab.glyphs import one_line, visible_pieces
from mullama_lab.widgets._endings import ending, with_mark
from mullama_lab.widgets._static import FONT, QUIET, element, table

Called: TypeAlias = Callable[[Branch], str]  # what a branch is called where it has no name

MOST_ROWS = 1000  # nodes in one message
MOST_STATIC = 60  # nodes of the static form; a saved notebook stays small
MOST_BYTES = 96  # of a segment's text in its row
MOST_TAIL = 32  # of them for the end of a long one, if paths part there
MOST_TEXT = 2000  # bytes of a segment that is read by itself
MOST_BEFORE = 160  # bytes of what stands before it
MOST_PROMPT = 24  # tokens of the prompt's end


def rows(tree: Tree, called: Called, by: str = "", ascending: bool = False) -> dict[str, Any]:
    """Every node as plain values, and what is true of the whole.

    Args:
        called: says what a branch is called where it has no name.
        by: one of `FIGURES`, by which siblings stand; "" for the tree's own reading order.
    """
    nodes = sorted_siblings(tree.nodes, by, ascending) if by else tree.nodes
    siblings = {node.key: node.children for node in nodes}
    named = {branch.number: branch for branch in tree}
    prompt = _prompt_pieces(tree)
    return {
        "rows": [_row(node, siblings, named, called) for node in nodes[:MOST_ROWS]],
        "nodes": len(nodes),
        "prompt": b"".join(prompt).hex(),
        "prompt_shown": len(prompt),
        "prompt_tokens": len(tree.prompt_tokens),
        "mass": tree.mass,
    }


def _per_token(node: Node) -> float:
    return node.logprob / node.stop if node.stop else math.nan


FIGURES: dict[str, Callable[[Node], float | None]] = {
    "first": lambda node: _first_chance(node),
    "share": _per_token,
    "path": lambda node: node.logprob,
    "after": lambda node: node.logprob_after,
    "n": lambda node: node.stop,
}
"""The figures of a row by the names of their columns."""


def sorted_siblings(nodes: Sequence[Node], by: str, ascending: bool) -> list[Node]:
    """Nodes in reading order with siblings sorted by a figure; unknown ones are last.

    The last of some siblings goes on in the column of its parent, as in the tree's own order.
    """
    by_key = {node.key: node for node in nodes}

    def place(key: str) -> tuple[bool, float]:
        x = FIGURES[by](by_key[key])
        if x is None or math.isnan(x):
            return True, 0.0
        return False, x if ascending else -x

    found: list[Node] = []
    to_read = [nodes[0]]
    while to_read:
        node = to_read.pop()
        children = sorted(node.children, key=place)
        found.append(replace(node, children=tuple(children)))
        for key in reversed(children):  # the last is read first
            turns = key != children[-1]
            indent = node.indent + turns
            to_read.append(replace(by_key[key], turns=turns, indent=indent))
    return found


def _row(
    node: Node, siblings: dict[str, tuple[str, ...]], named: dict[int, Branch], called: Called
) -> dict[str, Any]:
    family = siblings[node.parent] if node.parent is not None else (node.key,)
    pieces = node.pieces
    rest, tail = _beginning_and_end(pieces[1:], MOST_TAIL if node.children else 0)
    branch = named[node.ends[0]] if node.ends else None
    return {
        "key": node.key,
        "parent": node.parent,
        "level": node.level + 1,
        "indent": node.indent,
        "turns": node.turns,
        "place": family.index(node.key) + 1,
        "family": len(family),
        "children": len(node.children),
        "start": node.start,
        "stop": node.stop,
        "first": pieces[0].hex() if pieces else "",
        "rest": rest.hex(),
        "tail": tail.hex(),
        "cut": len(rest) + len(tail) < sum(map(len, pieces[1:])),
        "p": _first_chance(node),
        "logprob": _number(node.logprob),
        "logprob_after": _number(node.logprob_after),
        "branches": len(node.branches),
        "branch": branch.number if branch else 0,
        "name": branch.name if branch else "",
        "called": called(branch) if branch else "",
        "finish": branch.trace.finish_reason if branch else "",
        "ended": ending(branch.trace) if branch else "",
        "stale": STALE if node.trace and is_stale_at(node.trace, node.start, node.stop) else "",
    }


def _beginning_and_end(pieces: list[bytes], most_end: int) -> tuple[bytes, bytes]:
    """Whole pieces from both ends of a long segment; all of a short one, and no end."""
    if sum(map(len, pieces)) <= MOST_BYTES:
        return b"".join(pieces), b""
    beginning = _fitting(pieces, MOST_BYTES - most_end)
    end = _fitting(pieces[len(beginning) :][::-1], most_end)
    return b"".join(beginning), b"".join(end[::-1])


def _fitting(pieces: list[bytes], most: int) -> list[bytes]:
    """As many pieces from the first on as have at most so many bytes."""
    sizes = list(accumulate(map(len, pieces)))
    return pieces[: bisect_right(sizes, most)]


def whole_text(tree: Tree, key: str) -> dict[str, Any]:
    """A segment, or the prompt, to be read by itself, with the text of its path before it."""
    node = tree.node(key)
    prompt, text = b"".join(_prompt_pieces(tree)), b"".join(node.pieces)
    if node.parent is None:
        prompt, text = b"", prompt
    before = prompt + b"".join(node.trace.pieces[: node.start] if node.trace else [])
    return {
        "before": before[-MOST_BEFORE:].hex(),
        "text": text[:MOST_TEXT].hex(),
        "cut": len(text) > MOST_TEXT,
    }


def _first_chance(node: Node) -> float | None:
    """The chance of a segment's first token, before the chain."""
    if node.trace is None or not len(node):
        return None
    p = float(np.exp(node.trace.logprob[node.start]))
    return None if math.isnan(p) else p


def _number(x: float) -> float | str | None:
    """JSON has no infinity: what the chain had removed is "-inf", what is not known is None."""
    if math.isnan(x):
        return None
    return x if math.isfinite(x) else "-inf"


def static(tree: Tree, called: Called, title: str) -> Element:
    """The outline, and a table of the branches with their probabilities."""
    if not len(tree):
        return element("div", "No branches yet.", style=f"{FONT};{QUIET}")
    nodes = tree.nodes[1:]
    lines = [_line(tree, node, called) for node in nodes[:MOST_STATIC]]
    more = len(nodes) - len(lines)
    prompt = "".join(visible_pieces(_prompt_pieces(tree)))
    return element(
        "div",
        element("div", element("b", title)) if title else None,
        element("div", summary(tree), style=QUIET),
        element("div", prompt, dir="auto", style="opacity:.6;white-space:pre-wrap;margin-top:6px"),
        element("div", *lines, style="overflow-x:auto;font-family:monospace;line-height:1.6"),
        element("div", f"… {more} more", style=QUIET) if more > 0 else None,
        table(COLUMNS, [_cells(branch, called) for branch in likeliest(tree)[:MOST_STATIC]]),
        style=FONT,
    )


COLUMNS = ("branch", "name", "tokens", "per token", "whole path", "after the chain", "ended")


def likeliest(tree: Tree) -> list[Branch]:
    """Branches, the most probable path first."""
    known = [branch for branch in tree if not math.isnan(branch.logprob)]
    return sorted(known, key=lambda b: -b.logprob) + [b for b in tree if math.isnan(b.logprob)]


def summary(tree: Tree) -> str:
    n = len(tree)
    count = counted(n, "branch", "branches")
    return f"{count}, {chance(_log(tree.mass))} of the model's probability, before the chain"


def _log(p: float) -> float:
    return math.log(p) if p > 0 else -math.inf


def _cells(branch: Branch, called: Called) -> list[str]:
    per_token = branch.logprob / len(branch) if len(branch) else math.nan
    chances = (per_token, branch.logprob, branch.logprob_after)
    figures = [str(len(branch)), *map(chance, chances)]
    return [called(branch), branch.name, *figures, ending(branch.trace)]


def _line(tree: Tree, node: Node, called: Called) -> Element:
    text = one_line("".join(visible_pieces(node.pieces[:24])))
    text = text if len(text) <= 80 and len(node) <= 24 else text[:80] + "…"
    figures = ""
    if node.ends:
        branch = tree.branch(node.ends[0])
        name = with_mark(branch.name or called(branch), branch.trace)
        figures = f"  {name}, {chance(branch.logprob)}"
    return element(
        "div",
        element("span", f"{rails(node)} ", style="opacity:.5"),
        element("bdi", text),
        element("span", element("bdi", figures), style="opacity:.7") if figures else None,
        style="white-space:pre",
    )


def _prompt_pieces(tree: Tree) -> list[bytes]:
    """The end of the prompt, piece by piece; nothing where no branch is left to name them."""
    trace = tree.branches[0].trace if len(tree) else None
    return [] if trace is None else [trace.piece(t) for t in tree.prompt_tokens[-MOST_PROMPT:]]
