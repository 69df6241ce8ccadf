"""Sweeps: what do chains do to texts? A table with a row for every prompt, chain and seed.

Runs go several in one batch, in this process or in those of any `concurrent.futures.Executor`.
A run that fails is a row that says why.
"""

from __future__ import annotations

import itertools
import os
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, overload

from mullama_lab import hub
from mullama_lab.engine.loop.spread import (
    Chains,
    ForAll,
    OneChain,
    Prompt,
    chains_given,
    prompts_given,
)
from mullama_lab.engine.model import Model
from mullama_lab.engine.options import (
    Stop,
    must_not_be_endless,
    seed_or_random,
    stop_strings_and_tokens,
    whole,
)
from mullama_lab.engine.session import Session
from mullama_lab.engine.setting import Setting, setting_or_chain
from mullama_lab.engine.stages import Chain, Stage
from mullama_lab.engine.steering.lora import LoraAdapter
from mullama_lab.engine.work import WAIT_STEP
from mullama_lab.files.path import in_full
from mullama_lab.glyphs import brief
from mullama_lab.studies._tasks import Item, Limits, Row, Task, do, failed, work
from mullama_lab.studies._together import Bar, listed_seeds

if TYPE_CHECKING:
    import pandas

__all__ = ["SweepStopped", "grid", "sweep"]
__dir__ = __all__.copy  # what tab completion offers

TOKENS_AT_ONCE = 4096  # of runs handed to a session together: a trace is large, a row is not
WEIGHTS = ("adapters", "control")  # what a Setting has beside its chain
RUNS_PER_TASK = 8  # sent to an executor together, unless the sessions have more sequences


class SweepStopped(KeyboardInterrupt):
    """Ctrl-C in a sweep; `table` has the runs that had begun.

    In a notebook: `table = sys.last_value.table`.
    """

    def __init__(self, table: pandas.DataFrame, n_runs: int) -> None:
        super().__init__(
            f"stopped after {len(table)} of {n_runs} runs, which are in `sys.last_value.table`"
        )
        self.table = table


Asked: TypeAlias = "Setting | Chain"


@overload
def grid(chain: Setting, **settings: Iterable[Any]) -> list[Setting]: ...
@overload
def grid(chain: Chain | Stage | Iterable[Stage], **settings: Iterable[Any]) -> list[Chain]: ...
def grid(chain: Any, **settings: Iterable[Any]) -> Sequence[Asked]:
    """Chains that differ in some settings: every combination of the values given.

    A setting is named after its stage, and after itself where the stage has several:
    `temperature`, `top_k`, `xtc_threshold`, `penalties_repeat`, `top_p_min_keep`. A second
    stage of one kind has a 2 behind the stage's name: `temperature_2`. Of a Setting there are
    `adapters` and `control` too, and the results are Settings:
    `grid(Setting(chain), control=[None, 0.5 * happy, happy])`.

    Raises:
        ValueError: the chain has no such setting, no value is given, or one is out of range.

    >>> from mullama_lab import TopK, XTC, Temperature
    >>> for chain in grid(TopK(40) | Temperature(0.8), top_k=[20, 40], temperature=[0.5, 1]):
    ...     print(chain)
    TopK(20) | Temperature(0.5)
    TopK(20) | Temperature(1)
    TopK(40) | Temperature(0.5)
    TopK(40) | Temperature(1)
    >>> grid(XTC(0.5, 0.1), xtc_threshold=[0.1, 0.2])
    [Chain([XTC(0.5, 0.1)]), Chain([XTC(0.5, 0.2)])]
    """
    asked = setting_or_chain(chain)
    weights = WEIGHTS if isinstance(asked, Setting) else ()
    known = {setting.name: setting for setting in _settings(_chain_of(asked))}
    values = [_values(name, given, (*known, *weights)) for name, given in settings.items()]
    made: list[Asked] = []
    for combination in itertools.product(*values):
        stages, acting = list(_chain_of(asked)), {}
        for name, value in zip(settings, combination, strict=True):
            if name in weights:
                acting[name] = value
                continue
            place, field = known[name].place, known[name].field
            stages[place] = replace(stages[place], **{field: value})
        one = Chain(stages)
        made.append(replace(asked, chain=one, **acting) if isinstance(asked, Setting) else one)
    return made


