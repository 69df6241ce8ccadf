"""Seeds: how far do runs agree that differ in nothing but their seed?

All runs go side by side in one batch, and the prompt is processed once. What is measured are
the tokens: where runs part, how many ways they take, which of them end near each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.loop.spread import OneChain, Prompt
from mullama_lab.engine.options import Stop, whole
from mullama_lab.engine.session import Session
from mullama_lab.engine.setting import setting_or_chain
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.tree import Tree
from mullama_lab.glyphs import brief
from mullama_lab.studies._together import Bar, listed_seeds, mean, wait_for

if TYPE_CHECKING:
    import pandas

__all__ = ["SeedFan", "seed_fan"]
__dir__ = __all__.copy  # what tab completion offers

GRAMS_AT_ONCE = 4096  # columns of a table, so that thousands of runs fit in memory
_ENDED = ("eog", "stop", "complete")  # what a run says that has ended by itself
_NO_TOKEN = -1  # of a run that has ended by itself: it stays what it was
_NOT_KNOWN = -2  # of a run that was ended


def seed_fan(
    prompt: Prompt,
    chain: OneChain = None,
    *,
    on: Session,
    seeds: Iterable[int] = range(16),
    max_tokens: int = 64,
    stop: Stop = (),
    top: int = 64,
    progress: bool = True,
) -> SeedFan:
    """Generate from one prompt with many seeds, side by side, and see how far they agree.

    Ctrl-C stops it and raises KeyboardInterrupt; the session stays usable, and
    `SeedFan(session.last_traces)` is what there was.

    Args:
        chain: a chain, a stage or a Setting; None is llama.cpp's default chain.
        on: the session to work in; as many runs go at once as it has sequences.
        seeds: the seeds, such as range(24).
        max_tokens, stop, top: as in `session.generate`, for each run.
        progress: show a bar when it takes longer than two seconds.

    Raises:
        ValueError: no seed, no token, or a value that `generate_many` refuses.
        MullamaError: what made the first run fail; `session.last_traces` has all.

    >>> import tempfile
    >>> from mullama_lab import Model, Greedy
    >>> from mullama_lab.engine import tiny
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Model.load(tiny.write(folder + "/tiny.gguf")) as model:
    ...         fan = seed_fan("Hi", Greedy(), on=model.session(), seeds=range(4), max_tokens=8)
    >>> fan.survival["share"].tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    >>> len(fan.outcomes()), fan.distinct(1) <= 8 / 32
    (1, True)
    """
    if not isinstance(on, Session):
        raise TypeError(f"seeds are tried in a Session, not {brief(on)}: on=model.session().")
    max_tokens = whole("max_tokens", max_tokens, 1, 1 << 20)
    numbers = listed_seeds(seeds)
    if not isinstance(seeds, Iterable):
        raise ValueError(f"seeds={seeds}: a fan has several. Give them, such as range(16).")
    chain, tokens = setting_or_chain(chain), on.prompt_tokens(prompt)
    with Bar("seeds", len(numbers) * max_tokens, "token", shown=progress) as bar:
        runs = on.start_many(
            tokens, chain, max_tokens=max_tokens, seeds=numbers, stop=stop, top=top
        )
        traces = wait_for(runs, max_tokens, bar)
    runs.wait()  # raises what made one fail
    return SeedFan(traces)


@dataclass(frozen=True, eq=False, repr=False)
class SeedFan:
    """Runs of one prompt that differ in their seed. `len(fan)` is how many.

    Args:
        traces: the runs, such as `session.last_traces`; those without a token are left out.

    Raises:
        ValueError: no run has a token, or the runs are of different prompts.
    """

    traces: Sequence[Trace]

    def __post_init__(self) -> None:
        begun = tuple(trace for trace in self.traces if len(trace))
        if not begun:
            raise ValueError(f"none of {len(self.traces)} runs has a token: there is nothing yet.")
        if len({tuple(trace.prompt_tokens.tolist()) for trace in begun}) > 1:
            raise ValueError("the runs have different prompts. Give the runs of one prompt.")
        object.__setattr__(self, "traces", begun)

    def __len__(self) -> int:
        return len(self.traces)

    # Where they part.

    @cached_property
    def _ways(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The way each run is on after each step, and how many runs are on it: (runs, steps).

        Two runs are on one way if all of their tokens so far are the same. -1 and 0 where a
        run's step is not known.
        """
        n = max(map(len, self.traces))
        tokens = np.full((len(self), n), _NOT_KNOWN, np.int64)
        for i, trace in enumerate(self.traces):
            tokens[i, : len(trace)] = trace.tokens
            if trace.finish_reason in _ENDED:
                tokens[i, len(trace) :] = _NO_TOKEN
        ways, sizes = np.full_like(tokens, -1), np.zeros_like(tokens)
        way = np.zeros(len(self), np.int64)
        for step, column in enumerate(tokens.T):
            pairs = np.stack([way, column], axis=1)
            _, way, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
            way = way.reshape(-1)
            known = column != _NOT_KNOWN
            ways[known, step], sizes[known, step] = way[known], counts[way[known]]
        return ways, sizes

    @cached_property
    def survival(self) -> pandas.DataFrame:
        """Step by step, how many runs still have the same tokens since the prompt.

        Columns: `runs`, of which this step is known (one that was stopped is not known after its
        last token; one that ended by itself stays what it is); `together`, those with the most
        common prefix; `share`, together / runs; `distinct`, the number of different prefixes.
        """
        import pandas as pd

        ways, sizes = self._ways
        runs = (ways >= 0).sum(axis=0)
        together = sizes.max(axis=0)
        distinct = [len(np.unique(column[column >= 0])) for column in ways.T]
        table = {"runs": runs, "together": together, "share": together / runs}
        return pd.DataFrame({**table, "distinct": distinct}).rename_axis("step")

    @property
    def n_together(self) -> int:
        """How many tokens all runs have in common from the beginning."""
        return self.n_shared_by(1.0)

    def n_shared_by(self, share: float) -> int:
        """How many tokens at least that share of the runs has in common from the beginning."""
        shares = self.survival["share"].to_numpy()
        below = np.flatnonzero(shares < share)
        return int(below[0]) if len(below) else len(shares)

    def tree(self) -> Tree:
        """The runs as a Tree, in which what they share is there once."""
        return Tree(self.traces)

    # Where they end.

    def outcomes(self, n_tokens: int | None = None) -> pandas.DataFrame:
        """The runs by what they say: one row for those with the same first tokens.

        Args:
            n_tokens: how many tokens must be the same; None is all of them.

        Returns:
            The largest first. Columns: `runs`, `share`, `text` (what they have in common),
            `logprob` (the mean of the runs' means, nats a token) and `seeds`.
        """
        if n_tokens is not None:
            n_tokens = whole("n_tokens", n_tokens, 1, 1 << 31)
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, trace in enumerate(self.traces):
            groups.setdefault(tuple(trace.tokens[:n_tokens].tolist()), []).append(i)
        return self._table(list(groups.values()), n_tokens)

    def clusters(self, within: float = 0.5, *, n: int = 2) -> pandas.DataFrame:
        """The runs by what they are like: two are in one cluster if they are near, or linked.

        Near is a distance of at most `within` (see `distances`); linked is near to one that is
        near, and so on: single linkage. The columns are those of `outcomes`; `text` is that of
        the run nearest to the others.

        Args:
            within: from 0, the same n-grams, to 1, anything.
        """
        if not 0 <= within <= 1:
            raise ValueError(f"within={brief(within)}: a distance is from 0 to 1.")
        apart = self.distances(n)
        linked = apart <= within
        cluster = np.arange(len(self))
        for i in range(len(self)):  # what i is near to joins i's cluster, with all of its own
            if (cluster[linked[i]] != cluster[i]).any():
                cluster[np.isin(cluster, cluster[linked[i]])] = cluster[i]
        groups = [np.flatnonzero(cluster == c).tolist() for c in dict.fromkeys(cluster.tolist())]
        return self._table([_middle_first(group, apart) for group in groups], None)

    def distances(self, n: int = 2) -> NDArray[np.float64]:
        """How unlike the runs are, shape (runs, runs): Jaccard distances of their n-grams.

        1 - (n-grams of tokens that both have) / (n-grams that one has), from 0 to 1; the order
        and number of an n-gram do not count. A run shorter than n is one gram.
        """
        known: dict[tuple[int, ...], int] = {}
        has = [
            np.array([known.setdefault(gram, len(known)) for gram in set(_grams(trace, n))])
            for trace in self.traces
        ]
        sizes = np.array([len(some) for some in has])
        both = np.zeros((len(self), len(self)))
        for first in range(0, len(known), GRAMS_AT_ONCE):
            n_here = min(GRAMS_AT_ONCE, len(known) - first)
            table = np.zeros((len(self), n_here), np.float32)
            for i, some in enumerate(has):
                here = some[(some >= first) & (some < first + n_here)]
                table[i, here - first] = 1
            both += table @ table.T
        return 1 - both / (sizes[:, None] + sizes[None] - both)

    def distinct(self, n: int = 2) -> float:
        """Distinct-n: different n-grams of tokens in all runs, by their number; 1 is no repeat.

        Source: Li et al. 2016, arXiv:1510.03055.
        """
        whole("n", n, 1, 1 << 20)
        grams = [gram for trace in self.traces for gram in _grams(trace, n) if len(gram) == n]
        return len(set(grams)) / len(grams) if grams else float("nan")

    @property
    def mean_logprob(self) -> float:
        """The mean log-probability of a token before the chain, in nats, over all runs."""
        return float(np.concatenate([trace.logprob for trace in self.traces]).mean())

    def to_pandas(self) -> pandas.DataFrame:
        """One row a run.

        `logprob` and `entropy` are means a token before the chain, in nats, and `logprob_after`
        after it; `shared` is how many first tokens another run has, too.
        """
        import pandas as pd

        shared = (self._ways[1] > 1).sum(axis=1)
        rows = [
            {
                "seed": trace.seed,
                "text": trace.text,
                "n_tokens": len(trace),
                "finish_reason": trace.finish_reason,
                "logprob": mean(trace.logprob.tolist()),
                "logprob_after": mean(trace.logprob_after.tolist()),
                "entropy": mean(trace.entropy.tolist()),
                "shared": min(int(n), len(trace)),
            }
            for trace, n in zip(self.traces, shared, strict=True)
        ]
        return pd.DataFrame(rows)

    # Texts.

    def summary(self) -> str:
        """What came of it, in a line."""
        n, half = self.n_together, self.n_shared_by(0.5)
        stopped = sum(t.finish_reason not in ("length", *_ENDED) for t in self.traces)
        parts = (
            f"all together for {counted(n, 'token')}, half of them for {half}",
            f"{len(self.outcomes())} outcomes",
            f"distinct-2 {self.distinct():.2f}",
            f"mean logprob {self.mean_logprob:.2f}",
            *([f"{stopped} not at their end"] if stopped else []),
        )
        return ", ".join(parts)

    def __repr__(self) -> str:
        return f"<SeedFan of {counted(len(self), 'run')}: {self.summary()}>"

    def _repr_html_(self) -> str:
        table = self.to_pandas()
        table["text"] = table["text"].map(repr)  # nothing invisible in it
        columns = ["seed", "text", "n_tokens", "finish_reason", "logprob", "entropy", "shared"]
        shown = table[columns].to_html(index=False, max_rows=20, float_format="%.2f", border=0)
        return f"<p>{counted(len(self), 'run')}: {self.summary()}</p>{shown}"

    def _table(self, groups: list[list[int]], n_tokens: int | None) -> pandas.DataFrame:
        import pandas as pd

        rows = []
        for group in sorted(groups, key=lambda group: (-len(group), min(group))):
            traces = [self.traces[i] for i in group]
            rows.append(
                {
                    "runs": len(group),
                    "share": len(group) / len(self),
                    "text": traces[0][:n_tokens].text,
                    "logprob": mean([float(trace.logprob.mean()) for trace in traces]),
                    "seeds": sorted(trace.seed or 0 for trace in traces),
                }
            )
        return pd.DataFrame(rows)


def _middle_first(group: list[int], apart: NDArray[np.float64]) -> list[int]:
    """The run nearest to the others of its cluster, then the others."""
    middle = group[int(apart[np.ix_(group, group)].sum(axis=1).argmin())]
    return [middle, *(i for i in group if i != middle)]


def _grams(trace: Trace, n: int) -> list[tuple[int, ...]]:
    tokens = trace.tokens.tolist()
    whole("n", n, 1, 1 << 20)
    return [tuple(tokens[i : i + n]) for i in range(max(1, len(tokens) - n + 1))]
