"""Forbidden: what a grammar would have said to a text that was written without it.

The grammar goes through the tokens of a trace. One that it forbids is passed over, and the grammar
stays where it is: what comes after is asked as if the token had not been there. So of "Sure! {}" a
grammar of JSON forbids "Sure", "!" and " ", and takes the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.grammar.typed import read_grammar
from mullama_lab.engine.grammar.walk.facts import expected_in_words
from mullama_lab.engine.grammar.walk.walk import GrammarWalk
from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import Constrain
from mullama_lab.engine.stages.moment import Moment
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace_rows import TraceRows
from mullama_lab.errors import GrammarError
from mullama_lab.glyphs import brief, piece_label
from mullama_lab.studies._grammars import UNKNOWN, Left, Mask, left

if TYPE_CHECKING:
    import pandas

__all__ = ["Forbidden", "forbidden"]
__dir__ = __all__.copy  # what tab completion offers


@dataclass(frozen=True, eq=False)
class Forbidden:
    """What a grammar would have said to each token of a trace; all arrays of shape (n,).

    Attributes:
        tokens: the token ids, int32.
        forbidden: whether the grammar would not have let the token in.
        expected: what it expected instead, in words; empty where it lets the token in.
        instead: int32: the likeliest token that it would have let in there; -1 where it lets the
            token in, or that is not among what the trace kept.
        instead_logprob: float64: its log-probability, in nats.
        nats: float64: -ln of the probability of all tokens that it would have let in there, at
            least; what it would have cost. `nats_high` at most.
        is_complete: whether what it took of the text is one of its texts.
    """

    tokens: NDArray[np.int32]
    forbidden: NDArray[np.bool_]
    expected: tuple[str, ...]
    instead: NDArray[np.int32]
    instead_logprob: NDArray[np.float64]
    nats: NDArray[np.float64]
    nats_high: NDArray[np.float64]
    is_complete: bool
    _pieces: dict[int, bytes] = field(repr=False)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def first(self) -> int | None:
        """The first step whose token it would have forbidden; None if there is none."""
        found = np.flatnonzero(self.forbidden)
        return int(found[0]) if len(found) else None

    def to_pandas(self) -> pandas.DataFrame:
        """One row a step; needs pandas."""
        import pandas as pd

        table = pd.DataFrame(
            {
                "token": self.tokens,
                "text": [self._label(token) for token in self.tokens],
                "forbidden": self.forbidden,
                "expected": self.expected,
                "instead": self.instead,
                "instead_text": [self._label(token) for token in self.instead],
                "instead_logprob": self.instead_logprob,
                "nats": self.nats,
                "nats_high": self.nats_high,
            }
        )
        table.index.name = "step"
        return table

    def _label(self, token: int) -> str:
        return piece_label(self._pieces[int(token)]) if token >= 0 else ""

    def summary(self) -> str:
        """What it comes to, in a line."""
        first, n = self.first, int(np.count_nonzero(self.forbidden))
        end = "complete" if self.is_complete else "not complete"
        if first is None:
            return f"none of {counted(len(self), 'token')} is forbidden; the text is {end}"
        token = self._label(self.tokens[first])
        likeliest = self._label(self.instead[first])
        instead = f", likeliest `{likeliest}`" if likeliest else ""
        return (
            f"{n} of {counted(len(self), 'token')} would have been forbidden, `{token}` at step "
            f"{first} first: expected {self.expected[first]}{instead}; what is left is {end}"
        )

    def __repr__(self) -> str:
        return f"<Forbidden: {self.summary()}>"


def forbidden(
    trace: Trace, grammar: Grammar | Constrain | str | Iterable[str], *, on: Model | Session
) -> Forbidden:
    """Which tokens of a trace a grammar would have forbidden, and what it would have let in.

    Args:
        trace: any; the grammar is about what was generated, from its first step on.
        grammar: a Grammar, or a Constrain with one, which may begin it after a marker; or a text
            in GBNF, a JSON Schema as a text, a /regular expression/, or a list of choices.
        on: the Model of the trace, which gives bounds where the trace kept too little of a row;
            or a Session of it, which decodes those rows again.

    Raises:
        ValueError: the trace has no step, or was made with another vocabulary.
        GrammarError: the grammar cannot be read, or be carried out on the model.
        TypeError: it is no grammar and nothing that one is made of.

    Example:
        forbidden(trace, Grammar.json_schema(schema), on=session).first
    """
    stage = _stage_of(grammar)
    rows = TraceRows(trace, on)
    reader = _Reader(stage, rows.model)
    expected: list[str] = []
    found: list[Left] = []
    unsure: dict[int, Mask] = {}
    for step, token in enumerate(rows.tokens.tolist()):
        mask, moment = reader.mask, rows.kept(step)
        expected.append("" if reader.takes(token) else reader.expected)
        found.append(UNKNOWN if moment is None else _left(moment, mask))
        if not found[step].sure or (expected[step] and found[step].best < 0 and mask.any()):
            unsure[step] = mask
    if unsure and rows.session is not None:

        def visit(moment: Moment) -> None:
            found[moment.step] = _left(moment, unsure[moment.step])

        rows.decode(unsure.keys(), visit)
    is_forbidden = np.array([bool(words) for words in expected])
    instead = np.where(is_forbidden, [each.best for each in found], -1).astype(np.int32)
    named = {int(token) for token in (*rows.tokens, *instead) if token >= 0}
    return Forbidden(
        tokens=rows.tokens.copy(),
        forbidden=is_forbidden,
        expected=tuple(expected),
        instead=instead,
        instead_logprob=np.where(instead >= 0, [each.best_logprob for each in found], np.nan),
        nats=np.array([each.low for each in found]),
        nats_high=np.array([each.high for each in found]),
        is_complete=reader.is_complete,
        _pieces={token: rows.model.piece(token) for token in named},
    )


def _left(moment: Moment, mask: Mask) -> Left:
    return left(moment.ids, moment.logits, moment.logsumexp, mask, is_whole=moment.is_whole)


def _stage_of(grammar: object) -> Constrain:
    """The stage of what may be given for a grammar."""
    if isinstance(grammar, (Grammar, Constrain)):
        return Constrain.of(grammar)
    if isinstance(grammar, str):
        return Constrain(read_grammar(grammar))
    if isinstance(grammar, Iterable) and not isinstance(grammar, (bytes, Mapping)):
        return Constrain(Grammar.choice(grammar))
    raise TypeError(
        f"grammar={brief(grammar)}: it must be a Grammar, a Constrain, the text of a grammar, or a "
        "list of choices."
    )


class _Reader:
    """A grammar on its way through a text, from its marker on if it has one."""

    def __init__(self, stage: Constrain, model: Model) -> None:
        self._walk = GrammarWalk(stage.grammar, model)
        self._search = stage.search(model)  # None once the marker came

    @property
    def mask(self) -> Mask:
        """Whether each token may come; shape (n_vocab,)."""
        if self._search is None:
            return self._walk.mask
        allowed = self._search.allowed()
        if error := self._search.error:
            raise GrammarError(f"the marker is too much for llguidance: {error}.")
        return allowed

    def takes(self, token: int) -> bool:
        """Go on with a token if it may come; whether it may."""
        if self._search is None:
            return self._walk.step(token)
        if not self.mask[token]:
            return False
        rest = self._search.accept(token)
        if rest is not None:
            self._search = None
            self._walk.feed_bytes(rest)
        return True

    @property
    def expected(self) -> str:
        """What it expects, in words."""
        words = expected_in_words(self._walk.expected)
        return words if self._search is None else f"after the marker {words}"

    @property
    def is_complete(self) -> bool:
        return self._search is None and self._walk.is_complete
