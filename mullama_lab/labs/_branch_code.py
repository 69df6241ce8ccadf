"""A tree as the Python that makes it again: runs, branches, and paths that were given."""

from __future__ import annotations

from collections.abc import Sequence

from mullama_lab.engine.sampling.chain import Chain
from mullama_lab.engine.session import Session
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.divergence import n_shared
from mullama_lab.engine.tree import Tree
from mullama_lab.engine.tree.nodes import Branch
from mullama_lab.widgets import RunPanel
from mullama_lab.widgets._cards import chain_code


def code(tree: Tree, session: Session, panel: RunPanel, chain: Chain) -> str:
    """Python that makes a tree again; of an empty one, what would run its first path."""
    lines = [
        "import mullama_lab as ml",
        "",
        f"model = ml.Model.load({session.model.source!r})",
        f"session = model.session(n_ctx={session.n_ctx})",
        f"prompt = {_prompt(tree, panel, session)}",
        "tree = ml.Tree()",
    ]
    for i, branch in enumerate(tree):
        name = f", name={branch.name!r}" if branch.name else ""
        lines.append(f"path{branch.number} = {_path(branch.trace, tree.branches[:i])}")
        lines.append(f"tree.add(path{branch.number}{name})")
    if not len(tree):
        run = _run(chain, panel.max_tokens, panel.seed)
        lines.append(f"tree.add(session.generate(prompt, {run}))")
    return "\n".join(lines)


def _prompt(tree: Tree, panel: RunPanel, session: Session) -> str:
    """The prompt as text where that gives the tree's tokens, else the tokens."""
    tokens = tree.prompt_tokens.tolist()
    if not tokens or session.model.tokenize(panel.prompt, parse_special=True) == tokens:
        return repr(panel.prompt)
    return repr(tokens)


def _path(trace: Trace, made: Sequence[Branch]) -> str:
    """An expression that gives a trace, in which those that are made have names."""
    n_given = trace.n_copied  # the last of these steps is where it went off
    if not n_given:
        return f"session.generate(prompt, {_run(trace.chain, len(trace), trace.seed)})"
    before = len(trace.prompt_tokens) - 1  # a score begins after the first token
    given = f"session.score({trace.history(n_given).tolist()})[{before}:]"
    if n_given == len(trace):
        return given
    step = n_given - 1
    alike = (b for b in made if len(b) > step and n_shared(b.trace.tokens, trace.tokens) >= step)
    other = next(alike, None)
    parent = given if other is None else f"path{other.number}"
    run = _run(trace.chain, len(trace) - n_given, trace.seed)
    return f"session.branch({parent}, {step}, {int(trace.tokens[step])}, {run})"


def _run(chain: Chain, max_tokens: int, seed: int | None) -> str:
    return f"{chain_code(chain)}, max_tokens={max_tokens}, seed={seed}"
