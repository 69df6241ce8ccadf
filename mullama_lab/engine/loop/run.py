"""Run: a generation in flight. Watch it, change it, stop it. Runs: several in one batch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any, NoReturn, TypeAlias, overload

from mullama_lab.counted import counted
from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.loop.generation import Generation
from mullama_lab.engine.loop.news import (
    Awaitable,
    News,
    StepWatcher,
    call_logged,
    must_be_callable,
    until_or_stopped,
)
from mullama_lab.engine.options import MAX_STEP, flag, instance, listed, whole
from mullama_lab.engine.setting import Setting
from mullama_lab.engine.stages import Chain, Constrain, Stage
from mullama_lab.engine.stages.schedule import Schedule, StageName
from mullama_lab.engine.steering.steering import Weights
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.step import Step
from mullama_lab.engine.work import Together, as_ended
from mullama_lab.errors import Stopped

Change: TypeAlias = Callable[[Schedule], Schedule]


class Run(Awaitable[Trace]):
    """A generation in flight, made by `session.start`. Iterating over it yields its Steps.

    In asyncio `await run` gives its trace and `async for step in run` its Steps; cancelling the
    task that waits stops it.

    One of several in a batch (`session.start_many`) ends by itself, and stopping it lets the
    others go on.
    """

    def __init__(self, lane: Generation) -> None:
        self._lane = lane
        self._news = lane.news
        self._watchers: list[StepWatcher] = []
        lane.on_step.append(self._tell_watchers)

    @property
    def trace(self) -> Trace:
        """The record of its steps; it grows while it runs."""
        return self._lane.trace

    @property
    def progress(self) -> tuple[int, int]:
        """(prompt tokens done, prompt tokens in all)."""
        return self._lane.progress

    @property
    def sequence(self) -> int | None:
        """The sequence of the cache it works in; None before it began."""
        return None if self._lane.sequence < 0 else self._lane.sequence

    @property
    def chain(self) -> Chain:
        """The chain in force. Setting it takes effect from the next token on, to the end.

        Raises:
            ValueError: the new chain does not fit the model; the run goes on with the old one.
            GrammarBroken: so it does where the text so far cannot be met by a grammar in the new.
        """
        return self._lane.wanted[0].at(len(self.trace))

    @chain.setter
    def chain(self, chain: Chain | Stage) -> None:
        _change([self], [_to_chain(chain)])

    @property
    def grammar(self) -> Grammar | None:
        """That of the first `Constrain` in the chain in force; None if there is none.

        Setting it takes effect from the next token on. Another Grammar takes the place of the one
        there, or comes before the chain; a Constrain, which may say more, takes the stage's place;
        None takes the stage out. It is about all that was generated, also before:

            run = session.start("A list of planets:", grammar=words)
            run.grammar = words.override(word=["Mars", "Venus"])
            run.grammar = ml.Constrain(json, after="```json")
            run.grammar = None

        So rules whose choices come from a Python value that changes meanwhile are set anew.

        Raises:
            GrammarBroken: the text so far is no beginning of what it allows; the run goes on as it
                was.
            GrammarError: it cannot be carried out on the model; likewise.
        """
        stage = next((stage for stage in self.chain if isinstance(stage, Constrain)), None)
        return None if stage is None else stage.grammar

    @grammar.setter
    def grammar(self, grammar: Grammar | Constrain | None) -> None:
        _change([self], [_to_grammar(grammar)])

    @property
    def setting(self) -> Setting:
        """The Setting in force: the chain, and what acts on the weights.

        Setting it has both decide the next token whose row is not under way yet, and those after
        it; other texts stay as they are:

            run = session.start("Once upon a time", chain)
            run.setting = replace(run.setting, control=0.8 * happy)

        The text goes on over what other weights computed of it, which `trace.stale` says, and
        `trace.settings` from which step on; `steer` can have that decoded anew. What is set in
        the session plays no part in this text any more.

        Raises:
            ModelFileError, ModelLoadError: an adapter does not fit the model, or is gone; the run
                goes on as it was.
            ValueError, GrammarBroken: so it does where the vector or the chain does not fit.
            TypeError: it is no Setting.
        """
        chains, acting = self._lane.wanted
        return Setting(chains.at(len(self.trace)), acting.adapters, acting.control)

    @setting.setter
    def setting(self, setting: Setting) -> None:
        _set([self], [setting])

    def steer(self, setting: Setting, *, exact: bool = False) -> None:
        """Have the adapters and the vector of a Setting act in this text; its chain plays no part.

            run.steer(ml.Setting(control=0.8 * happy), exact=True)

        When they act is as for `setting`, and other texts stay as they are.

        Args:
            exact: decode anew what the text has so far, before it goes on; also where what is set
                here acts already, on a text that is stale. False goes on over what there is. So
                does a text for which the cells beside other sequences are too few, which is logged
                and which `trace.stale` says.

        Raises:
            ModelFileError, ModelLoadError, ValueError: it does not fit the model; the run goes on
                as it was.
            TypeError: it is no Setting.
        """
        _steer([self], [setting], exact)

    @property
    def has_own_weights(self) -> bool:
        """Whether it has a Setting, so that what is set in the session plays no part in it."""
        return self._lane.has_own_weights

    @property
    def started(self) -> bool:
        """Whether its turn came: its prompt is being processed, or was."""
        return self._lane.claimed and self._lane.sequence >= 0

    @property
    def done(self) -> bool:
        """Whether it has ended, however."""
        return self._lane.done

    @property
    def stop_requested(self) -> bool:
        """Whether it was asked to end."""
        return self._lane.stop_requested

    @property
    def error(self) -> BaseException | None:
        """What made it fail, if anything did."""
        error = self._lane.error
        return None if isinstance(error, Stopped) else error

    @property
    def state(self) -> str:
        """queued, prompt, running, finished, stopped or failed."""
        if self.done:
            if self.error is not None:
                return "failed"
            stopped = self._lane.error is not None or self.trace.finish_reason == "stopped"
            return "stopped" if stopped else "finished"
        if len(self.trace) > self.trace.n_copied:
            return "running"
        return "prompt" if self.started else "queued"

    def stop(self) -> None:
        """Stop it, also during prompt processing; what was generated stays in the trace."""
        self._lane.stop()

    def wait(self, timeout: float | None = None) -> Trace:
        """Wait for its end and give the trace.

        Raises:
            TimeoutError: it still runs after `timeout` seconds.
            MullamaError: what made it fail.
        """
        with suppress(Stopped):
            self._lane.result(timeout)
        return self.trace

    def wait_or_stop(self) -> Trace:
        """Wait for its end; what interrupts the wait (Ctrl-C) stops it and is raised after that.

        Raises:
            MullamaError: what made it fail.
        """
        with self._lane.stopped_on_error():
            return self.wait()

    def stop_and_wait(self) -> None:
        """Stop it and wait for its end, whatever that is."""
        self._lane.stop_and_wait()

    def when_done(self, call: Callable[[], object]) -> None:
        """Call something once it has ended, on whichever thread ends it; at once if it has."""
        self._lane.when_done(call)

    def on_step(self, callback: Callable[[Step], object]) -> Callable[[], None]:
        """Call `callback(step)` for each of its steps, in order and beginning with the first.

        It is called on a thread of the session, which goes on generating afterwards: a slow one
        slows the generation, and waiting for the session there is refused with SessionError. Of
        a run that has ended it is told at once, on this thread. What it raises is logged and
        stops nothing.

            run.on_step(lambda step: print(step.text, end=""))

        The first steps may be there before this is called. One that changes the run, as its
        grammar, is registered by `session.on_start`, before the first.

        Returns:
            what undoes it, however often it is called.

        Raises:
            TypeError: it cannot be called.
        """
        must_be_callable(callback, "Step")
        watcher = StepWatcher(callback)
        self._watchers.append(watcher)
        if self._lane.ended:
            self._tell_watchers()

        def undo() -> None:
            with suppress(ValueError):
                self._watchers.remove(watcher)

        return undo

    def on_end(self, callback: Callable[[Run], object]) -> Callable[[], None]:
        """Call `callback(run)` once it has ended, however: `run.state` says how.

        It is called on the thread that ends it, after `on_step` told of every step; at once, on
        this thread, if it has ended. What it raises is logged.

        Returns:
            what undoes it, however often it is called.

        Raises:
            TypeError: it cannot be called.
        """
        must_be_callable(callback, "Run")
        wanted = [callback]
        self._lane.when_done(lambda: [call_logged(call, self) for call in wanted])
        return wanted.clear

    def on_news(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call `callback()` whenever something is new: prompt tokens are done, a step, the end.

        It is called on a thread of the session, between two tokens, so it must take microseconds:
        wake a thread of yours that looks at the run. Of a run that has ended nothing is new, so
        look once after you asked for it. What it raises is logged.

        Returns:
            what undoes it, however often it is called.

        Raises:
            TypeError: it cannot be called.
        """
        must_be_callable(callback)
        return self._news.listen(callback)

    def __iter__(self) -> Iterator[Step]:
        seen = 0
        while (step := self.step_or_end(seen)) is not None:
            yield step
            seen += 1

    async def __aiter__(self) -> AsyncIterator[Step]:
        seen = 0
        while (step := await self.step_or_end_soon(seen)) is not None:
            yield step
            seen += 1

    def step_or_end(self, index: int) -> Step | None:
        """Wait until a step is there, with all of its text; None if the run ends before it.

        Raises:
            MullamaError: what made it fail, in place of None.
        """
        index = whole("index", index, 0, MAX_STEP)
        self._lane.must_not_wait_here()
        with self._lane.told_wait() as tell:
            self._news.wait_until(lambda: self._has(index), tell)
        return self._step_or_end(index)

    async def step_or_end_soon(self, index: int) -> Step | None:
        """The same without holding up the event loop; cancelling it stops the run."""
        index = whole("index", index, 0, MAX_STEP)
        await until_or_stopped(self, lambda: self._has(index))
        return self._step_or_end(index)

    def _has(self, index: int) -> bool:
        return self.trace.n_settled > index or self.done

    def _step_or_end(self, index: int) -> Step | None:
        if len(self.trace) > index:
            return self.trace[index]
        self.wait()
        return None

    def __reduce__(self) -> NoReturn:  # what copy and pickle ask
        raise TypeError(
            "a Run is a generation in flight, so it cannot be copied or pickled. "
            "Its record can: run.trace, or run.wait() when it has ended."
        )

    def __repr__(self) -> str:
        return f"<Run {self.state}: {counted(len(self.trace), 'token')}>"

    def _tell_watchers(self) -> None:
        for watcher in list(self._watchers):
            watcher.tell(self.trace, self.trace.n_settled)


