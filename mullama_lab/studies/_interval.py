"""Interval: over which values of a setting a token stays the choice, as far as asking tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mullama_lab.engine.rows.tail import Uncovered
from mullama_lab.engine.stages import NumberRule

Chosen = Callable[[float], int]  # the token at a value; `Uncovered` where that is not known
Ways = tuple[Sequence[float], Sequence[float]]  # values from the one in force down, and up
Halfway = Callable[[float, float], "float | None"]  # None where two values are near enough


class Interval(NamedTuple):
    """The values from `low` to `high`, and whether the choice is known to be another beyond each.

    Crossed ends say that it is the choice nowhere.
    """

    low: float
    high: float
    flips_low: bool = False
    flips_high: bool = False
    sure: bool = True


def stops_of(rule: NumberRule, now: float, end: float, n: int) -> list[float]:
    """Values from the one in force to an end of the slider, closer where the slider is."""
    if rule.scale == "log" and now > 0 and end > 0:
        values = np.geomspace(now, end, n)
    else:
        values = np.linspace(now, end, n)
    if rule.kind == "int":
        return list(dict.fromkeys([int(now), *np.rint(values).astype(int).tolist()]))
    return [float(now), *(float(x) for x in values[1:-1]), float(end)]


def nowhere(slider: tuple[float, float], sure: bool = True) -> Interval:
    """That of a token which is the choice at no value."""
    low, high = slider
    return Interval(high, low, True, True, sure)


def around(chosen: Chosen, token: int, ways: Ways, halfway: Halfway | None) -> Interval:
    """The interval around the value in force, at which the token is the choice.

    Args:
        halfway: how the border between two stops is searched; None takes the last stop where the
            token stays.
    """
    (low, flips_low, sure_low), (high, flips_high, sure_high) = (
        _end(chosen, token, stops, halfway) for stops in ways
    )
    return Interval(low, high, flips_low, flips_high, sure_low and sure_high)


def elsewhere(
    chosen: Chosen, token: int, ways: Ways, slider: tuple[float, float], halfway: Halfway | None
) -> Interval:
    """The interval around the nearest stop where the token is the choice; in force it is not."""
    sure = True
    stops_by_distance = sorted((i, up) for up, stops in enumerate(ways) for i in range(len(stops)))
    for i, up in stops_by_distance[2:]:  # both ways begin with the value in force
        stops = ways[up]
        try:
            if chosen(stops[i]) != token:
                continue
        except Uncovered:
            sure = False
            continue
        near, near_sure = _border(chosen, token, stops[i], stops[i - 1], halfway)
        far, flips, far_sure = _end(chosen, token, stops[i:], halfway)
        sure = near_sure and far_sure
        if up:
            return Interval(near, far, True, flips, sure)
        return Interval(far, near, flips, True, sure)
    return nowhere(slider, sure)


def _end(
    chosen: Chosen, token: int, stops: Sequence[float], halfway: Halfway | None
) -> tuple[float, bool, bool]:
    """How far the choice stays on the way over some stops; whether it flips there; whether sure."""
    stays = stops[0]
    try:
        for stop in stops[1:]:
            if chosen(stop) != token:
                border, sure = _border(chosen, token, stays, stop, halfway)
                return border, sure, sure
            stays = stop
    except Uncovered:
        return float(stays), False, False
    return float(stays), False, True


def _border(
    chosen: Chosen, token: int, stays: float, gone: float, halfway: Halfway | None
) -> tuple[float, bool]:
    """The last value found at which the choice stays; whether the border was found."""
    while halfway is not None and (middle := halfway(stays, gone)) is not None:
        try:
            if chosen(middle) == token:
                stays = middle
            else:
                gone = middle
        except Uncovered:
            return float(stays), False
    return float(stays), True
