"""How fast tokens come with everything captured, beside a bare loop and llama-cpp-python."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
from llama_cpp import Llama

from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import Chain
from mullama_lab.selfbench.bare_loop import PROMPT, BareLoop
from mullama_lab.selfbench.table import Row
from mullama_lab.selfbench.turns import in_turns, in_turns_afresh, speeds

PAIRS = 13
N_TOKENS = 96
N_WARM = 4  # tokens of a fresh context that are not counted


def rows(model: Model) -> Iterator[Row]:
    """All figures of one model that need no browser."""
    large = model.n_vocab > 100_000
    least_over_peer, preview_ms = (30, 1.5) if large else (10, 0.5)
    with model.session(n_ctx=1024) as session:
        yield _against_bare_loop(model, session.n_threads)
        yield _with_every_core(model)
        yield from _against_llama_cpp_python(model, session, least_over_peer)
        with model.session(n_ctx=1024, n_threads=psutil.cpu_count(logical=False)) as all_cores:
            yield from _against_llama_cpp_python(model, all_cores, least_over_peer)
        yield _preview(model, session, preview_ms)
        yield _second_prompt(model, session)


def _against_bare_loop(model: Model, n_threads: int) -> Row:
    what = f"{model.source}: generate, full capture, against a bare decode and sample loop"
    pairs = in_turns_afresh(
        PAIRS, lambda: _ours(model, n_threads), lambda: _bare_loop(model, n_threads)
    )
    return speeds(f"{what}, tokens/s", pairs, 0.97)


def _with_every_core(model: Model) -> Row:
    """The same with a thread for each core, and so with a process for each measurement.

    In one process the threads of both would be more than there are cores, and decoding takes
    three times as long then.
    """
    what = f"{model.source}: the same with every core, each in a process of its own"
    pairs = in_turns(
        PAIRS, lambda: _in_own_process(model, "ours"), lambda: _in_own_process(model, "bare")
    )
    return speeds(f"{what}, tokens/s", pairs, 0.97)


def _in_own_process(model: Model, whose: str) -> float:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_speed_with_every_core, model.path, whose).result()


def _speed_with_every_core(path: Path, whose: str) -> float:
    loop = _ours if whose == "ours" else _bare_loop
    with Model.load(path) as model, loop(model, psutil.cpu_count() or 1) as speed:
        return statistics.median(speed() for _ in range(3))


def _against_llama_cpp_python(model: Model, session: Session, target: float) -> Iterator[Row]:
    """Ours and, as the most that any capture could reach, the bare loop."""
    with contextlib.redirect_stderr(io.StringIO()):
        llama = Llama(
            str(model.path),
            n_ctx=512,
            n_threads=session.n_threads,
            logits_all=True,
            verbose=False,
        )

    def peer_speed() -> float:  # it keeps the prompt from the first call on, as ours does
        start = time.perf_counter()
        answer = llama.create_completion(PROMPT, max_tokens=16, logprobs=20, seed=7)
        return answer["usage"]["completion_tokens"] / (time.perf_counter() - start)  # type: ignore[index]

    with BareLoop(model, session.n_threads) as bare:
        turns = in_turns(
            4, lambda: _our_speed(session, N_TOKENS), lambda: bare.speed(N_TOKENS), peer_speed
        )[1:]  # the first warms up
    llama.close()
    what = f"against create_completion(logprobs=20), with {session.n_threads} threads, tokens/s"
    ours = [(our, peer) for our, _, peer in turns]
    yield speeds(f"{model.source}: generate {what}", ours, target)
    yield speeds(
        f"{model.source}: the bare loop {what}", [(least, peer) for _, least, peer in turns]
    )


def _preview(model: Model, session: Session, target: float) -> Row:
    row, chain = session.logits(PROMPT), Chain.default()
    history = model.tokenize(PROMPT)
    times = []
    for _ in range(300):
        start = time.perf_counter()
        chain.preview(row, model=model, history=history, seed=7, top=64)
        times.append((time.perf_counter() - start) * 1e3)
    median, worst = statistics.median(times), statistics.quantiles(times, n=20)[-1]
    return Row(
        f"{model.source}: preview of the default chain, top 64 of each stage, ms (95 %)",
        f"{median:.2f} ({worst:.2f})",
        value=median,
        target=target,
    )


def _second_prompt(model: Model, session: Session) -> Row:
    tokens = (model.tokenize(PROMPT) * 64)[:512]
    session.generate(tokens, max_tokens=4, seed=1)
    again = session.generate(tokens, max_tokens=4, seed=2)
    return Row(
        f"{model.source}: prompt tokens decoded by a second generate with the same 512",
        str(again.n_prompt_decoded),
        value=again.n_prompt_decoded,
        target=1,
    )


def import_time() -> Row:
    """Milliseconds that `import mullama_lab` takes beyond the interpreter and numpy."""
    code = (
        "import time, numpy; t = time.perf_counter(); import mullama_lab; "
        "print(time.perf_counter() - t)"
    )
    runs = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(7)
    ]
    median = 1e3 * statistics.median(runs)
    return Row("import mullama_lab beyond numpy, ms", f"{median:.1f}", value=median, target=150)


def _our_speed(session: Session, n: int) -> float:
    trace = session.generate(PROMPT, max_tokens=n, seed=7)
    if trace.finish_reason != "length":
        raise RuntimeError(f"the text ended after {len(trace)} tokens; the bench needs {n}")
    return trace.tokens_per_second


@contextmanager
def _ours(model: Model, n_threads: int) -> Iterator[Callable[[], float]]:
    with model.session(n_ctx=1024, n_threads=n_threads) as session:
        _our_speed(session, N_WARM)
        yield lambda: _our_speed(session, N_TOKENS)


@contextmanager
def _bare_loop(model: Model, n_threads: int) -> Iterator[Callable[[], float]]:
    with BareLoop(model, n_threads) as bare:
        bare.speed(N_WARM)
        yield lambda: bare.speed(N_TOKENS)
