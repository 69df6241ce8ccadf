"""How long llama.cpp alone takes: random tokens through `llama_decode`, timed as llama-bench does.

Nothing is sampled and no row is read. One thread opens each context and makes every call on it,
so that all contexts share one pool of llama.cpp's threads: with two pools there would be more
threads than cores, and each would wait for the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.handle import ContextOwner
from mullama_lab.engine.memory.machine import total_and_free
from mullama_lab.engine.native import context as native
from mullama_lab.engine.native.batch import Batch
from mullama_lab.engine.native.state import sequence_state, set_sequence_state
from mullama_lab.engine.session.checks import must_fit_memory, must_generate
from mullama_lab.engine.session.settings import Settings
from mullama_lab.engine.work import Job
from mullama_lab.errors import SessionError, Stopped

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

T = TypeVar("T")


@dataclass(frozen=True)
class Opening:
    """How a context is opened.

    Attributes:
        n_each: tokens that each sequence has room for.
        n_sequences: sequences that are decoded together.
        n_batch, n_ubatch: tokens of one `llama_decode`, and that are computed at once.
        flash_attention: "auto", "on" or "off".
        kv_types: of keys and values.
    """

    n_each: int
    n_sequences: int
    n_batch: int
    n_ubatch: int
    flash_attention: str
    kv_types: tuple[str, str]


@dataclass(frozen=True)
class Timed:
    """What is timed: a prompt, then tokens one by one, in each sequence, behind `n_depth` others.

    Attributes:
        n_prompt, n_gen, n_depth: tokens of each sequence.
        n_threads: CPU threads.
        seed: of the random tokens.
    """

    n_prompt: int
    n_gen: int
    n_depth: int
    n_threads: int
    seed: int = 0


class DecodeLoop(ContextOwner):
    """Times decodes on contexts of a model, one context at a time.

    Args:
        is_wanted: asked several times a second while anything goes on; False stops it.

    Raises:
        ModelLoadError: the model does not generate.
    """

    def __init__(self, model: Model, is_wanted: Callable[[], bool] = lambda: True) -> None:
        must_generate(model)
        model.must_be_open()
        self.model, self._is_wanted = model, is_wanted
        self._stop = native.StopFlag()
        self._context = _Context()
        with model._memory.in_use():
            self._own(
                self._context,
                self._stop,
                what="benchmark",
                opened_by="studies.bench.bench()",
                caller="a benchmark",
            )

    def open(self, opening: Opening) -> None:
        """Open a fresh context, in place of the one before.

        Raises:
            ValueError: it would not fit in memory.
            ModelLoadError: llama.cpp refused it.
        """
        self._do(lambda: self._context.open(self.model, opening, self._stop))

    def warm_up(self, n_tokens: int, n_threads: int) -> None:
        """Decode one token, as `time` does first, and then so many, if any.

        Memory that is used the first time is slow.
        """
        self.time(Timed(n_tokens, 0, 0, n_threads))

    def time(self, timed: Timed) -> int:
        """Nanoseconds that it took; what comes before, such as the depth, is not in them.

        Raises:
            SessionError: no context is open.
            Stopped: it was stopped, as Ctrl-C does, or is not wanted any more.
        """
        return self._do(lambda: self._context.time(timed))

    def held_bytes(self, n_tokens: int, n_threads: int) -> int:
        """Bytes that the memory of one sequence has once so many tokens are in it.

        Raises:
            SessionError: no context is open.
        """
        return self._do(lambda: self._context.held_bytes(n_tokens, n_threads))

    def _do(self, work: Callable[[], T]) -> T:
        def checked() -> T:
            self.model._weight_files.must_be_whole()
            return work()

        self.must_be_open()
        job = Job(checked, self)
        self._worker.submit(job)
        return job.result_while(self._is_wanted)


class _Context:
    """A context, and what it held at each depth. Only the worker's thread calls this."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._opening: Opening | None = None
        self._states: dict[tuple[Opening, int], NDArray[np.uint8]] = {}

    def open(self, model: Model, opening: Opening, stop: native.StopFlag) -> None:
        self.close()
        n_ctx = opening.n_each * opening.n_sequences
        n_batch = max(min(opening.n_batch, n_ctx), opening.n_sequences)
        n_ubatch = min(opening.n_ubatch, n_batch)
        settings = Settings(
            n_ctx=n_ctx,
            n_ubatch=n_ubatch,
            kv_type=opening.kv_types,
            flash_attention=opening.flash_attention,
        )
        must_fit_memory(model, settings)
        self._handle = native.new_context(
            model._handle,
            n_ctx=n_ctx,
            n_batch=n_batch,
            n_ubatch=n_ubatch,
            n_threads=1,
            n_seq_max=opening.n_sequences,
            flash_attention=opening.flash_attention,
            kv_types=opening.kv_types,
            kv_unified=False,
            whole_window=False,
            stop=stop,
        )
        self._opening, self._stop = opening, stop
        self._batch = Batch(native.n_batch(self._handle))
        self._n_vocab = model.n_vocab
        self._bos = model.special_tokens.get("bos") if model.add_bos else None

    def close(self) -> None:
        if self._handle is not None:
            native.free_context(self._handle)
            self._handle = None

    def time(self, timed: Timed) -> int:
        self._must_be_open()
        chance = np.random.default_rng(timed.seed)
        native.set_threads(self._handle, timed.n_threads)
        native.clear_memory(self._handle)
        self._generate(chance, 1, 0)  # another number of threads has to get going
        native.clear_memory(self._handle)
        if timed.n_depth:
            self._fill(timed.n_depth)
        start = perf_counter_ns()
        if timed.n_prompt:
            self._prompt(chance, timed.n_prompt, timed.n_depth)
        if timed.n_gen:
            self._generate(chance, timed.n_gen, timed.n_depth + timed.n_prompt)
        return perf_counter_ns() - start

    def held_bytes(self, n_tokens: int, n_threads: int) -> int:
        self._must_be_open()
        native.set_threads(self._handle, n_threads)
        native.clear_memory(self._handle)
        self._prompt(np.random.default_rng(0), n_tokens, 0, n_sequences=1)
        return sequence_state(self._handle, 0).nbytes

    def _must_be_open(self) -> None:
        """Give no NULL to llama.cpp."""
        if self._handle is None:
            raise SessionError("the benchmark has no context. Call open() first.")

    def _fill(self, n_depth: int) -> None:
        """Put the same tokens into every sequence: decoded the first time, copied afterwards."""
        assert self._opening is not None
        key, sequences = (self._opening, n_depth), range(self._opening.n_sequences)
        state = self._states.get(key)
        if state is None:
            self._prompt(np.random.default_rng(0), n_depth, 0, n_sequences=1)
            state = sequence_state(self._handle, 0)
            if 4 * state.nbytes < total_and_free()[1]:
                self._states[key] = state
            sequences = sequences[1:]
        for sequence in sequences:
            set_sequence_state(self._handle, state, sequence)

    def _prompt(
        self, chance: np.random.Generator, n: int, first: int, n_sequences: int | None = None
    ) -> None:
        """Decode n random tokens in each sequence, a batch at a time."""
        assert self._opening is not None
        n_sequences = n_sequences or self._opening.n_sequences
        tokens = chance.integers(self._n_vocab, size=(n_sequences, n), dtype=np.int32)
        if self._bos is not None and first == 0:
            tokens[:, 0] = self._bos
        positions = np.tile(np.arange(first, first + n, dtype=np.int32), n_sequences)
        sequences = np.repeat(np.arange(n_sequences, dtype=np.int32), n)
        tokens, batch = tokens.reshape(-1), self._batch
        for start in range(0, len(tokens), batch.capacity):
            part = slice(start, min(start + batch.capacity, len(tokens)))
            size = part.stop - start
            batch.token[:size], batch.pos[:size] = tokens[part], positions[part]
            batch.seq[:size] = sequences[part]
            batch.wanted[:size] = positions[part] == first + n - 1
            batch.wanted[size - 1] = 1
            self._decode(size)

    def _generate(self, chance: np.random.Generator, n: int, first: int) -> None:
        """Decode a random token in each sequence, n times."""
        assert self._opening is not None
        size, batch = self._opening.n_sequences, self._batch
        tokens = chance.integers(self._n_vocab, size=(n, size), dtype=np.int32)
        batch.seq[:size] = np.arange(size)
        batch.wanted[:size] = 1
        for step in range(n):
            batch.token[:size] = tokens[step]
            batch.pos[:size] = first + step
            self._decode(size)

    def _decode(self, n_tokens: int) -> None:
        done = self._batch.decode(self._handle, n_tokens)
        native.wait_for_results(self._handle)
        if not done or self._stop:
            raise Stopped("stopped before there was a result.")
