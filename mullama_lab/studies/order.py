"""Order lab: does it matter in which order the stages of a chain come?

Each order of the stages is applied by llama.cpp's own samplers to one row, or to every row of a
generation, and what is left to draw from is compared by the Jensen-Shannon distance, to base 2:
0 for the same probabilities, 1 where no token is in both.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mullama_lab.engine.bar import bar
from mullama_lab.engine.model import Model
from mullama_lab.engine.noise_floor import jensen_shannon
from mullama_lab.engine.options import listed, whole
from mullama_lab.engine.rows.tail import Uncovered, log_total
from mullama_lab.engine.session import Session
from mullama_lab.engine.setting import SettingOrChain, chain_for_row
from mullama_lab.engine.stages import Chain, Stage
from mullama_lab.engine.stages.chain_sampler import check
from mullama_lab.engine.stages.moment import Moment, moment_of_row
from mullama_lab.engine.stages.schedule import Schedule
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace_rows import rows_and_schedule
from mullama_lab.errors import NoCandidates

if TYPE_CHECKING:
    import pandas

__all__ = ["Orders", "orders", "orders_in_row"]
__dir__ = __all__.copy  # what tab completion offers

MOST_ORDERS = 120  # five stages in every order
SAME = 1e-4  # distances up to this come of float32 alone
Order = Sequence[int]
Left = tuple[NDArray[np.int32], NDArray[np.float64]]  # ids, probabilities


@dataclass(frozen=True, eq=False)
class Orders:
    """What some orders of a chain's stages lead to.

    Attributes:
        orders: for each order the places of the stages in the chain that was given.
        chains: the chains themselves, the last ones where the chain changed on the way.
        distances: Jensen-Shannon distances, the mean over the rows, shape (orders, orders); NaN
            where an order leaves no token of some row.
        worst: the largest over the rows.
        n_rows: how many rows were looked at.
        problems: of an order that leaves no token: why.
        weights: what other weights than those of the trace have otherwise, in words, where they
            computed the rows.
    """

    orders: tuple[tuple[int, ...], ...]
    chains: tuple[Chain, ...]
    distances: NDArray[np.float64]
    worst: NDArray[np.float64]
    n_rows: int
    problems: dict[int, str]
    weights: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.orders)

    @property
    def groups(self) -> list[list[int]]:
        """Orders that lead to the same probabilities in every row, the first of each in order."""
        groups: list[list[int]] = []
        for i in range(len(self)):
            like = (g for g in groups if self.worst[g[0], i] <= SAME)
            group = next(like, None)
            if group is None:
                groups.append([i])
            else:
                group.append(i)
        return groups

    def to_pandas(self) -> pandas.DataFrame:
        """The matrix of mean distances, a row and a column an order; needs pandas."""
        import pandas as pd

        names = [repr(chain) for chain in self.chains]
        return pd.DataFrame(self.distances, index=names, columns=names)

    def grouped(self) -> pandas.DataFrame:
        """One row for each group of equivalent orders; needs pandas.

        `distance` is the mean distance to the first order, `worst` the largest.
        """
        import pandas as pd

        rows = [
            (len(g), repr(self.chains[g[0]]), self.distances[0, g[0]], self.worst[0, g[0]], g)
            for g in self.groups
        ]
        return pd.DataFrame(rows, columns=["orders", "chain", "distance", "worst", "which"])

    def summary(self) -> str:
        """What came of it, in a line."""
        n, kinds = len(self), len(self.groups)
        over = f"over {self.n_rows} rows" if self.n_rows > 1 else "on one row"
        over += f" decoded {', '.join(self.weights)}" if self.weights else ""
        if kinds == 1:
            return f"all {n} orders do the same {over}"
        far = "n/a" if np.isnan(self.worst).all() else f"{np.nanmax(self.worst):.3f}"
        return f"{n} orders fall into {kinds} groups {over}; the furthest apart are {far}"

    def __repr__(self) -> str:
        lines = [f"<Orders: {self.summary()}>"]
        for group in self.groups:
            first = group[0]
            told = self.problems.get(first, f"{self.distances[0, first]:.3f} from the first")
            lines.append(f"  {len(group)} like {self.chains[first]!r}: {told}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        table = self.grouped()[["orders", "chain", "distance", "worst"]]
        shown = table.to_html(index=False, float_format="%.3f", border=0, max_rows=40)
        return f"<p>{escape(self.summary())}</p>{shown}"


def orders(
    trace: Trace,
    chain: SettingOrChain = None,
    *,
    on: Model | Session,
    permutations: Iterable[Order] | None = None,
) -> Orders:
    """Compare orders of a chain's stages on every row of a trace.

    Args:
        chain: None is the chain that was in force at each step; where it changed on the way, the
            chains must have the same kinds of stages in the same places. It may be a Setting, or
            a dict of those by steps: where its weights are others than the trace's, the rows are
            decoded with them.
        on: the Model of the trace, or a Session of it, which can decode rows again.
        permutations: the orders to compare, each all places of the chain's stages in some order,
            such as (1, 0, 2). None is every order of the stages that act at their settings; the
            first is the one given.

    Raises:
        ValueError: a permutation leaves out a stage; there are more than 120 orders; the chain
            became another one with other stages on the way; or whole rows are needed and `on` is
            no Session.

    Example:
        orders(trace, TopP(0.9) | Temperature(1.5), on=session).to_pandas()
    """
    rows, schedule = rows_and_schedule(trace, chain, on, drawn=False)
    comparison = _Comparison(schedule, permutations)
    unsure: dict[int, str] = {}
    with bar("Comparing orders", len(rows), "rows") as shown:
        for step in range(len(rows)):
            try:
                comparison.add(rows.known(step))
                shown.update()
            except Uncovered as why:
                unsure[step] = str(why)
        if unsure:
            rows.must_have_session(unsure, schedule.at(min(unsure)), next(iter(unsure.values())))

            def visit(moment: Moment) -> None:
                comparison.add(moment)
                shown.update()

            rows.decode(unsure, visit)
    other = next(filter(rows.has_other_weights, range(len(rows))), None)
    weights = () if other is None else rows.other_weights(other)
    return replace(comparison.result(), weights=weights)


def orders_in_row(
    row: ArrayLike,
    chain: Chain | Stage,
    *,
    model: Model,
    history: Sequence[int] = (),
    seed: int = 0,
    step: int = 0,
    permutations: Iterable[Order] | None = None,
) -> Orders:
    """As `orders`, on one row of logits of shape (n_vocab,), such as `session.logits(prompt)`.

    Raises:
        TypeError: the chain is a Setting, whose weights play no part in a row that is there.
        ValueError: a permutation leaves out a stage; there are more than 120 orders; the chain
            does not fit the model; or a row, history, seed or step that `chain.preview` refuses.
    """
    chain = chain_for_row(chain)
    check(chain, model)
    comparison = _Comparison(Schedule.of(chain), permutations)
    comparison.add(moment_of_row(row, model, chain=chain, history=history, seed=seed, step=step))
    return comparison.result()


def _must_have_the_same_places(schedule: Schedule) -> None:
    kinds = {tuple(map(type, chain)): first for first, chain in schedule.items()}
    if len(kinds) > 1:
        raise ValueError(
            f"the chain has other stages from step {sorted(kinds.values())[1]} on, so there is no "
            "one order of them: give the chain, or a part of the trace, such as trace[:9]."
        )


def _orders_of(schedule: Schedule, permutations: Iterable[Order] | None) -> list[tuple[int, ...]]:
    chain = schedule.last
    if permutations is None:
        versions = list(zip(*schedule.values(), strict=True))  # of the stage in each place
        acting = [i for i, each in enumerate(versions) if not all(x.why_inert() for x in each)]
        if math.factorial(len(acting)) > MOST_ORDERS:
            raise ValueError(
                f"{len(acting)} stages have {math.factorial(len(acting))} orders, and at most "
                f"{MOST_ORDERS} are compared. Choose some: permutations=[(0, 1, 2), (2, 1, 0)]."
            )
        return list(_all_orders(len(chain), acting))
    chosen = [
        tuple(whole("place", i, 0, len(chain) - 1) for i in listed("an order", order, "places"))
        for order in listed("permutations", permutations, "orders")
    ]
    for order in chosen:
        if sorted(order) != list(range(len(chain))):
            raise ValueError(
                f"permutations: {order} must have each place from 0 to {len(chain) - 1} once, "
                f"as {chain!r} has {len(chain)} stages."
            )
    if not 1 <= len(chosen) <= MOST_ORDERS:
        raise ValueError(f"permutations: give 1 to {MOST_ORDERS} orders, not {len(chosen)}.")
    return chosen


def _all_orders(n: int, acting: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every order of the acting places; the others stay where they are."""
    for shuffled in itertools.permutations(acting):
        order = list(range(n))
        for place, i in zip(acting, shuffled, strict=True):
            order[place] = i
        yield tuple(order)


