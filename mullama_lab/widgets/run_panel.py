"""Prompt, Run and Stop, how fast it goes, and the runs so far to choose from and compare.

The panel decodes nothing: it checks what was asked for and calls those who said `on_run`,
`on_stop` and `on_select`, which must return at once. `follow` shows a Run that one of them began.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element

import traitlets

from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.trace import Trace
from mullama_lab.errors import MullamaError
from mullama_lab.glyphs import brief
from mullama_lab.widgets import _front_end, _static
from mullama_lab.widgets._compare import MOST_SIDES, Compared, Comparison, compare
from mullama_lab.widgets._followed_runs import FollowedRuns
from mullama_lab.widgets._kept import CLOSED
from mullama_lab.widgets._runs import PastRun, meters, summary
from mullama_lab.widgets._view import Undo, View, whole_number

log = logging.getLogger(__name__)

MAX_PROMPT = 100_000  # characters
MAX_SEED = 2**32 - 2
MAX_TOKENS = 1_000_000
MAX_RUNS = 30
STATES = ("idle", "queued", "prompt", "running", "finished", "stopped", "failed")
BUSY = ("queued", "prompt", "running")


class RunPanel(View):
    """Where a person runs a prompt and compares what came of it.

    >>> panel = RunPanel("Once upon a time", seed=7)
    >>> undo = panel.on_run(lambda panel: print("run", panel.prompt, panel.seed))
    >>> panel.run()
    run Once upon a time 7
    """

    _esm = _front_end.module("run_panel")
    _css = _front_end.style("run_panel")

    prompt = traitlets.Unicode("").tag(sync=True)
    """The text to go on from."""
    seed = traitlets.Int(0).tag(sync=True)
    """Which draws: the same seed draws the same at the same step."""
    max_tokens = traitlets.Int(128).tag(sync=True)
    """The most tokens of a run."""
    state = traitlets.Enum(STATES, "idle").tag(sync=True)
    """What the run shown is doing."""
    message = traitlets.Unicode("").tag(sync=True)
    """Why the last run failed."""
    progress = traitlets.List(traitlets.Int(), [0, 0]).tag(sync=True)
    """Prompt tokens done, in all."""
    meters = traitlets.Dict().tag(sync=True)
    """tokens, tokens_per_second, first_token_seconds, prompt_decoded, prompt_reused, finish."""
    history = traitlets.List(traitlets.Dict()).tag(sync=True)
    """One short dict a run, the newest last."""
    shown = traitlets.Int(0).tag(sync=True)
    """The number of the run that is shown, 0 for none."""
    listed = traitlets.Bool(True).tag(sync=True)
    """Whether the runs so far are listed."""

    def __init__(
        self, prompt: str = "", *, seed: int = 0, max_tokens: int = 128, listed: bool = True
    ) -> None:
        self.runs: list[PastRun] = []
        self._count = 0
        self._followed = FollowedRuns(self._show_run)
        self._following: Run | None = None
        self._lock = threading.RLock()  # the runs and what is said of them
        super().__init__(prompt=prompt, seed=seed, max_tokens=max_tokens, listed=listed)

    # From Python

    def on_run(self, callback: Callable[[RunPanel], Any]) -> Undo:
        """Call `callback(panel)` when Run is pressed; returns what undoes it."""
        return self._listen("run", callback)

    def on_stop(self, callback: Callable[[RunPanel], Any]) -> Undo:
        """Call `callback(panel)` when Stop is pressed; a Run that is followed is stopped anyway."""
        return self._listen("stop", callback)

    def on_select(self, callback: Callable[[PastRun], Any]) -> Undo:
        """Call `callback(past_run)` when a run of the history is chosen; it has the trace."""
        return self._listen("select", callback)

    def run(self) -> None:
        """As the button: ask those who said `on_run`."""
        self._must_be_heard("run")
        self.message = ""
        self._tell("run", self)

    def stop(self) -> None:
        """As the button: stop the run that is followed, and tell those who said `on_stop`."""
        run = self._following
        if run is not None:
            run.stop()
        self._tell("stop", self)

    def follow(self, run: Run) -> None:
        """Show how a run goes on, and add it to the history when it ends.

        A run that was followed before is still added when it ends.
        """
        with self._lock:
            self._following = run
            with self.hold_sync():
                self.shown = 0
                self.message = ""
                self._report(run)
        self._followed.follow(run)

    def settle(self) -> None:
        """Wait until the runs that are followed are in the history; for code, not callbacks."""
        self._followed.settle()

    def add(self, trace: Trace, *, show: bool = True) -> int:
        """Add a finished trace to the history, and show its figures; returns its number.

        The history keeps the last 30 runs, traces included.
        """
        with self._lock:
            self._count += 1
            past = PastRun(self._count, trace)
            self.runs = [*self.runs, past][-MAX_RUNS:]
            with self.hold_sync():
                self.history = [summary(run) for run in self.runs]
                if show:
                    self.shown = past.number
                    self.meters = meters(trace)
            return past.number

    def fail(self, error: str | BaseException) -> None:
        """Say in the panel why a run did not begin."""
        with self.hold_sync():
            self.message = str(error)[:2000] or type(error).__name__
            self.state = "failed"

    def select(self, number: int) -> PastRun:
        """Choose a run of the history: its figures are shown, `on_select` is told."""
        past = self._past(number)
        with self._lock, self.hold_sync():
            self.shown = number
            self.meters = meters(past.trace)
        self._tell("select", past)
        return past

    def compare(self, *numbers: int) -> Comparison:
        """Two to four runs of the history by number: where they part and the KL there."""
        runs = [self._past(number) for number in numbers]
        return compare([Compared(run.number, run.label, run.trace) for run in runs])

    def to_code(self) -> str:
        """Python that runs this prompt without a browser, once `session` and `chain` are there."""
        return (
            f"trace = session.generate({self.prompt!r}, chain, "
            f"max_tokens={self.max_tokens}, seed={self.seed})"
        )

    def close(self, why: str = CLOSED) -> None:
        self._followed.close()
        super().close(why)

    # From the browser

    def _on_request(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        if op == "set":
            return self._request_set(args)
        if op == "run":
            self._request_set({"name": "prompt", "value": args.get("prompt")})
            self._request_run()
            return {}
        if op == "stop":
            self.stop()
            return {}
        if op == "dice":
            self.seed = random.randrange(1_000_000)
            return {"seed": self.seed}
        if op == "select":
            self.select(whole_number(args, "number", low=1, high=self._count))
            return {}
        if op == "compare":
            numbers = args.get("numbers")
            if not isinstance(numbers, list) or len(numbers) > MOST_SIDES:
                raise ValueError(f"numbers is {brief(numbers)}; it must be two to four runs")
            most = self._count
            known = [whole_number({"number": n}, "number", low=1, high=most) for n in numbers]
            return self.compare(*known).to_dict()
        raise ValueError(f"a run panel does not know {op!r}")

    def _request_set(self, args: dict[str, Any]) -> dict[str, Any]:
        name = args.get("name")
        if name not in ("prompt", "seed", "max_tokens"):
            raise ValueError(f"a run panel has no setting {brief(name)}")
        value = args.get("value")
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, str if name == "prompt" else int):
            kind = "a text" if name == "prompt" else "a whole number"
            raise ValueError(f"{name} must be {kind}, not {brief(value)}")
        try:
            setattr(self, name, value)
        except traitlets.TraitError as error:
            raise ValueError(str(error)) from None
        return {}

    def _request_run(self) -> None:
        run = self._following
        if self.state in BUSY and run is not None and not run.done:
            raise ValueError("a run is going on. Stop it first.")
        try:
            self.run()
        except (MullamaError, ValueError, TypeError) as error:
            self.fail(error)
            log.info("a run did not begin: %s", error)

    # State

    @traitlets.validate("prompt")
    def _check_prompt(self, proposal: Any) -> str:
        if len(proposal["value"]) > MAX_PROMPT:
            raise traitlets.TraitError(
                f"the prompt has {len(proposal['value'])} characters; the panel takes "
                f"{MAX_PROMPT}. Give longer ones to session.generate."
            )
        return proposal["value"]

    @traitlets.validate("seed", "max_tokens")
    def _check_number(self, proposal: Any) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        most = MAX_SEED if name == "seed" else MAX_TOKENS
        if isinstance(value, bool) or not 0 <= value <= most:
            raise traitlets.TraitError(f"{name} is {brief(value)}; it must be from 0 to {most}")
        return value

    def _past(self, number: int) -> PastRun:
        for past in self.runs:
            if past.number == number:
                return past
        known = ", ".join(str(past.number) for past in self.runs) or "none"
        raise ValueError(f"there is no run {brief(number)}; there are {known}")

    def _report(self, run: Run) -> None:
        self.progress = list(run.progress)
        self.state = run.state
        if self.shown == 0:
            self.meters = meters(run.trace)

    def _show_run(self, run: Run) -> None:
        """Show how a run goes on; once it has ended, list it."""
        with self._lock:
            done, current = run.done, run is self._following
            with self.hold_sync():
                if current:
                    self._report(run)
                    if done and run.error is not None:
                        self.message = str(run.error)[:2000] or type(run.error).__name__
                if done and (len(run.trace) or run.error is None) and not self._has(run.trace):
                    # somebody who looks at an older run is left there
                    self.add(run.trace, show=current and self.shown == 0)
            if done and current:
                self._following = None

    def _has(self, trace: Trace) -> bool:
        """Whether a trace is listed: an end that could not be shown is shown again."""
        return any(past.trace is trace for past in self.runs)

    # Without a browser

    def __repr__(self) -> str:
        n = len(self.runs)
        return f"RunPanel({self.state}, {n} {'run' if n == 1 else 'runs'})"

    def _table(self) -> tuple[list[str], list[list[str]]]:
        columns = ["run", "stages with effect", "seed", "tokens", "mean logprob", "ended", "text"]
        rows = []
        for line in self.history:
            logprob = "n/a" if line["logprob"] is None else f"{line['logprob']:.2f}"
            rows.append(
                [
                    str(line["number"]), line["chain"], str(line["seed"]), str(line["tokens"]),
                    logprob, line["finish"], repr(line["text"]),
                ]
            )  # fmt: skip
        return columns, rows

    def _plain_text(self) -> str:
        lines = [repr(self), f"prompt {self.prompt[:200]!r}, seed {self.seed}, at most "
                 f"{self.max_tokens} tokens"]  # fmt: skip
        if self.message:
            lines.append(self.message)
        return "\n".join([*lines, *("  ".join(row) for row in self._table()[1])])

    def _static_html(self) -> Element:
        e = _static.element
        columns, rows = self._table()
        return e(
            "div",
            e("b", "Prompt"),
            e("pre", self.prompt[:2000], style="white-space:pre-wrap;margin:4px 0"),
            e("div", f"seed {self.seed}, at most {self.max_tokens} tokens", style=_static.QUIET),
            e("div", self.message) if self.message else None,
            _static.table(columns, rows, title=f"{len(rows)} runs") if rows else None,
            style=_static.FONT,
        )
