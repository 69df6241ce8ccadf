"""Stage: one sampler with its settings, an immutable value that prints as code and joins with `|`.

All that is known of a kind of stage stands in its class: its settings, its sampler, what it does
to a row, what it makes of a row of which only a part was kept. Everything else asks the stage.

To add a kind, write a module with a frozen dataclass derived from `Stage` and import it in
`stages/__init__.py`. What it must have is a name to show (`label`) and a sampler (`sampler`). The
facts it does not declare have defaults that are right for any stage, at the price of speed: a row
that was kept in part is then decoded again.

A Stage owns no native memory and knows no model.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine import native
from mullama_lab.engine.rows.tail import CLOSED, Tail, Uncovered
from mullama_lab.engine.stages.setting import NumberRule, TextRule, as_docstring
from mullama_lab.engine.stages.stage_sampler import Idle, StageSampler, Start
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model
    from mullama_lab.engine.stages.chain import Chain


class Loosening(NamedTuple):
    """The setting that decides which tokens a stage removes.

    Attributes:
        more: whether a larger value keeps more.
        always: the value that keeps every token, where all others but the strictest do as well.
    """

    setting: str
    more: bool
    always: float | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What is known just before a stage of a row that was kept in part.

    Attributes:
        logits: those of the candidates, in their order.
        kept: ids of the tokens that were kept of the row, ascending.
        history: the token ids before this step.
        sampler: the stage's own, before it is applied.
    """

    logits: NDArray[np.float32]
    kept: NDArray[np.int32]
    history: NDArray[np.int32]
    sampler: Any


class NamedToken(NamedTuple):
    """A token that a stage was given by its id, and what the stage does to it."""

    token: int
    does: str  # a verb: "bans"
    by: str = ""  # how much, where that is a number: "+1"


