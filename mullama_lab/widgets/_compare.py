"""Two to four traces side by side, aligned by token: where they part, and how far apart there.

Each is compared with the first. At the step where two paths part they have the same history,
so the model's own rows differ there only if something else did (another prompt, model, adapter),
or by the noise of another batch; what the chains made of the row may differ in any case.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.noise_floor import NoiseFloor, floor_of
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.divergence import (
    Divergence,
    as_noisy,
    divergence,
    n_shared,
    where_they_part,
)
from mullama_lab.glyphs import brief, visible_piece
from mullama_lab.widgets._endings import with_mark
from mullama_lab.widgets._runs import Ends
from mullama_lab.widgets._view import whole_number
from mullama_lab.widgets._what_differs import what_differs

MOST_SIDES = 4
MOST_ROWS = 100  # aligned steps
BEFORE = 2  # aligned steps that are still alike
HARDLY = 0.01  # nats; a smaller divergence is said to be hardly one, and may be rounding
MAX_SIDE = 3000  # characters of each part of a text
SAME_SETTINGS = "the same settings"
NOT_MEASURED = "the noise is not measured: mullama_lab.studies.noise.noise(model) does"


@dataclass(frozen=True, eq=False)
class Cost:
    """What the grammars of a trace cost.

    Attributes:
        nats, nats_high: -ln of the probability that they left at each token, at least and at
            most; shape (n,).
        said: what it comes to, in a line.
    """

    nats: NDArray[np.float64]
    nats_high: NDArray[np.float64]
    said: str

    @classmethod
    def unknown(cls, n: int, why: Exception) -> Cost:
        """That of n tokens where it could not be found out."""
        words = str(why).rstrip(".")
        return cls(np.zeros(n), np.full(n, np.inf), f"cost n/a: {words}")


@dataclass(frozen=True, eq=False)
class Compared:
    """What is compared: a trace, its number, and what it is called ("run 2").

    `ends`: where it was asked to end; None where that is not known. `cost`: of its grammars; None
    where it had none.
    """

    number: int
    label: str
    trace: Trace
    ends: Ends | None = None
    cost: Cost | None = None


@dataclass(frozen=True)
class Side:
    """One of a comparison.

    Attributes:
        first: the step at which it parts from the first side; None if one begins the other.
        token: its token at the step where not all are alike, "" if it has none.
        rest: its text after that.
        kl, kl_after: KL(first side ‖ this one) at `first`, before and after the chains; None
            where it is not known.
        noise, noise_after: whether those are no more than noise; None where that is not known.
        same_prompt: whether its prompt has the tokens of the first one's.
        given: whether its token at `first`, or the first side's there, was given, not drawn.
        differs: what was asked for otherwise than of the first side, in words.
        cost: what its grammars cost, in a line; "" where it had none.
    """

    number: int
    label: str
    first: int | None
    token: str
    rest: str
    kl: Divergence | None
    kl_after: Divergence | None
    noise: bool | None
    noise_after: bool | None
    same_prompt: bool
    given: bool
    differs: tuple[str, ...]
    cost: str

    @property
    def may_be_noise(self) -> bool:
        """Whether the rows differ so little that rounding may have done it, if that is unknown.

        What a chain makes of one row is exact, so the rows before it decide where they are known.
        """
        kl = self.kl_after if self.kl is None else self.kl
        return self.noise is None and kl is not None and 0 < kl.nats < HARDLY


@dataclass(frozen=True)
class Cell:
    """A token of one side: its bytes, its chance before and after the chain, KL to the first.

    `noise`: whether that KL is no more than noise; None where that is not known. `cost`: nats that
    its grammars took there, at least and at most; None where it had none.
    """

    piece: bytes
    logprob: float
    logprob_after: float
    kl: Divergence | None
    noise: bool | None
    cost: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Traces side by side.

    Attributes:
        first: the first step at which one has another token than the first side; None if every
            one begins with the other or they are the same.
        shared: how many tokens they begin with alike.
        common: the text of those, or its end.
        same_prompt: whether the prompts have the same tokens.
        sides: what is each one's own, in the order given.
        floor: the largest differences that are noise; None if it was not measured for each
            model that is compared.
    """

    first: int | None
    shared: int
    common: str
    same_prompt: bool
    sides: tuple[Side, ...]
    traces: tuple[Trace, ...]
    costs: tuple[Cost | None, ...]
    floor: NoiseFloor | None

    @property
    def a(self) -> Side:
        """The first side."""
        return self.sides[0]

    @property
    def b(self) -> Side:
        """The second side."""
        return self.sides[1]

    def rows(self) -> list[tuple[int, list[Cell | None]]]:
        """Aligned steps from shortly before where they part: (step, a cell for each side)."""
        start = max(0, self.shared - BEFORE)
        stop = min(max(map(len, self.traces)), start + MOST_ROWS)
        sides = range(len(self.traces))
        return [(i, [self._cell(k, i) for k in sides]) for i in range(start, stop)]

    def _cell(self, k: int, i: int) -> Cell | None:
        trace = self.traces[k]
        if i >= len(trace):
            return None
        kl = divergence(self.traces[0], trace, i) if k else None
        chances = float(trace.logprob[i]), float(trace.logprob_after[i])
        cost = self.costs[k]
        taken = None if cost is None else (float(cost.nats[i]), float(cost.nats_high[i]))
        return Cell(trace.pieces[i], *chances, kl, _is_noise(kl, self.floor), taken)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the browser; what is not known is None."""
        return {
            "first": self.first,
            "shared": self.shared,
            "common": self.common,
            "same_prompt": self.same_prompt,
            "sides": [
                {**vars(side), "kl": _kl_as_json(side.kl), "kl_after": _kl_as_json(side.kl_after)}
                for side in self.sides
            ],
            "floor": None if self.floor is None else self.floor.kl,
            "may_be_noise": any(side.may_be_noise for side in self.sides),
            "rows": [[i, [_cell_as_json(cell) for cell in cells]] for i, cells in self.rows()],
            "n": max(map(len, self.traces)),
        }

    def __repr__(self) -> str:
        labels = ", ".join(side.label for side in self.sides)
        lines = [f"Comparison of {labels}: {counted(self.shared, 'token')} alike"]
        for side in self.sides[1:]:
            lines.append(f"  {_parting_text(self.sides[0], side)}")
            differs = ", ".join(side.differs) or SAME_SETTINGS
            lines.append(f"  {self.sides[0].label} → {side.label}: {differs}")
        lines += [f"  {side.label}: {side.cost}" for side in self.sides if side.cost]
        if any(side.may_be_noise for side in self.sides):
            lines.append(f"  {NOT_MEASURED}")
        return "\n".join(lines)


def numbers_to_compare(args: dict[str, Any], of: str) -> list[int]:
    """The numbers out of a request, which may be fewer than two; `of`: what they are numbers of."""
    numbers = args.get("numbers")
    if not isinstance(numbers, list) or len(numbers) > MOST_SIDES:
        raise ValueError(f"numbers is {brief(numbers)}; it must be two to four {of}")
    return [whole_number({"number": n}, "number", low=1, high=2**31 - 1) for n in numbers]


def compare(compared: Sequence[Compared]) -> Comparison:
    """Where two to four traces part; ValueError for any other number of them."""
    if not 2 <= len(compared) <= MOST_SIDES:
        raise ValueError(f"{len(compared)} given to compare; it must be from 2 to {MOST_SIDES}.")
    traces = tuple(one.trace for one in compared)
    first = traces[0]
    shared = min(n_shared(first.tokens, trace.tokens) for trace in traces)
    floor = floor_of(trace.model_id for trace in traces)
    sides = tuple(_side(one, compared[0], shared, floor) for one in compared)
    return Comparison(
        first=shared if any(side.first == shared for side in sides) else None,
        shared=shared,
        common=_end(_text(first, 0, shared)),
        same_prompt=all(side.same_prompt for side in sides),
        sides=sides,
        traces=traces,
        costs=tuple(one.cost for one in compared),
        floor=floor,
    )


def _side(one: Compared, base: Compared, shared: int, floor: NoiseFloor | None) -> Side:
    first, trace = base.trace, one.trace
    at = where_they_part(first, trace)
    kl = None if at is None else divergence(first, trace, at)
    kl_after = None if at is None else divergence(first, trace, at, after=True)
    noise, noise_after = _is_noise(kl, floor), _is_noise(kl_after, floor)
    if noise and at is not None and as_noisy(first, trace, at):
        noise_after = True
    return Side(
        number=one.number,
        label=with_mark(one.label, trace),
        first=at,
        token=_text(trace, shared, shared + 1)[:MAX_SIDE],
        rest=_beginning(_text(trace, shared + 1, len(trace))),
        kl=kl,
        kl_after=kl_after,
        noise=noise,
        noise_after=noise_after,
        same_prompt=trace.prompt_tokens.tolist() == first.prompt_tokens.tolist(),
        given=at is not None and bool(trace.forced[at] or first.forced[at]),
        differs=tuple(what_differs(first, trace, (base.ends, one.ends))),
        cost="" if one.cost is None else one.cost.said,
    )


def _is_noise(kl: Divergence | None, floor: NoiseFloor | None) -> bool | None:
    return None if kl is None or floor is None else floor.within(kl.nats, "kl")


def _text(trace: Trace, start: int, stop: int) -> str:
    return visible_piece(b"".join(trace.pieces[start:stop]))


def _beginning(text: str) -> str:
    return text if len(text) <= MAX_SIDE else text[: MAX_SIDE - 1] + "…"


def _end(text: str) -> str:
    return text if len(text) <= MAX_SIDE else "…" + text[1 - MAX_SIDE :]


def _kl_text(kl: Divergence | None, noise: bool | None) -> str:
    if kl is None:
        return "n/a"
    return f"{kl} nats (within noise)" if noise and kl.nats > 0 else f"{kl} nats"


def _parting_text(a: Side, b: Side) -> str:
    if b.first is None:
        return f"{b.label}: no token differs from {a.label}"
    before, after = _kl_text(b.kl, b.noise), _kl_text(b.kl_after, b.noise_after)
    return (
        f"{b.label} parts from {a.label} at step {b.first}: "
        f"KL {before} before the chain, {after} after"
    )


def _kl_as_json(kl: Divergence | None) -> dict[str, Any] | None:
    """A divergence as plain values; JSON has no infinity, so a flag says it."""
    if kl is None:
        return None
    infinite = math.isinf(kl.nats)
    return {"nats": None if infinite else kl.nats, "infinite": infinite, "exact": kl.exact}


def _cell_as_json(cell: Cell | None) -> list[Any] | None:
    if cell is None:
        return None
    chances = (None if math.isnan(x) else math.exp(x) for x in (cell.logprob, cell.logprob_after))
    cost = cell.cost and [None if math.isinf(nats) else nats for nats in cell.cost]
    return [cell.piece.hex(), *chances, _kl_as_json(cell.kl), cell.noise, cost]
