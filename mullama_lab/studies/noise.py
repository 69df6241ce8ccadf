"""Noise: how far do the logits of the same tokens differ by how they came to be computed?

The same texts are decoded whole, in pieces, with other numbers of threads, onto a cache that held
it already, and beside other sequences. Whatever differs then is rounding, and a difference that
is no larger is no effect of anything. A fresh decode of a whole text is what all are compared
with; decoding it so twice says whether llama.cpp repeats itself at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.loop.spread import Prompt
from mullama_lab.engine.model import Model
from mullama_lab.engine.noise_floor import (
    MEASURES,
    NoiseFloor,
    floor_above,
    remember,
    row_differences,
)
from mullama_lab.engine.options import listed, whole
from mullama_lab.engine.session import Session
from mullama_lab.glyphs import brief
from mullama_lab.studies._together import Bar

if TYPE_CHECKING:
    import pandas

__all__ = ["Difference", "Noise", "noise"]
__dir__ = __all__.copy  # what tab completion offers

TEXTS = (  # what is decoded decides how much is rounded: code and nonsense most
    "The lighthouse keeper counted the ships that passed in the night: three sails and a small "
    "grey boat that nobody had seen before.",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) +",
    "1, 2, 3, 5, 8, 13, 21\n- cat\n- dog\n- the the the the",
    "zq Ωmega ╬ 7731 ünder 😀 Hlaðan qqq}{ tempor ↯ 東京 -> Bxv#",
)
MOST = 96  # tokens of a text
N_PLACES = 5  # of a text, where rows are compared
N_CTX = 512
WHAT = ("the same again", "batch size", "threads", "reused cache", "batch neighbours")

Rows = dict[int, NDArray[np.float32]]  # by how many tokens are before it


@dataclass(frozen=True)
class Difference:
    """One row of logits against that of a fresh decode of the same tokens.

    Attributes:
        what: how it was computed otherwise, one of `WHAT`.
        value: by how much or how: tokens in a batch, threads, sequences, or "rewound", "forked".
        text: which of the texts, counted from 0.
        n_tokens: tokens before the row.
        logit, logprob, kl, js: as NoiseFloor has them, the largest over the tokens.
        same_best: whether the likeliest token is the same.
    """

    what: str
    value: int | str
    text: int
    n_tokens: int
    logit: float
    logprob: float
    kl: float
    js: float
    same_best: bool


@dataclass(frozen=True, eq=False)
class Noise:
    """What was measured.

    Rounding is small, but a quantised model rounds what flows through it to 8 bits, and a
    difference in the last place of one number becomes one of that size. How large depends on the
    text: a text of tokens that no text has may lie beyond the floor of these.

    Attributes:
        model: the model's source.
        differences: one for each row that was computed again.
        floor: three times the largest difference seen (nine times for a divergence, which grows
            with the square), and never less than float32 rounds to: the largest that may be called
            noise.
    """

    model: str
    differences: tuple[Difference, ...]
    floor: NoiseFloor

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each comparison."""
        import pandas

        return pandas.DataFrame([vars(difference) for difference in self.differences])

    def summary(self) -> pandas.DataFrame:
        """The largest differences of each way of computing."""
        import pandas

        ways = list(dict.fromkeys((d.what, d.value) for d in self.differences))
        rows = []
        for way in ways:
            its = [d for d in self.differences if (d.what, d.value) == way]
            largest = {measure: max(getattr(d, measure) for d in its) for measure in MEASURES}
            rows.append(largest | {"n_other_best": sum(not d.same_best for d in its)})
        index = pandas.MultiIndex.from_tuples(ways, names=["what", "value"])
        return pandas.DataFrame(rows, index=index)

    def __len__(self) -> int:
        return len(self.differences)

    def __repr__(self) -> str:
        worst = max(self.differences, key=lambda d: d.logprob)
        floor = self.floor
        return (
            f"<Noise of {self.model}: logits {floor.logit:.2g}, log-probabilities "
            f"{floor.logprob:.2g} nats, Jensen-Shannon {floor.js:.2g}; most by {worst.what}>"
        )


