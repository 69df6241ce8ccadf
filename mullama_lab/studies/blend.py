"""Blend: two adapters or vectors at once, over a grid of strengths of both.

Each cell has weights of its own, so the prompt, and the text after it, are decoded anew in each, in
one batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.loop.spread import Prompt
from mullama_lab.engine.native import Logits
from mullama_lab.engine.noise_floor import NoiseFloor, divergence, known_floor, log_softmax
from mullama_lab.engine.options import instance
from mullama_lab.engine.session import Session
from mullama_lab.engine.session.scoring import split
from mullama_lab.engine.setting import Setting
from mullama_lab.engine.steering.control_vector import ControlVector
from mullama_lab.engine.steering.lora import LoraAdapter
from mullama_lab.engine.steering.steering import LoraOrVector, Steering, name_of
from mullama_lab.glyphs import brief
from mullama_lab.studies._together import Bar, listed_strengths

if TYPE_CHECKING:
    import pandas

__all__ = ["Blend", "blend"]
__dir__ = __all__.copy  # what tab completion offers


@dataclass(frozen=True, eq=False)
class Blend:
    """Two adapters or vectors at each pair of some strengths.

    Attributes:
        levers: the two.
        x, y: the strengths of the first and of the second, float64 of shapes (n,) and (m,).
        kl: nats, float64 of shape (m, n): the Kullback-Leibler divergence of the next token after
            the prompt from the next token where neither acts.
        logprob: nats, float64 of shape (m, n): how likely the target is after the prompt; None
            where none was given. `base_logprob` is the same where neither acts.
        base: what acts besides, everywhere.
        floor: the noise that was measured for the model; None before `studies.noise`.
    """

    levers: tuple[LoraOrVector, LoraOrVector]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    kl: NDArray[np.float64]
    logprob: NDArray[np.float64] | None
    base_logprob: float | None
    base: Setting
    floor: NoiseFloor | None

    @property
    def names(self) -> tuple[str, str]:
        """What to call the two."""
        first, second = map(name_of, self.levers)
        return first, second

    @property
    def likeliest(self) -> tuple[float, float] | None:
        """The strengths at which the target is likeliest; None without a target."""
        if self.logprob is None:
            return None
        row, column = np.unravel_index(int(self.logprob.argmax()), self.logprob.shape)
        return float(self.x[column]), float(self.y[row])

    def __len__(self) -> int:
        return self.kl.size

    def to_pandas(self) -> pandas.DataFrame:
        """One row a cell; needs pandas. `table.pivot(index="y", columns="x")` is the grid."""
        import pandas as pd

        y, x = np.meshgrid(self.y, self.x, indexing="ij")
        columns = {"x": x.ravel(), "y": y.ravel(), "kl": self.kl.ravel()}
        if self.logprob is not None:
            columns["logprob"] = self.logprob.ravel()
        return pd.DataFrame(columns)

    def __repr__(self) -> str:
        first, second = self.names
        said = f"KL up to {self.kl.max():.3g} nats"
        if self.likeliest is not None and self.logprob is not None:
            x, y = self.likeliest
            said += f", the target likeliest at ({x:g}, {y:g}): {self.logprob.max():.4g} nats"
        return f"<Blend of {first} and {second}, {counted(len(self), 'cell')}: {said}>"


def blend(
    session: Session,
    prompt: Prompt,
    levers: Mapping[LoraOrVector, Iterable[float]],
    *,
    target: Prompt | None = None,
    base: Setting | None = None,
    progress: bool = True,
) -> Blend:
    """What two adapters or vectors do together, at each pair of some strengths.

        grid = {happy: [-1, 0, 1, 2], pirate: [0, 0.5, 1]}
        found = ml.studies.blend.blend(session, "My day was", grid, target=" a fine one, matey")
        found.likeliest
        ml.plots.blend(found)

    A cell takes one batch of the prompt and the target. Sequence 0 holds the text afterwards, or
    another one where 0 was at work. Ctrl-C stops it.

    Args:
        levers: the two, each with its strengths: what a vector is multiplied by, or the scales of
            an adapter.
        target: a text after the prompt, or token ids as they are.
        base: what acts besides, everywhere; a vector is added to its own. None is the model as it
            is. Its chain plays no part.
        progress: show a bar if it takes longer than two seconds.

    Raises:
        ValueError: they are not two, one has no strength, they do not fit the model, or the target
            has no token.
        ContextFull: prompt and target do not fit.
    """
    instance("session", session, Session)
    base = instance("base", Setting() if base is None else base, Setting)
    (first, x), (second, y) = _two(levers)
    asked = _Asked.of(session, prompt, target)
    kl, logprob = np.zeros((2, len(y), len(x)))
    with Bar("blend", len(x) * len(y) + 1, " cells", shown=progress) as bar:
        base_row, base_logprob = asked.under(base.steering)
        for row, column in np.ndindex(len(y), len(x)):
            bar.show(row * len(x) + column + 1)
            steering = base.steering.plus(first, x[column]).plus(second, y[row])
            there, logprob[row, column] = asked.under(steering)
            kl[row, column] = divergence(base_row, there)
    has_target = bool(asked.target)
    return Blend(
        levers=(first, second),
        x=np.array(x),
        y=np.array(y),
        kl=kl,
        logprob=logprob if has_target else None,
        base_logprob=base_logprob if has_target else None,
        base=base,
        floor=known_floor(session.model),
    )


# Inside.


def _two(levers: object) -> list[tuple[LoraOrVector, list[float]]]:
    if not isinstance(levers, Mapping):
        raise TypeError(f"levers={brief(levers)}: give {{adapter or vector: its strengths}}.")
    if len(levers) != 2:
        raise ValueError(f"{counted(len(levers), 'lever')} to blend: give two that differ.")
    found = []
    for lever, values in levers.items():
        if not isinstance(lever, (LoraAdapter, ControlVector)):
            raise TypeError(f"{brief(lever)} is neither a LoraAdapter nor a ControlVector.")
        found.append((lever, listed_strengths(values)))
    return found


@dataclass(frozen=True)
class _Asked:
    """What is asked of each pair of strengths: the next token, and a target."""

    session: Session
    prompt: list[int]
    target: list[int]

    @classmethod
    def of(cls, session: Session, prompt: Prompt, target: Prompt | None) -> _Asked:
        if target is None:
            return cls(session, session.prompt_tokens(prompt), [])
        before, tokens = split(session, target, prompt)
        if not tokens:
            raise ValueError("the target has no token. Leave it out to look at the KL alone.")
        return cls(session, before, tokens)

    def under(self, steering: Steering) -> tuple[NDArray[np.float64], float]:
        """The log-probabilities of the next token, and that of the target, in nats."""
        first, found = len(self.prompt) - 1, []
        of_target = np.zeros(len(self.target))

        def see(place: int, row: Logits) -> None:
            step, logs = place - first, log_softmax(row)
            if step == 0:
                found.append(logs)
            if self.target:
                of_target[step] = logs[self.target[step]]

        setting = Setting(None, steering.adapters, steering.control)
        self.session.visit_rows([*self.prompt, *self.target[:-1]], first, see, setting=setting)
        return found[0], float(of_target.sum())
