"""WhatIf: what other settings would have made of a run, shown below its tokens.

It shows what was found out and computes nothing: a lab asks the studies and sets the traits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol
from xml.etree.ElementTree import Element

import numpy as np
import traitlets
from numpy.typing import NDArray

from mullama_lab.counted import differing
from mullama_lab.engine.stages.setting import NumberRule
from mullama_lab.glyphs import brief, visible
from mullama_lab.widgets import _front_end, _static
from mullama_lab.widgets._view import Undo, View, whole_number

__all__ = ["WhatIf"]
__dir__ = __all__.copy  # what tab completion offers

MOST_BARS = 256
MOST_TEXT = 400  # characters of a line
LOW_FLIPS, HIGH_FLIPS, UNSURE, GIVEN = 1, 2, 4, 8


class Flips(Protocol):
    """For each token the interval of a setting over which it stays the choice."""

    @property
    def setting(self) -> str: ...
    @property
    def now(self) -> float: ...
    @property
    def slider(self) -> tuple[float, float]: ...
    @property
    def low(self) -> NDArray[np.float64]: ...
    @property
    def high(self) -> NDArray[np.float64]: ...
    @property
    def flips_low(self) -> NDArray[np.bool_]: ...
    @property
    def flips_high(self) -> NDArray[np.bool_]: ...
    @property
    def sure(self) -> NDArray[np.bool_]: ...
    @property
    def texts(self) -> tuple[str, ...]: ...


class WhatIf(View):
    """The chain as it is now on a run that is over: a line, bars, and what each stage changed.

    A bar stands for a token and spans the values of one setting over which it stays the choice;
    a line across all bars is where that setting is now.

    >>> view = WhatIf()
    >>> view.say("none of 24 choices differs")
    >>> view
    WhatIf(none of 24 choices differs)
    """

    _esm = _front_end.module("what_if")
    _css = _front_end.style("what_if")

    line = traitlets.Unicode("", help="What the chain as it is now would have chosen.").tag(
        sync=True
    )
    busy = traitlets.Unicode("", help="What is being found out, empty at rest.").tag(sync=True)
    levers = traitlets.List(
        traitlets.Unicode(), help="The settings of the chain that can be varied, by name."
    ).tag(sync=True)
    lever = traitlets.Dict(
        help="The one that is varied: place among the levers, value, slider, step, scale, whole."
    ).tag(sync=True)
    at = traitlets.Float(None, allow_none=True, help="Where the setting is now.").tag(sync=True)
    bars = traitlets.Dict(help="Label, range, scale, was, low, high, marks, texts, more.").tag(
        sync=True
    )
    seen = traitlets.Dict(
        help="What a replay says: at which value, which steps differ, of how many."
    ).tag(sync=True)
    effects = traitlets.List(help="[stage, changed, of, why not] of each stage.").tag(sync=True)

    def show_lever(self, levers: Sequence[str], place: int, value: float, rule: NumberRule) -> None:
        """Say which setting is varied, and offer all that could be.

        Args:
            place: which of `levers` it is; `value` is what it is now, `rule` what it may be.
        """
        with self.hold_sync():
            self.levers = list(levers)
            self.lever = {
                "place": place,
                "value": value,
                "slider": list(rule.slider),
                "step": rule.step,
                "scale": rule.scale,
                "whole": rule.kind == "int",
                "help": rule.help,
            }

    def on_vary(self, callback: Callable[[int], object]) -> Undo:
        """Call `callback(place)` when another of the levers is to be varied."""
        return self._listen("vary", callback)

    def on_turn(self, callback: Callable[[float], object]) -> Undo:
        """Call `callback(value)` when the lever is turned."""
        return self._listen("turn", callback)

    def say(self, line: str) -> None:
        """Say in a line what the chain would have chosen."""
        self.line = line[:MOST_TEXT]

    def show_choices(
        self, line: str, *, at: float | None, differs: Sequence[int], n_compared: int
    ) -> None:
        """Say what the chain would have chosen, with the setting where it is now.

        Args:
            at: the value of the setting that the bars are of.
            differs, n_compared: the steps whose choice differs, and how many were compared. What
                is counted below the line are these, as long as the setting stays at that value.
        """
        with self.hold_sync():
            self.say(line)
            self.seen = {"at": at, "differs": list(differs), "of": n_compared}
            self.at = at

    def show_flips(
        self, flips: Flips, label: str, *, scale: str = "linear", was: float | None = None
    ) -> None:
        """Draw the bars of a flip map; the first 256 tokens of it.

        Args:
            was: the setting of the run, if the flip map is one of another chain; NaN if the run's
                had no such stage.
        """
        n = min(len(flips.low), MOST_BARS)
        marks = (
            flips.flips_low * LOW_FLIPS
            + flips.flips_high * HIGH_FLIPS
            + ~flips.sure * UNSURE
            + np.isnan(flips.low) * GIVEN
        )
        self.bars = {
            "label": label,
            "setting": flips.setting,
            "range": [_short(x) for x in flips.slider],
            "scale": scale,
            "was": _short(flips.now if was is None else was),
            "low": [_short(x) for x in flips.low[:n]],
            "high": [_short(x) for x in flips.high[:n]],
            "marks": [int(x) for x in marks[:n]],
            "texts": [text[:40] for text in flips.texts[:n]],
            "more": len(flips.low) - n,
        }

    def show_effects(self, effects: Iterable[Sequence[Any]]) -> None:
        """Say of each stage, as (stage, changed, of, why it does nothing), what it changed."""
        self.effects = [[str(a)[:80], int(b), int(c), str(d)[:80]] for a, b, c, d in effects]

    def clear(self) -> None:
        """Show nothing, as before the first run."""
        with self.hold_sync():
            self.line = self.busy = ""
            self.at = None
            self.bars = {}
            self.seen = {}
            self.effects = []

    def n_flipped(self) -> int | None:
        """How many tokens the setting as it is now would change; None without bars."""
        if not self.bars or self.at is None:
            return None
        if self._is_seen():
            return len(self.seen["differs"])
        rows = zip(self.bars["low"], self.bars["high"], self.bars["marks"], strict=True)
        return sum(_is_flipped(self.at, *row) for row in rows)

    def __repr__(self) -> str:
        return f"WhatIf({self.line})"

    def _on_request(self, op: str, args: dict[str, Any]) -> Any:
        if op == "vary":
            self._tell("vary", whole_number(args, "place", low=0, high=len(self.levers) - 1))
            return {}
        if op == "turn":
            value = args.get("value")
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(f"{brief(value)} is no number")
            self._tell("turn", value)
            return {}
        return super()._on_request(op, args)

    def _plain_text(self) -> str:
        told = [f"What if: {self.line or 'nothing was run yet'}"]
        if (n := self.n_flipped()) is not None:
            told.append(f"{self.bars['label']} at {self.at:g} changes {n} of {self._n_compared()}")
        told += [f"without {row[0]}: {_effect(row)}" for row in self.effects]
        return "\n".join(told)

    @property
    def _is_at_work(self) -> bool:
        return bool(self.busy)

    def _is_seen(self) -> bool:
        """Whether a replay has said what the setting does where it is now."""
        return bool(self.seen) and self.seen["at"] == self.at

    def _n_compared(self) -> int:
        if self._is_seen():
            return self.seen["of"]
        return sum(not mark & GIVEN for mark in self.bars["marks"])

    def _static_html(self) -> Element:
        e = _static.element
        lines = [e("div", line) for line in self._plain_text().split("\n")]
        table = None
        if self.bars:
            rows = [
                [str(i), visible(text), *_ends(low, high)]
                for i, (text, low, high) in enumerate(
                    zip(*(self.bars[name] for name in ("texts", "low", "high")), strict=True)
                )
            ][:60]
            table = _static.table(["step", "token", "stays from", "to"], rows)
        return e("div", *lines, table, style=_static.FONT)


def _is_flipped(at: float, low: float | None, high: float | None, mark: int) -> bool:
    if low is None or high is None:
        return False
    return bool((at < low and mark & LOW_FLIPS) or (at > high and mark & HIGH_FLIPS))


def _effect(row: Sequence[Any]) -> str:
    told = differing(row[1], row[2]) if row[2] else "n/a"
    return told + (f" ({row[3]})" if row[3] else "")


def _short(x: float) -> float | None:
    return None if np.isnan(x) else float(f"{x:.6g}")


def _ends(low: float | None, high: float | None) -> list[str]:
    if low is not None and high is not None and low > high:
        return ["nowhere", ""]
    return [_value(low), _value(high)]


def _value(x: float | None) -> str:
    return "n/a" if x is None else f"{x:.4g}"
