"""GrammarLab: write a grammar, put texts to it, and see what it makes of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from mullama_lab.labs.workbench import Workbench

__all__ = ["GrammarLab"]
__dir__ = __all__.copy  # what tab completion offers


class GrammarLab(Workbench):
    """The workbench with the grammar open: prompt, text, a grammar and what it says of a text.

        lab = GrammarLab(model, prompt="The capital of France is")
        lab.grammar_bench.grammar = 'root ::= " " [A-Z] [a-z]+'
        lab.grammar_bench.sample = " paris"       # refused: see lab.grammar_bench.walk.refusal
        lab.constrain()                           # and lab.constrain(False)
        trace = lab.run()

    It takes what `Workbench` takes, and does what that does.
    """

    PANELS: ClassVar[Sequence[str]] = ("grammar",)
