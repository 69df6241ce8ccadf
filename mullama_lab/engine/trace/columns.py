"""The columns of a trace: one array for each fact about its steps.

A column is declared once, in `StepColumns`. Its storage, the property that reads it, the table
for pandas and the file follow from that line; `StepRecord` has a field of the same name, and
`Step` one too if a single step shall show it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, NoReturn, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

K = TypeVar("K", bound=np.generic)


class Column(property, Generic[K]):
    """One array with an entry a step, read through a property of its owner.

    Args:
        kind: the numpy type of an entry.
        doc: what it says of a step, with its unit.
        fill: the entry before it is written; the cells of a wide column that stay empty.
        wide: whether a step has a row of `top` entries instead of one.
        absent: the entry for steps of files that were written before the column existed; None
            if every file has it.
    """

    def __init__(
        self,
        kind: type[K],
        doc: str,
        *,
        fill: float = 0,
        wide: bool = False,
        absent: float | None = None,
    ) -> None:
        super().__init__()
        self.__doc__ = f"{doc} {np.dtype(kind)}, shape {'(n, top)' if wide else '(n,)'}."
        self.kind, self.fill, self.wide, self.absent = kind, fill, wide, absent

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type | None = None, /) -> Column[K]: ...
    @overload
    def __get__(self, instance: StepColumns, owner: type | None = None, /) -> NDArray[K]: ...
    def __get__(self, instance: StepColumns | None, owner: type | None = None, /) -> Any:
        return self if instance is None else instance.column(self.name)

    def __set__(self, instance: Any, value: NoReturn, /) -> NoReturn:
        raise AttributeError(f"{self.name} cannot be set: what a trace records is not altered.")

    def blank(self, n: int, top: int) -> NDArray[K]:
        """An array with room for n steps."""
        return np.full((n, top) if self.wide else n, self.fill, self.kind)

    def read(self, values: Any, n: int, top: int) -> NDArray[K]:
        """The array that was written as lists; ValueError if it cannot be this column's."""
        array = np.array(values, self.kind)
        if not issubclass(self.kind, np.floating) and not np.array_equal(array, np.array(values)):
            raise ValueError(f"{self.name} has what is no {self.kind.__name__}")
        if self.wide:
            return array.reshape(n, top)
        if array.shape != (n,):
            raise ValueError(f"{self.name} has the shape {array.shape}, not ({n},)")
        return array


class StepColumns(ABC):
    """The arrays that say something of each step; read-only views of the steps there are."""

    token = Column(np.int32, "The token ids.")
    logprob = Column(
        np.float32, "Log-probability of the token in nats, before the chain: in the model."
    )
    logprob_after = Column(
        np.float32, "The same after the chain; -inf for a forced token that the chain had removed."
    )
    rank = Column(np.int32, "How many tokens are likelier before the chain; 0: the model's first.")
    entropy = Column(np.float32, "Entropy of the whole row before the chain, in nats.")
    logsumexp = Column(np.float64, "Log-sum-exp of the whole row of logits.")
    decode_ns = Column(
        np.int64,
        "Time of the whole batch that the row came from, other texts in it included; 0 where the "
        "row before came from the same one.",
    )
    sample_ns = Column(np.int64, "Time of the other stages and the draw.")
    constraint_ns = Column(np.int64, "Time of stages that constrain the text, such as a Mask.")
    capture_ns = Column(
        np.int64,
        "Time of making the record; with `trace.captured_aside` it passes while the next token is "
        "decoded, if that is not from the same batch; else before that.",
    )
    wall_ns = Column(
        np.int64,
        "Time from the draw of the token before to that of this one, or from the beginning to the "
        "first; 0 where nothing was measured: of a token that was given, and in older files.",
        absent=0,
    )
    forced = Column(np.bool_, "Whether a caller gave the token: it was not drawn.", absent=False)
    canonical = Column(
        np.bool_,
        "Whether the row is, bit for bit, that of a session which does nothing else. False where "
        "other texts were in the batch or the cache, generated text was taken for a prompt, or "
        "tokens were decoded ahead.",
        absent=False,
    )
    ahead = Column(
        np.bool_,
        "Whether a grammar forced the token, and it was decoded with the one before it: "
        "`Constrain(grammar, fast_forward=True)`.",
        absent=False,
    )
    top_ids = Column(
        np.int32, "The likeliest tokens before the chain, likeliest first.", fill=-1, wide=True
    )
    top_logprobs = Column(np.float32, "Their log-probabilities, in nats.", fill=-np.inf, wide=True)
    after_ids = Column(
        np.int32, "The likeliest tokens that the chain left, likeliest first.", fill=-1, wide=True
    )
    after_logprobs = Column(
        np.float32, "Their log-probabilities after the chain.", fill=-np.inf, wide=True
    )

    @abstractmethod
    def column(self, name: str) -> NDArray[Any]:
        """The array of one column, by its name."""


def _declared(*, wide: bool) -> dict[str, Column[Any]]:
    declared = vars(StepColumns).items()
    return {name: c for name, c in declared if isinstance(c, Column) and c.wide == wide}


COLUMNS = _declared(wide=False) | _declared(wide=True)
NARROW = tuple(name for name, column in COLUMNS.items() if not column.wide)
WIDE = tuple(name for name, column in COLUMNS.items() if column.wide)
