"""SamplerLab: turn the samplers of a chain and see what that does to the next token.

The lab joins five views with one Session and holds no numbers of its own. A row of logits is
decoded once, when the prompt or the step looked at changes; every turn of a setting is a Preview
of that row, which needs no decode and so works while a generation runs.

Callbacks of the views arrive on any thread. They set values, queue work and return.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.latest_only import LatestOnly
from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import Chain, Stage
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.work import Work
from mullama_lab.errors import MullamaError
from mullama_lab.labs._bench import Bench
from mullama_lab.labs._what_if_answers import WhatIfAnswers
from mullama_lab.studies.fate import fate_in_row
from mullama_lab.widgets import ChainEditor, NextToken, RunPanel, TokenStrip, WhatIf
from mullama_lab.widgets._compare import Comparison
from mullama_lab.widgets._kept import Shelf, weakly
from mullama_lab.widgets._trace_code import schedule_code


@dataclass(frozen=True, eq=False)
class _Aim:
    """Which row is looked at: the one after these tokens, drawn at this step of this seed."""

    tokens: list[int]
    step: int
    trace: Trace | None = None  # whose step it is; None at the end of the prompt
    row: NDArray[np.float32] | None = None  # None until it was decoded


class SamplerLab(Bench):
    """A bench for samplers: prompt, chain, next-token distribution, streaming text.

        lab = SamplerLab(model, prompt="Once upon a time")
        lab.set("Temperature", t=1.2)
        trace = lab.run()

    Every generation of the lab's session shows in it, also one that a cell starts with
    `lab.session.generate(...)`, but not the many of `generate_many`; Stop ends whatever the
    session is doing.

    Args:
        model: a Model (the lab opens a session of its own) or a Session to share.
        prompt, seed, max_tokens: what a run starts from.
        chain: None is llama.cpp's default chain.

    Attributes:
        session: the Session at work.
        panel, editor, next_token, strip, what_if: the five views.
        preview: the Preview that is shown, None before the first.
    """

    def __init__(
        self,
        model: Model | Session,
        prompt: str = "Once upon a time",
        *,
        chain: Chain | Stage | None = None,
        seed: int = 0,
        max_tokens: int = 128,
    ) -> None:
        self.panel = RunPanel(prompt, seed=seed, max_tokens=max_tokens)
        self.editor = ChainEditor(chain)
        self.next_token = NextToken()
        self.strip = TokenStrip()
        self.what_if = WhatIf()
        views = (self.panel, self.editor, self.next_token, self.strip, self.what_if)
        super().__init__(model, views, _laid_out(*views))
        self.preview = None
        self._run: Run | None = None
        self._lock = threading.RLock()
        self._aim: _Aim | None = None
        self._pending: Work[NDArray[np.float32]] | None = None  # decodes the row
        self._rows = LatestOnly("next-token", weakly(self._row_failed))
        self._answers = WhatIfAnswers(self.session.model, self.what_if, lambda: self.editor.chain)
        self._watch_session(self._follow)
        self._undo += [
            self._answers.close,
            self._rows.close,
            self._stop_pending,
            self.panel.on_run(lambda _: self.start()),
            self.panel.on_stop(lambda _: self.session.stop()),
            self.panel.on_select(lambda past: self._show(past.trace)),
            self.strip.on_choose(lambda step, _: self.look_at(step)),
        ]
        self._observe(self.editor, lambda change: self._chain_changed(change["old"]), "chain")
        self._observe(self.panel, lambda _: self.look_at(None), "prompt", "seed")
        self.next_token.explain_with(self._explain)
        self.look_at(None)

    # Driving it: what the browser does, from Python.

    @property
    def chain(self) -> Chain:
        """The chain in force. Setting it also changes a run in flight, from the next token on."""
        return self.editor.chain

    @chain.setter
    def chain(self, chain: Chain | Stage) -> None:
        self.editor.chain = Chain.of(chain)

    def set(self, stage: str | int | None = None, /, **settings: Any) -> None:
        """Change settings: `lab.set("TopK", k=20)` of a stage, `lab.set(seed=3)` of the lab.

        Args:
            stage: the name of a stage or its place in the chain; None for the lab's own
                settings: prompt, seed, max_tokens, chain.
        Raises:
            ValueError, TypeError: what is wrong with the value; nothing changes then.
        """
        if stage is not None:
            self.editor.set(stage, **settings)
            return
        panel = (self.panel,)  # the chain is last, for cards that are off cannot be put back
        known = {"max_tokens": panel, "seed": panel, "prompt": panel, "chain": (self,)}
        hint = " Name the stage first to set one of a stage: lab.set('TopK', k=20)."
        self._set(settings, known, hint)

    def compare(self, *numbers: int) -> Comparison:
        """Two to four runs of the history side by side: where they part and the KL there."""
        return self.panel.compare(*numbers)

    def look_at(self, step: int | None) -> None:
        """Show the distribution at a step of the trace, or (None) at the end of the prompt."""
        trace = self.trace
        if step is None or trace is None:
            aim = None
        else:
            i = range(len(trace))[step]
            aim = _Aim(trace.history(i).tolist(), i, trace)
        with self._lock:
            self._stop_pending()
            try:
                aim = aim or _Aim(self.session.prompt_tokens(self.panel.prompt), 0)
                self._aim = aim
                job = self._pending = self.session.start_logits(aim.tokens)
            except (MullamaError, ValueError) as error:
                self._aim = self._pending = None
                self._rows.drop()
                self.next_token.fail(error)
            else:
                self._rows.submit(lambda: self._show_row(job, aim))

    def wait(self) -> None:
        """Wait until the row that is looked at was decoded and is shown."""
        job = self._pending
        if job is not None:
            with contextlib.suppress(MullamaError):  # the view says it
                job.result_or_stop()
        self._rows.settle()

    def to_code(self) -> str:
        """Python that does the same without a browser.

        What Run would do now; or, where it is the run that is shown and its chain was changed on
        the way to the one there is now, that run.
        """
        panel, shown = self.panel, self.trace
        chain = self.chain_code()
        if shown is not None and self._is_of_now(shown):
            chain = schedule_code(shown.schedule)
        return (
            "import mullama_lab as ml\n\n"
            f"model = ml.Model.load({self.session.model.source!r})\n"
            f"session = model.session(n_ctx={self.session.n_ctx})\n"
            f"chain = {chain}\n"
            f"trace = session.generate({panel.prompt!r}, chain, "
            f"max_tokens={panel.max_tokens}, seed={panel.seed})"
        )

    def chain_code(self) -> str:
        """The chain as Python that `import mullama_lab as ml` is enough for."""
        return self.editor.code

    def _is_of_now(self, trace: Trace) -> bool:
        """Whether a trace is what Run does now, but for changes of the chain on the way."""
        try:
            prompt = self.session.prompt_tokens(self.panel.prompt)
        except (MullamaError, ValueError):
            return False
        same = trace.seed == self.panel.seed and trace.schedule.last == self.editor.chain
        return same and not trace.n_copied and trace.prompt_tokens.tolist() == prompt

    # What happens

    def _chain_changed(self, before: Chain) -> None:
        run = self._run
        if run is not None and not run.done:
            run.chain = self.editor.chain
        self.session.give_way()
        self._refresh()
        self._answers.turn(before, self.editor.chain)

    def _follow(self, run: Run) -> None:
        self._run = run
        self.strip.follow(run)
        self.panel.follow(run)
        self._answers.follow(run)

    def _show(self, trace: Trace) -> None:
        self.strip.trace = trace
        self._answers.show(trace)

    def _stop_pending(self) -> None:
        """Stop the decode of a row that nobody looks at any more."""
        if self._pending is not None:
            self._pending.stop()

    def _show_row(self, job: Work[NDArray[np.float32]], aim: _Aim) -> None:
        """Show a row when it was decoded, unless another one is looked at by then."""
        row = job.result()
        with self._lock:
            if self._rows.is_current():
                self._aim = replace(aim, row=row)
                self._refresh()

    def _row_failed(self, error: Exception) -> None:
        with self._lock:
            if self._rows.is_current():
                self.next_token.fail(error)

    def _explain(self, token: int) -> str:
        """What would have kept a token of the row that is looked at."""
        with self._lock:
            aim, chain = self._aim, self.editor.chain
        if aim is None or aim.row is None:
            return ""
        return fate_in_row(
            aim.row,
            token,
            chain,
            model=self.session.model,
            history=aim.tokens,
            seed=self._seed(aim),
            step=aim.step,
            state=_state(aim, chain),
        ).remark()

    def _seed(self, aim: _Aim) -> int:
        return self.panel.seed if aim.trace is None else (aim.trace.seed or 0)

    def _refresh(self) -> None:
        with self._lock:
            aim, chain = self._aim, self.editor.chain
            if aim is None or aim.row is None:
                return
            model = self.session.model
            try:
                self.preview = chain.preview(
                    aim.row,
                    model=model,
                    history=aim.tokens,
                    seed=self._seed(aim),
                    step=aim.step,
                    state=_state(aim, chain),
                )
            except (MullamaError, ValueError) as error:
                self.next_token.fail(error)
                self.editor.annotate(None)
                return
            after = model.detokenize(aim.tokens[-24:], special=True)
            if len(aim.tokens) > 24:
                after = after.lstrip("\ufffd")  # what is left of a character that was cut in two
            where = "the end of the prompt"
            if aim.trace is not None:
                where = f"step {aim.step + 1} of {len(aim.trace)}"  # as the strip counts
            self.next_token.show(self.preview, note=f"at {where}", after=after)
            self.editor.annotate(self.preview)

    def __repr__(self) -> str:
        return f"SamplerLab({self.session.model.name}, {self.chain!r}, {self.panel!r})"


def _state(aim: _Aim, chain: Chain) -> tuple[tuple[float, ...], ...]:
    """What the stages had learnt before the step, if the chain is of the same kinds."""
    if aim.trace is None:
        return ()
    then = aim.trace.chain_at(aim.step)
    same = list(map(type, then)) == list(map(type, chain))
    return aim.trace.state(aim.step) if same else ()


def _laid_out(
    panel: RunPanel,
    editor: ChainEditor,
    next_token: NextToken,
    strip: TokenStrip,
    what_if: WhatIf,
) -> Shelf:
    """The views in a grid whose style is `.mll-lab` of run_panel.css."""
    text = Shelf([strip, what_if], "mll-lab-stack")
    return Shelf([Shelf([panel, editor, next_token, text], "mll-lab-bench")], "mll-lab")
