"""What a stage and a chain are: immutable values that print as code and join with `|`.

A Stage is one sampler with its settings; a Chain is stages in order. Neither owns native
memory nor knows a model: `chain_sampler.py` puts a chain to work.

Settings are dataclass fields made with `setting`, which carries the rule that a value must
satisfy and what a slider for it looks like, so that the check, the error message and the
editor all come from one line.
"""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, overload

from mullama_lab.engine.options import must_not_be_endless
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from mullama_lab.engine.model import Model
    from mullama_lab.engine.stages.presets import Presets
    from mullama_lab.engine.stages.preview import Preview

MOST_STAGES = 1000


@dataclass(frozen=True)
class Setting:
    """The rule for one number of a stage, and the slider that suits it."""

    kind: str  # "int" or "float"
    low: float
    high: float
    slider: tuple[float, float]
    step: float
    scale: str  # "linear" or "log"
    help: str
    label: str = ""

    def check(self, owner: str, name: str, value: Any) -> int | float:
        """The value as a Python number, or the error that says what is wrong with it."""
        wanted = numbers.Integral if self.kind == "int" else numbers.Real
        if isinstance(value, bool) or not isinstance(value, wanted):
            kind = "a whole number" if self.kind == "int" else "a number"
            raise TypeError(f"{owner}({name}={brief(value)}): {name} must be {kind}. {self.help}")
        number: Any = value
        if not self.low <= number <= self.high:  # a NaN is neither
            raise ValueError(
                f"{owner}({name}={brief(value)}): {name} must be from {_plain(self.low)} to "
                f"{_plain(self.high)}. {self.help}"
            )
        return int(number) if self.kind == "int" else float(number) + 0.0  # -0.0 becomes 0.0


def _settings_as_text(kind: type[Stage]) -> str:
    """What `TopK?` says besides its first line: the settings by their rules, and the source."""
    rules = {
        name: value.metadata["setting"]
        for name, value in vars(kind).items()
        if isinstance(value, Field) and "setting" in value.metadata
    }
    lines = [f"    {name}: {rule.help}" for name, rule in rules.items()]
    parts = ["\n".join(["Args:", *lines])] if lines else []
    parts += [f"Source: {kind.source}"] if kind.source else []
    return "".join(f"\n\n{part}" for part in parts)


def _plain(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def setting(
    default: Any,
    low: float,
    high: float,
    help: str,
    *,
    slider: tuple[float, float],
    step: float = 0.01,
    scale: str = "linear",
    kind: str = "float",
    label: str = "",
) -> Any:
    """A dataclass field that holds one number of a stage."""
    rule = Setting(kind, low, high, slider, step, scale, help, label)
    return field(default=default, metadata={"setting": rule})


def min_keep() -> Any:
    """The `min_keep` that every truncating stage takes."""
    return setting(
        0,
        0,
        1_000_000,
        "Never leave fewer candidates than this.",
        slider=(0, 20),
        step=1,
        kind="int",
    )


@dataclass(frozen=True, repr=False)
class Stage:
    """One sampler with its settings. `TopK(40) | MinP(0.05)` makes a Chain."""

    __array_ufunc__ = None  # or numpy would take `array | stage` for numbers
    label: ClassVar[str] = ""
    source: ClassVar[str] = ""
    kinds: ClassVar[dict[str, type[Stage]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Stage.kinds[cls.__name__] = cls
        if cls.__doc__:
            cls.__doc__ = inspect.cleandoc(cls.__doc__) + _settings_as_text(cls)

    def __post_init__(self) -> None:
        for name, rule in self.settings().items():
            value = rule.check(type(self).__name__, name, getattr(self, name))
            object.__setattr__(self, name, value)

    @classmethod
    def settings(cls) -> dict[str, Setting]:
        """The numbers of this stage by name, each with its rule."""
        return {f.name: f.metadata["setting"] for f in fields(cls) if "setting" in f.metadata}

    def why_inert(self) -> str:
        """Why this stage changes nothing at these settings; empty if it may change something."""
        return ""

    def to_dict(self) -> dict[str, Any]:
        """A dict of plain values that `Chain.from_dict` reads back."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"stage": type(self).__name__, **values}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Stage:
        """The stage a dict describes.

        Raises:
            ValueError: unknown stage, missing or unknown setting, or a value out of range.
            TypeError: a value of another kind, such as a text for a number.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("stage"), str):
            raise ValueError(f"a stage is a dict with a 'stage' name, not {brief(data)}")
        name = data["stage"]
        kind = Stage.kinds.get(name)
        if kind is None:
            known = ", ".join(sorted(Stage.kinds))
            raise ValueError(f"unknown stage {brief(name)}; known are {known}")
        return kind._from_settings({k: v for k, v in data.items() if k != "stage"})

    @classmethod
    def _from_settings(cls, values: dict[str, Any]) -> Stage:
        known = {f.name: f for f in fields(cls)}
        if unknown := sorted(set(values) - set(known), key=str):
            names = ", ".join(known) or "none"
            raise ValueError(f"{cls.__name__} has no setting {brief(unknown[0])}; it has {names}")
        required = [
            n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING
        ]
        if missing := [n for n in required if n not in values]:
            raise ValueError(f"{cls.__name__} needs a value for {missing[0]!r}")
        return cls(**values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._arguments())})"

    def _arguments(self) -> Iterator[str]:
        """The leading settings by position, later ones by name and only when not the default."""
        by_name = False
        for f in fields(self):
            value = getattr(self, f.name)
            leading = not by_name and f.name in self._positional
            if not leading and value == f.default:
                by_name = True
                continue
            yield _literal(value) if leading else f"{f.name}={_literal(value)}"

    _positional: ClassVar[tuple[str, ...]] = ()

    def __or__(self, other: Stage | Chain) -> Chain:
        return Chain([self]) | other


def _literal(value: Any) -> str:
    return repr(value).removesuffix(".0") if isinstance(value, float) else repr(value)


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
        from mullama_lab.engine.stages import samplers as s

        return cls(
            [
                s.Penalties(),
                s.DRY(),
                s.TopNSigma(0.0),
                s.TopK(40),
                s.Typical(1.0),
                s.TopP(0.95),
                s.MinP(0.05),
                s.XTC(0.0, 0.1),
                s.Temperature(0.8),
            ]
        )

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
        from mullama_lab.engine.stages import presets

        return presets.preset(name)

    @classmethod
    def presets(cls) -> Presets:
        """Every chain that has a name, by name; it prints as a list. `.own` are those saved.

        Raises:
            PresetError: the file of saved chains is damaged.
        """
        from mullama_lab.engine.stages import presets

        return presets.presets()

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
        from mullama_lab.engine.stages import presets

        presets.save(self, name, replace=replace)

    @classmethod
    def delete_preset(cls, name: str) -> None:
        """Forget a chain that `save` kept.

        Raises:
            ValueError: there is none of that name, or it is built in.
            PresetError: as in `save`.
        """
        from mullama_lab.engine.stages import presets

        presets.delete(name)

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
        from mullama_lab.engine.stages.preview import preview

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
