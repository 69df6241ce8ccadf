"""Chain: stages in order, an immutable value; the top of this package.

It owns no native memory and knows no model: `preview.py` and `chain_sampler.py` put it to work,
and `presets.py` keeps it by a name. They take a Chain as the stages that it is made of, and know
nothing else of it, so that it can offer what they do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from mullama_lab.engine.options import must_not_be_endless
from mullama_lab.engine.stages.presets import BUILT_IN, Presets, chain_named, delete, presets, save
from mullama_lab.engine.stages.preview import Preview, preview
from mullama_lab.engine.stages.stage import Stage
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from mullama_lab.engine.model import Model

MOST_STAGES = 1000


class Chain(Sequence[Stage]):
    """Stages in order: what turns a row of logits into the next token.

    After the last stage llama.cpp's `dist` draws one of the candidates that are left, so an
    empty chain samples from the model's own distribution.

    >>> from mullama_lab.engine.stages import MinP, Temperature, TopK
    >>> TopK(40) | MinP(0.05) | Temperature(0.8)
    TopK(40) | MinP(0.05) | Temperature(0.8)
    >>> Chain.from_dict((TopK(40) | MinP(0.05)).to_dict()) == Chain([TopK(40), MinP(0.05)])
    True
    """

    __slots__ = ("stages",)
    __array_ufunc__ = None  # or numpy would go through the stages of `array | chain`
    stages: tuple[Stage, ...]

    def __init__(self, stages: Iterable[Stage] = ()) -> None:
        if not isinstance(stages, Iterable) or getattr(stages, "ndim", 1) == 0:
            raise TypeError(f"a Chain holds a list of stages such as TopK(40), not {brief(stages)}")
        must_not_be_endless("a Chain's stages", stages, "stages")
        stages = tuple(stages)
        if len(stages) > MOST_STAGES:
            raise ValueError(f"a Chain has at most {MOST_STAGES} stages, not {len(stages)}.")
        for stage in stages:
            if not isinstance(stage, Stage):
                raise TypeError(f"a Chain holds stages such as TopK(40), not {brief(stage)}")
        object.__setattr__(self, "stages", stages)

    @classmethod
    def default(cls) -> Chain:
        """llama.cpp's default chain, in its order and with its values (common/common.h).

        Several of its stages do nothing at their default values; they are there to be turned.
        """
        return cls(BUILT_IN["default"])

    @classmethod
    def of(cls, value: Chain | Stage | Iterable[Stage] | None) -> Chain:
        """A chain from whatever a caller may pass as one; None is the default chain."""
        if value is None:
            return cls.default()
        if isinstance(value, Chain):
            return value
        if isinstance(value, type) or not isinstance(value, (Stage, Iterable)):
            raise TypeError(
                f"a chain is stages such as TopK(40) | Temperature(0.8), not {brief(value)}"
            )
        return cls([value] if isinstance(value, Stage) else value)

    @classmethod
    def preset(cls, name: str) -> Chain:
        """A chain by its name: a built-in one, or one that `save` kept.

        >>> Chain.preset("creative-min-p")
        MinP(0.1) | Temperature(1.5)

        Raises:
            ValueError: there is none of that name; the message lists those there are.
            PresetError: the file of saved chains is damaged; it is left as it is.
        """
        return chain_named(name, cls)

    @classmethod
    def presets(cls) -> Presets:
        """Every chain that has a name, by name; it prints as a list. `.own` are those saved.

        Raises:
            PresetError: the file of saved chains is damaged.
        """
        return presets(cls)

    def save(self, name: str, *, replace: bool = False) -> None:
        """Keep this chain by a name, for `Chain.preset(name)` in any notebook of this person.

        Args:
            name: 1 to 40 letters, digits, spaces, - and _.
            replace: whether it may take the place of one that was saved by that name.

        Raises:
            ValueError: the name is taken, or no name; or a Custom stage, whose function is no
                value.
            PresetError: the file of saved chains is damaged, or could not be written.
        """
        save(self, name, replace=replace)

    @classmethod
    def delete_preset(cls, name: str) -> None:
        """Forget a chain that `save` kept.

        Raises:
            ValueError: there is none of that name, or it is built in.
            PresetError: as in `save`.
        """
        delete(name)

    def preview(
        self,
        row: ArrayLike,
        *,
        model: Model,
        history: Iterable[int] = (),
        seed: int = 0,
        step: int = 0,
        top: int = 64,
        state: Sequence[tuple[float, ...]] = (),
    ) -> Preview:
        """Apply this chain to one row of logits, stage by stage, without decoding anything.

        Args:
            row: logits, shape (n_vocab,).
            history: the token ids before this row, prompt included; penalties and DRY read it.
            seed, step: which draw: the same numbers a generation with that seed uses there.
            top: how many candidates of each stage to list.
            state: what mirostat and adaptive-p had learnt before this step (`Trace.state(i)`).
        Raises:
            ValueError: the row has the wrong shape or a NaN, a token is outside the vocabulary.
            NoCandidates: a stage removed every token.
            StageFailed: a Custom stage raised or returned something unusable.
        """
        return preview(
            self, row, model=model, history=history, seed=seed, step=step, top=top, state=state
        )

    def to_dict(self) -> dict[str, Any]:
        """A dict of plain values; `Chain.from_dict` reads it back."""
        return {"stages": [stage.to_dict() for stage in self.stages]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Chain:
        """The chain a dict describes; ValueError or TypeError names what is wrong with it."""
        stages = data.get("stages") if isinstance(data, Mapping) else None
        if not isinstance(stages, (list, tuple)):
            raise ValueError(f"a chain is a dict with a list of 'stages', not {brief(data)}")
        return cls(Stage.from_dict(stage) for stage in stages)

    def _replaced(self, place: int, stage: Stage) -> Chain:
        """The chain with another stage in a place."""
        return Chain((*self.stages[:place], stage, *self.stages[place + 1 :]))

    def __or__(self, other: Stage | Chain) -> Chain:
        if isinstance(other, Stage):
            return Chain((*self.stages, other))
        if isinstance(other, Chain):
            return Chain((*self.stages, *other.stages))
        return NotImplemented

    @overload
    def __getitem__(self, index: int) -> Stage: ...
    @overload
    def __getitem__(self, index: slice) -> Chain: ...
    def __getitem__(self, index: int | slice) -> Stage | Chain:
        try:
            found = self.stages[index]
        except TypeError:
            raise TypeError(
                f"a stage is found by its place, from 0 to {len(self) - 1}, or by a slice, "
                f"not by {brief(index)}."
            ) from None
        except IndexError:
            raise IndexError(
                f"the chain has no stage {brief(index)}; it has {len(self)}, counted from 0."
            ) from None
        return found if isinstance(found, Stage) else Chain(found)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, Stage) and value in self.stages

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages)

    def __len__(self) -> int:
        return len(self.stages)

    def __eq__(self, other: object) -> bool:
        return self.stages == other.stages if isinstance(other, Chain) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.stages)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Chain is a value: make another one instead of setting {name!r}")

    def __repr__(self) -> str:
        if len(self.stages) < 2:
            return f"Chain([{', '.join(map(repr, self.stages))}])"
        return " | ".join(map(repr, self.stages))

    def __reduce__(self) -> tuple[type[Chain], tuple[tuple[Stage, ...]]]:
        return Chain, (self.stages,)


Stage.chain_type = Chain
