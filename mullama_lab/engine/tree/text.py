"""A tree as text that comes out the same each time: one row a node, side branches set in.

A path that was drawn keeps its column as long as it lives; what turns off it stands above its
next segment, one column further in, the likeliest first. So a hundred branches off one trunk are
two columns wide.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mullama_lab.counted import counted
from mullama_lab.engine.trace.stale import stale_words

if TYPE_CHECKING:
    from mullama_lab.engine.tree.nodes import Node
    from mullama_lab.engine.tree.tree import Tree

MOST_ROWS = 60
LONGEST_TEXT = 48  # characters of a segment


def outline(tree: Tree) -> str:
    """The branches of a tree with their probabilities, before and after the chain."""
    n = len(tree)
    if n == 0:
        return "Tree(empty)"
    nodes = tree.nodes[1:]
    head = f"Tree({counted(n, 'branch', 'branches')} from {shortened(tree.prompt)})"
    lines = [head, *(_line(tree, node) for node in nodes[:MOST_ROWS])]
    if len(nodes) > MOST_ROWS:
        lines.append(f"… {len(nodes) - MOST_ROWS} more")
    return "\n".join(lines)


def rails(node: Node) -> str:
    """What stands before a node's text: the paths it runs beside, and where it turns off one."""
    before = "│ " * (node.indent - 1) + "├─" if node.turns else "│ " * node.indent
    return before + ("●" if node.ends else "○")


def chance(logprob: float) -> str:
    """A probability given as a logarithm: "12.3%", "4.6e-08" or "n/a"."""
    if math.isnan(logprob):
        return "n/a"
    if logprob >= math.log(1e-4):
        return f"{math.exp(logprob):.3%}"
    if math.isinf(logprob):
        return "0"
    tenths = logprob / math.log(10)  # a float ends at 1e-308, a path does not
    power = math.floor(tenths + math.log10(20 / 19.9))
    return f"{10 ** (tenths - power):.1f}e{power:03d}"


def shortened(text: str, most: int = LONGEST_TEXT) -> str:
    return repr(text if len(text) <= most else text[: most - 1] + "…")


def _line(tree: Tree, node: Node) -> str:
    line = f"{rails(node)} {shortened(node.text)}"
    if node.ends:
        branch = tree.branch(node.ends[0])
        name = f" {branch.name!r}" if branch.name else ""
        line += (
            f"  #{branch.number}{name}: {counted(len(branch), 'token')}, "
            f"p {chance(branch.logprob)}, after the chain {chance(branch.logprob_after)}, "
            f"{branch.trace.finish_reason}"
        )
        stale = stale_words(branch.trace)
        line += f", {stale}" if stale else ""
    return line
