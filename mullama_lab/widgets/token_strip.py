"""TokenStrip: a Trace as tokens in colour, also while it grows.

The numbers go to the browser as binary columns when it asks, or as deltas while a run goes
on. What a token means in detail is asked for one token at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import traitlets
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.options import instance
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.stale import stale_words
from mullama_lab.widgets import _columns, _front_end, _strip_forms
from mullama_lab.widgets._endings import ending
from mullama_lab.widgets._followed_runs import FollowedRuns
from mullama_lab.widgets._kept import CLOSED
from mullama_lab.widgets._token_view import TokenView
from mullama_lab.widgets._view import Undo, must_be_function, whole_number

__all__ = ["TokenStrip"]
__dir__ = __all__.copy  # what tab completion offers

OF_THE_TRACE = ("probability", "surprise", "entropy", "rank", "time")
ASIDE = ("grammar", "effect", "forbidden", "tokenizer")  # these are computed aside
LAYERS = (*OF_THE_TRACE, *ASIDE)
OF_A_TRACE = (
    "steps",
    "costs",
    "details",
    "pick",
    "choose",
    "explain",
    "back",
)  # what may be asked of one
STATES = ("empty", "queued", "prompt", "running", "finished", "stopped", "failed")
MOST_STEPS = 8192  # of one message
MOST_PROMPT = 400  # tokens of the prompt that are shown
MOST_REMARK = 600  # characters


class TokenStrip(TokenView):
    """A Trace as tokens, coloured by probability, surprise, entropy, rank or time.

    The workbench also colours them by what a grammar cost, and by the effect of adapters and
    control vectors, once a run with one has ended; by what the grammar of an open bench would have
    forbidden of a text that was written without one; and by where a grammar had a text written in
    other tokens than the tokenizer's.

    Hover or move to a token: its alternatives before and after the chain, what each stage
    left, its bytes and its times. A click on a token and the arrow keys pick it: `on_pick`
    callbacks get its step. `Enter` or a click on an alternative chooses it:
    `on_choose` callbacks get `(step, token)`. Keys b and f, or buttons, ban or favour it: see
    `on_bias`.

    Args:
        trace: a finished Trace. `strip.trace = other` shows another one.
        run: a Run in flight to follow; `strip.follow(run)` does it later.
        layer: one of "probability", "surprise", "entropy", "rank", "time", "grammar", "effect",
            "forbidden", "tokenizer"; the last four are offered once a run that they say something
            of has ended; till then the colours are those of probability.
        title: a line above the strip.
    """

    _esm = _front_end.module("token_strip")
    _css = _front_end.style("token_strip")
    _work_states = ("queued", "prompt", "running")
    from_browser = ("layer",)

    n = traitlets.Int(0, help="Tokens there are; while a run goes on, when it began.").tag(
        sync=True
    )
    state = traitlets.Enum(STATES, "empty", help="What is going on.").tag(sync=True)
    finish = traitlets.Unicode("", help="Why the generation ended.").tag(sync=True)
    ended = traitlets.Unicode("", help="The same in words, and which steps are stale.").tag(
        sync=True
    )
    note = traitlets.Unicode("", help="What went wrong.").tag(sync=True)
    progress = traitlets.List(traitlets.Int(), [0, 0], help="Prompt tokens done, in all.").tag(
        sync=True
    )
    layer = traitlets.Enum(LAYERS, "probability", help="What the colours show.").tag(sync=True)
    title = traitlets.Unicode("", help="A line above the strip.").tag(sync=True)
    choosing = traitlets.Unicode(
        "choose it", help="What choosing an alternative does, in a few words."
    ).tag(sync=True)
    branched = traitlets.Dict(
        help="Where the text goes off another one: step, hex, was; empty if it does not."
    ).tag(sync=True)
    looked_at = traitlets.Int(
        -1, help="The step whose distribution another view shows; -1 for none."
    ).tag(sync=True)
    epoch = traitlets.Int(0, help="Counts the traces shown.").tag(sync=True)
    explains = traitlets.Bool(False, help="Whether a token's fate can be asked for.").tag(sync=True)
    more = traitlets.Dict(
        help="Layers beside the first five that are offered, and what is said of each."
    ).tag(sync=True)

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
        self._marked: tuple[Trace | None, int] = (None, -1)
        self._sent = 0
        self._aside: dict[str, list[bytes]] = {}  # the columns of layers that come aside
        self._lock = threading.RLock()  # what is shown: a run before may still be told of
        self._explain: Callable[[Trace, int, int], str] | None = None
        self._is_mark: Callable[[int], bool] = lambda token: False
        self._before: Callable[[Trace, int], Trace | None] = lambda trace, step: None
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

    def show_costs(
        self,
        trace: Trace,
        *,
        nats: NDArray[np.float64],
        nats_high: NDArray[np.float64],
        wanted: NDArray[np.int32],
        wanted_logprob: NDArray[np.float64],
        said: str = "",
    ) -> None:
        """Offer what grammars cost at each token of the trace, if that is still the one shown.

        Args:
            nats, nats_high: -ln of the probability that they left, at least and at most; (n,).
            wanted: the likeliest token that they took out, -1 for none; (n,).
            wanted_logprob: its log-probability before, in nats; (n,).
            said: what it comes to, in a line.

        Raises:
            ValueError: an array is not as long as the trace.
        """
        numbers = (nats, nats_high, wanted_logprob)
        self._show_aside("grammar", trace, numbers, _named(trace, wanted), said)

    def offer_effect(self, trace: Trace, said: str = "") -> None:
        """Offer the layer of the effect, if that trace is still shown: its numbers come if chosen.

        Args:
            said: what is to be said of them, such as that they are being computed.
        """
        with self._lock:
            if trace is self._trace:
                self.more = {**self.more, "effect": said}

    def show_effect(
        self,
        trace: Trace,
        *,
        kl: NDArray[np.float64],
        base_logprob: NDArray[np.float64],
        base_best: NDArray[np.int32],
        said: str = "",
    ) -> None:
        """Show what adapters and vectors did at each token of the trace, if it is still shown.

        Args:
            kl: of what the model said from what it says without them, in nats; (n,).
            base_logprob: how likely the token is without them, in nats; (n,).
            base_best: the likeliest token without them; (n,).
            said: what it comes to, in a line.

        Raises:
            ValueError: an array is not as long as the trace.
        """
        self._show_aside("effect", trace, (kl, base_logprob), _named(trace, base_best), said)

    def show_forbidden(
        self, trace: Trace, *, nats: NDArray[np.float64], words: Sequence[str], said: str = ""
    ) -> None:
        """Offer what a grammar would have forbidden of the trace, if it is still shown.

        Args:
            nats: -ln of the probability of all that it would have let in, at least; (n,).
            words: what is to be said of each token that it forbids, "" of one that it lets in.
            said: what it comes to, in a line.

        Raises:
            ValueError: there is not one for each token of the trace.
        """
        self._show_aside("forbidden", trace, (nats,), _encoded(words), said)

    def show_tokenizer(
        self, trace: Trace, *, prob: NDArray[np.float64], words: Sequence[str], said: str = ""
    ) -> None:
        """Offer where the trace is not in the tokenizer's tokens, if it is still shown.

        Args:
            prob: of the tokenizer's own token where there is another one, NaN if not known; (n,).
            words: what is to be said of each token that is not the tokenizer's, "" of others.
            said: what it comes to, in a line.

        Raises:
            ValueError: there is not one for each token of the trace.
        """
        self._show_aside("tokenizer", trace, (prob,), _encoded(words), said)

    def withdraw(self, layer: str) -> None:
        """Offer a layer that was computed aside no more: what it was about is another by now."""
        with self._lock:
            self._aside.pop(layer, None)
            if layer in self.more:
                self.more = {name: said for name, said in self.more.items() if name != layer}

    def has(self, layer: str) -> bool:
        """Whether the numbers of a layer are there."""
        return layer in OF_THE_TRACE or layer in self._aside

    def settle(self) -> None:
        """Wait until the end of the run that is followed is shown; for code, not for callbacks."""
        self._followed.settle()

    def mark(self, trace: Trace | None, step: int) -> None:
        """Mark the step whose distribution another view shows, whenever its trace is shown."""
        with self._lock:
            self._marked = trace, step
            self.looked_at = self._marked_step()

    def on_pick(self, callback: Callable[[int], object]) -> Undo:
        """Call `callback(step)` when a token of the text is picked; returns what undoes it."""
        return self._listen("pick", callback)

    def on_choose(self, callback: Callable[[int, int], object]) -> Undo:
        """Call `callback(step, token)` when a token is chosen; returns what undoes it."""
        return self._listen("choose", callback)

    def on_back(self, callback: Callable[[Trace], object]) -> Undo:
        """Call `callback(trace)` with the text to show again that the shown one goes off."""
        return self._listen("back", callback)

    def goes_off_with(self, before: Callable[[Trace, int], Trace | None]) -> None:
        """Ask `before(trace, step)` which text a trace goes off at a step that was forced.

        The strip then says so and offers the way back. It is called on any thread.
        """
        must_be_function("goes_off_with", before)
        self._before = before

    def marks_with(self, is_mark: Callable[[int], bool]) -> None:
        """Ask this of each token of a prompt: whether it is a template's mark, and no text."""
        must_be_function("marks_with", is_mark)
        self._is_mark = is_mark

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
        return f"TokenStrip({counted(n, 'token')})"

    # Showing

    def _show_aside(
        self,
        layer: str,
        trace: Trace,
        numbers: Sequence[NDArray[np.float64]],
        texts: Sequence[bytes],
        said: str,
    ) -> None:
        """Have the numbers of a layer that come aside, and a text for each token."""
        if any(len(column) != len(trace) for column in (*numbers, texts)):
            raise ValueError(f"there are {len(trace)} tokens: give each its numbers.")
        with self._lock:
            if trace is self._trace:
                self._aside[layer] = _columns.aside(numbers, texts)
                self.more = {**self.more, layer: said}

    def _begin(self, trace: Trace | None) -> None:
        self._followed.forget()
        self._trace = trace
        self._sent = 0
        self._aside = {}
        with self.hold_sync():
            self.more = {}
            self.n = 0
            self.note = self.finish = self.ended = ""
            self.progress = [0, 0]
            self.state = "empty"
            self.branched = {}
            self.looked_at = self._marked_step()
            self.epoch += 1
            self._say_where_it_goes_off()

    def _marked_step(self) -> int:
        trace, step = self._marked
        return step if trace is not None and trace is self._trace else -1

    def _settle(self, state: str, note: str = "") -> None:
        """Say how it ended; whoever looks later reads it from the traits."""
        if self._trace is None:
            return
        with self.hold_sync():
            self._say_where_it_goes_off()
            self.n = len(self._trace)
            self.finish, self.ended = self._trace.finish_reason, ending(self._trace)
            self.note = note
            self.state = state

    def _show_run(self, run: Run) -> None:
        """Send the steps that are new, and how far the run is."""
        with self._lock:
            if run.trace is not self._trace:
                return
            done = run.done
            self._send_delta(run.trace)
            self._say_where_it_goes_off()
            if done:
                self._settle(run.state, "" if run.error is None else str(run.error))
                return
            if run.state in ("queued", "prompt"):
                self.progress = list(run.progress)
            self.ended = stale_words(run.trace)
            if self.state != run.state and run.state in STATES:
                self.state = run.state

    def _say_where_it_goes_off(self) -> None:
        """Say which step was forced to go off another text, as soon as it is there."""
        trace = self._trace
        if trace is None or self.branched:
            return
        step = trace.n_copied - 1
        before = self._before(trace, step) if step >= 0 and trace.forced[step] else None
        if before is not None:
            differs = step < len(before) and before.tokens[step] != trace.tokens[step]
            was = before.pieces[step].hex() if differs else ""
            self.branched = {"step": step, "hex": trace.pieces[step].hex(), "was": was}

    def _send_delta(self, trace: Trace) -> None:
        if len(trace) <= self._sent:
            return
        header, buffers = _steps(trace, self._sent, self.epoch)
        self._sent = header["n"]
        self.send({**header, "kind": "delta"}, buffers)

    # Requests

    def _on_request(self, op: str, args: dict[str, Any]) -> Any:
        with self._lock:
            trace, epoch, aside = self._trace, self.epoch, self._aside
        if op == "prompt":
            return _prompt(trace, epoch, self._is_mark)
        if op not in OF_A_TRACE:
            return super()._on_request(op, args)
        if trace is None:
            raise ValueError("no trace is shown; run a prompt first")
        if op == "steps":
            return _steps(trace, whole_number(args, "from", low=0, high=len(trace)), epoch)
        if op == "costs":
            layer = args.get("layer")
            return {"epoch": epoch}, aside.get(layer, []) if isinstance(layer, str) else []
        if op == "details":
            return _columns.details(trace, whole_number(args, "step", low=0, high=len(trace) - 1))
        if op == "pick":
            self._tell("pick", whole_number(args, "step", low=0, high=len(trace) - 1))
            return {}
        if op == "choose":
            step = whole_number(args, "step", low=0, high=len(trace) - 1)
            self._tell("choose", step, whole_number(args, "token", low=0, high=2**31 - 1))
            return {}
        if op == "back":
            before = self._before(trace, int(self.branched.get("step", -1)))
            if before is None:
                raise ValueError("it is not known which text this one goes off")
            self._tell("back", before)
            return {}
        if op == "explain" and self._explain is not None:
            step = whole_number(args, "step", low=0, high=len(trace) - 1)
            token = whole_number(args, "token", low=0, high=2**31 - 1)
            return {"text": self._explain(trace, step, token)[:MOST_REMARK]}
        return super()._on_request(op, args)

    # Forms without a browser half

    def _plain_text(self) -> str:
        return "\n".join([_strip_forms.plain(self._trace), *self._said_in_words()])

    def _static_html(self) -> Any:
        return _strip_forms.static(self._trace, self.title, self._said_in_words())

    def _said_in_words(self) -> list[str]:
        """What is said of layers that tell of single tokens in words."""
        more: dict[str, str] = self.more
        return [f"{name}: {more[name]}" for name in ("forbidden", "tokenizer") if more.get(name)]


def _named(trace: Trace, tokens: NDArray[np.int32]) -> list[bytes]:
    """The pieces of tokens; -1 is none."""
    return [trace.piece(token) if token >= 0 else b"" for token in tokens.tolist()]


def _encoded(words: Sequence[str]) -> list[bytes]:
    return [text.encode() for text in words]


def _steps(trace: Trace, start: int, epoch: int) -> tuple[dict[str, Any], list[bytes]]:
    stop = min(len(trace), start + MOST_STEPS)
    return {"epoch": epoch, "from": start, "n": stop}, _columns.steps(trace, start, stop)


def _prompt(
    trace: Trace | None, epoch: int, is_mark: Callable[[int], bool]
) -> tuple[dict[str, Any], list[bytes]]:
    tokens = [] if trace is None else trace.prompt_tokens.tolist()
    skipped = max(0, len(tokens) - MOST_PROMPT)
    shown = tokens[skipped:]
    pieces = [trace.piece(token) for token in shown] if trace is not None else []
    marks = [i for i, token in enumerate(shown) if is_mark(token)]
    return {"epoch": epoch, "skipped": skipped, "marks": marks}, _columns.pieces(pieces)