def noise(
    on: Session | Model,
    text: Prompt | None = None,
    *,
    batch_sizes: Iterable[int] = (1, 8, 32),
    threads: Iterable[int] | None = None,
    neighbours: Iterable[int] = (1, 3, 7),
    progress: bool = True,
) -> Noise:
    """Measure the noise floor of a model, with the settings of a session.

    It works in sessions of its own, so the cache of `on` stays as it is. `known_floor(model)`
    gives the floor from then on.

    Args:
        on: the session whose cache types and attention to take; a model for the usual ones.
        text: whose rows to compare; at most 96 tokens of it, and at least 2. None is four short
            ones: prose, code, a list and nonsense.
        batch_sizes: tokens in a batch while the text is decoded in pieces.
        threads: numbers of threads; None is 1, 2 and all.
        neighbours: sequences beside the one that is compared, from 1 to 255.
        progress: show a bar when it takes longer than two seconds.

    Raises:
        ValueError: a number is out of range, or the text has fewer than 2 tokens.

    >>> import tempfile
    >>> from mullama_lab.engine import tiny
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Model.load(tiny.write(folder + "/tiny.gguf")) as model:
    ...         found = noise(model, "one two three")
    >>> 0 < found.floor.logit < 0.05
    True
    """
    if not isinstance(on, (Session, Model)):
        raise TypeError(f"on={brief(on)}: give a Session, or a Model.")
    model = on if isinstance(on, Model) else on.model
    settings = {} if isinstance(on, Model) else _settings(on)
    sizes = [
        whole("a batch size", size, 1, MOST)
        for size in listed("batch_sizes", batch_sizes, "numbers")
    ]
    beside = [whole("neighbours", n, 1, 255) for n in listed("neighbours", neighbours, "numbers")]
    cpus = os.cpu_count() or 1
    several = (
        sorted({1, min(2, cpus), cpus})
        if threads is None
        else listed("threads", threads, "numbers")
    )
    several = [whole("threads", n, 1, 512) for n in several]
    settings |= {"n_ctx": N_CTX, "n_batch": 512, "n_seq_max": max(beside, default=0) + 2}
    texts = TEXTS if text is None else [text]
    n_ways = 2 + len(sizes) + len(several) + 2 + len(beside)
    found: list[Difference] = []
    with (
        model.session(**settings) as session,
        Bar("noise", n_ways * len(texts), "way", shown=progress) as bar,
    ):
        largest = 0.0
        for i, tokens in enumerate([_tokens(session, text) for text in texts]):
            places = _places(len(tokens))
            fresh = _fresh(session, tokens, places)
            largest = max(largest, *(_largest(row) for row in fresh.values()))
            ways = _ways(session, settings, tokens, places, sizes, several, beside)
            for done, (what, value, rows) in enumerate(ways, start=n_ways * i + 2):
                found += _compared(what, value, i, rows, fresh)
                bar.show(done)
    floor = floor_above([vars(difference) for difference in found], largest)
    remember(model, floor)
    return Noise(model.source, tuple(found), floor)


def _settings(session: Session) -> dict[str, Any]:
    return {key: session.settings[key] for key in ("n_threads", "flash_attention", "kv_type")}


def _tokens(session: Session, text: Prompt) -> list[int]:
    tokens = session.prompt_tokens(text)[:MOST]
    if len(tokens) < 2:
        raise ValueError(
            f"text={text!r:.40}: it has fewer than 2 tokens, so nothing can be decoded in pieces. "
            "Give a longer text."
        )
    return tokens


def _places(n: int) -> list[int]:
    """Where rows are compared: after so many tokens, the last one included."""
    return sorted({int(place) for place in np.linspace(2, n, N_PLACES)})


def _ways(
    session: Session,
    settings: Mapping[str, Any],
    tokens: Sequence[int],
    places: Sequence[int],
    sizes: Sequence[int],
    threads: Sequence[int],
    neighbours: Sequence[int],
) -> Iterator[tuple[str, int | str, Rows]]:
    """Each way of computing the rows: what it is, how much of it, and the rows."""
    yield "the same again", "", _fresh(session, tokens, places)
    for size in sizes:
        yield "batch size", size, _in_pieces(session, tokens, places, size)
    for n in threads:
        with session.model.session(**{**settings, "n_threads": n}) as other:
            yield "threads", n, _fresh(other, tokens, places)
    yield "reused cache", "rewound", _rewound(session, tokens, places)
    yield "reused cache", "forked", _forked(session, tokens, places)
    for n in neighbours:
        yield "batch neighbours", n, _beside(session, tokens, places, n)


def _fresh(session: Session, tokens: Sequence[int], places: Sequence[int]) -> Rows:
    rows = {}
    for place in places:
        session.reset()
        rows[place] = session.logits(tokens[:place])
    return rows


def _in_pieces(session: Session, tokens: Sequence[int], places: Sequence[int], size: int) -> Rows:
    session.reset()
    ends = sorted({*range(size, len(tokens), size), *places})
    rows = {end: session.logits(tokens[:end]) for end in ends}
    return {place: rows[place] for place in places}


def _rewound(session: Session, tokens: Sequence[int], places: Sequence[int]) -> Rows:
    """From a cache that held more: only the last token is decoded."""
    session.reset()
    session.logits([*tokens, *tokens[:8]])
    return {place: session.logits(tokens[:place]) for place in reversed(places)}


def _forked(session: Session, tokens: Sequence[int], places: Sequence[int]) -> Rows:
    """From cells that another sequence decoded."""
    session.reset()
    session.logits(tokens)
    rows = {}
    for place in places:
        fork = session.fork(n_tokens=place - 1)
        rows[place] = session.logits(tokens[:place], sequence=fork)
        session.remove(fork)
    return rows


def _beside(session: Session, tokens: Sequence[int], places: Sequence[int], n: int) -> Rows:
    """The last token in one batch with that of n others, which end otherwise."""
    session.reset()
    rows: Rows = {}
    for place in places:
        others = [[*tokens[: place - 1], (tokens[place - 1] + 1 + i) % session.model.n_vocab]
                  for i in range(n)]  # fmt: skip

        def visit(at: int, row: NDArray[np.float32], place: int = place) -> None:
            if at == 0:
                rows[place] = row.copy()

        session.start_rows([tokens[:place], *others], visit).result_or_stop()
    return rows


def _compared(what: str, value: int | str, text: int, rows: Rows, fresh: Rows) -> list[Difference]:
    return [
        Difference(
            what,
            value,
            text,
            place,
            **row_differences(row, fresh[place]),
            same_best=bool(row.argmax() == fresh[place].argmax()),
        )
        for place, row in sorted(rows.items())
    ]


def _largest(row: NDArray[np.float32]) -> float:
    return float(np.abs(row[np.isfinite(row)]).max())
