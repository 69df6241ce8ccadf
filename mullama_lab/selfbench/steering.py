"""What adapters, control vectors and hidden states cost, beside llama.cpp's own functions."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mullama_lab.engine import tiny
from mullama_lab.engine.gguf.file import read_header
from mullama_lab.engine.hidden import HiddenStates
from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.steering.control_vector import ControlVector
from mullama_lab.engine.steering.lora import LoraAdapter
from mullama_lab.engine.steering.steering import Steering, Weights
from mullama_lab.selfbench.bare_loop import PROMPT, BareLoop, C
from mullama_lab.selfbench.table import Row
from mullama_lab.selfbench.turns import in_turns, in_turns_afresh, speeds
from mullama_lab.studies.control_vectors import train

PAIRS = 9
N_TOKENS = 96
N_WARM = 4  # tokens of a fresh context that are not counted
RANK = 4
N_LONG = 384  # tokens of a text whose states are read at once
N_CHANGES = 16
N_TRAINED = 64


def rows(model: Model) -> Iterator[Row]:
    """All figures of one model."""
    with tempfile.TemporaryDirectory() as folder:
        adapter = _weak_adapter(model, Path(folder) / "weak.gguf")
        steering = Steering({adapter: 1.0}, _weak_vector(model))
        with model.session(n_ctx=64) as session:
            n_threads = session.n_threads
        yield _against_bare_loop(model, steering, n_threads)
        yield _change(model, adapter)
        yield _bare_change(model, adapter, n_threads)
    yield _states_one_by_one(model, n_threads)
    yield _states_at_once(model, n_threads)
    yield _training(model)


def _weak_adapter(model: Model, path: Path) -> LoraAdapter:
    """One of rank 4 on the q and v of every layer, too weak to end a text."""
    rng = np.random.default_rng(0)
    targets = ("attn_q.weight", "attn_v.weight")
    pairs = {}
    for tensor in read_header(model.path).tensors:
        if tensor.name.endswith(targets):
            n_in, n_out = tensor.shape
            halves = rng.normal(size=(RANK, n_in)), rng.normal(size=(n_out, RANK))
            pairs[tensor.name] = tuple((1e-4 * half).astype(np.float32) for half in halves)
    tiny.write_adapter(path, pairs, architecture=model.architecture)
    return LoraAdapter.load(path)


def _weak_vector(model: Model) -> ControlVector:
    rng = np.random.default_rng(1)
    return ControlVector(
        {layer: 1e-4 * rng.normal(size=model.n_embd) for layer in range(1, model.n_layer)}
    )


def _against_bare_loop(model: Model, steering: Steering, n_threads: int) -> Row:
    @contextmanager
    def ours() -> Iterator[Callable[[], float]]:
        with model.session(n_ctx=1024, n_threads=n_threads) as session:
            session.adapters, session.control = steering.adapters, steering.control
            _speed(session, N_WARM)
            yield lambda: _speed(session, N_TOKENS)

    @contextmanager
    def bare() -> Iterator[Callable[[], float]]:
        with BareLoop(model, n_threads) as loop:
            Weights.of(steering, model).act_in(loop.context)
            loop.speed(N_WARM)
            yield lambda: loop.speed(N_TOKENS)

    what = f"{model.source}: generate with a LoRA and a vector, against a bare loop with them"
    return speeds(f"{what}, tokens/s", in_turns_afresh(PAIRS, ours, bare), 0.95)


def _change(model: Model, adapter: LoraAdapter) -> Row:
    """What a change of scale between two tokens adds, in the time of a token."""
    with model.session(n_ctx=1024) as session:

        def seconds(scales: list[float]) -> float:
            session.adapters = {adapter: 1.0}
            run = session.start(PROMPT, max_tokens=N_TOKENS, seed=7)
            for scale in scales:
                n = len(run.trace)
                while len(run.trace) < n + 3 and not run.done:
                    time.sleep(0.0005)
                session.adapters = {adapter: scale}
            return 1 / run.wait().tokens_per_second * N_TOKENS

        scales = [1 + 0.01 * number for number in range(N_CHANGES)]
        pairs = in_turns(PAIRS, lambda: seconds(scales), lambda: seconds([]))[1:]
    added = statistics.median((ours - plain) / N_CHANGES for ours, plain in pairs)
    token = statistics.median(plain for _, plain in pairs) / N_TOKENS
    return Row(
        f"{model.source}: a scale changed between two tokens, ms, against a token",
        f"{1e3 * added:.2f}",
        f"{1e3 * token:.2f}",
        added / token,
        1.0,
    )


def _bare_change(model: Model, adapter: LoraAdapter, n_threads: int) -> Row:
    """What it adds to a decode of llama.cpp alone, which plans its graphs anew then."""
    with BareLoop(model, n_threads) as loop:
        token = (C.llama_token * 1)(loop.tokens[0])
        batch = C.llama_batch_get_one(token, 1)

        def seconds(scale: float | None) -> float:
            if scale is not None:
                Weights.of(Steering({adapter: scale}), model).act_in(loop.context)
            begun = time.perf_counter()
            C.llama_decode(loop.context, batch)
            return time.perf_counter() - begun

        seconds(1.0)
        same = [seconds(None) for _ in range(N_TOKENS)]
        other = [seconds(1 + 0.01 * number) for number in range(1, N_TOKENS)]
    added = statistics.median(other) - statistics.median(same)
    what = f"{model.source}: a scale changed between two decodes of llama.cpp alone, ms"
    return Row(what, f"{1e3 * added:.2f}")


def _states_one_by_one(model: Model, n_threads: int) -> Row:
    @contextmanager
    def ours() -> Iterator[Callable[[], float]]:
        with HiddenStates(model, n_ctx=1024, n_threads=n_threads) as reader:
            context, tokens = reader._context, (model.tokenize(PROMPT) * 8)[:N_TOKENS]

            def speed() -> float:
                context.forget()
                begun = time.perf_counter()
                for place, token in enumerate(tokens):
                    context.states([token], place)
                return len(tokens) / (time.perf_counter() - begun)

            speed()
            yield speed

    @contextmanager
    def bare() -> Iterator[Callable[[], float]]:
        with BareLoop(model, n_threads) as loop:
            loop.speed(N_WARM)
            yield lambda: loop.speed(N_TOKENS)

    what = f"{model.source}: hidden states of all layers, token by token, against a bare loop"
    return speeds(f"{what}, tokens/s", in_turns_afresh(PAIRS, ours, bare), 1 / 1.2)


def _states_at_once(model: Model, n_threads: int) -> Row:
    tokens = (model.tokenize(PROMPT) * 64)[:N_LONG]

    def speed(call: Callable[[], object]) -> float:
        begun = time.perf_counter()
        call()
        return N_LONG / (time.perf_counter() - begun)

    @contextmanager
    def ours() -> Iterator[Callable[[], float]]:
        with HiddenStates(model, n_ctx=N_LONG, n_threads=n_threads) as reader:

            def read() -> None:
                reader.read([tokens], lambda _, states: None, progress=False)

            read()
            yield lambda: speed(read)

    @contextmanager
    def plain() -> Iterator[Callable[[], float]]:
        with model.session(n_ctx=1024, n_threads=n_threads) as session:

            def decode() -> None:
                session.reset()
                session.logits(tokens)

            decode()
            yield lambda: speed(decode)

    what = f"{model.source}: hidden states of {N_LONG} tokens at once, against decoding them"
    return speeds(f"{what}, tokens/s", in_turns_afresh(PAIRS, ours, plain), 1 / 1.05)


def _training(model: Model) -> Row:
    pairs = [
        (f"On day {number} I felt happy and the sun was shining.", f"On day {number} I felt sad.")
        for number in range(N_TRAINED)
    ]
    begun = time.perf_counter()
    train(pairs, on=model, progress=False)
    seconds = time.perf_counter() - begun
    what = f"{model.source}: a control vector learnt from {N_TRAINED} pairs, s"
    return Row(what, f"{seconds:.1f}", value=seconds, target=60)


def _speed(session: Session, n: int) -> float:
    trace = session.generate(PROMPT, max_tokens=n, seed=7)
    if trace.finish_reason != "length":
        raise RuntimeError(f"the text ended after {len(trace)} tokens; the bench needs {n}")
    return trace.tokens_per_second
