"""TokenStrip: a Trace as tokens in colour, also while it grows.

The numbers go to the browser as binary columns when it asks, or as deltas while a run goes
on. What a token means in detail is asked for one token at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import traitlets

from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.options import instance
from mullama_lab.engine.trace import Trace
from mullama_lab.widgets import _columns, _front_end, _strip_forms
from mullama_lab.widgets._followed_runs import FollowedRuns
from mullama_lab.widgets._kept import CLOSED
from mullama_lab.widgets._view import Undo, View, must_be_function, whole_number

LAYERS = ("probability", "surprise", "entropy", "rank", "time")
STATES = ("empty", "queued", "prompt", "running", "finished", "stopped", "failed")
MOST_STEPS = 8192  # of one message
MOST_PROMPT = 400  # tokens of the prompt that are shown
MOST_REMARK = 600  # characters


class TokenStrip(View):
    """A Trace as tokens, coloured by probability, surprise, entropy, rank or time.

    Hover or move to a token: its alternatives before and after the chain, what each stage
    left, its bytes and its times. `Enter` or a click on an alternative chooses it:
    `on_choose` callbacks get `(step, token)`.

    Args:
        trace: a finished Trace. `strip.trace = other` shows another one.
        run: a Run in flight to follow; `strip.follow(run)` does it later.
        layer: one of "probability", "surprise", "entropy", "rank", "time".
        title: a line above the strip.
    """

    _esm = _front_end.module("token_strip")
    _css = _front_end.style("token_strip")
    from_browser = ("layer",)

    n = traitlets.Int(0, help="Tokens there are; while a run goes on, when it began.").tag(
        sync=True
    )
    state = traitlets.Enum(STATES, "empty", help="What is going on.").tag(sync=True)
    finish = traitlets.Unicode("", help="Why the generation ended.").tag(sync=True)
    note = traitlets.Unicode("", help="What went wrong.").tag(sync=True)
    progress = traitlets.List(traitlets.Int(), [0, 0], help="Prompt tokens done, in all.").tag(
        sync=True
    )
    layer = traitlets.Enum(LAYERS, "probability", help="What the colours show.").tag(sync=True)
    title = traitlets.Unicode("", help="A line above the strip.").tag(sync=True)
    epoch = traitlets.Int(0, help="Counts the traces shown.").tag(sync=True)
    explains = traitlets.Bool(False, help="Whether a token's fate can be asked for.").tag(sync=True)

    chosen = traitlets.Any(None, help="(step, token) that was chosen last; not synced.")

    def __init__(
        self,
        trace: Trace | None = None,
        *,
        run: Run | None = None,
        layer: str = "probability",
        title: str = "",
    ) -> None:
        self._trace: Trace | None = None
        self._followed = FollowedRuns(self._show_run)
        self._sent = 0
        self._lock = threading.RLock()  # what is shown: a run before may still be told of
        self._explain: Callable[[Trace, int, int], str] | None = None
        super().__init__(layer=layer, title=title)
        if run is not None:
            self.follow(run)
        elif trace is not None:
            self.trace = trace

    @property
    def trace(self) -> Trace | None:
        """The Trace that is shown."""
        return self._trace

    @trace.setter
    def trace(self, trace: Trace | None) -> None:
        if trace is not None and not isinstance(trace, Trace):
            raise TypeError(f"trace is a {type(trace).__name__}; give a Trace, or None for nothing")
        with self._lock:
            self._begin(trace)
            if trace is not None:
                self._settle("failed" if trace.finish_reason == "failed" else "finished")

    def follow(self, run: Run) -> None:
        """Show the trace of a run while it grows, and how it ended."""
        instance("run", run, Run)
        with self._lock:
            self._begin(run.trace)
            self._followed.follow(run)

    def settle(self) -> None:
        """Wait until the end of the run that is followed is shown; for code, not for callbacks."""
        self._followed.settle()

    def on_choose(self, callback: Callable[[int, int], object]) -> Undo:
        """Call `callback(step, token)` when a token is chosen; returns what undoes it."""
        return self._listen("choose", callback)

    def explain_with(self, explain: Callable[[Trace, int, int], str]) -> None:
        """Ask `explain(trace, step, token)` for a remark on an alternative that is looked at.

        It is called on any thread.
        """
        must_be_function("explain_with", explain)
        self._explain = explain
        self.explains = True

    def to_code(self) -> str:
        """Python that makes this trace again and shows it."""
        return _strip_forms.code(self._trace, layer=self.layer, title=self.title)

    def close(self, why: str = CLOSED) -> None:
        self._followed.close()
        super().close(why)

    def __repr__(self) -> str:
        n = 0 if self._trace is None else len(self._trace)
        return f"TokenStrip({n} {'token' if n == 1 else 'tokens'})"

    # Showing

    def _begin(self, trace: Trace | None) -> None:
        self._followed.forget()
        self._trace = trace
        self._sent = 0
        with self.hold_sync():
            self.n = 0
            self.note = self.finish = ""
            self.progress = [0, 0]
            self.state = "empty"
            self.epoch += 1

    def _settle(self, state: str, note: str = "") -> None:
        """Say how it ended; whoever looks later reads it from the traits."""
        if self._trace is None:
            return
        with self.hold_sync():
            self.n = len(self._trace)
            self.finish = self._trace.finish_reason
            self.note = note
            self.state = state

    def _show_run(self, run: Run) -> None:
        """Send the steps that are new, and how far the run is."""
        with self._lock:
            if run.trace is not self._trace:
                return
            done = run.done
            self._send_delta(run.trace)
            if done:
                self._settle(run.state, "" if run.error is None else str(run.error))
                return
            if run.state in ("queued", "prompt"):
                self.progress = list(run.progress)
            if self.state != run.state and run.state in STATES:
                self.state = run.state

    def _send_delta(self, trace: Trace) -> None:
        if len(trace) <= self._sent:
            return
        header, buffers = _steps(trace, self._sent, self.epoch)
        self._sent = header["n"]
        self.send({**header, "kind": "delta"}, buffers)

    # Requests

    def _on_request(self, op: str, args: dict[str, Any]) -> Any:
        with self._lock:
            trace, epoch = self._trace, self.epoch
        if op == "prompt":
            return _prompt(trace, epoch)
        if trace is None:
            raise ValueError("no trace is shown; run a prompt first")
        if op == "steps":
            return _steps(trace, whole_number(args, "from", low=0, high=len(trace)), epoch)
        if op == "details":
            return _columns.details(trace, whole_number(args, "step", low=0, high=len(trace) - 1))
        if op == "choose":
            step = whole_number(args, "step", low=0, high=len(trace) - 1)
            return self._choose(step, whole_number(args, "token", low=0, high=2**31 - 1))
        if op == "explain" and self._explain is not None:
            step = whole_number(args, "step", low=0, high=len(trace) - 1)
            token = whole_number(args, "token", low=0, high=2**31 - 1)
            return {"text": self._explain(trace, step, token)[:MOST_REMARK]}
        return super()._on_request(op, args)

    def _choose(self, step: int, token: int) -> dict[str, Any]:
        self.chosen = (step, token)
        self._tell("choose", step, token)
        return {}

    # Forms without a browser half

    def _plain_text(self) -> str:
        return _strip_forms.plain(self._trace)

    def _static_html(self) -> Any:
        return _strip_forms.static(self._trace, self.title)


def _steps(trace: Trace, start: int, epoch: int) -> tuple[dict[str, Any], list[bytes]]:
    stop = min(len(trace), start + MOST_STEPS)
    return {"epoch": epoch, "from": start, "n": stop}, _columns.steps(trace, start, stop)


def _prompt(trace: Trace | None, epoch: int) -> tuple[dict[str, Any], list[bytes]]:
    tokens = np.zeros(0, np.int32) if trace is None else trace.prompt_tokens
    skipped = max(0, len(tokens) - MOST_PROMPT)
    shown = [trace.piece(int(token)) for token in tokens[skipped:]] if trace is not None else []
    return {"epoch": epoch, "skipped": skipped}, _columns.pieces(shown)
