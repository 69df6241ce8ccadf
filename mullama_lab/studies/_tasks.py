"""Runs as values that can be sent to another process, and what does them there.

A worker process loads the model once, and each of its threads opens one session, whatever
number of tasks comes.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.setting import Setting
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.stages.chain_sampler import check
from mullama_lab.engine.steering.steering import Weights
from mullama_lab.errors import ClosedError, MullamaError
from mullama_lab.studies._together import Bar, mean, wait_for

Row = dict[str, Any]  # what is known of a run once it has ended
_NAN = float("nan")


@dataclass(frozen=True)
class Item:
    """One run; `place` is its row in the table."""

    place: int
    prompt: str | tuple[int, ...]
    chain: Setting | Chain
    seed: int


@dataclass(frozen=True)
class Limits:
    """What is the same for all runs."""

    max_tokens: int
    stop: tuple[str | int, ...]


@dataclass(frozen=True)
class Task:
    """Some runs, and the model and session they want."""

    source: str
    items: tuple[Item, ...]
    limits: Limits
    model_options: Mapping[str, Any] = field(default_factory=dict)
    session_options: Mapping[str, Any] = field(default_factory=dict)


def failed(error: BaseException) -> Row:
    """The row of a run that never began."""
    return {
        "text": "",
        "n_tokens": 0,
        "mean_logprob": _NAN,
        "mean_entropy": _NAN,
        "finish_reason": "failed",
        "tokens_per_second": _NAN,
        "error": f"{type(error).__name__}: {error}",
    }


def do(task: Task) -> dict[int, Row]:
    """Do a task in this process; the rows by their places."""
    rows: dict[int, Row] = {}
    session = _opened(task)
    with Bar("", 0, "", shown=False) as bar:
        work(session, task.items, task.limits, bar, rows)
    return rows


def work(
    session: Session, items: Sequence[Item], limits: Limits, bar: Bar, rows: dict[int, Row]
) -> None:
    """Do some runs side by side and put a row for each into `rows`.

    A run whose prompt or chain cannot be had is a row that says why; the others go on. Ctrl-C
    is raised when they have ended.
    """
    ready: list[tuple[Item, list[int]]] = []
    prompts: dict[str | tuple[int, ...], list[int]] = {}
    for item in items:
        try:
            if item.prompt not in prompts:
                prompts[item.prompt] = session.prompt_tokens(item.prompt)
            must_fit(item.chain, session.model)
        except (MullamaError, ValueError, TypeError) as error:
            rows[item.place] = failed(error)
        else:
            ready.append((item, prompts[item.prompt]))
    bar.before += limits.max_tokens * (len(items) - len(ready))
    if not ready:
        return
    try:
        runs = session.start_many(
            [tokens for _, tokens in ready],
            [item.chain for item, _ in ready],
            max_tokens=limits.max_tokens,
            seeds=[item.seed for item, _ in ready],
            stop=limits.stop,
            top=1,
        )
    except ClosedError as error:
        rows.update((item.place, failed(error)) for item, _ in ready)
        return
    try:
        wait_for(runs, limits.max_tokens, bar)
    finally:
        for (item, _), run in zip(ready, runs, strict=True):
            rows[item.place] = _row(run)
    bar.before += limits.max_tokens * len(ready)


def must_fit(asked: Setting | Chain, model: Model) -> None:
    """Refuse a chain, or what acts on the weights, that is not for a model."""
    check(asked.chain if isinstance(asked, Setting) else asked, model)
    if isinstance(asked, Setting):
        Weights.of(asked.steering, model)


def _row(run: Run) -> Row:
    trace = run.trace
    return {
        "text": trace.text,
        "n_tokens": len(trace),
        "mean_logprob": mean(trace.logprob.tolist()),
        "mean_entropy": mean(trace.entropy.tolist()),
        "finish_reason": trace.finish_reason,
        "tokens_per_second": trace.tokens_per_second,
        "error": "" if run.error is None else f"{type(run.error).__name__}: {run.error}",
    }


# What a worker keeps: a model for the process, a session for each thread.


@dataclass
class _Shelf:
    lock: threading.Lock = field(default_factory=threading.Lock)
    wanted: str = ""
    model: Model | None = None


class _Mine(threading.local):
    wanted: str = ""
    session: Session | None = None


_shelf, _mine = _Shelf(), _Mine()


def _opened(task: Task) -> Session:
    """The session a task wants, opened if this thread has it not.

    A model that is no longer wanted goes when the last thread has closed its session of it.
    """
    model_wanted = repr((task.source, sorted(task.model_options.items())))
    wanted = model_wanted + repr(sorted(task.session_options.items()))
    session = _mine.session
    if session is not None and _mine.wanted == wanted and not session.closed:
        return session
    if session is not None:
        session.close()
        _mine.session = None
    with _shelf.lock:
        if _shelf.model is None or _shelf.wanted != model_wanted:
            _shelf.model = None
            _shelf.model = Model.load(task.source, **task.model_options)
            _shelf.wanted = model_wanted
        model = _shelf.model
    _mine.session = model.session(**task.session_options)
    _mine.wanted = wanted
    return _mine.session
