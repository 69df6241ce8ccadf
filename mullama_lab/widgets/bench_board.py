"""BenchBoard: which benchmark to run, how far it is, and what came of it as a table and a plot.

The board measures nothing: it calls those who said `on_run` and `on_stop`, who must return at once
and show later what they have measured.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

import traitlets

from mullama_lab.engine.options import n_cores
from mullama_lab.errors import MullamaError
from mullama_lab.glyphs import brief, visible
from mullama_lab.widgets import _front_end, _static
from mullama_lab.widgets._view import Undo, View, what_failed, whole_number

if TYPE_CHECKING:
    from mullama_lab.studies.bench import BenchResult

__all__ = ["BenchBoard"]
__dir__ = __all__.copy  # what tab completion offers

STATES = ("idle", "waiting", "running", "finished", "stopped", "failed")
COLUMNS = ("test", "threads", "t/s", "range", "repeats", "speedup")
MOST_REPEATS = 1000
MOST_TYPED = 300  # characters


class BenchBoard(View):
    """Tests, threads and repeats to choose, Run and Stop, a row a test, and how speed grows.

        board = ml.widgets.BenchBoard("pp128, tg32", threads="1, 2")
        bench = ml.studies.bench.bench
        undo = board.on_run(lambda board: board.show(bench(model, **board.settings)))
        board.run()

    `labs.PerfLab` has one that measures its model, in the panel "bench".

    Args:
        tests: in llama-bench's words, with a comma between two.
        threads: numbers of threads, with a comma between two; None is a quarter, half and all of
            the cores.
        repeats: of each row.

    Raises:
        ValueError: repeats are out of range.
    """

    _esm = _front_end.module("bench_board")
    _css = _front_end.style("bench_board")
    _work_states = ("waiting", "running")

    tests = traitlets.Unicode("pp128, tg32", help="The tests, as they are typed.").tag(sync=True)
    threads = traitlets.Unicode("", help="Numbers of threads, as they are typed.").tag(sync=True)
    repeats = traitlets.Int(5, help="How often each row is measured.").tag(sync=True)
    state = traitlets.Enum(STATES, "idle", help="What the benchmark is doing.").tag(sync=True)
    share = traitlets.Float(0.0, help="The part that is done, 0 to 1.").tag(sync=True)
    said = traitlets.Unicode("", help="Of what, and where, the rows are.").tag(sync=True)
    rows = traitlets.List(traitlets.List(), [], help="What was measured, in words.").tag(sync=True)
    lines = traitlets.List(
        traitlets.Dict(), [], help="How speed grows with threads, a line a test."
    ).tag(sync=True)
    message = traitlets.Unicode("", help="What spoils it, was refused or failed.").tag(sync=True)

    def __init__(
        self, tests: str = "pp128, tg32", *, threads: str | None = None, repeats: int = 5
    ) -> None:
        super().__init__(
            tests=tests, threads=_usual_threads() if threads is None else threads, repeats=repeats
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What was asked for, for `studies.bench.bench`.

        Raises:
            ValueError: no test is named, or threads are no whole numbers.
        """
        tests = [name.strip() for name in re.split(r",(?!\d)", self.tests)]  # pg512,128 is one
        tests = [name for name in tests if name]
        if not tests:
            raise ValueError("tests: name one at least, such as pp128 or tg32.")
        return {"tests": tests, "threads": _numbers(self.threads), "repeats": self.repeats}

    def on_run(self, callback: Callable[[BenchBoard], object]) -> Undo:
        """Call `callback(board)` when Run is pressed; returns what undoes it."""
        return self._listen("run", callback)

    def on_stop(self, callback: Callable[[BenchBoard], object]) -> Undo:
        """Call `callback(board)` when Stop is pressed."""
        return self._listen("stop", callback)

    def run(self) -> None:
        """As the button: ask those who said `on_run`."""
        self._call("run")

    def stop(self) -> None:
        """As the button: tell those who said `on_stop`."""
        self._call("stop")

    def show(
        self, result: BenchResult | None, state: str = "finished", *, share: float = 0.0
    ) -> None:
        """Show what was measured so far, or nothing, and what goes on.

        Rows are told apart by test and threads.

        Raises:
            TypeError: it is no BenchResult.
        """
        if result is not None and not hasattr(type(result), "scaling"):
            raise TypeError(f"{brief(result)} is no BenchResult: see studies.bench.bench.")
        speedups, lines = _speedups(result)
        with self.hold_sync():
            self.state, self.share = state, share
            self.rows = [] if result is None else [_row(one, speedups) for one in result.rows]
            self.lines, self.said = lines, _about(result)

    def fail(self, error: str | BaseException) -> None:
        """Say what spoils it, was refused or failed; what is shown stays. "" is nothing."""
        self.message = what_failed(error) if error else ""

    def to_code(self) -> str:
        """Python that measures the same, once `model` is there.

        Raises:
            ValueError: what is typed cannot be read.
        """
        asked = self.settings
        tests = asked.pop("tests")
        given = ", ".join(f"{name}={value!r}" for name, value in asked.items())
        return f"result = ml.studies.bench.bench(model, {tests!r}, {given})"

    # Inside.

    @traitlets.validate("tests", "threads")
    def _check_text(self, proposal: Any) -> str:
        if len(proposal["value"]) > MOST_TYPED:
            name = proposal["trait"].name
            raise traitlets.TraitError(f"{name} has at most {MOST_TYPED} characters.")
        return proposal["value"]

    @traitlets.validate("repeats")
    def _check_repeats(self, proposal: Any) -> int:
        try:
            return whole_number({"repeats": proposal["value"]}, "repeats", low=1, high=MOST_REPEATS)
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from None

    def _call(self, event: str) -> None:
        self._must_be_heard(event)
        self._tell(event, self)

    # From the browser

    def _on_request(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        if op not in ("write", "run", "stop"):
            return super()._on_request(op, args)
        if op != "stop":
            repeats = whole_number(args, "repeats", low=1, high=MOST_REPEATS)
            typed = {name: _typed(args, name) for name in ("tests", "threads")}
            with self.hold_sync():
                self.tests, self.threads, self.repeats = *typed.values(), repeats
        if op != "write":
            try:
                self._call(op)
            except (MullamaError, ValueError, TypeError) as error:
                self.fail(error)
        return {}

    # Without a browser

    def __repr__(self) -> str:
        return f"BenchBoard({visible(self.tests)}, {self.state})"

    def _plain_text(self) -> str:
        said = "\n".join(filter(None, [repr(self), self.said, self.message]))
        return _static.table_as_text(said, COLUMNS, self.rows)

    def _static_html(self) -> Element:
        e = _static.element
        table = _static.table(COLUMNS, self.rows, title="What was measured")
        table.set("open", "open")
        return e(
            "div",
            e("b", "Bench "),
            e("span", self.said or repr(self)),
            e("div", self.message, style=_static.QUIET) if self.message else None,
            table if self.rows else None,
            style=_static.FONT,
        )


def _usual_threads() -> str:
    """A quarter, half and all of the cores."""
    cores = n_cores()
    return ", ".join(map(str, sorted({max(1, cores * part // 4) for part in (1, 2, 4)})))


def _numbers(typed: str) -> list[int]:
    """Whole numbers with a comma between two.

    >>> _numbers("1, 2,")
    [1, 2]
    """
    numbers = [word.strip() for word in typed.split(",") if word.strip()]
    if not numbers or not all(re.fullmatch("[0-9]{1,9}", word) for word in numbers):
        raise ValueError(f"threads={brief(typed)}: give whole numbers, such as 1, 2.")
    return [int(word) for word in numbers]


def _typed(args: dict[str, Any], name: str) -> str:
    value = args.get(name)
    if not isinstance(value, str) or len(value) > MOST_TYPED:
        raise ValueError(f"{name} is {brief(value)}; it must be a text of {MOST_TYPED} at most")
    return value


def _speedups(result: BenchResult | None) -> tuple[dict[Any, str], list[dict[str, Any]]]:
    """The speedup of each test at each number of threads, in words, and as lines of a plot.

    A point is [threads, speedup, the least and the most of its repeats].
    """
    try:
        found = {} if result is None else result.scaling().lines
    except ValueError:  # no test has two numbers of threads yet
        found = {}
    words, lines = {}, []
    for name, points in found.items():
        slowest = points[0].median_ts
        for point in points:
            words[name, point.n] = f"{point.speedup:.2f}x"
        ends = [[one.n, one.speedup, one.min_ts / slowest, one.max_ts / slowest] for one in points]
        lines.append({"name": name, "points": ends})
    return words, lines


def _row(row: Any, speedups: dict[Any, str]) -> list[str]:
    return [
        row.test,
        str(row.n_threads),
        f"{row.median_ts:.2f}",
        f"{min(row.samples_ts):.2f} to {max(row.samples_ts):.2f}",
        str(len(row.samples_ns)),
        speedups.get((row.test, row.n_threads), ""),
    ]


def _about(result: BenchResult | None) -> str:
    """Of which model, on which machine."""
    if result is None or not result.rows:
        return ""
    models = ", ".join(dict.fromkeys(row.model_type for row in result.rows))
    facts = [f"{models} on {result.machine.text()}", result.machine.busy()]
    facts += [] if result.complete else ["not all of it"]
    return visible("; ".join(filter(None, facts)))
