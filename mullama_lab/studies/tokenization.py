"""Tokenization: where a text was written in other tokens than the tokenizer would make of it.

A model has mostly seen texts in the tokens that its tokenizer makes, the canonical ones. A grammar
that forbids how a token goes on makes it write the same beginning in shorter ones, and what it then
says of the text to come is of a text that it has hardly ever seen so. Chance does it, too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages.moment import Moment
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace_rows import TraceRows
from mullama_lab.engine.words.token_texts import token_texts
from mullama_lab.glyphs import piece_label

if TYPE_CHECKING:
    import pandas

__all__ = ["Split", "Tokenization", "tokenization"]
__dir__ = __all__.copy  # what tab completion offers

WITHIN = -1  # in place of a canonical token: one that began before goes on there


class Split(NamedTuple):
    """Some tokens of a text where the tokenizer makes others of the same bytes.

    Attributes:
        first, last: the steps.
        tokens, canonical: the ids as they were drawn, and as the tokenizer has them.
        logprob: of the drawn ones together, in nats, before the chain.
        canonical_logprob: of the first canonical one in the row there, which is the same text if
            it is alone; NaN where it was not kept, or begins in the prompt.
        begins_in_prompt: whether the first canonical token begins before the first step.
    """

    first: int
    last: int
    tokens: tuple[int, ...]
    canonical: tuple[int, ...]
    logprob: float
    canonical_logprob: float
    begins_in_prompt: bool


@dataclass(frozen=True, eq=False)
class Tokenization:
    """The tokens of a generation beside those that the tokenizer makes of its text.

    Attributes:
        tokens: the token ids, int32 of shape (n,).
        canonical: int32 of shape (n,): the token that the tokenizer has where each begins; -1
            where one that began before goes on.
        splits: where they differ, and what the model said of either way.
    """

    tokens: NDArray[np.int32]
    canonical: NDArray[np.int32]
    splits: tuple[Split, ...]
    _pieces: dict[int, bytes] = field(repr=False)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def differs(self) -> NDArray[np.bool_]:
        """Where the tokenizer has another token, or has one that began before."""
        return self.tokens != self.canonical

    def to_pandas(self) -> pandas.DataFrame:
        """One row for each split, with probabilities; needs pandas."""
        import pandas as pd

        rows = [
            (
                split.first,
                split.last,
                self._labels(split.tokens),
                self._labels(split.canonical),
                math.exp(split.logprob),
                math.exp(split.canonical_logprob),
                split.begins_in_prompt,
            )
            for split in self.splits
        ]
        names = ("first", "last", "tokens", "canonical", "prob", "canonical_prob", "in_prompt")
        return pd.DataFrame(rows, columns=list(names))

    def _labels(self, tokens: Sequence[int]) -> str:
        return " ".join(piece_label(self._pieces[token]) for token in tokens)

    def told(self) -> list[str]:
        """What there is to say of each split: either way to write it, and how likely it was."""
        return [
            f"the tokenizer has {self._shown(split.canonical)}{_chance(split.canonical_logprob)}; "
            f"here it is {self._shown(split.tokens)}{_chance(split.logprob)}"
            for split in self.splits
        ]

    def _shown(self, tokens: Sequence[int]) -> str:
        return " ".join(f"`{piece_label(self._pieces[token])}`" for token in tokens)

    def summary(self) -> str:
        """What it comes to, in a line."""
        n = int(np.count_nonzero(self.differs))
        told = f"other than the tokenizer's own: {n} of {counted(len(self), 'token')}"
        known = [split for split in self.splits if not math.isnan(split.canonical_logprob)]
        if not known:
            return told
        worst = max(known, key=lambda split: split.canonical_logprob)
        return (
            f"{told}; at token {worst.first} the model had {math.exp(worst.canonical_logprob):.1%} "
            f"for `{self._labels(worst.canonical[:1])}` and {math.exp(worst.logprob):.1%} for "
            f"`{self._labels(worst.tokens)}`"
        )

    def __repr__(self) -> str:
        return f"<Tokenization: {self.summary()}>"


def _chance(logprob: float) -> str:
    return "" if math.isnan(logprob) else f", {math.exp(logprob):.1%}"


def tokenization(trace: Trace, *, on: Model | Session) -> Tokenization:
    """Where the tokens of a generation are not those that the tokenizer makes of the text.

    The text is that of the prompt and the generation, so a token may have begun in the prompt; it
    is taken apart where a control token stands. The end of the text is canonical as it is: more
    text might change its last token.

    Args:
        on: the Model of the trace; or a Session of it, which decodes rows again that say nothing
            of a canonical token.

    Raises:
        ValueError: the trace has no step, or was made with another vocabulary; or the tokenizer
            writes the text in another way, so that its tokens cannot be laid beside it.

    Example:
        tokenization(trace, on=session).splits
    """
    rows = TraceRows(trace, on)
    canonical, splits = _laid_beside(rows)
    splits = [_weighed(split, rows.kept(split.first)) for split in splits]
    missing = {
        split.first: place
        for place, split in enumerate(splits)
        if math.isnan(split.canonical_logprob) and not split.begins_in_prompt
    }
    if missing and rows.session is not None:

        def visit(moment: Moment) -> None:
            place = missing[moment.step]
            splits[place] = _weighed(splits[place], moment)

        rows.decode(missing.keys(), visit)
    named = {token for split in splits for token in (*split.tokens, *split.canonical)}
    return Tokenization(
        tokens=rows.tokens.copy(),
        canonical=canonical,
        splits=tuple(splits),
        _pieces={token: rows.model.piece(token) for token in named},
    )


def _weighed(split: Split, moment: Moment | None) -> Split:
    """The split with what a row says of its first canonical token, if it is there."""
    if moment is None or split.begins_in_prompt:
        return split
    found = np.flatnonzero(moment.ids == split.canonical[0])
    if not len(found):
        return split
    return split._replace(canonical_logprob=float(moment.logits[found[0]]) - moment.logsumexp)


# The two ways to cut the text.


class _Cut(NamedTuple):
    """A text in tokens: the byte at which each begins, and at which the last ends."""

    tokens: list[int]
    starts: list[int]

    @classmethod
    def of(cls, tokens: list[int], pieces: list[bytes]) -> _Cut:
        return cls(tokens, [0, *accumulate(len(pieces[token]) for token in tokens)])

    def data(self, pieces: list[bytes]) -> bytes:
        """The bytes of all of them."""
        return b"".join(pieces[token] for token in self.tokens)

    @property
    def places(self) -> dict[int, int]:
        """The place of the first token that begins at a byte, and past the last one."""
        return {start: place for place, start in reversed([*enumerate(self.starts)])}


def _laid_beside(rows: TraceRows) -> tuple[NDArray[np.int32], list[Split]]:
    pieces = token_texts(rows.model).pieces
    tokens = rows.history(len(rows)).tolist()
    n_prompt = len(tokens) - len(rows)
    canonical, splits = rows.tokens.copy(), []
    ends = [place for place, token in enumerate(tokens) if not pieces[token]]
    for first, end in itertools.pairwise([-1, *ends, len(tokens)]):
        run = tokens[first + 1 : end]
        if end <= n_prompt or not run:
            continue
        step = first + 1 - n_prompt  # of the first token of the run; below 0 in the prompt
        drawn = _whole_characters(run, pieces)
        ours = _Cut.of(run[: len(drawn)], pieces)
        theirs = _tokenized(rows.model, b"".join(drawn), pieces)
        begins = dict(zip(theirs.starts, theirs.tokens))
        for place, start in enumerate(ours.starts[:-1]):
            if step + place >= 0:
                canonical[step + place] = begins.get(start, WITHIN)
        splits += _splits(ours, theirs, step, rows.trace)
    return canonical, splits


def _splits(ours: _Cut, theirs: _Cut, step: int, trace: Trace) -> Iterator[Split]:
    """Where two cuts of a text differ, between the places where both have a border."""
    shared = sorted(set(ours.starts) & set(theirs.starts))
    here, there = ours.places, theirs.places
    for start, end in itertools.pairwise(shared):
        tokens = tuple(ours.tokens[here[start] : here[end]])
        canonical = tuple(theirs.tokens[there[start] : there[end]])
        first = step + here[start]
        last = first + len(tokens) - 1
        if tokens == canonical or last < 0:
            continue
        in_prompt = max(0, -first)  # tokens of it that were given
        first += in_prompt
        logprob = float(trace.logprob[first : last + 1].sum(dtype=np.float64))
        begins_in_prompt = in_prompt > 0 or start < 0
        drawn = tokens[in_prompt:]
        yield Split(first, last, drawn, canonical, logprob, math.nan, begins_in_prompt)


def _whole_characters(tokens: list[int], pieces: list[bytes]) -> list[bytes]:
    """The bytes of tokens, without those at the end in which a character is not complete.

    Raises:
        ValueError: bytes in the midst are no characters.
    """
    found = [pieces[token] for token in tokens]
    while found:
        data = b"".join(found)
        try:
            data.decode()
            break
        except UnicodeDecodeError as error:
            if error.reason != "unexpected end of data":
                raise ValueError(
                    f"the text has bytes that are no characters, {data[error.start : error.end]!r}"
                    ", which no tokenizer makes tokens of."
                ) from None
            found.pop()
    return found


def _tokenized(model: Model, data: bytes, pieces: list[bytes]) -> _Cut:
    """The tokens that the tokenizer makes of a text, without the space that it may put before."""
    text = data.decode()
    cut = _Cut.of(model.tokenize(text, add_special=False), pieces)
    if text[:1] == " " and cut.data(pieces) == b" " + data:
        cut = _Cut.of(model.tokenize(text[1:], add_special=False), pieces)
    if cut.data(pieces) == b" " + data:
        return _Cut(cut.tokens, [start - 1 for start in cut.starts])
    if cut.data(pieces) == data:
        return cut
    raise ValueError(
        f"the tokenizer of {model.name} writes the text in another way, so that its tokens cannot "
        "be laid beside those of the trace."
    )
