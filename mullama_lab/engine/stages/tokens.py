"""Stages that go by which token it is: biases, masks, and llama.cpp's infill."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mullama_lab.engine import native
from mullama_lab.engine.options import listed
from mullama_lab.engine.rows.tail import Tail, not_in
from mullama_lab.engine.stages.lists import read_biases, read_ids, write_biases, write_ids
from mullama_lab.engine.stages.setting import TextRule, text_setting
from mullama_lab.engine.stages.stage import Known, NamedToken, Stage, must_have_vocabulary
from mullama_lab.engine.stages.stage_sampler import (
    Memoryless,
    Native,
    StageSampler,
    Start,
    mask_out,
)
from mullama_lab.engine.words.biases import biases_of_words
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

INFILL_MOST = 2048  # it compares every pair of candidates, uninterruptibly
INFILL_LONGEST = 512  # bytes of a token's text; llama.cpp aborts on longer ones


@dataclass(frozen=True, repr=False, init=False)
class LogitBias(Stage):
    """Add a bias to the logits of given tokens; minus infinity bans one.

    >>> LogitBias({262: -1.5, 198: float("-inf")})
    LogitBias({198: float('-inf'), 262: -1.5})
    """

    label: ClassVar[str] = "Logit bias"
    source: ClassVar[str] = "llama.cpp `llama_sampler_init_logit_bias`"
    names_tokens = True
    masked_tokens = "left"
    biases: tuple[tuple[int, float], ...] = text_setting(
        (),
        TextRule(
            "token id: bias, separated by commas; 262: -1.5, 198: -inf bans 198",
            read_biases,
            write_biases,
        ),
    )

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

    def named(self) -> Sequence[NamedToken]:
        return [
            NamedToken(token, "bans")
            if math.isinf(bias)
            else NamedToken(token, "favours" if bias > 0 else "hinders", f"{bias:+g}")
            for token, bias in self.biases
            if bias
        ]

    def _arguments(self) -> Any:
        pairs = ", ".join(
            f"{t}: {b!r}" if math.isfinite(b) else f"{t}: float('-inf')" for t, b in self.biases
        )
        yield f"{{{pairs}}}"

    def check(self, model: Model) -> None:
        _must_be_in_vocabulary(self, [token for token, _ in self.biases], model)

    def sampler(self, start: Start) -> StageSampler:
        return _LogitBias(native.logit_bias_sampler(start.model.n_vocab, self.biases))

    def tail_after(self, tail: Tail, known: Known) -> Tail:
        biases = dict(self.biases)
        unknown = [biases[token] for token in not_in(list(biases), known.kept).tolist()]
        tail = tail.fewer(sum(bias < 0 for bias in unknown))
        up = max([0.0, *unknown])
        return tail.raised(up) if up else tail


class _LogitBias(Native):
    """llama.cpp's, which changes logits but leaves the candidates marked as sorted."""

    def apply(self, candidates: native.Candidates, step: int) -> None:
        self.sampler.apply(candidates)
        candidates.fields.sorted = False


@dataclass(frozen=True, repr=False)
class Mask(Stage):
    """Allow only some token ids, or ban some. Ours, in numpy: llama.cpp has no mask sampler."""

    label: ClassVar[str] = "Mask"
    source: ClassVar[str] = "equal to llama.cpp's logit bias of minus infinity"
    names_tokens = True
    moves = False
    constrains = True
    masked_tokens = "left"
    allow: tuple[int, ...] | None = text_setting(
        None,
        TextRule(
            "token ids, as in 12, 15, 100-120; empty allows all",
            lambda text: read_ids(text) or None,
            write_ids,
        ),
    )
    ban: tuple[int, ...] = text_setting(
        (), TextRule("token ids, as in 12, 15, 100-120; empty bans none", read_ids, write_ids)
    )

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

    def named(self) -> Sequence[NamedToken]:
        allowed = [NamedToken(token, "allows") for token in self.allow or ()]
        return allowed + [NamedToken(token, "bans") for token in self.ban]

    def check(self, model: Model) -> None:
        _must_be_in_vocabulary(self, (*(self.allow or ()), *self.ban), model)

    def sampler(self, start: Start) -> StageSampler:
        return _Mask(self, start.model.n_vocab)

    def tail_after(self, tail: Tail, known: Known) -> Tail:
        banned = not_in(list(self.ban), known.kept)  # an earlier mask may have them too
        if self.allow is None:
            return tail.fewer(len(banned))
        return tail.at_most(len(np.setdiff1d(not_in(list(self.allow), known.kept), banned)))


class _Mask(Memoryless):
    def __init__(self, stage: Mask, n_vocab: int) -> None:
        self.banned = np.full(n_vocab, stage.allow is not None)
        if stage.allow is not None:
            self.banned[list(stage.allow)] = False
        self.banned[list(stage.ban)] = True

    def apply(self, candidates: native.Candidates, step: int) -> None:
        mask_out(candidates, self.banned)


@dataclass(frozen=True, repr=False)
class Infill(Stage):
    """For filling in the middle: merge candidates that begin alike, end if ending is likely.

    It compares every candidate with every other, so truncate before it.
    """

    label: ClassVar[str] = "Infill"
    source: ClassVar[str] = "llama.cpp `llama_sampler_init_infill`"

    def check(self, model: Model) -> None:
        if model.eot is None and model.eos is None:
            raise ValueError("Infill needs a model with an end-of-text token; this one has none.")
        must_have_vocabulary(self, model)

    def sampler(self, start: Start) -> StageSampler:
        return _Infill(start.model)


class _Infill(Memoryless):
    def __init__(self, model: Model) -> None:
        self.model = model
        self.sampler = native.sampler("infill", model._memory.vocabulary)

    def apply(self, candidates: native.Candidates, step: int) -> None:
        if candidates.size > INFILL_MOST:
            raise ValueError(
                f"Infill compares every pair of candidates and there are {candidates.size}; it "
                f"takes at most {INFILL_MOST}. Put TopK(40) or TopP(0.95) before it."
            )
        for token in candidates.window["id"].tolist():
            if len(self.model.piece(token, special=False)) > INFILL_LONGEST:
                raise ValueError(
                    f"Infill takes tokens of at most {INFILL_LONGEST} bytes and token {token} is "
                    f"longer. Put Mask(ban=[{token}]) | TopK(40) before it."
                )
        self.sampler.apply(candidates)


def _must_be_in_vocabulary(stage: Stage, tokens: Iterable[int], model: Model) -> None:
    n_vocab = model.n_vocab
    if wrong := [t for t in tokens if t >= n_vocab]:
        raise ValueError(
            f"{type(stage).__name__} names token {wrong[0]}, but this model's vocabulary has "
            f"{n_vocab} tokens (0 to {n_vocab - 1})."
        )


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