def _chain_of(asked: Asked) -> Chain:
    return asked.chain if isinstance(asked, Setting) else asked


def _values(name: str, given: Iterable[Any], known: Iterable[str]) -> list[Any]:
    if name not in known:
        names = ", ".join(known) or "none at all"
        raise ValueError(f"the chain has no setting {brief(name)}; its settings are {names}.")
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"{name}={brief(given)}: give a list of values, such as [{brief(given)}].")
    if not (values := list(given)):
        raise ValueError(f"{name}=[]: give at least one value.")
    return values


class _Setting(NamedTuple):
    name: str
    place: int  # of its stage in the chain
    field: str  # the stage's own name for it
    value: Any


def _settings(chain: Chain) -> Iterator[_Setting]:
    """Every setting of a chain, each under a name of its own."""
    seen: dict[str, int] = {}
    for place, stage in enumerate(chain):
        kind = _snake(type(stage).__name__)
        seen[kind] = seen.get(kind, 0) + 1
        owner = kind if seen[kind] == 1 else f"{kind}_{seen[kind]}"
        main = stage._positional[0] if len(stage._positional) == 1 else None
        for f in fields(stage):
            name = owner if f.name == main else f"{owner}_{f.name}"
            yield _Setting(name, place, f.name, getattr(stage, f.name))


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def sweep(
    prompts: Prompt | Iterable[Prompt],
    chains: Chains | Mapping[str, OneChain] = None,
    *,
    on: Session | Model | str | Path,
    seeds: int | Iterable[int] = 0,
    max_tokens: int = 128,
    stop: Stop = (),
    executor: Executor | None = None,
    model_options: Mapping[str, Any] | None = None,
    session_options: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> pandas.DataFrame:
    """Generate from every prompt with every chain or Setting and every seed; a row for each run.

    Lists are crossed here, not paired: two prompts, three chains and four seeds are 24 runs.

        table = sweep(prompts, grid(TopK(40) | Temperature(0.8), temperature=[0.5, 1.0]), on=model)
        table.groupby("temperature")["mean_logprob"].mean()

    Ctrl-C raises SweepStopped, a KeyboardInterrupt whose `table` has the runs that had begun.

    Args:
        prompts: a text, token ids, or a list of those.
        chains: a chain or a Setting, a list of them (see `grid`), or a dict with a name for each.
            A chain alone goes with what is in force in the session. A list of stages is a list
            of chains of one stage; `TopK(40) | MinP(0.1)` is one chain.
        on: a Session; or a Model, or what `Model.load` takes, for which sessions are opened.
        seeds: a seed, or a list of them, such as range(24).
        max_tokens, stop: as in `session.generate`, for each run.
        executor: any `concurrent.futures.Executor`, such as a pool of processes or Dask's
            `client.get_executor()`. It is sent the model's name or path, which must mean the
            same there; a worker loads the model once and keeps it. Tasks that run when Ctrl-C
            comes are not waited for. Runs are the same with and without, up to the noise in the
            logits that other batches bring.
        model_options: of `Model.load`, where `on` is no Model, and in an executor.
        session_options: of `model.session`, where `on` is no Session. Give n_threads with an
            executor: its processes share the cores.
        progress: show a bar when it takes longer than two seconds.

    Returns:
        In the order prompt, chain, seed. Columns are `prompt`, `chain` (its name, or as code), one
        for each setting that differs between the chains (named as in `grid`; the scale of an
        adapter after its file, "adapter style"), `seed`, `text`,
        `n_tokens`, `mean_logprob` and `mean_entropy` (of a token before the chain, in nats),
        `finish_reason`, `tokens_per_second` (beside the others in its batch), and `error`, empty
        where there was none.

    >>> import tempfile
    >>> from mullama_lab.engine import tiny
    >>> from mullama_lab import Greedy, Mask
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = tiny.write(folder + "/tiny.gguf")
    ...     table = sweep(["a", "b"], Mask(ban=[2]) | Greedy(), on=path, max_tokens=4)
    >>> table[["prompt", "seed", "n_tokens", "finish_reason"]]
      prompt  seed  n_tokens finish_reason
    0      a     0         4        length
    1      b     0         4        length
    """
    if executor is not None and not hasattr(executor, "submit"):
        raise TypeError(f"executor={brief(executor)}: give a concurrent.futures.Executor.")
    plan = _plan(prompts, chains, seeds)
    limits = _limits(max_tokens, stop)
    rows: dict[int, Row] = {}
    options = (
        _options("model_options", model_options),
        _options("session_options", session_options),
    )
    total = len(plan.items) * limits.max_tokens
    try:
        with Bar("sweep", total, "token", shown=progress) as bar:
            if executor is None:
                _do_here(plan.items, limits, on, options, bar, rows)
            else:
                _send(plan.items, limits, on, options, bar, rows, executor)
    except KeyboardInterrupt:
        begun = {i: r for i, r in rows.items() if r["n_tokens"] or r["finish_reason"] != "stopped"}
        raise SweepStopped(plan.table(begun), len(plan.items)) from None
    return plan.table(rows)


def _options(name: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"{name}={brief(given)}: it must be a dict of options.")
    return dict(given or {})


@dataclass(frozen=True)
class _Plan:
    items: tuple[Item, ...]
    about: tuple[Row, ...]  # what is known of each run beforehand: prompt, chain, settings, seed

    def table(self, rows: Mapping[int, Row]) -> pandas.DataFrame:
        import pandas as pd

        columns = [*(self.about[0] if self.about else ()), *failed(KeyError())]
        known = [{**self.about[place], **rows[place]} for place in sorted(rows)]
        return pd.DataFrame(known, columns=columns)


def _plan(
    prompts: Prompt | Iterable[Prompt],
    chains: Chains | Mapping[str, OneChain],
    seeds: int | Iterable[int],
) -> _Plan:
    named = _named(chains)
    varied = _varied([chain for _, chain in named])
    numbers = [seed_or_random(seed) for seed in listed_seeds(seeds)]
    texts = [_as_value(prompt) for prompt in prompts_given(prompts)]
    items, about = [], []
    for prompt, ((name, chain), settings), seed in itertools.product(
        texts, zip(named, varied, strict=True), numbers
    ):
        items.append(Item(len(items), prompt, chain, seed))
        about.append({"prompt": prompt, "chain": name, **settings, "seed": seed})
    return _Plan(tuple(items), tuple(about))


def _named(chains: Chains | Mapping[str, OneChain]) -> list[tuple[str, Asked]]:
    given = chains_given(chains.values() if isinstance(chains, Mapping) else chains)
    values = [given.value] if isinstance(given, ForAll) else given
    found = [setting_or_chain(one) for one in values]
    names = map(str, chains) if isinstance(chains, Mapping) else map(repr, found)
    return list(zip(names, found, strict=True))


def _varied(asked: Sequence[Asked]) -> list[Row]:
    """For each chain or Setting that in which they differ."""
    columns = _columns_of(adapter for one in asked if isinstance(one, Setting)
                          for adapter in one.adapters)  # fmt: skip
    values = [
        {setting.name: setting.value for setting in _settings(_chain_of(one))}
        | (_weights_of(one, columns) if isinstance(one, Setting) else {})
        for one in asked
    ]
    names = dict.fromkeys(name for some in values for name in some)
    differ = [n for n in names if any(some.get(n) != values[0].get(n) for some in values)]
    return [{name: some.get(name) for name in differ} for some in values]


def _columns_of(adapters: Iterable[LoraAdapter]) -> dict[LoraAdapter, str]:
    """Where the scale of each adapter stands: by its file's name, or its path if two have one."""
    found = dict.fromkeys(adapters)
    stems = [one.path.stem for one in found]
    return {
        one: f"adapter {one.path.stem if stems.count(one.path.stem) == 1 else one.path}"
        for one in found
    }


def _weights_of(setting: Setting, columns: Mapping[LoraAdapter, str]) -> Row:
    scales = {column: setting.adapters.get(one, 0.0) for one, column in columns.items()}
    return {**scales, "control": setting.steering.acts}


def _as_value(prompt: Any) -> str | tuple[int, ...]:
    """A prompt as text or a tuple of ids; whether the ids mean anything is said by the model."""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, (bytes, dict)) or not isinstance(prompt, Iterable):
        raise TypeError(f"a prompt is a text or a list of token ids, not {type(prompt).__name__}.")
    must_not_be_endless("a prompt", prompt, "token ids")
    return tuple(whole("a token id", token, -(1 << 31), 1 << 31) for token in prompt)


