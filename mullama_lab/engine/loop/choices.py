"""Choices: how likely each of some candidates is after one prompt."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Choice:
    """One candidate.

    Attributes:
        text: the candidate; of one given as token ids, their text.
        tokens: the token ids that were scored.
        logprobs: the log-probability of each of them, in nats, after all that is before it.
        n_bytes: bytes of their text.
        probability: of this candidate if it must be one of them: they add up to 1.
    """

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    n_bytes: int
    probability: float

    @property
    def logprob(self) -> float:
        """The log-probability in all, in nats."""
        return math.fsum(self.logprobs)

    @property
    def per_token(self) -> float:
        """The log-probability for each token, in nats."""
        return self.logprob / len(self.tokens)

    @property
    def per_byte(self) -> float:
        """The log-probability for each byte of the text, in nats."""
        return self.logprob / max(1, self.n_bytes)


class Choices(Sequence[Choice]):
    """The candidates in the order they were given, each a Choice; see `Session.choose`.

    A longer text has more to pay for. `best` is the likeliest as a whole; where lengths differ,
    `max(choices, key=lambda choice: choice.per_byte)` does not prefer the short.
    """

    def __init__(self, choices: Iterable[Choice]) -> None:
        self._choices = tuple(choices)

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        tokens: Sequence[Sequence[int]],
        logprobs: Sequence[Sequence[float]],
        sizes: Sequence[int],
    ) -> Choices:
        """Choices from columns; `sizes` are bytes."""
        sums = [math.fsum(column) for column in logprobs]
        weights = [math.exp(x - max(sums)) for x in sums]
        return cls(
            Choice(text, tuple(ids), tuple(column), size, weight / math.fsum(weights))
            for text, ids, column, size, weight in zip(texts, tokens, logprobs, sizes, weights)
        )

    @property
    def best(self) -> Choice:
        """The likeliest candidate; of equals the first."""
        return max(self._choices, key=lambda choice: choice.logprob)

    def to_pandas(self) -> pandas.DataFrame:
        """A table with a row for each candidate, in order; needs pandas."""
        import pandas as pd

        columns = ("logprob", "probability", "per_token", "per_byte")
        rows = [
            {name: getattr(choice, name) for name in columns}
            | {"n_tokens": len(choice.tokens), "n_bytes": choice.n_bytes}
            for choice in self
        ]
        index = pd.Index([choice.text for choice in self], name="candidate")
        return pd.DataFrame(rows, index=index)

    @overload
    def __getitem__(self, index: int) -> Choice: ...
    @overload
    def __getitem__(self, index: slice) -> Choices: ...
    def __getitem__(self, index: int | slice) -> Choice | Choices:
        if isinstance(index, slice):
            return Choices(self._choices[index])
        return self._choices[index]

    def __len__(self) -> int:
        return len(self._choices)

    def __eq__(self, other: object) -> bool:
        return self._choices == other._choices if isinstance(other, Choices) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._choices)

    def __repr__(self) -> str:
        ranked = sorted(self, key=lambda choice: -choice.logprob)
        lines = [
            f"{choice.probability:8.2%}  {choice.logprob:9.3f} nats  {choice.per_byte:7.3f} a byte"
            f"  {choice.text[:60]!r}{'…' if len(choice.text) > 60 else ''}"
            for choice in ranked[:20]
        ]
        more = [f"and {len(self) - 20} more"] if len(self) > 20 else []
        return "\n".join([f"<Choices among {len(self)}, likeliest first", *lines, *more]) + ">"
