"""The stages that ask which token it is, or what was said before, and not how the row is shaped.

They are values like those of `samplers.py`, which offers them too.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mullama_lab.engine.options import listed
from mullama_lab.engine.stages.chain import Stage, setting
from mullama_lab.engine.words.biases import biases_of_words
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

MAX_WINDOW = 1 << 20  # llama.cpp allocates the window of penalties and DRY at once


@dataclass(frozen=True, repr=False)
class Penalties(Stage):
    """Make tokens that occurred lately less likely: by a factor, by count, by presence."""

    label: ClassVar[str] = "Penalties"
    source: ClassVar[str] = (
        "Keskar et al. 2019, arXiv:1909.05858; llama.cpp `llama_sampler_init_penalties`"
    )
    repeat: float = setting(
        1.0,
        0.01,
        100,
        "Divides positive logits and multiplies negative ones; 1 is off, usual is 1.05 to 1.2.",
        slider=(0.5, 2),
    )
    frequency: float = setting(
        0.0, -100, 100, "Subtracted once for each occurrence; 0 is off.", slider=(-2, 2)
    )
    presence: float = setting(
        0.0, -100, 100, "Subtracted once if the token occurred; 0 is off.", slider=(-2, 2)
    )
    last_n: int = setting(
        64,
        -1,
        MAX_WINDOW,
        "How many tokens back to look; -1 is the whole history, 0 is off.",
        slider=(-1, 1024),
        step=1,
        kind="int",
    )

    def why_inert(self) -> str:
        if self.last_n == 0:
            return "last_n is 0: it looks at no token"
        if self.repeat == 1 and self.frequency == 0 and self.presence == 0:
            return "repeat is 1, frequency and presence are 0"
        return ""


@dataclass(frozen=True, repr=False)
class DRY(Stage):
    """Make tokens that would extend a repeated phrase less likely, the more the longer it is."""

    label: ClassVar[str] = "DRY"
    source: ClassVar[str] = (
        "oobabooga/text-generation-webui PR 5677; llama.cpp `llama_sampler_init_dry`"
    )
    multiplier: float = setting(
        0.0, 0, 100, "The strength of the penalty; 0 is off, usual is 0.8.", slider=(0, 5)
    )
    base: float = setting(
        1.75,
        0,
        100,
        "The penalty grows by this factor for each token; below 1 it is off.",
        slider=(1, 4),
    )
    allowed_length: int = setting(
        2,
        0,
        MAX_WINDOW,
        "Repeats up to this many tokens are free.",
        slider=(1, 20),
        step=1,
        kind="int",
    )
    last_n: int = setting(
        64,
        -1,
        MAX_WINDOW,
        "How many tokens back to look; -1 is the whole history, 0 is off.",
        slider=(-1, 4096),
        step=1,
        kind="int",
    )
    breakers: tuple[str, ...] = ("\n", ":", '"', "*")

    def __post_init__(self) -> None:
        super().__post_init__()
        breakers = tuple(listed("DRY.breakers", self.breakers, "texts"))
        for text in breakers:
            if not isinstance(text, str):
                raise TypeError(f"DRY(breakers=...): {brief(text)} is not a string")
            size = len(text.encode("utf-8", "surrogatepass"))
            if not 1 <= size <= 40 or "\0" in text or not _is_utf8(text):
                raise ValueError(
                    f"DRY(breakers=...): {brief(text)} must be 1 to 40 bytes of UTF-8 without NUL"
                )
        if len(breakers) > 64:
            raise ValueError(f"DRY takes at most 64 breakers, not {len(breakers)}")
        object.__setattr__(self, "breakers", breakers)

    def why_inert(self) -> str:
        if self.multiplier == 0:
            return "multiplier is 0"
        if self.last_n == 0:
            return "last_n is 0: it looks at no token"
        if 0 < self.last_n <= self.allowed_length:
            return "it looks at no more tokens than may repeat freely"
        return "base is below 1" if self.base < 1 else ""


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in text)


@dataclass(frozen=True, repr=False, init=False)
class LogitBias(Stage):
    """Add a bias to the logits of given tokens; minus infinity bans one.

    >>> LogitBias({262: -1.5, 198: float("-inf")})
    LogitBias({198: float('-inf'), 262: -1.5})
    """

    label: ClassVar[str] = "Logit bias"
    source: ClassVar[str] = "llama.cpp `llama_sampler_init_logit_bias`"
    biases: tuple[tuple[int, float], ...] = ()

    def __init__(self, biases: Mapping[int, float] | Iterable[tuple[int, float]] = ()) -> None:
        try:
            pairs = dict(biases.items() if isinstance(biases, Mapping) else biases)
        except (TypeError, ValueError):
            raise TypeError(f"LogitBias takes {{token: bias}}, not {brief(biases)}") from None
        checked = {_token("LogitBias", t): _bias(t, b) for t, b in pairs.items()}
        object.__setattr__(self, "biases", tuple(sorted(checked.items())))

    @classmethod
    def of(cls, model: Model, biases: Mapping[str, float]) -> LogitBias:
        """Biases of words, for the tokens that are one of their spellings.

            LogitBias.of(model, {"yes": 2.0, "delve": float("-inf")})

        A word's spellings are in lower case, with a capital, in capitals and as given, each with
        a space before it and without; " yes" means those with the space alone. Where a spelling
        is no token by itself it is left as it is, so minus infinity only keeps the word from
        being written in one token. `Ban` keeps it out however it is cut.

        Raises:
            ValueError: a word as it is given, with a space or without, is no token; two words
                give a token different biases; or a bias is out of range.
            TypeError: no dict of texts.
        """
        return cls(biases_of_words(model, biases))

    def why_inert(self) -> str:
        return "" if any(bias for _, bias in self.biases) else "no token has a bias"

    def _arguments(self) -> Any:
        pairs = ", ".join(
            f"{t}: {b!r}" if math.isfinite(b) else f"{t}: float('-inf')" for t, b in self.biases
        )
        yield f"{{{pairs}}}"


@dataclass(frozen=True, repr=False)
class Mask(Stage):
    """Allow only some token ids, or ban some. Ours, in numpy: llama.cpp has no mask sampler."""

    label: ClassVar[str] = "Mask"
    source: ClassVar[str] = "equal to llama.cpp's logit bias of minus infinity"
    allow: tuple[int, ...] | None = None
    ban: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("allow", "ban"):
            value = getattr(self, name)
            if value is None and name == "allow":
                continue
            given = listed(f"Mask.{name}", value, "token ids")
            ids = tuple(sorted({_token("Mask", token) for token in given}))
            object.__setattr__(self, name, ids)
        if self.allow == ():
            raise ValueError(
                "Mask(allow=[]) would remove every token. Leave allow out to allow all."
            )

    def why_inert(self) -> str:
        return "" if self.allow is not None or self.ban else "nothing is banned"


def _token(owner: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(
            f"{owner}: {brief(value)} is not a token id. `model.tokenize(text, add_special=False)` "
            "gives the ids of a text."
        )
    token = int(value)
    if not 0 <= token < 2**31:
        raise ValueError(
            f"{owner}: token id {brief(token)} must be from 0 to the vocabulary's size"
        )
    return token


def _bias(token: Any, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"LogitBias: the bias of token {token} must be a number, not {brief(value)}"
        )
    number: Any = value
    if number != -math.inf and not -1e6 <= number <= 1e6:
        raise ValueError(
            f"LogitBias: the bias of token {token} is {brief(value)}; it must be from -1e6 to "
            "1e6, or float('-inf') to ban the token."
        )
    return float(number)