@dataclass(frozen=True, repr=False)
class Stage:
    """One sampler with its settings. `TopK(40) | MinP(0.05)` makes a Chain."""

    __array_ufunc__ = None  # or numpy would take `array | stage` for numbers
    kinds: ClassVar[dict[str, type[Stage]]] = {}  # every kind there is, by its name
    chain_type: ClassVar[type[Chain]]  # what `|` makes; set by `chain.py`, which is above

    label: ClassVar[str] = ""  # its name in an editor
    source: ClassVar[str] = ""  # the paper, and llama.cpp's function
    _positional: ClassVar[tuple[str, ...]] = ()  # settings that its code gives by position

    # What it may do to the candidates of a row.
    masks: ClassVar[bool] = True  # give some minus infinity, instead of taking them out
    moves: ClassVar[bool] = True  # change the logits of those that it leaves
    draws: ClassVar[bool] = False  # draw random numbers of its own
    constrains: ClassVar[bool] = False  # rule out what the text must not have: timed apart
    masks_rows: ClassVar[bool] = False  # take out tokens by a mask, `allowed` of its sampler
    foresees: ClassVar[bool] = False  # know tokens that must come next, `forced` of its sampler
    keeps_beginning: ClassVar[bool] = False  # if they are sorted, keep the first few of them

    # What it goes by.
    asks_which_token: ClassVar[bool] = True  # by ids, not by the logits alone
    names_tokens: ClassVar[bool] = False  # by ids that it was given, which are of one vocabulary
    learns: ClassVar[bool] = False  # by numbers that it learns: its sampler has a `state`
    steers_surprise: ClassVar[bool] = False  # by one such number, `mu`, in bits
    holds_code: ClassVar[bool] = False  # by a Python function, which is no value

    # What it makes of a row that was kept in part, besides `tail_after`.
    cuts_by_ceiling: ClassVar[bool] = False  # a bound of the other logits is enough to know
    cuts_by_share: ClassVar[bool] = False  # their bounded probability is: see `cut_by_share`
    masked_tokens: ClassVar[Literal["counted", "dropped", "left"]] = "counted"

    loosened_by: ClassVar[Loosening | None] = None  # None if no number decides what it removes

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.label:  # what has none is there to derive from
            Stage.kinds[cls.__name__] = cls
        if cls.__doc__:
            cls.__doc__ = inspect.cleandoc(cls.__doc__) + as_docstring(cls, cls.source)

    def __post_init__(self) -> None:
        for name, rule in self.settings().items():
            value = rule.check(type(self).__name__, name, getattr(self, name))
            object.__setattr__(self, name, value)

    @classmethod
    def settings(cls) -> dict[str, NumberRule]:
        """The numbers of this stage by name, each with its rule."""
        return {f.name: f.metadata["setting"] for f in fields(cls) if "setting" in f.metadata}

    @classmethod
    def texts(cls) -> dict[str, TextRule]:
        """What of this stage is edited as text, by name, each with its rule."""
        return {f.name: f.metadata["text"] for f in fields(cls) if "text" in f.metadata}

    def why_inert(self) -> str:
        """Why this stage changes nothing at these settings; empty if it may change something."""
        return ""

    def named(self) -> Sequence[NamedToken]:
        """The tokens that it was given by their ids, each with what it does to it."""
        return ()

    def check(self, model: Model) -> None:
        """Raise ValueError if this stage, which acts, does not fit a model."""

    def sampler(self, start: Start) -> StageSampler:
        """What carries out this stage, which acts, on one sequence."""
        raise TypeError(f"{type(self).__name__} has no method `sampler(start)`")

    def built(self, start: Start) -> StageSampler:
        """Its sampler, or one that does nothing where the settings say so."""
        return Idle() if self.why_inert() else self.sampler(start)

    def n_needed(self) -> int:
        """How many of the likeliest tokens are all that it looks at; 0 if it may need more."""
        return 0

    def why_removed(self, sampler: Any) -> str:
        """Why a stage that has no number to turn took out what it did; empty if there is no more
        to say.

        Args:
            sampler: its own, at the step in question.
        """
        return ""

    def tail_after(self, tail: Tail, known: Known) -> Tail:
        """What is sure after this stage about the tokens that were not kept of a row.

        Raises:
            Uncovered: they would have to be known.
        """
        raise Uncovered(f"{self!r} reads all of the row")

    def tail_after_masked(self, tail: Tail, logits: NDArray[np.float32]) -> Tail:
        """The same where all of them were masked: llama.cpp then still has entries for them."""
        n_left = int(np.count_nonzero(logits > -np.inf))
        if self.masked_tokens == "counted" or getattr(self, "min_keep", 0) > n_left:
            raise Uncovered(f"{self!r} counts the tokens that were masked")
        return CLOSED if self.masked_tokens == "dropped" else tail

    def cut_by_share(self, candidates: native.Candidates, tail: Tail, slack: float) -> int:
        """Cut to the most candidates that this stage may keep, and give the fewest.

        Args:
            slack: the share of all probability that float32 may lose.

        Raises:
            Uncovered: it may keep tokens that are not there.
        """
        raise Uncovered(f"{self!r} reads all of the row")

    def border(self, place: int, logits: NDArray[np.float32], log_total: float) -> float | None:
        """The value of the setting in `loosened_by` at which a candidate stays, by arithmetic.

        None where there is no closed form.

        Args:
            place: of the candidate.
            logits: of the candidates before the stage.
            log_total: the log-sum-exp of all tokens before it.
        """
        return None

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

    def to_code(self) -> str:
        """The stage as code after `import mullama_lab as ml`."""
        return f"ml.{self!r}"

    def in_brief(self) -> str:
        """The stage as code, but not every token of a mask."""
        text = repr(self)
        return text if len(text) <= 200 else f"{text[:199]}…"

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

    def __or__(self, other: Stage | Chain) -> Chain:
        return self.chain_type([self]) | other


def _literal(value: Any) -> str:
    return repr(value).removesuffix(".0") if isinstance(value, float) else repr(value)


def must_have_vocabulary(stage: Stage, model: Model) -> None:
    """Raise ValueError where a stage reads the text of tokens, and the model's have none."""
    if model.vocab_type == "NONE":
        raise ValueError(
            f"{stage.in_brief()} reads the text of tokens, and {model.name} has no vocabulary. "
            "Use DRY with breakers=(), and no Infill, Ban or grammar."
        )
