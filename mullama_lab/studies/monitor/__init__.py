"""Monitor: tokens a second, memory, cores, cache and queue over time, while anything runs.

    with Monitor(session) as monitor:
        session.generate("Once upon a time", max_tokens=256)
    monitor.to_pandas()

A thread of its own reads counters at an interval and keeps the newest readings. It asks sessions
for nothing: their gauges are read without a lock and without their workers. What a machine does
not report has no column, and `monitor.not_available` says why.
"""

from __future__ import annotations

import logging
import threading
import weakref
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from html import escape
from math import isnan, nan
from time import perf_counter
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from mullama_lab.counted import counted, size_in_words
from mullama_lab.engine.leaving import PATIENCE, usable_in_forks, wait_at_exit
from mullama_lab.engine.loop.news import News, must_be_callable
from mullama_lab.engine.model import Model
from mullama_lab.engine.options import flag, whole
from mullama_lab.engine.session import Session
from mullama_lab.engine.session.gauges import Gauges, when_opened
from mullama_lab.glyphs import brief
from mullama_lab.studies.monitor.counters import (
    UNREADABLE,
    Counter,
    Values,
    counters_of_machine,
    memories,
)
from mullama_lab.studies.monitor.readings import (
    OF_SESSIONS,
    Columns,
    Reading,
    columns_of,
    rows_of_sessions,
)
from mullama_lab.studies.monitor.span import HEAD, Span, as_text, seconds_in_words
from mullama_lab.studies.monitor.throughput import Throughput
from mullama_lab.studies.monitor.watched import Watched
from mullama_lab.warned import warner

if TYPE_CHECKING:
    import pandas

__all__ = ["Monitor"]
__dir__ = __all__.copy  # what tab completion offers

log = logging.getLogger(__name__)

SHORTEST_LAST = 0.05  # seconds of the interval before it is stopped; a rate in less says nothing
SHORTEST, LONGEST = 0.01, 3600.0  # seconds between readings
MOST = 1_000_000  # readings