class _Comparison:
    """Adds up the distances of row after row."""

    def __init__(self, schedule: Schedule, permutations: Iterable[Order] | None) -> None:
        _must_have_the_same_places(schedule)
        self.schedule = schedule
        self.orders = _orders_of(schedule, permutations)
        self.chains = [Chain(schedule.last[i] for i in order) for order in self.orders]
        n = len(self.orders)
        self.sums, self.worst = np.zeros((n, n)), np.zeros((n, n))
        self.n_rows = 0
        self.problems: dict[int, str] = {}

    def add(self, moment: Moment) -> None:
        """Add one row; `Uncovered` if what was kept of it does not decide all."""
        lefts: list[Left | None] = []
        problems: dict[int, str] = {}
        given = self.schedule.at(moment.step)
        for i, order in enumerate(self.orders):
            chain = Chain(given[j] for j in order)
            state = tuple(moment.state[j] for j in order) if _fits(moment, order, chain) else ()
            try:
                lefts.append(_left(replace(moment, chain=chain, state=state)))
            except NoCandidates as why:
                problems[i] = str(why)
                lefts.append(None)
        distances = _distances(lefts)
        self.problems |= problems
        self.sums += distances
        self.worst = np.maximum(self.worst, distances)
        self.n_rows += 1

    def result(self) -> Orders:
        return Orders(
            tuple(self.orders),
            tuple(self.chains),
            self.sums / self.n_rows,
            self.worst,
            self.n_rows,
            self.problems,
        )


