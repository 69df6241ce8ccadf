"""Prompt, Run and Stop, how fast it goes, and the runs so far to choose from and compare.

The panel decodes nothing: it checks what was asked for and calls those who said `on_run`,
`on_stop` and `on_select`, which must return at once. `follow` shows a Run that one of them began;
once it has ended, the panel's `History` lists it.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any
from xml.etree.ElementTree import Element

import traitlets

from mullama_lab.counted import counted
from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.options import MAX_SEED, listed
from mullama_lab.engine.trace import Trace
from mullama_lab.errors import MullamaError
from mullama_lab.glyphs import brief
from mullama_lab.widgets import _front_end, _static
from mullama_lab.widgets._compare import Comparison, Cost, numbers_to_compare
from mullama_lab.widgets._followed_runs import FollowedRuns
from mullama_lab.widgets._history import History, table
from mullama_lab.widgets._kept import CLOSED
from mullama_lab.widgets._run_settings import must_ask, read_setting, whole_messages
from mullama_lab.widgets._runs import Asked, Ends, PastRun, brought_back, meters, state_of
from mullama_lab.widgets._view import Undo, View, must_be_function, what_failed, whole_number

__all__ = ["RunPanel"]
__dir__ = __all__.copy  # what tab completion offers

log = logging.getLogger(__name__)

MAX_PROMPT = 100_000  # characters
MAX_TOKENS = 1_000_000
MAX_STOP = 1000  # characters of all stop strings
STATES = ("idle", "queued", "prompt", "running", "finished", "stopped", "failed")
BUSY = ("queued", "prompt", "running")


class RunPanel(View):
    """Where a person runs a prompt and compares what came of it.

    >>> panel = RunPanel("Once upon a time", seed=7)
    >>> undo = panel.on_run(lambda panel: print("run", panel.prompt, panel.seed))
    >>> panel.run()
    run Once upon a time 7

    Attributes:
        begin_mark: the token that the model puts before a prompt, which the list of runs leaves
            out; None for none.
    """

    _esm = _front_end.module("run_panel")
    _css = _front_end.style("run_panel")
    _work_states = BUSY

    prompt = traitlets.Unicode("").tag(sync=True)
    """The text to go on from."""
    chat = traitlets.Bool(False).tag(sync=True)
    """Whether `messages` are what runs, laid out by the model's template, instead of `prompt`."""
    messages = traitlets.List(traitlets.Dict()).tag(sync=True)
    """The turns of a chat, {"role": "user", "content": "..."}; Run answers, or goes on."""
    seed = traitlets.Int(0).tag(sync=True)
    """Which draws: the same seed draws the same at the same step."""
    max_tokens = traitlets.Int(128).tag(sync=True)
    """The most tokens of a run."""
    stop_strings = traitlets.List(traitlets.Unicode()).tag(sync=True)
    """Texts that end a run; they are left out of it."""
    state = traitlets.Enum(STATES, "idle").tag(sync=True)
    """What the run that goes on is doing; else how the text that is shown has ended."""
    message = traitlets.Unicode("").tag(sync=True)
    """Why the last run failed or did not begin, or what a lab says of the panel; "" for nothing."""
    progress = traitlets.List(traitlets.Int(), [0, 0]).tag(sync=True)
    """Prompt tokens done, in all."""
    meters = traitlets.Dict().tag(sync=True)
    """The figures of the run that is shown, as `_runs.meters` has them."""
    history = traitlets.List(traitlets.Dict()).tag(sync=True)
    """One short dict a run, the newest last."""
    compared = traitlets.List(
        traitlets.Int(), help="Numbers of runs that are to be shown side by side."
    ).tag(sync=True)
    shown = traitlets.Int(0).tag(sync=True)
    """The number of the run that is shown, 0 for none."""

    def __init__(
        self,
        prompt: str = "",
        *,
        seed: int = 0,
        max_tokens: int = 128,
        stop_strings: str | Sequence[str] = (),
    ) -> None:
        self._past = History()
        self.begin_mark: int | None = None
        self._followed = FollowedRuns(self._show_run)
        self._following: Run | None = None
        self._shown: Trace | None = None  # whose figures are shown
        self._how: str = "idle"  # how it has ended
        self._asked: dict[Run, Asked] = {}  # of those that are followed
        self._lock = threading.RLock()  # the runs and what is said of them
        self._cost_of: Callable[[Trace], Cost | None] = lambda trace: None
        super().__init__(
            prompt=prompt,
            seed=seed,
            max_tokens=max_tokens,
            stop_strings=(
                [stop_strings]
                if isinstance(stop_strings, str)
                else listed("stop_strings", stop_strings, "texts")
            ),
        )

    # From Python

    @property
    def runs(self) -> list[PastRun]:
        """The runs of the history with their traces, the newest last."""
        return list(self._past.runs)

    def on_run(self, callback: Callable[[RunPanel], Any]) -> Undo:
        """Call `callback(panel)` when Run is pressed; returns what undoes it."""
        return self._listen("run", callback)

    def on_stop(self, callback: Callable[[RunPanel], Any]) -> Undo:
        """Call `callback(panel)` when Stop is pressed; a Run that is followed is stopped anyway."""
        return self._listen("stop", callback)

    def on_select(self, callback: Callable[[PastRun], Any]) -> Undo:
        """Call `callback(past_run)` when a run of the history is chosen; it has the trace."""
        return self._listen("select", callback)

    def on_restore(self, callback: Callable[[PastRun], Any]) -> Undo:
        """Call `callback(past_run)` when a run's settings are in force again.

        But for its `chain` and `steering`, which the callback is to put in force.
        """
        return self._listen("restore", callback)

    def costs_with(self, cost_of: Callable[[Trace], Cost | None]) -> None:
        """Ask `cost_of(trace)` what the grammars of a run that is compared cost; None for none.

        It is called on any thread.
        """
        must_be_function("costs_with", cost_of)
        self._cost_of = cost_of

    def cost_of(self, trace: Trace) -> Cost | None:
        """What is said there of a trace; None before anybody said how."""
        return self._cost_of(trace)

    def run(self) -> None:
        """As the button: ask those who said `on_run`.

        Raises:
            ValueError: nobody said `on_run`, or a chat has no turn of the user to answer.
        """
        self._must_be_heard("run")
        if self.chat:
            must_ask(self.messages)
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
            ends = Ends(self.max_tokens, self.stop_strings)
            self._asked[run] = Asked(self.prompt, self.chat, self.messages, ends)
            with self.hold_sync():
                self._shown, self.shown = run.trace, 0
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
            past = self._past.add(trace)
            with self.hold_sync():
                self.history = self._past.lines(self.begin_mark)
                if show:
                    self.show(trace)
            return past.number

    def show(self, trace: Trace) -> None:
        """Say of a finished trace how it ended, and its figures; it need not be in the history."""
        with self._lock, self.hold_sync():
            how = state_of(trace)
            self._say_of(trace, how, {} if how == "idle" else meters(trace))

    def _say_of(self, trace: Trace | None, how: str, figures: dict[str, Any]) -> None:
        self._shown, self._how, self.meters = trace, how, figures
        self.shown = 0 if trace is None else self._past.number_of(trace)
        if self.state not in BUSY:
            self._say_end()

    def _say_end(self) -> None:
        """Say how the text that is shown has ended."""
        if "failed" in (self.state, self._how):
            self.message = ""  # why another run failed
        self.state = self._how

    def clear(self) -> None:
        """Forget the runs so far, as before the first; what is asked for stays."""
        self._list(History())

    def exchange(self, history: History) -> History:
        """List the runs of another history, in place of those so far, which are returned.

        All that have ended are among them; nothing more is said of those that have not.
        """
        self._followed.catch_up()
        return self._list(history)

    def _list(self, history: History) -> History:
        with self._lock:
            self._followed.forget()
            before, self._past = self._past, history
            self._following = None
            self._asked.clear()
            self.compared, self.history = [], []  # for a page that compares some of them
            with self.hold_sync():
                self.history, self.progress = history.lines(self.begin_mark), [0, 0]
                self.message, self.state = "", "idle"
                self._say_of(None, "idle", {})
            return before

    def fail(self, error: str | BaseException) -> None:
        """Say in the panel why a run did not begin."""
        with self.hold_sync():
            self.message = what_failed(error)
            self.state = "failed"

    def select(self, number: int) -> PastRun:
        """Choose a run of the history: its figures are shown, `on_select` is told."""
        past = self._past.run(number)
        self.show(past.trace)
        self._tell("select", past)
        return past

    def restore(self, number: int) -> PastRun:
        """Put the settings of a run back; `on_restore` is told, for its chain and its weights.

        The prompt comes back of runs that were followed and began with this panel's, and so do
        max_tokens and stop_strings, if the run ended as it would with them.
        """
        past = self._past.run(number)
        with self.hold_sync():
            if past.seed is not None:
                self.seed = past.seed
            if (asked := past.asked) is not None:
                self.prompt, self.messages, self.chat = asked.prompt, asked.messages, asked.chat
                if (ends := asked.ends) is not None:
                    self.max_tokens, self.stop_strings = ends.max_tokens, ends.stop_strings
        self._tell("restore", past)
        return past

    @property
    def goes_on(self) -> bool:
        """Whether a run goes on with the last turn of a chat, which is the assistant's."""
        return bool(self.chat and self.messages and self.messages[-1]["role"] == "assistant")

    def forget_answer(self) -> None:
        """Take the assistant's last turn away and the next seed, to have another one made.

        Raises:
            ValueError: the last turn is not the assistant's.
        """
        if not self.goes_on:
            raise ValueError("the last turn is not the assistant's: Run answers it.")
        with self.hold_sync():
            self.messages = self.messages[:-1]
            self.seed = (self.seed + 1) % (MAX_SEED + 1)

    def take_answer(self, text: str, asked: list[dict[str, str]]) -> None:
        """Put what the assistant said into a chat, unless its turns were changed since.

        Args:
            asked: the turns that were answered; if the last is the assistant's, it went on.
        """
        if self.messages == asked:
            went_on = bool(asked) and asked[-1]["role"] == "assistant"
            turns, before = (asked[:-1], asked[-1]["content"]) if went_on else (asked, "")
            self.messages = [*turns, {"role": "assistant", "content": before + text}]

    def called(self, trace: Trace) -> str:
        """What the list of runs calls the path of a trace: "run 5"; "" if it is of none."""
        return self._past.called(trace)

    def compare(self, *numbers: int) -> Comparison:
        """Two to four runs of the history by number: where they part and the KL there."""
        return self._past.compare(*numbers, cost_of=self._cost_of)

    def to_code(self) -> str:
        """Python that runs this prompt without a browser, once `session` and `chain` are there."""
        what = f"chat({self.messages!r}" if self.chat else f"generate({self.prompt!r}"
        stop = f", stop={self.stop_strings!r}" if self.stop_strings else ""
        goes_on = ", continue_final=True" if self.goes_on else ""
        return (
            f"trace = session.{what}, chain, "
            f"max_tokens={self.max_tokens}, seed={self.seed}{stop}{goes_on})"
        )

    def close(self, why: str = CLOSED) -> None:
        self._followed.close()
        super().close(why)

    # From the browser

    def _on_request(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        if op == "set":
            return self._request_set(args)
        if op == "run":
            self._request_set(args)
            self._request_run()
            return {}
        if op == "regenerate":
            turns, seed = self.messages, self.seed
            self.forget_answer()
            if not self._request_run():
                self.messages, self.seed = turns, seed
            return {}
        if op == "restore":
            past = self.restore(whole_number(args, "number", low=1, high=self._past.count))
            return {"said": brought_back(past, self._past.runs)}
        if op == "stop":
            self.stop()
            return {}
        if op == "dice":
            self.seed = random.randrange(1_000_000)
            return {"seed": self.seed}
        if op == "select":
            self.select(whole_number(args, "number", low=1, high=self._past.count))
            return {}
        if op == "compare":
            return self.compare(*numbers_to_compare(args, "runs")).to_dict()
        return super()._on_request(op, args)

    def _request_set(self, args: dict[str, Any]) -> dict[str, Any]:
        name, value = read_setting(args.get("name"), args.get("value"))
        if name == "chat" and value and not self.messages:
            self.messages = [{"role": "user", "content": ""}]  # to write in
        setattr(self, name, value)
        return {}

    def _request_run(self) -> bool:
        """Run, or say in the panel why not; whether a run began."""
        run = self._following
        if self.state in BUSY and run is not None and not run.done:
            raise ValueError("a run is going on. Stop it first.")
        try:
            self.run()
        except (MullamaError, ValueError, TypeError) as error:
            self.fail(error)
            log.info("a run did not begin: %s", error)
            return False
        return True

    # State

    @traitlets.observe("chat")
    def _chat_changed(self, change: object) -> None:
        with self._lock, self.hold_sync():
            if self.state not in BUSY:  # what is said is of what ran before
                self._say_of(None, "idle", {})

    @traitlets.validate("prompt")
    def _check_prompt(self, proposal: Any) -> str:
        if len(proposal["value"]) > MAX_PROMPT:
            raise traitlets.TraitError(
                f"the prompt has {len(proposal['value'])} characters; the panel takes "
                f"{MAX_PROMPT}. Give longer ones to session.generate."
            )
        return proposal["value"]

    @traitlets.validate("messages")
    def _check_messages(self, proposal: Any) -> list[dict[str, str]]:
        try:
            return whole_messages(proposal["value"])
        except (ValueError, TypeError) as error:
            raise traitlets.TraitError(str(error)) from None

    @traitlets.validate("stop_strings")
    def _check_stop(self, proposal: Any) -> list[str]:
        texts = proposal["value"]
        if not all(texts) or sum(map(len, texts)) > MAX_STOP:
            raise traitlets.TraitError(
                f"stop_strings is {brief(texts)}; none may be empty, and all together have at "
                f"most {MAX_STOP} characters"
            )
        return texts

    @traitlets.validate("seed", "max_tokens")
    def _check_number(self, proposal: Any) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        most = MAX_SEED if name == "seed" else MAX_TOKENS
        if isinstance(value, bool) or not 0 <= value <= most:
            raise traitlets.TraitError(f"{name} is {brief(value)}; it must be from 0 to {most}")
        return value

    def _report(self, run: Run) -> None:
        self.progress = list(run.progress)
        state = run.state
        is_shown = self._shown is run.trace
        if is_shown:
            self.meters = meters(run.trace)
        if is_shown or state in (*BUSY, "failed"):
            self.state = state
        else:  # somebody who looks at another text is left there
            self._say_end()

    def _show_run(self, run: Run) -> None:
        """Show how a run goes on; once it has ended, list it."""
        with self._lock:
            if run not in self._followed:  # forgotten meanwhile
                return
            done, current = run.done, run is self._following
            with self.hold_sync():
                if current:
                    self._report(run)
                    if done and run.error is not None:
                        self.message = what_failed(run.error)
                if done and (len(run.trace) or run.error is None) and run.trace not in self._past:
                    past = self._past.add(run.trace, self._asked.get(run))
                    self.history = self._past.lines(self.begin_mark)
                    if self._shown is run.trace:
                        self.shown = past.number
            if done:
                self._asked.pop(run, None)
            if done and current:
                self._following = None

    # Without a browser

    def __repr__(self) -> str:
        n = len(self._past)
        return f"RunPanel({self.state}, {counted(n, 'run')})"

    def _what(self) -> str:
        """What runs, as text."""
        if not self.chat:
            return self.prompt
        return "\n".join(f"{turn['role']}: {turn['content']}" for turn in self.messages)

    def _limits(self) -> str:
        """Which draws there are, and where a run ends."""
        stops = [repr(text) for text in self.stop_strings]
        at_most = f"at most {counted(self.max_tokens, 'token')}"
        return ", ".join([f"seed {self.seed}", at_most, *(f"stop at {text}" for text in stops)])

    def _plain_text(self) -> str:
        lines = [repr(self), f"prompt {self._what()[:200]!r}, {self._limits()}"]
        if self.message:
            lines.append(self.message)
        return "\n".join([*lines, *("  ".join(row) for row in table(self.history)[1])])

    def _static_html(self) -> Element:
        e = _static.element
        columns, rows = table(self.history)
        return e(
            "div",
            e("b", "Messages" if self.chat else "Prompt"),
            e("pre", self._what()[:2000], style="white-space:pre-wrap;margin:4px 0"),
            e("div", self._limits(), style=_static.QUIET),
            e("div", self.message) if self.message else None,
            _static.table(columns, rows, title=counted(len(rows), "run")) if rows else None,
            style=_static.FONT,
        )
