"""A tree as the Python that makes it again: runs, branches, and paths that were given."""

from __future__ import annotations

from mullama_lab.engine.session import Session
from mullama_lab.engine.setting import Setting
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.tree import Tree
from mullama_lab.widgets import RunPanel
from mullama_lab.widgets._session_code import session_code, to_be_saved
from mullama_lab.widgets._trace_code import run_code, trace_code


def code(tree: Tree, session: Session, panel: RunPanel, chain: Chain) -> str:
    """Python that makes a tree again; of an empty one, what would run its first path."""
    lines = [
        "import mullama_lab as ml",
        "",
        session_code(session),
        *to_be_saved(one.steering for branch in tree for _, one in branch.trace.settings),
        f"prompt = {_prompt(tree, panel, session)}",
        "tree = ml.Tree()",
    ]
    for i, branch in enumerate(tree):
        name = f", name={branch.name!r}" if branch.name else ""
        made, in_force = tree.branches[:i], session.steering
        path = trace_code(branch.trace, "prompt", made, in_force=in_force)
        lines.append(f"path{branch.number} = {path}")
        lines.append(f"tree.add(path{branch.number}{name})")
    if not len(tree):
        run = run_code({0: Setting(chain)}, panel.max_tokens, panel.seed)
        lines.append(f"tree.add(session.generate(prompt, {run}))")
    return "\n".join(lines)


def _prompt(tree: Tree, panel: RunPanel, session: Session) -> str:
    """The prompt as text where that gives the tree's tokens, else the tokens."""
    tokens = tree.prompt_tokens.tolist()
    if not tokens or session.model.tokenize(panel.prompt, parse_special=True) == tokens:
        return repr(panel.prompt)
    return repr(tokens)