def _limits(max_tokens: int, stop: Stop) -> Limits:
    strings, tokens = stop_strings_and_tokens(stop)
    return Limits(whole("max_tokens", max_tokens, 1, 1 << 20), (*strings, *tokens))


# In this process.

Options = tuple[dict[str, Any], dict[str, Any]]  # of the model, of its sessions


def _do_here(
    items: Sequence[Item],
    limits: Limits,
    on: Session | Model | str | Path,
    options: Options,
    bar: Bar,
    rows: dict[int, Row],
) -> None:
    with _session(on, *options) as session:
        session.must_be_open()
        n = max(session.n_seq_max, TOKENS_AT_ONCE // limits.max_tokens)
        for some in _in_parts(items, n):
            work(session, some, limits, bar, rows)


@contextmanager
def _session(
    on: Session | Model | str | Path, model_options: dict[str, Any], session_options: dict[str, Any]
) -> Iterator[Session]:
    if isinstance(on, (Session, Model)) and model_options:
        raise ValueError("model_options are of a model that is loaded here: on=its name or path.")
    if isinstance(on, Session):
        if session_options:
            raise ValueError("session_options are of sessions that are opened here: on=a model.")
        yield on
    elif isinstance(on, Model):
        with on.session(**session_options) as session:
            yield session
    else:
        with Model.load(on, **model_options) as model, model.session(**session_options) as session:
            yield session


# In others.


def _send(
    items: Sequence[Item],
    limits: Limits,
    on: Session | Model | str | Path,
    options: Options,
    bar: Bar,
    rows: dict[int, Row],
    executor: Executor,
) -> None:
    source, (model_options, session_options) = _source(on), options
    n = max(RUNS_PER_TASK, int(session_options.get("n_seq_max") or 0))
    sent: dict[Future[dict[int, Row]], Task] = {}
    try:
        for some in _in_parts(items, n):
            task = Task(source, tuple(some), limits, model_options, session_options)
            sent[executor.submit(do, task)] = task
        left = set(sent)
        while left:
            ended, left = wait(left, WAIT_STEP, FIRST_COMPLETED)
            for future in ended:
                rows.update(_result(future, sent[future]))
                bar.before += len(sent[future].items) * limits.max_tokens
                bar.show(0)
    except BaseException:
        for future in sent:
            future.cancel()
        for future, task in sent.items():
            if future.done() and not future.cancelled():
                rows.update(_result(future, task))
        raise


def _result(future: Future[dict[int, Row]], task: Task) -> dict[int, Row]:
    error = future.exception()
    if error is None:
        return future.result()
    if not isinstance(error, Exception):  # a worker was interrupted, too
        return {}
    error = _unsent(task) or error
    return {item.place: failed(error) for item in task.items}


def _unsent(task: Task) -> TypeError | None:
    """Why a task could not be sent to another process, if it could not."""
    try:
        pickle.dumps(task)
    except Exception as reason:
        return TypeError(
            f"the chain cannot be pickled, and so not be sent to another process ({reason}). "
            "Give Custom a function that is defined in a module, or leave the executor out."
        )
    return None


def _source(on: Session | Model | str | Path) -> str:
    """What a worker loads: a name or an address as it is, a path in full."""
    if isinstance(on, Session):
        raise ValueError(
            "a Session lives in this process. With an executor, give the model, and in "
            "session_options what its sessions shall have: on=session.model."
        )
    source = on.source if isinstance(on, Model) else os.fspath(on)
    if isinstance(source, str) and (source in hub.catalogue() or source.startswith("hf:")):
        return source
    try:
        return str(on.path if isinstance(on, Model) else in_full(source))
    except OSError:
        return os.fspath(source)  # the worker says what is wrong with it


def _in_parts(items: Sequence[Item], n: int) -> Iterator[Sequence[Item]]:
    return (items[i : i + n] for i in range(0, len(items), n))
