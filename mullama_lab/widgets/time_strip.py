"""TimeStrip: where each token's time went, as bars, of which a range is brushed and summed up.

The numbers are those of `studies.timing.timing`, which makes them of a Trace.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

import traitlets

from mullama_lab.engine.leaving import usable_in_forks
from mullama_lab.engine.options import whole
from mullama_lab.glyphs import brief
from mullama_lab.widgets import _front_end, _static
from mullama_lab.widgets._time_bars import bars_of, checked_timing, sums_of
from mullama_lab.widgets._view import View, what_failed, whole_number

if TYPE_CHECKING:
    from mullama_lab.studies.timing import Timing

__all__ = ["TimeStrip"]
__dir__ = __all__.copy  # what tab completion offers

COLOURS = (  # of the static form, translucent, for any page; the last is of the rest
    *("rgba(59,130,196,.75)", "rgba(217,119,6,.8)", "rgba(46,139,87,.8)"),
    *("rgba(176,69,127,.8)", "rgba(128,128,128,.55)"),
)
STATIC_BARS = 60
HIGH = 60  # pixels of the highest of them


class TimeStrip(View):
    """Where the time of each token went: decode, sampling, constraint, capture, and the rest.

        found = ml.studies.timing.timing(trace)
        strip = ml.widgets.TimeStrip(found)
        strip.chosen = [100, 199]           # what a brush does
        strip.timing.between(100, 200)      # has the numbers that it shows

    Of a long text a bar is the mean of several tokens, and says of how many. The first token waited
    for the whole prompt: its bar is cut where it is higher than four times the median, as any
    other is, and averages leave it out, those of bars too. Times differ from run to run, so the
    plain form has none.

    Args:
        found: what `studies.timing.timing` says of a trace; None shows an empty strip.

    Raises:
        TypeError: it is something else.
    """

    _esm = _front_end.module("time_strip")
    _css = _front_end.style("time_strip")

    bars = traitlets.Dict(help="Bars of the mean time of a token, part by part.").tag(sync=True)
    chosen = traitlets.List(
        traitlets.Int(), [], help="The first and the last step that are summed up."
    ).tag(sync=True)
    sums = traitlets.Dict(help="What these sum up to: lines, and the mean of each part.").tag(
        sync=True
    )

    problem = traitlets.Unicode("", help="Why there are no times to show.").tag(sync=True)

    def __init__(self, found: Timing | None = None) -> None:
        self._timing: Timing | None = None
        self._lock = usable_in_forks(threading.RLock())  # what is shown and what is chosen of it
        super().__init__()
        if found is not None:
            self.put_to(found)

    def put_to(self, found: Timing | None) -> None:
        """Show another one, such as of the same trace once it is longer.

        What is chosen stays so, if it is there; all stays all.
        """
        if found is not None:
            checked_timing(found)
        with self._lock, self.hold_sync():
            before, chosen = self._ends, list(self.chosen or [])
            self._timing, self.problem = found, ""
            ends = self._ends
            self.bars = {} if found is None else bars_of(found)
            self.chosen = chosen if chosen != before and _are_there(chosen, ends) else ends
            self._sum_up()

    def fail(self, error: str | BaseException) -> None:
        """Say why there are no times, and show none, until it is put to another one."""
        problem = what_failed(error)
        with self._lock, self.hold_sync():
            self.put_to(None)
            self.problem = problem

    @property
    def timing(self) -> Timing | None:
        """The Timing that is shown."""
        return self._timing

    @property
    def _ends(self) -> list[int]:
        """The first and the last step there are; empty for none."""
        found = self._timing
        return [int(found.steps[0]), int(found.steps[-1])] if found is not None and found else []

    @traitlets.validate("chosen")
    def _check_chosen(self, proposal: Any) -> list[int]:
        try:
            return self._checked(proposal["value"])
        except (ValueError, TypeError) as error:
            raise traitlets.TraitError(str(error)) from None

    def _checked(self, chosen: Sequence[int]) -> list[int]:
        ends = self._ends
        if not ends:
            if chosen:
                raise ValueError("an empty strip has no steps to choose.")
            return []
        if len(chosen) != 2:
            raise ValueError(f"chosen={brief(chosen)}: name the first and the last, as [100, 199].")
        first, last = (whole("a step", step, ends[0], ends[1]) for step in chosen)
        if first > last:
            raise ValueError(f"chosen={brief(chosen)}: the first comes before the last.")
        return [first, last]

    @traitlets.observe("chosen")
    def _sum_up(self, _: Any = None) -> None:
        found = self._timing
        if found is None or not self.chosen:
            self.sums = {}
        else:
            first, last = self.chosen
            self.sums = sums_of(found.between(first, last + 1))

    # From the browser

    def _on_request(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        if op != "set":
            return super()._on_request(op, args)
        seq = whole_number(args, "seq", low=0, high=2**53)
        with self._lock:
            self.chosen = args.get("chosen")
        return {"seq": seq}

    # Without a browser

    def __repr__(self) -> str:
        if not self.chosen:
            return "TimeStrip()"
        (first, last), ends = self.chosen, self._ends
        return f"TimeStrip(steps {first} to {last} of {ends[0]} to {ends[1]})"

    def _plain_text(self) -> str:
        return "\n".join(filter(None, [self.problem, repr(self)]))

    def _static_html(self) -> Element:
        e = _static.element
        parts = self.sums.get("parts", {})
        rows = [
            [self.bars["labels"][name], "n/a" if ms is None else f"{ms:.3g}", _share(share)]
            for name, (ms, share) in parts.items()
        ]
        lines = [e("div", line, style=_static.QUIET) for line in self.sums.get("lines", [])]
        return e(
            "div",
            e("div", self.problem) if self.problem else None,
            e("b", "Time "),
            e("span", repr(self)),
            self._picture(),
            *lines,
            _static.table(["part", "ms a token", "share"], rows, title="Part by part"),
            style=_static.FONT,
        )

    def _picture(self) -> Element | None:
        """A bar a group of tokens, its parts one on the other, and which colour is which."""
        if self._timing is None or not self.bars:
            return None
        e, drawn = _static.element, bars_of(self._timing, STATIC_BARS)
        scale = drawn["scale"] or 1.0
        columns = []
        for values in zip(*drawn["parts"].values(), strict=True):
            high = [HIGH * (ms or 0.0) / scale for ms in values]
            over = max(1.0, sum(high) / HIGH)  # cut at the scale
            pieces = [
                e("div", style=f"height:{px / over:.1f}px;background:{colour}")
                for colour, px in zip(reversed(COLOURS), reversed(high), strict=True)
                if px / over >= 0.1
            ]
            columns.append(e("div", *pieces, style="width:7px"))
        top = "n/a" if drawn["scale"] is None else f"{drawn['scale']:g} ms"
        said = f"a bar is the mean of {drawn['per']}, to {top}"
        keys = [
            e("span", f" {label}", style=f"border-left:10px solid {colour};margin-right:12px")
            for label, colour in zip(drawn["labels"].values(), COLOURS, strict=True)
        ]
        row = f"display:flex;gap:1px;align-items:flex-end;height:{HIGH}px"
        return e("div", e("div", *columns, style=row), e("div", *keys, said, style=_static.QUIET))


def _are_there(chosen: Sequence[int], ends: Sequence[int]) -> bool:
    return bool(chosen and ends) and ends[0] <= chosen[0] and chosen[1] <= ends[1]


def _share(share: float | None) -> str:
    return "n/a" if share is None else f"{share:.1%}"
