"""Every stage a chain can be made of, as values.

Names, defaults and meanings are llama.cpp's. All but `TailFree`, `Mask`, `Ban` and `Custom`
are carried out by llama.cpp's own sampler of that name: llama.cpp dropped tail-free sampling, and
has no sampler for a mask, for words or for Python. Those that ask which token it is, or what was
said before, are in `token_samplers.py` and `ban.py`; import them from here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.stages.ban import Ban
from mullama_lab.engine.stages.chain import Chain, Setting, Stage, min_keep, setting
from mullama_lab.engine.stages.token_samplers import DRY, LogitBias, Mask, Penalties
from mullama_lab.glyphs import brief

__all__ = [
    "DRY",
    "XTC",
    "AdaptiveP",
    "Ban",
    "Chain",
    "Custom",
    "DynamicTemperature",
    "Greedy",
    "Infill",
    "LogitBias",
    "Mask",
    "MinP",
    "Mirostat",
    "MirostatV2",
    "Penalties",
    "Setting",
    "Stage",
    "TailFree",
    "Temperature",
    "TopK",
    "TopNSigma",
    "TopP",
    "Typical",
]

COLDEST = 1e-3  # above 0


@dataclass(frozen=True, repr=False)
class Greedy(Stage):
    """Keep only the likeliest token."""

    label: ClassVar[str] = "Greedy"
    source: ClassVar[str] = "llama.cpp `llama_sampler_init_greedy`"


@dataclass(frozen=True, repr=False)
class TopK(Stage):
    """Keep the k likeliest tokens."""

    label: ClassVar[str] = "Top-k"
    source: ClassVar[str] = (
        "Fan et al. 2018, arXiv:1805.04833; llama.cpp `llama_sampler_init_top_k`"
    )
    _positional = ("k",)
    k: int = setting(
        40,
        0,
        2**31 - 1,
        "How many tokens to keep; 0 keeps all, usual is 20 to 100.",
        slider=(1, 1000),
        step=1,
        scale="log",
        kind="int",
    )
    min_keep: int = min_keep()

    def why_inert(self) -> str:
        return "k is 0: every token is kept" if self.k == 0 else ""


@dataclass(frozen=True, repr=False)
class TopP(Stage):
    """Keep the fewest likeliest tokens that together have probability p (nucleus sampling)."""

    label: ClassVar[str] = "Top-p"
    source: ClassVar[str] = (
        "Holtzman et al. 2020, arXiv:1904.09751; llama.cpp `llama_sampler_init_top_p`"
    )
    _positional = ("p",)
    p: float = setting(
        0.95, 0, 1, "The probability to keep; 1 keeps all, usual is 0.9 to 0.95.", slider=(0, 1)
    )
    min_keep: int = min_keep()

    def why_inert(self) -> str:
        return "p is 1: every token is kept" if self.p == 1 else ""


@dataclass(frozen=True, repr=False)
class MinP(Stage):
    """Drop every token less than p times as likely as the likeliest one."""

    label: ClassVar[str] = "Min-p"
    source: ClassVar[str] = (
        "Nguyen et al. 2024, arXiv:2407.01082; llama.cpp `llama_sampler_init_min_p`"
    )
    _positional = ("p",)
    p: float = setting(
        0.05,
        0,
        1,
        "The share of the best token's probability to reach; 0 keeps all, usual is 0.02 to 0.1.",
        slider=(0, 1),
        step=0.005,
    )
    min_keep: int = min_keep()

    def why_inert(self) -> str:
        return "p is 0: every token is kept" if self.p == 0 else ""


@dataclass(frozen=True, repr=False)
class Typical(Stage):
    """Keep the tokens whose surprise is nearest the entropy, up to probability p."""

    label: ClassVar[str] = "Typical"
    source: ClassVar[str] = (
        "Meister et al. 2022, arXiv:2202.00666; llama.cpp `llama_sampler_init_typical`"
    )
    _positional = ("p",)
    p: float = setting(
        0.9, 0, 1, "The probability to keep; 1 keeps all, usual is 0.2 to 0.95.", slider=(0, 1)
    )
    min_keep: int = min_keep()

    def why_inert(self) -> str:
        return "p is 1: every token is kept" if self.p == 1 else ""


@dataclass(frozen=True, repr=False)
class Temperature(Stage):
    """Divide the logits by t: below 1 sharper, above 1 flatter, 0 keeps only the best token."""

    label: ClassVar[str] = "Temperature"
    source: ClassVar[str] = "llama.cpp `llama_sampler_init_temp`"
    _positional = ("t",)
    t: float = setting(
        0.8, 0, 100, "1 changes nothing, 0 is greedy, usual is 0.5 to 1.3.", slider=(0, 2)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_tiny_temperature(self, "t", self.t)

    def why_inert(self) -> str:
        return "t is 1: the logits stay as they are" if self.t == 1 else ""


@dataclass(frozen=True, repr=False)
class DynamicTemperature(Stage):
    """A temperature from t - delta to t + delta that follows the entropy of the candidates."""

    label: ClassVar[str] = "Dynamic temperature"
    source: ClassVar[str] = (
        "Zhu et al. 2023, arXiv:2309.02772; llama.cpp `llama_sampler_init_temp_ext`"
    )
    _positional = ("t", "delta", "exponent")
    t: float = setting(0.8, 0, 100, "The middle of the range.", slider=(0, 2))
    delta: float = setting(
        0.5, 0, 100, "Half the width of the range; 0 is a plain temperature.", slider=(0, 2)
    )
    exponent: float = setting(
        1.0, 0, 100, "How the normalised entropy maps to the range.", slider=(0.1, 4)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_tiny_temperature(self, "t", self.t)

    def why_inert(self) -> str:
        return "t is 1 and delta is 0" if self.t == 1 and self.delta == 0 else ""


def _refuse_tiny_temperature(stage: Stage, name: str, value: float) -> None:
    # A logit divided by 1e-38 is infinite, and infinities end in NaN, which sorting cannot bear.
    if 0 < value < COLDEST:
        raise ValueError(
            f"{type(stage).__name__}({name}={brief(value)}): {name} must be 0 (greedy) or at least "
            f"{COLDEST}. Use 0."
        )


@dataclass(frozen=True, repr=False)
class XTC(Stage):
    """With some probability, drop all but the least likely of the tokens above a threshold."""

    label: ClassVar[str] = "XTC"
    source: ClassVar[str] = (
        "oobabooga/text-generation-webui PR 6335; llama.cpp `llama_sampler_init_xtc`"
    )
    _positional = ("probability", "threshold")
    probability: float = setting(0.5, 0, 1, "How often it acts; 0 is never.", slider=(0, 1))
    threshold: float = setting(
        0.1,
        0,
        1,
        "Tokens at least this likely count as top choices; above 0.5 it never acts.",
        slider=(0, 0.5),
    )
    min_keep: int = min_keep()

    def why_inert(self) -> str:
        if self.probability == 0:
            return "probability is 0: it never acts"
        return "threshold is above 0.5: no two tokens reach it" if self.threshold > 0.5 else ""


@dataclass(frozen=True, repr=False)
class TopNSigma(Stage):
    """Drop tokens whose logit is more than n standard deviations below the best."""

    label: ClassVar[str] = "Top-nσ"
    source: ClassVar[str] = (
        "Tang et al. 2024, arXiv:2411.07641; llama.cpp `llama_sampler_init_top_n_sigma`"
    )
    _positional = ("n",)
    n: float = setting(
        1.0, 0, 1000, "Standard deviations to keep; 0 keeps all, usual is 1.", slider=(0, 5)
    )

    def why_inert(self) -> str:
        return "n is 0: every token is kept" if self.n == 0 else ""


@dataclass(frozen=True, repr=False)
class Mirostat(Stage):
    """Steer the surprise of the text to tau bits, by a top-k that it learns (version 1)."""

    label: ClassVar[str] = "Mirostat"
    source: ClassVar[str] = (
        "Basu et al. 2021, arXiv:2007.14966; llama.cpp `llama_sampler_init_mirostat`"
    )
    _positional = ("tau", "eta")
    tau: float = setting(5.0, 0, 100, "The surprise to aim at, in bits.", slider=(0, 10), step=0.1)
    eta: float = setting(0.1, 0, 1, "How fast it learns.", slider=(0, 1))
    m: int = setting(
        100,
        2,
        1_000_000,
        "How many tokens its estimate looks at.",
        slider=(2, 200),
        step=1,
        kind="int",
    )


@dataclass(frozen=True, repr=False)
class MirostatV2(Stage):
    """Steer the surprise of the text to tau bits, by dropping tokens above a learnt surprise."""

    label: ClassVar[str] = "Mirostat v2"
    source: ClassVar[str] = (
        "Basu et al. 2021, arXiv:2007.14966; llama.cpp `llama_sampler_init_mirostat_v2`"
    )
    _positional = ("tau", "eta")
    tau: float = setting(5.0, 0, 100, "The surprise to aim at, in bits.", slider=(0, 10), step=0.1)
    eta: float = setting(0.1, 0, 1, "How fast it learns.", slider=(0, 1))


@dataclass(frozen=True, repr=False)
class AdaptiveP(Stage):
    """Prefer tokens whose probability is near a target that adapts over time."""

    label: ClassVar[str] = "Adaptive-p"
    source: ClassVar[str] = "llama.cpp PR 17927 `llama_sampler_init_adaptive_p`"
    _positional = ("target", "decay")
    target: float = setting(
        0.5, -1, 1, "Select tokens near this probability; negative is off.", slider=(0, 1)
    )
    decay: float = setting(
        0.9, 0, 0.99, "How long it remembers: about 1 / (1 - decay) tokens.", slider=(0, 0.99)
    )

    def why_inert(self) -> str:
        return "target is negative" if self.target < 0 else ""


@dataclass(frozen=True, repr=False)
class Infill(Stage):
    """For filling in the middle: merge candidates that begin alike, end if ending is likely.

    It compares every candidate with every other, so truncate before it.
    """

    label: ClassVar[str] = "Infill"
    source: ClassVar[str] = "llama.cpp `llama_sampler_init_infill`"


@dataclass(frozen=True, repr=False)
class TailFree(Stage):
    """Cut the tail where the curve of sorted probabilities stops bending.

    Ours, in numpy, after llama.cpp's former `llama_sample_tail_free`, which it removed.
    """

    label: ClassVar[str] = "Tail-free"
    source: ClassVar[str] = "Bricken 2019, trentbrick.github.io/Tail-Free-Sampling"
    _positional = ("z",)
    z: float = setting(
        0.95, 0, 1, "The share of the curve's bending to keep; 1 keeps all.", slider=(0, 1)
    )
    min_keep: int = min_keep()

    def why_inert(self) -> str:
        return "z is 1: every token is kept" if self.z == 1 else ""


@dataclass(frozen=True, repr=False)
class Custom(Stage):
    """Your own function `(logits, history) -> logits`.

    `logits` is float32 of shape (n_vocab,), minus infinity where a stage before removed the
    token; `history` holds the token ids so far, prompt included, as int32. Return a row of the
    same shape; minus infinity removes a token.

    >>> Custom(abs)
    Custom(abs)
    """

    label: ClassVar[str] = "Custom"
    source: ClassVar[str] = "a Python function"
    _positional = ("function",)
    function: Callable[[NDArray[np.float32], NDArray[np.int32]], NDArray[np.float32]]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(
                f"Custom takes a function (logits, history) -> logits, not {brief(self.function)}"
            )

    def _arguments(self) -> Any:
        yield getattr(self.function, "__name__", type(self.function).__name__)

    def to_dict(self) -> dict[str, Any]:
        raise ValueError(
            f"{self!r} cannot go into a dict: a Python function is code, not a value. "
            "Take it out of the chain first, and add it again after reading."
        )

    @classmethod
    def _from_settings(cls, values: dict[str, Any]) -> Stage:
        raise ValueError("a Custom stage cannot be read from a dict: pass the function in Python")
