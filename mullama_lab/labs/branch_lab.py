"""BranchLab: go off from any token of a generation, and see the paths as a tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from mullama_lab.labs import _branch_code
from mullama_lab.labs.workbench import Workbench
from mullama_lab.widgets._compare import Comparison

__all__ = ["BranchLab"]
__dir__ = __all__.copy  # what tab completion offers


class BranchLab(Workbench):
    """The workbench with the tree open: prompt, text, a tree of paths, exploration.

        lab = BranchLab(model, prompt="The capital of France is")
        trace = lab.run()
        lab.branch(0, " a")                # what if it had said that?
        lab.explore(budget=64)             # the likeliest paths, best first
        lab.compare(1, 2)

    It takes what `Workbench` takes, and does what that does.
    """

    PANELS: ClassVar[Sequence[str]] = ("tree",)

    def compare(self, *numbers: int) -> Comparison:
        """Two to four runs side by side, by their numbers: where they part and the KL there.

        The tree shows it too, if it has all of them. `lab.branches.compare` takes numbers of
        branches, which those that no run made have alone: `lab.tree.branch(3)`.
        """
        found = super().compare(*numbers)
        branches = [self.tree.find(trace) for trace in found.traces]
        numbers = tuple({branch.number for branch in branches if branch is not None})
        return self.branches.compare(*numbers) if len(numbers) == len(found.traces) else found

    def to_code(self) -> str:
        """Python that makes the tree again without a browser."""
        return _branch_code.code(self.tree, self.session, self.panel, self.chain)