class Monitor:
    """Reads at an interval what sessions and the machine do, between `start` and `stop`.

    It works in a `with` block, and may be started again. A session that is closed has no more
    rows and the monitor goes on; so it does without a counter that the machine does not have. It
    keeps no session alive. A forked process has what was read so far, and may start it again.

    Args:
        on: a Session, a Model (its sessions, those opened later too), or a list of these; None
            is every session of this process.
        interval: seconds from one reading to the next, 0.01 to 3600.
        keep: how many readings to keep, the newest, about 1 kB each; 1 to 1 000 000.
        gpu: also read NVIDIA's GPUs, for which `pip install 'mullama-lab[gpu]'` has the library.
            It was tested against a fake of that library, and not tried on a GPU.
        least_free: warn once (UserWarning, and in the log) when a smaller share of the memory is
            free, of the machine or of a GPU; 0 is never.

    Raises:
        ValueError: a number is out of range, or the list is empty.
        TypeError: `on` is something else.
        ClosedError: a session or model was closed before.

    >>> import tempfile
    >>> import mullama_lab as ml
    >>> from mullama_lab.engine import tiny
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with ml.Model.load(tiny.write(folder + "/tiny.gguf")) as model:
    ...         with Monitor(model) as monitor:
    ...             trace = model.session().generate("Hi", ml.Greedy(), max_tokens=8)
    >>> monitor.n_generated == len(trace), monitor.to_pandas()["n_waiting"].tolist()[-1]
    (True, 0.0)
    """

    def __init__(
        self,
        on: Session | Model | Iterable[Session | Model] | None = None,
        *,
        interval: float = 0.5,
        keep: int = 3600,
        gpu: bool = False,
        least_free: float = 0.05,
    ) -> None:
        self.interval = _number("interval", interval, SHORTEST, LONGEST)
        self._keeps = whole("keep", keep, 1, MOST)
        self._least_free = _number("least_free", least_free, 0.0, 1.0)
        self._reads_gpu = flag("gpu", gpu)
        self._on = Watched.of(on)
        self._opened: deque[Gauges] = deque()
        self._throughput = Throughput(self._opened, self._on.wants)
        self._readings: deque[Reading] = deque(maxlen=self._keeps)
        self._not_available: dict[str, str] = {}
        self._counters: dict[str, Counter] = {}
        self._began: float | None = None
        self._warned: set[str] = set()
        self._running_out: dict[str, str] = {}
        self._warn: Callable[[str], None] = log.warning
        self._thread: threading.Thread | None = None
        self._stopped, self._has_read = threading.Event(), threading.Event()
        self._news = News()
        self._undo = self._let_go = _nothing
        self._switch = usable_in_forks(threading.Lock())  # held while it is started or stopped
        self._lock = usable_in_forks(threading.Lock())  # held while it reads, or is read

    # Started and stopped.

    def start(self) -> Monitor:
        """Begin to read, and return once it has read a first time; one that is reading goes on.

        A driver that hangs holds it for two seconds. What is counted begins when it answers.
        """
        with self._switch:
            if self.running:
                return self
            self._warn, self._warned, self._running_out = warner(), set(), {}
            self._stopped, self._has_read = threading.Event(), threading.Event()
            self._counters = counters_of_machine(self._reads_gpu)
            held = ExitStack()
            self._let_go = held.close
            for counter in self._counters.values():
                held.callback(counter.close)
            try:
                self._undo = held.callback(when_opened(self._opened.append))
                args = weakref.ref(self), self._stopped, self.interval, self._let_go
                thread = threading.Thread(
                    target=_watch, args=args, name="mullama_lab monitor", daemon=True
                )
                thread.start()
                self._has_read.wait(PATIENCE)  # a driver may hang
            except BaseException:
                self._stopped.set()
                self._let_go()
                raise
            self._thread = thread
        wait_at_exit(self)
        self._news.tell()
        return self

    def stop(self) -> None:
        """Read a last time and end. Stopping twice is fine."""
        with self._switch:
            thread, self._thread = self._thread, None
            if thread is None:
                return
            self._stopped.set()
            try:
                if thread is not threading.current_thread():
                    thread.join(PATIENCE)  # a driver may hang
                has_ended = thread is threading.current_thread() or not thread.is_alive()
                if has_ended and self._has_read.is_set():
                    self._read_last()
            finally:
                self._let_go()
        self._news.tell()

    @property
    def running(self) -> bool:
        """Whether it reads."""
        return self._thread is not None and self._thread.is_alive()

    def __enter__(self) -> Monitor:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def on_reading(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call `callback()` after each reading, and when it was started or stopped.

        It is called on the monitor's thread, or on that which starts or stops it, so it must take
        microseconds: wake a thread of yours. What it raises is logged.

        Returns:
            what undoes it, however often it is called.

        Raises:
            TypeError: it cannot be called.
        """
        must_be_callable(callback)
        return self._news.listen(callback)

    # What was read.

    def __bool__(self) -> bool:
        return True  # also before it has read anything

    def __len__(self) -> int:
        return len(self._readings)

    @property
    def n_generated(self) -> int:
        """Tokens generated since it was first started, whether or not the readings are kept."""
        last = self._last
        return 0 if last is None else last.n_generated

    @property
    def average(self) -> float:
        """Tokens a second over all intervals in which any were generated; NaN before that."""
        last = self._last
        return nan if last is None else last.average

    @property
    def not_available(self) -> Mapping[str, str]:
        """What the machine does not report, and why."""
        return MappingProxyType(self._not_available)

    @property
    def running_out(self) -> list[str]:
        """What less than `least_free` was free of at the newest reading: a sentence a memory."""
        with self._lock:
            return list(self._running_out.values())

    def columns(self, newest: int | None = None) -> Columns:
        """What `to_pandas` has, as arrays of one number a reading; `seconds` is one of them.

        Args:
            newest: only of so many readings, the newest; None is all.

        Raises:
            ValueError: newest is less than 1.
        """
        readings = self.span(newest).readings
        return {"seconds": np.array([one.seconds for one in readings]), **columns_of(readings)}

    def span(self, newest: int | None = None) -> Span:
        """The readings summed up, quantity by quantity, without the time in which it was stopped.

        Args:
            newest: only so many readings, the newest; None is all that are kept.

        Raises:
            ValueError: newest is less than 1.
        """
        n = None if newest is None else whole("newest", newest, 1, MOST)
        readings = self._copied()
        return Span(readings if n is None else readings[-n:])

    def to_pandas(self) -> pandas.DataFrame:
        """A row a reading, by the seconds since the first start; NaN is what was not known then.

        Columns: `tokens_per_second` and `decoded_per_second` in the interval before it, of all
        sessions: tokens that were generated, and all that llama.cpp decoded, prompts too;
        `n_generated` since the first start; `first_token_seconds` of the newest run, from when
        its turn came; `n_sessions`; `n_cells` in use of `n_cells_max`; `n_active` texts in the
        batch and what is `n_waiting`.

        Where the machine reports them: `resident_bytes` of this process; `free_bytes` of the
        machine's `total_bytes`; `cpu_0_percent` and so on, each core by whatever process, once
        0.05 s have gone by; `cpu_watts` of the processor's packages (RAPL); `gpu_0_percent`,
        `_bytes`, `_total_bytes`, `_watts` and `_celsius`; `joules`, what these watts come to in the
        interval, of the whole processor and GPUs, idle or not, NaN where one of them was not known;
        `joules_per_token` where some were generated.
        """
        import pandas as pd

        return pd.DataFrame(self.columns()).set_index("seconds")

    def sessions_to_pandas(self) -> pandas.DataFrame:
        """A row for each reading and session that was open then.

        Columns: `seconds`; `session`, its number in the order in which they became known;
        `model`; and of those of `to_pandas` `tokens_per_second`, `decoded_per_second`, `n_cells`,
        `n_cells_max`, `n_active`, `n_waiting`. What a session did after the last reading before
        it was closed is in `to_pandas` alone.
        """
        import pandas as pd

        return pd.DataFrame(rows_of_sessions(self._copied()), columns=pd.Index(OF_SESSIONS))

    def to_text(self) -> str:
        """What was read, as a table of text: the same readings give the same text.

        All of it is of the readings that are kept. The average of tokens/s is over the intervals in
        which some were generated. A bar is from 0 to the highest; a space is a pause, in which it
        was stopped, or what was not known.
        """
        span = self.span()
        lines = [self._title(span)]
        if span:
            lines.append(as_text(span.summary()))
        return "\n".join([*lines, *self._notes()])

    def __repr__(self) -> str:
        span = self.span()
        said = [self._title(span)]
        if span:
            now = {name: one.said(float(one.values[-1])) for name, one in span.quantities.items()}
            said.append(f"{now['tokens_per_second']} tokens/s")
            if "resident_bytes" in now:
                said.append(f"{now['resident_bytes']} resident")
            last = span.readings[-1].sessions
            n, n_max = (sum(getattr(s.shown, k) for s in last) for k in ("n_cells", "n_cells_max"))
            said.append(f"{n} of {n_max} cells")
            said.append(f"{now['n_active']} active, {now['n_waiting']} waiting")
        return f"<{', '.join(said)}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(self.to_text())

    def _repr_html_(self) -> str:
        import pandas as pd

        span = self.span()
        shown = f"<p>{escape(self._title(span))}</p>"
        if span:
            table = pd.DataFrame(span.summary(), columns=list(HEAD))
            shown += table.to_html(index=False, border=0)
        return shown + "".join(f"<p>{escape(note)}</p>" for note in self._notes())

    def _title(self, span: Span) -> str:
        state = "running" if self.running else "stopped" if span else "not started"
        over = f" over {seconds_in_words(span.seconds)}" if len(span) > 1 else ""
        return f"Monitor of {self._on.label}: {state}, {counted(len(span), 'reading')}{over}"

    def _notes(self) -> list[str]:
        return [f"not available: {what}: {why}" for what, why in self._not_available.items()]

    @property
    def _last(self) -> Reading | None:
        with self._lock:
            return self._readings[-1] if self._readings else None

    def _copied(self) -> list[Reading]:
        with self._lock:
            return list(self._readings)

    # Reading.

    def _look(self) -> tuple[Values, dict[str, str]]:
        """(what the counters show, why others show nothing); no lock is held for them."""
        now = perf_counter()
        values: Values = {}
        not_available = {}
        for what, counter in self._counters.items():
            try:
                values |= counter.read(now)
            except UNREADABLE as error:
                not_available[what] = str(error) or type(error).__name__
        return values, not_available

    def _keep(
        self, seen: tuple[Values, dict[str, str]], stopped: threading.Event | None = None
    ) -> None:
        values, not_available = seen
        with self._lock:
            if stopped is not None and stopped.is_set():  # a driver hung meanwhile
                return
            now = perf_counter()
            self._began = now if self._began is None else self._began
            self._not_available = not_available
            self._readings.append(self._reading(now - self._began, values))
            self._has_read.set()
            news = self._what_runs_out(values)
        for message in news:
            log.warning(message)
            with suppress(UserWarning):  # where a warning is an error, it is in the log
                self._warn(message)
        self._news.tell()

    def _read_last(self) -> None:
        """Read, or add what was done since the newest reading to that, if it is as new."""
        with self._lock:
            newest = self._readings[-1]
            seconds = perf_counter() - (self._began or 0.0)
            is_new = seconds - newest.seconds < SHORTEST_LAST
            if is_new and not isnan(newest.interval):
                sessions = self._throughput.read()
                first_token = self._throughput.first_token_seconds
                self._readings[-1] = newest.extended(seconds, sessions, first_token)
                return
        self._keep(self._look())

    def _reading(self, seconds: float, values: Values) -> Reading:
        first = not self._has_read.is_set()
        before = self._readings[-1] if self._readings else None
        follow = self._throughput
        sessions = follow.begin(self._on.open_now()) if first else follow.read()
        generated = sum(one.generated for one in sessions)
        n_before, busy = (before.n_generated, before.busy_seconds) if before else (0, 0.0)
        interval = nan if first or before is None else seconds - before.seconds or nan
        names = tuple(values)
        return Reading(
            seconds=seconds,
            interval=interval,
            generated=generated,
            decoded=sum(one.decoded for one in sessions),
            n_generated=n_before + generated,
            busy_seconds=busy + (interval if generated else 0.0),
            first_token_seconds=self._throughput.first_token_seconds,
            sessions=tuple(sessions),
            names=before.names if before and before.names == names else names,
            values=array("d", values.values()),
        )

    def _what_runs_out(self, values: Values) -> list[str]:
        """What to warn of, for the first time since the start."""
        before, self._running_out = self._running_out, {}
        for what, free, total in memories(values):
            if free < self._least_free * total:
                self._running_out[what] = before.get(what) or (  # it stays the same to who reads it
                    f"{size_in_words(int(free))} of {size_in_words(int(total))} of the {what} is "
                    f"free, less than {self._least_free:.0%} of it. Close a session or a model, or "
                    "open a session with a smaller n_ctx."
                )
        news = [said for what, said in self._running_out.items() if what not in self._warned]
        self._warned |= self._running_out.keys()
        return news

    # What happens at exit and in a fork.

    def hurry(self) -> None:
        """Ask its thread to end; returns at once."""
        self._stopped.set()

    def ended_within(self, seconds: float) -> bool:
        """Wait for its thread to end; whether it did."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)
        return not self.running

    def renew(self) -> None:
        """This is a fork, where its thread does not run: it can be started again."""
        self._thread = None
        self._undo()
        self._opened.clear()


def _watch(
    ref: weakref.ref[Monitor],
    stopped: threading.Event,
    interval: float,
    let_go: Callable[[], None],
) -> None:
    """Let a monitor read until it is stopped, or nobody holds it any more."""
    due = perf_counter()
    while not stopped.wait(max(0.0, due - perf_counter())):
        monitor = ref()
        if monitor is None:
            let_go()
            return
        monitor._keep(monitor._look(), stopped)
        del monitor
        due += interval
        if (now := perf_counter()) > due:  # the machine slept, or is too slow
            due = now + interval


def _nothing() -> None:
    """Nothing is held before the first start."""


def _number(name: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}={brief(value)}: it must be a number.")
    if not low <= value <= high:  # a NaN neither
        raise ValueError(f"{name}={brief(value)}: it must be from {low:g} to {high:g}.")
    return float(value)
