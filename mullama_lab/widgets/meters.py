"""Meters: what a Monitor reads, as sparklines that follow it.

The monitor tells when it has read; a thread of the view looks then. Nothing is asked from the
browser.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeGuard
from xml.etree.ElementTree import Element

import traitlets

from mullama_lab.counted import counted
from mullama_lab.engine.latest_only import LatestOnly
from mullama_lab.engine.leaving import usable_in_forks
from mullama_lab.glyphs import brief
from mullama_lab.widgets import _front_end, _static
from mullama_lab.widgets._kept import CLOSED, weakly
from mullama_lab.widgets._meter_rows import meters_of
from mullama_lab.widgets._view import View, what_failed

if TYPE_CHECKING:
    from mullama_lab.studies.monitor import Monitor

__all__ = ["Meters"]
__dir__ = __all__.copy  # what tab completion offers

NEWEST = 120  # readings that are drawn
REST = 0.1  # seconds between two looks
BARS = "▁▂▃▄▅▆▇█"


class Meters(View):
    """Tokens a second, memory, CPU, the cache and the queue over time, as a Monitor reads them.

        monitor = ml.studies.monitor.Monitor(session).start()
        ml.widgets.Meters(monitor)

    It shows the newest 120 readings and follows the monitor, which goes on when the view is closed.
    Averages are over these readings, that of tokens/s over those in which some were generated. A
    gap is a pause, in which the monitor was stopped; its time counts nowhere. What is read differs
    from run to run, so the plain form says only what is metered.

    It says what memory runs out of which the monitor warns.

    Args:
        monitor: a Monitor, started or not; None shows an empty view.

    Raises:
        TypeError: it is no Monitor.
    """

    _esm = _front_end.module("meters")
    _css = _front_end.style("meters")
    _work_states = ("running",)

    meters = traitlets.List(
        traitlets.Dict(), [], help="What is metered: in words, and as shares of its scale."
    ).tag(sync=True)
    state = traitlets.Enum(
        ("empty", "running", "stopped"), "empty", help="Whether the monitor reads."
    ).tag(sync=True)
    n_readings = traitlets.Int(0, help="How many readings are shown.").tag(sync=True)
    seconds = traitlets.Float(0.0, help="The time that these go over, without pauses.").tag(
        sync=True
    )
    problem = traitlets.Unicode("", help="What runs out, or why it is not known.").tag(sync=True)

    def __init__(self, monitor: Monitor | None = None) -> None:
        self._lock = usable_in_forks(threading.RLock())
        self._monitor: Monitor | None = None
        self._undo: Callable[[], None] = _nothing
        self._latest = LatestOnly("mullama-meters", weakly(self.fail), rest=REST)
        super().__init__()
        if monitor is not None:
            self.put_to(monitor)

    def put_to(self, monitor: Monitor | None) -> None:
        """Show another monitor from now on; None shows none."""
        if monitor is not None and not _is_monitor(monitor):
            raise TypeError(f"{brief(monitor)} is no Monitor: see studies.monitor.Monitor.")
        with self._lock:
            self._let_go()
            self._monitor = monitor
            if monitor is not None:
                self._undo = monitor.on_reading(weakly(self._look_soon))
            self._look()

    @property
    def monitor(self) -> Monitor | None:
        """The Monitor that it shows."""
        return self._monitor

    def fail(self, error: str | BaseException) -> None:
        """Say why nothing is read, until something is."""
        self.problem = what_failed(error)

    def settle(self) -> None:
        """Wait until what was read is shown; for code, not for callbacks."""
        self._latest.settle()

    def close(self, why: str = CLOSED) -> None:
        self._let_go()
        self._latest.close()
        super().close(why)

    # Inside.

    def _let_go(self) -> None:
        """Be told nothing more of the monitor."""
        undo, self._undo = self._undo, _nothing
        undo()
        self._latest.drop()

    def _look_soon(self) -> None:
        self._latest.submit(weakly(self._look))

    def _look(self) -> None:
        """Show what was read by now."""
        with self._lock, self.hold_sync():
            monitor = self._monitor
            if monitor is None:
                self.meters, self.n_readings, self.seconds, self.problem = [], 0, 0.0, ""
            else:
                span = monitor.span(NEWEST)
                self.problem = "\n".join(monitor.running_out)
                self.meters = meters_of(span)
                self.n_readings, self.seconds = len(span), float(span.seconds)
            self.state = _state_of(monitor)

    # Without a browser

    def __repr__(self) -> str:
        if not self.meters:
            return "Meters()"
        return f"Meters({'; '.join(meter['name'] for meter in self.meters)})"

    def _plain_text(self) -> str:
        return "\n".join(filter(None, [self.problem, repr(self)]))

    def _static_html(self) -> Element:
        e = _static.element
        rows = [
            [
                *(meter["name"], meter["now"], meter["average"], f"0 to {meter['top']}"),
                _as_bars(meter["values"]),
            ]
            for meter in self.meters
        ]
        read = f"averages over {counted(self.n_readings, 'reading')}, {self.seconds:.3g} s"
        said = read if rows else "of nothing yet"
        columns = ["", "now", "average", "scale", "over time"]
        return e(
            "div",
            e("div", self.problem) if self.problem else None,
            e("b", "Meters "),
            e("span", said),
            _static.table(columns, rows, title="What was read"),
            style=_static.FONT,
        )


def _is_monitor(what: object) -> TypeGuard[Monitor]:
    return hasattr(type(what), "on_reading") and hasattr(type(what), "span")


def _state_of(monitor: Monitor | None) -> str:
    if monitor is None:
        return "empty"
    return "running" if monitor.running else "stopped"


def _as_bars(shares: list[float | None]) -> str:
    """A bar a reading; a space for what is not known."""
    last = len(BARS) - 1
    return "".join(" " if share is None else BARS[round(last * share)] for share in shares)


def _nothing() -> None:
    """No monitor is followed."""