def _fits(moment: Moment, order: Order, chain: Chain) -> bool:
    """Whether the chain is the one in force there but for its order: then so is what it learnt."""
    return len(moment.state) == len(order) == len(moment.chain) and all(
        type(moment.chain[i]) is type(stage) for i, stage in zip(order, chain, strict=True)
    )


def _left(moment: Moment) -> Left:
    work = moment.sampler()
    totals = [moment.logsumexp]
    moment.choose(work, lambda place, inert, total: totals.append(total))
    window = work.candidates.window
    total = log_total(window["logit"])
    if not abs(totals[-1] - total) < 1e-9 and not (len(totals) == 1 and moment.is_whole):
        raise Uncovered("tokens that were not kept of the row may be drawn")
    return window["id"].copy(), np.exp(window["logit"].astype(np.float64) - total)


def _distances(lefts: Sequence[Left | None]) -> NDArray[np.float64]:
    """The Jensen-Shannon distance between each two; equal ones are compared once."""
    n = len(lefts)
    support = np.unique(np.concatenate([left[0] for left in lefts if left] or [[]]))
    rows: dict[bytes, int] = {}
    kinds = np.full(n, -1)
    table = []
    for i, left in enumerate(lefts):
        if left is None:
            continue
        probs = np.zeros(len(support))
        probs[np.searchsorted(support, left[0])] = left[1]
        key = np.round(probs, 12).tobytes()
        if key not in rows:
            rows[key] = len(table)
            table.append(probs)
        kinds[i] = rows[key]
    between = np.zeros((len(table) + 1, len(table) + 1))
    between[-1] = between[:, -1] = np.nan
    for a, b in itertools.combinations(range(len(table)), 2):
        between[a, b] = between[b, a] = jensen_shannon(table[a], table[b])
    distances = between[np.ix_(kinds, kinds)]
    np.fill_diagonal(distances, 0.0)
    return distances
