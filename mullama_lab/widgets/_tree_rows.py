"""A Tree as the rows that `branch_tree` draws, and as text and elements without a browser half."""

from __future__ import annotations

import math
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from mullama_lab.engine.tree import Tree
from mullama_lab.engine.tree.nodes import Branch, Node
from mullama_lab.engine.tree.text import chance, rails
from mullama_lab.glyphs import one_line, visible_pieces
from mullama_lab.widgets._static import FONT, QUIET, element, table

MOST_ROWS = 1000  # nodes in one message
MOST_STATIC = 60  # nodes of the static form; a saved notebook stays small
MOST_BYTES = 96  # of a segment's text
MOST_PROMPT = 24  # tokens of the prompt's end


def rows(tree: Tree) -> dict[str, Any]:
    """Every node as plain values, in reading order, and what is true of the whole."""
    nodes = tree.nodes
    siblings = {node.key: node.children for node in nodes}
    named = {branch.number: branch for branch in tree}
    prompt = _prompt_pieces(tree)
    return {
        "rows": [_row(node, siblings, named) for node in nodes[:MOST_ROWS]],
        "nodes": len(nodes),
        "prompt": b"".join(prompt).hex(),
        "prompt_shown": len(prompt),
        "prompt_tokens": len(tree.prompt_tokens),
        "mass": tree.mass,
    }


def _row(
    node: Node, siblings: dict[str, tuple[str, ...]], named: dict[int, Branch]
) -> dict[str, Any]:
    family = siblings[node.parent] if node.parent is not None else (node.key,)
    reading = (*family[1:], family[0])  # the oldest goes on below those that turn off
    pieces = node.pieces
    rest, size = b"", 0
    for piece in pieces[1:]:
        if size + len(piece) > MOST_BYTES:
            break
        rest, size = rest + piece, size + len(piece)
    branch = named[node.ends[0]] if node.ends else None
    return {
        "key": node.key,
        "parent": node.parent,
        "level": node.level + 1,
        "indent": node.indent,
        "turns": node.turns,
        "place": reading.index(node.key) + 1,
        "family": len(family),
        "children": len(node.children),
        "start": node.start,
        "stop": node.stop,
        "first": pieces[0].hex() if pieces else "",
        "rest": rest.hex(),
        "cut": size < sum(map(len, pieces[1:])),
        "p": _first_chance(node),
        "logprob": _number(node.logprob),
        "logprob_after": _number(node.logprob_after),
        "branches": len(node.branches),
        "branch": branch.number if branch else 0,
        "name": branch.name if branch else "",
        "finish": branch.trace.finish_reason if branch else "",
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


def static(tree: Tree, title: str) -> Element:
    """The outline, and a table of the branches with their probabilities."""
    if not len(tree):
        return element("div", "No branches yet.", style=f"{FONT};{QUIET}")
    nodes = tree.nodes[1:]
    lines = [_line(tree, node) for node in nodes[:MOST_STATIC]]
    more = len(nodes) - len(lines)
    prompt = "".join(visible_pieces(_prompt_pieces(tree)))
    return element(
        "div",
        element("div", element("b", title)) if title else None,
        element("div", summary(tree), style=QUIET),
        element("div", prompt, dir="auto", style="opacity:.6;white-space:pre-wrap;margin-top:6px"),
        element("div", *lines, style="overflow-x:auto;font-family:monospace;line-height:1.6"),
        element("div", f"… {more} more", style=QUIET) if more > 0 else None,
        table(COLUMNS, [_cells(branch) for branch in likeliest(tree)[:MOST_STATIC]]),
        style=FONT,
    )


COLUMNS = ("branch", "name", "tokens", "per token", "whole path", "after the chain", "ended")


def likeliest(tree: Tree) -> list[Branch]:
    """Branches, the most probable path first."""
    known = [branch for branch in tree if not math.isnan(branch.logprob)]
    return sorted(known, key=lambda b: -b.logprob) + [b for b in tree if math.isnan(b.logprob)]


def summary(tree: Tree) -> str:
    n = len(tree)
    count = f"{n} branch{'' if n == 1 else 'es'}"
    return f"{count}, {chance(_log(tree.mass))} of the model's probability, before the chain"


def _log(p: float) -> float:
    return math.log(p) if p > 0 else -math.inf


def _cells(branch: Branch) -> list[str]:
    per_token = branch.logprob / len(branch) if len(branch) else math.nan
    chances = (per_token, branch.logprob, branch.logprob_after)
    figures = [str(len(branch)), *map(chance, chances)]
    return [str(branch.number), branch.name, *figures, branch.trace.finish_reason]


def _line(tree: Tree, node: Node) -> Element:
    text = one_line("".join(visible_pieces(node.pieces[:24])))
    text = text if len(text) <= 80 and len(node) <= 24 else text[:80] + "…"
    figures = ""
    if node.ends:
        branch = tree.branch(node.ends[0])
        figures = f"  {branch.label}, {chance(branch.logprob)}"
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
