"""The runs and trees of models that a bench worked on before, until it works on them again.

They are values and need no session, so the models themselves are closed meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

from mullama_lab.counted import counted
from mullama_lab.engine.model import Model
from mullama_lab.labs._trees import Trees
from mullama_lab.widgets._history import History
from mullama_lab.widgets._offers import Before, known_as


@dataclass(frozen=True, eq=False)
class PutBy:
    """What came of a model: its runs and its trees."""

    model: Before
    history: History
    trees: Trees


class PutAway:
    """What came of each model that is not at work, by the model's `id`."""

    def __init__(self) -> None:
        self._by_id: dict[str, PutBy] = {}

    def put(self, model: Model, history: History, trees: Trees) -> None:
        """Put by what came of a model; nothing where it has no runs."""
        if len(history):
            about = Before(model.source, known_as(model), model.size_bytes, len(history))
            self._by_id[model.id] = PutBy(about, history, trees)

    def take(self, model: Model) -> PutBy | None:
        """What came of a model before, which is not put by any more; None if nothing did."""
        return self._by_id.pop(model.id, None)

    @property
    def models(self) -> list[Before]:
        """The models, as a picker shows them."""
        return [one.model for one in self._by_id.values()]

    def remark(self) -> str:
        """What is put by, in a sentence; "" for nothing."""
        kept = [f"{counted(one.n_runs, 'run')} with {one.name}" for one in self.models]
        return f"{', '.join(kept)}: kept until that model is opened again." if kept else ""
