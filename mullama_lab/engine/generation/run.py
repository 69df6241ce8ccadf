"""Run: a generation in flight. Watch it, change its chain, stop it. Runs: several in one batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NoReturn, overload

from mullama_lab.engine.sampling.chain import Chain, Stage
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.step import Step
from mullama_lab.engine.worker import WAIT_STEP, Job, Part, as_ended
from mullama_lab.errors import Stopped


class Run:
    """A generation in flight, made by `session.start`. Iterating over it yields its Steps.

    One of several in a batch (`session.start_many`) ends by itself, and stopping it lets the
    others go on.

    Attributes:
        trace: grows while it runs.
        progress: (prompt tokens done, prompt tokens in all).
    """

    def __init__(
        self,
        trace: Trace,
        chain: Chain,
        make_job: Callable[[Run], Job[None]],
        *,
        check: Callable[[Chain], None],
    ) -> None:
        check(chain)
        self.trace = trace
        self.progress = (0, len(trace.prompt_tokens))
        self._chain = chain
        self._check = check
        self._job = make_job(self)
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
    def started(self) -> bool:
        """Whether its turn came: its prompt is being processed, or was."""
        return self._started

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
        if len(self.trace) > self.trace.n_copied:
            return "running"
        return "prompt" if self.started else "queued"

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

    def wait_or_stop(self) -> Trace:
        """Wait for its end; what interrupts the wait (Ctrl-C) stops it and is raised after that.

        Raises:
            MullamaError: what made it fail.
        """
        with self._job.stopped_on_error():
            return self.wait()

    def when_done(self, call: Callable[[], object]) -> None:
        """Call something once it has ended, on whichever thread ends it; at once if it has."""
        self._job.when_done(call)

    def __iter__(self) -> Iterator[Step]:
        self._job.must_not_wait_here()
        seen = 0
        while True:
            with self._news, self._job.told_wait() as tell:
                while len(self.trace) == seen and not self.done:
                    self._news.wait(WAIT_STEP)
                    tell()
            if len(self.trace) == seen:
                self.wait()
                return
            yield self.trace[seen]
            seen += 1

    def __reduce__(self) -> NoReturn:  # what copy and pickle ask
        raise TypeError(
            "a Run is a generation in flight, so it cannot be copied or pickled. "
            "Its record can: run.trace, or run.wait() when it has ended."
        )

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

    def on_end(self, error: BaseException | None) -> None:
        if isinstance(self._job, Part):
            self._job.end(error)

    def _ended(self) -> None:
        if not self.trace.finish_reason:  # it never began
            self.trace.finish_reason = "stopped" if self.error is None else "failed"
        self._tell()

    def _tell(self) -> None:
        with self._news:
            self._news.notify_all()


class Runs(Sequence[Run]):
    """Generations in flight side by side, made by `session.start_many`; a sequence of Runs.

    `runs.chain = chain` changes the chain of all, `runs[3].chain = chain` that of one.
    """

    def __init__(self, runs: Sequence[Run], job: Job[None]) -> None:
        self._runs = tuple(runs)
        self._job = job

    @property
    def chain(self) -> tuple[Chain, ...]:
        """The chains in force. Setting one chain, or one for each, takes effect from the next
        token on; ValueError if one does not fit the model, and then none is changed.
        """
        return tuple(run.chain for run in self._runs)

    @chain.setter
    def chain(self, chain: Chain | Stage | Iterable[Chain]) -> None:
        one = isinstance(chain, (Chain, Stage))
        chains = [Chain.of(chain)] * len(self) if one else [Chain.of(c) for c in chain]
        if len(chains) != len(self):
            raise ValueError(f"{len(chains)} chains for {len(self)} runs: give one, or one each.")
        for run, new in zip(self._runs, chains, strict=True):
            run._check(new)
        for run, new in zip(self._runs, chains, strict=True):
            run.chain = new

    @property
    def progress(self) -> tuple[int, int]:
        """(runs that have ended, runs in all)."""
        return sum(run.done for run in self._runs), len(self._runs)

    @property
    def done(self) -> bool:
        """Whether all have ended, however."""
        return all(run.done for run in self._runs)

    @property
    def traces(self) -> list[Trace]:
        """The traces, in the order of the prompts; they grow while it runs."""
        return [run.trace for run in self._runs]

    def stop(self) -> None:
        """Stop all of them; what was generated stays in the traces."""
        self._job.stop()

    def wait(self, timeout: float | None = None) -> list[Trace]:
        """Wait for the end of all and give the traces.

        Raises:
            TimeoutError: some still run after `timeout` seconds.
            MullamaError: what made the first of them fail; `run.error` says it for each.
        """
        with suppress(Stopped):
            self._job.result(timeout)
        return self.traces

    def as_ended(self) -> Iterator[int]:
        """The place of each run, as soon as it has ended; for a bar of progress."""
        self._job.must_not_wait_here()
        return as_ended([run._job for run in self._runs])

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Run]: ...
    def __getitem__(self, index: int | slice) -> Run | Sequence[Run]:
        return self._runs[index]

    def __len__(self) -> int:
        return len(self._runs)

    def __repr__(self) -> str:
        return f"<Runs: {self.progress[0]} of {len(self)} ended>"