class Runs(Sequence[Run], Awaitable[list[Trace]]):
    """Generations in flight side by side, made by `session.start_many`; a sequence of Runs.

    `await runs` gives their traces. `runs.chain = chain` changes the chain of all,
    `runs[3].chain = chain` that of one; `runs.grammar = grammar`, `runs.setting = setting` and
    `runs.steer(setting)` likewise.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = tuple(runs)
        self._lanes = Together([run._lane for run in self._runs])
        self._news = News()
        self._lanes.when_done(self._news.tell)

    @property
    def chain(self) -> tuple[Chain, ...]:
        """The chains in force. Setting one chain, or one for each, takes effect from the next
        token on; the errors are those of `Run.chain`, and then none is changed.
        """
        return tuple(run.chain for run in self._runs)

    @chain.setter
    def chain(self, chain: Chain | Stage | Iterable[Chain]) -> None:
        one = isinstance(chain, (Chain, Stage))
        chains = [chain] * len(self) if one else self._each("chains", chain)
        _change(self._runs, [_to_chain(new) for new in chains])

    @property
    def grammar(self) -> tuple[Grammar | None, ...]:
        """The grammars in force. Setting one, or one for each, is what `Run.grammar` says; the
        errors are the same, and then none is changed.
        """
        return tuple(run.grammar for run in self._runs)

    @grammar.setter
    def grammar(
        self, grammar: Grammar | Constrain | Iterable[Grammar | Constrain | None] | None
    ) -> None:
        one = grammar is None or isinstance(grammar, (Grammar, Constrain))
        grammars: list[Any] = [grammar] * len(self) if one else self._each("grammars", grammar)
        _change(self._runs, [_to_grammar(new) for new in grammars])

    @property
    def setting(self) -> tuple[Setting, ...]:
        """The Settings in force. Setting one, or one for each, is what `Run.setting` says; the
        errors are the same, and then none is changed.
        """
        return tuple(run.setting for run in self._runs)

    @setting.setter
    def setting(self, setting: Setting | Iterable[Setting]) -> None:
        one = isinstance(setting, Setting)
        _set(self._runs, [setting] * len(self) if one else self._each("settings", setting))

    def steer(self, setting: Setting | Iterable[Setting], *, exact: bool = False) -> None:
        """Have what one Setting says of the weights act, or one for each, as `Run.steer`.

        The errors are the same, and then none is changed.
        """
        one = isinstance(setting, Setting)
        _steer(self._runs, [setting] * len(self) if one else self._each("settings", setting), exact)

    def _each(self, what: str, values: Any) -> list[Any]:
        """A value for each run."""
        found = listed(what, values, "one for each run")
        if len(found) != len(self):
            raise ValueError(f"{len(found)} {what} for {len(self)} runs: give one, or one each.")
        return found

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
        self._lanes.stop()

    def wait(self, timeout: float | None = None) -> list[Trace]:
        """Wait for the end of all and give the traces.

        Raises:
            TimeoutError: some still run after `timeout` seconds.
            MullamaError: what made the first of them fail; `run.error` says it for each.
        """
        with suppress(Stopped):
            self._lanes.result(timeout)
        return self.traces

    def as_ended(self) -> Iterator[int]:
        """The place of each run, as soon as it has ended; for a bar of progress."""
        self._lanes.must_not_wait_here()
        return as_ended(self._lanes.parts)

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


def _set(runs: Sequence[Run], settings: Sequence[Any]) -> None:
    """Have Settings decide the next token, in all of some runs or in none."""
    weights = _weights(runs, settings)
    _change(runs, [_to_chain(one.chain) for one in settings], weights)


def _steer(runs: Sequence[Run], settings: Sequence[Any], exact: bool) -> None:
    """Have what Settings say of the weights act, in all of some runs or in none."""
    weights, exact = _weights(runs, settings), flag("exact", exact)
    _change(runs, [lambda chains: chains] * len(runs), weights, exact=exact)


def _weights(runs: Sequence[Run], settings: Sequence[Any]) -> list[Weights]:
    return [
        Weights.of(instance("setting", one, Setting).steering, run._lane.model)
        for run, one in zip(runs, settings, strict=True)
    ]


def _change(
    runs: Sequence[Run],
    changes: Sequence[Change],
    weights: Sequence[Weights] | None = None,
    *,
    exact: bool = False,
) -> None:
    """Have other chains draw from the next token on, in all of some runs or in none.

    Args:
        weights: those that compute each from there on; None are those that do.
        exact: whether they compute anew what there is so far.
    """
    lanes = [run._lane for run in runs]
    wanted = [change(lane.wanted[0]) for lane, change in zip(lanes, changes, strict=True)]
    with ExitStack() as turns:
        for lane, chains in zip(lanes, wanted, strict=True):
            if lane.masks_to_be(chains):
                turns.enter_context(lane.turn)
        for lane, chains in zip(lanes, wanted, strict=True):
            lane.must_fit(chains)
        for lane, chains, own in zip(lanes, wanted, weights or [None] * len(lanes), strict=True):
            lane.change(chains, own, exact=exact)


def _to_chain(chain: Chain | Stage | Iterable[Stage] | None) -> Change:
    chain = Chain.of(chain)
    return lambda _: Schedule([(0, chain)])


def _to_grammar(grammar: Grammar | Constrain | None) -> Change:
    """Another grammar in each chain of a schedule."""
    first = StageName(Constrain, 0)
    new = None if grammar is None else Constrain.of(grammar)

    def changed(chain: Chain) -> Chain:
        place = first.place_in(chain)
        if new is None:
            return first.without(chain)
        if place is None:
            return new | chain
        old = chain[place]
        return first.put(new if new is grammar else replace(old, grammar=new.grammar), chain)

    return lambda chains: chains.map(changed)
