"""Run: a generation in flight. Watch it, change its chain, stop it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

from mullama_lab.engine.chain import Chain, Stage
from mullama_lab.engine.trace import Step, Trace
from mullama_lab.engine.worker import WAIT_STEP, Job
from mullama_lab.errors import Stopped


class Run:
    """A generation in flight, made by `session.start`. Iterating over it yields its Steps.

    Attributes:
        trace: grows while it runs.
        progress: (prompt tokens done, prompt tokens in all).
    """

    def __init__(
        self,
        trace: Trace,
        chain: Chain,
        work: Callable[[Run], None],
        *,
        check: Callable[[Chain], None],
        owner: object = None,
    ) -> None:
        check(chain)
        self.trace = trace
        self.progress = (0, len(trace.prompt_tokens))
        self._chain = chain
        self._check = check
        self._job: Job[None] = Job(lambda: work(self), owner)
        self._news = threading.Condition()
        self._started = False
        self._job.when_done(self._ended)

    @property
    def chain(self) -> Chain:
        """The chain in force. Setting it takes effect from the next token on.

        Raises:
            ValueError: the new chain does not fit the model; the run goes on with the old one.
        """
        return self._chain

    @chain.setter
    def chain(self, chain: Chain | Stage) -> None:
        chain = Chain.of(chain)
        self._check(chain)
        self._chain = chain

    @property
    def done(self) -> bool:
        """Whether it has ended, however."""
        return self._job.done

    @property
    def error(self) -> BaseException | None:
        """What made it fail, if anything did."""
        error = self._job.error
        return None if isinstance(error, Stopped) else error

    @property
    def state(self) -> str:
        """queued, prompt, running, finished, stopped or failed."""
        if self.done:
            if self.error is not None:
                return "failed"
            stopped = self._job.error is not None or self.trace.finish_reason == "stopped"
            return "stopped" if stopped else "finished"
        if len(self.trace):
            return "running"
        return "prompt" if self._started else "queued"

    def stop(self) -> None:
        """Stop it, also during prompt processing; what was generated stays in the trace."""
        self._job.stop()

    def wait(self, timeout: float | None = None) -> Trace:
        """Wait for its end and give the trace.

        Raises:
            TimeoutError: it still runs after `timeout` seconds.
            MullamaError: what made it fail.
        """
        with suppress(Stopped):
            self._job.result(timeout)
        return self.trace

    def __iter__(self) -> Iterator[Step]:
        self._job.must_not_wait_here()
        seen = 0
        while True:
            with self._news:
                while len(self.trace) == seen and not self.done:
                    self._news.wait(WAIT_STEP)
            if len(self.trace) == seen:
                self.wait()
                return
            yield self.trace[seen]
            seen += 1

    def __repr__(self) -> str:
        return f"<Run {self.state}: {len(self.trace)} tokens>"

    # What the loop asks and tells (generate.Controls).

    @property
    def stop_requested(self) -> bool:
        return self._job.stop_requested

    def on_prompt(self, done: int, total: int) -> None:
        self._started = True
        self.progress = (done, total)

    def on_step(self) -> None:
        self._tell()

    def _ended(self) -> None:
        if not self.trace.finish_reason:  # it never began
            self.trace.finish_reason = "stopped" if self.error is None else "failed"
        self._tell()

    def _tell(self) -> None:
        with self._news:
            self._news.notify_all()
