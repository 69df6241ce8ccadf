"""Ours and its peers by turns, so that a busy or throttled machine slows both, and what came of it.

Where the memory of a context happens to lie makes it some per cent faster or slower for as long
as it lives. So what decodes is measured on fresh contexts, opened in an order that changes too.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import TypeVar

from mullama_lab.selfbench.table import Row

T = TypeVar("T")

Opener = Callable[[], AbstractContextManager[Callable[[], T]]]


def in_turns(n: int, *calls: Callable[[], T]) -> list[tuple[T, ...]]:
    """What each of some calls gives, `n` times; the order turns round each time.

    >>> calls = []
    >>> in_turns(2, lambda: calls.append("a") or 1, lambda: calls.append("b") or 2)
    [(1, 2), (1, 2)]
    >>> calls
    ['a', 'b', 'b', 'a']
    """
    return [_all(calls, backwards=number % 2 == 1) for number in range(n)]


def in_turns_afresh(n: int, *openers: Opener[T]) -> list[tuple[T, ...]]:
    """The same of calls that are opened anew each time, first the one, then the other first."""
    rounds = []
    for number in range(n):
        with ExitStack() as stack:
            opening = [partial(_entered, stack, opener) for opener in openers]
            calls = _all(opening, backwards=number % 2 == 1)
            rounds.append(_all(calls, backwards=number // 2 % 2 == 1))
    return rounds


def speeds(what: str, pairs: Iterable[Sequence[float]], target: float | None = None) -> Row:
    """A row on what is better the larger it is: both medians, and the median of the ratios."""
    pairs = list(pairs)
    ours, peer = (statistics.median(column) for column in zip(*pairs))
    ratio = statistics.median(a / b for a, b in pairs)
    return Row(what, f"{ours:.1f}", f"{peer:.1f}", ratio, target, at_least=True)


def _entered(stack: ExitStack, opener: Opener[T]) -> Callable[[], T]:
    return stack.enter_context(opener())


def _all(calls: Sequence[Callable[[], T]], *, backwards: bool) -> tuple[T, ...]:
    """What each gives, in its own place, called from the first or from the last."""
    given = [call() for call in (reversed(calls) if backwards else calls)]
    return tuple(reversed(given) if backwards else given)
