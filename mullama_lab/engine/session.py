"""Session: one llama.cpp context, and the thread that owns it.

Every call that touches the context is a job on the session's worker, so any thread may call
any method; calls queue. A wait that Ctrl-C interrupts stops its job first, and the session
stays usable.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import psutil
from numpy.typing import NDArray

from mullama_lab.engine import _native as native
from mullama_lab.engine.chain import Chain, Stage
from mullama_lab.engine.context import Context
from mullama_lab.engine.generate import Limits, generate, score
from mullama_lab.engine.opening import (
    freeing,
    must_be_short,
    must_fit_memory,
    must_generate,
    piece_of,
)
from mullama_lab.engine.options import (
    MAX_TOP,
    kv_types,
    one_of,
    seed_or_random,
    stop_strings,
    whole,
)
from mullama_lab.engine.run import Run
from mullama_lab.engine.sampling import check
from mullama_lab.engine.trace import Step, Trace
from mullama_lab.engine.worker import Job, Worker
from mullama_lab.errors import ClosedError, ContextFull, SessionError

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

T = TypeVar("T")
Prompt: TypeAlias = "str | Sequence[int] | NDArray[np.integer[Any]]"


class Session:
    """One context of a model: its cache, and a worker thread that makes every call on it.

    Args:
        model: an open Model.
        n_ctx: tokens the context has room for; None takes what the model was trained with, at
            most 4096.
        n_batch: tokens a prompt is processed in at once, at least n_seq_max; Stop acts between
            them on a GPU.
        n_ubatch: tokens llama.cpp computes at once, at most n_batch.
        n_threads: None takes the physical cores but one. llama.cpp's threads wait for each other
            in a busy loop, so when a browser wants one of their cores all of them stall; on a
            machine that does nothing else, taking every core is faster.
        n_seq_max: sequences the cache can hold.
        flash_attention: "auto", "on" or "off".
        kv_type: type of the cache, such as "f16" or "q8_0", or one for keys and one for values.
        kv_unified: one buffer for all sequences, so that they can share a prefix.

    Raises:
        ValueError: an option is out of range, or the cache would not fit in memory.
        ModelLoadError: llama.cpp refused the options.
    """

    def __init__(
        self,
        model: Model,
        *,
        n_ctx: int | None = None,
        n_batch: int = 512,
        n_ubatch: int = 512,
        n_threads: int | None = None,
        n_seq_max: int = 1,
        flash_attention: str = "auto",
        kv_type: str | tuple[str, str] = "f16",
        kv_unified: bool = True,
    ) -> None:
        must_generate(model)
        if n_ctx is None:
            n_ctx = min(4096, model.n_ctx_train or 4096)
        n_seq_max = whole("n_seq_max", n_seq_max, 1, 256)
        # llama.cpp aborts on a context or batch of fewer tokens than sequences.
        n_ctx = max(whole("n_ctx", n_ctx, 1, 1 << 24), n_seq_max)
        n_batch = max(min(whole("n_batch", n_batch, 1, 1 << 16), n_ctx), n_seq_max)
        n_ubatch = min(whole("n_ubatch", n_ubatch, 1, 1 << 16), n_batch)
        if n_threads is None:
            n_threads = max(1, (psutil.cpu_count(logical=False) or os.cpu_count() or 1) - 1)
        self.n_threads = whole("n_threads", n_threads, 1, 512)
        types = kv_types(kv_type)
        one_of("flash_attention", flash_attention, native.FLASH_ATTENTION)
        must_fit_memory(model, n_ctx, n_ubatch)
        self.model = model
        self.last_trace: Trace | None = None
        self.run: Run | None = None
        self._watchers: list[Callable[[Run], None]] = []
        stop = native.StopFlag()
        with model._in_use():
            handle = native.new_context(
                model._handle,
                n_ctx=n_ctx,
                n_batch=n_batch,
                n_ubatch=n_ubatch,
                n_threads=self.n_threads,
                n_seq_max=n_seq_max,
                flash_attention=flash_attention,
                kv_types=types,
                kv_unified=bool(kv_unified),
                stop=stop,
            )
            self._context = Context(handle, model.n_vocab, stop)
            self.n_ctx = self._context.n_ctx
            name = f"mullama_lab session {id(self):x}"
            self._worker = Worker(name, stop, at_end=freeing(self._context, model))
            self._close = weakref.finalize(self, self._worker.close)
            model._sessions.add(self)

    # Generating.

    def generate(
        self,
        prompt: Prompt,
        chain: Chain | Stage | Iterable[Stage] | None = None,
        *,
        max_tokens: int = 128,
        seed: int | None = None,
        stop: str | Iterable[str] = (),
        top: int = 64,
    ) -> Trace:
        """Generate from a prompt and give the Trace.

        Ctrl-C (the kernel's interrupt) stops it, also during prompt processing, and raises
        KeyboardInterrupt; what there was is in `session.last_trace`, and the session stays
        usable.

        Args:
            prompt: a text, or token ids as they are.
            chain: a Chain or a stage; None is llama.cpp's default chain.
            max_tokens: how many at most; 0 only processes the prompt.
            seed: from 0 to 2**32 - 2; None picks one, which `trace.seed` then names.
            stop: a string or strings that end the text; they are left out of it.
            top: how many alternatives to record for each token.

        Raises:
            ContextFull: the prompt does not fit.
            NoCandidates: the chain removed every token.
            StageFailed: a Custom stage raised or returned something unusable.
            ClosedError: the session was closed.
        """
        run = self._new_run(prompt, chain, max_tokens, seed, stop, top)
        with run._job.stopped_on_error():
            return self._launched(run).wait()

    def stream(
        self,
        prompt: Prompt,
        chain: Chain | Stage | Iterable[Stage] | None = None,
        *,
        max_tokens: int = 128,
        seed: int | None = None,
        stop: str | Iterable[str] = (),
        top: int = 64,
    ) -> Iterator[Step]:
        """Generate and yield each Step as it comes.

        It begins with the first step that is asked for; leaving the loop stops it.
        """
        run = self._new_run(prompt, chain, max_tokens, seed, stop, top)

        def steps() -> Iterator[Step]:
            try:
                yield from self._launched(run)
            finally:
                run._job.stop_and_wait()

        return steps()

    def start(
        self,
        prompt: Prompt,
        chain: Chain | Stage | Iterable[Stage] | None = None,
        *,
        max_tokens: int = 128,
        seed: int | None = None,
        stop: str | Iterable[str] = (),
        top: int = 64,
    ) -> Run:
        """Begin to generate and return a Run at once; see `generate` for the arguments."""
        return self._launched(self._new_run(prompt, chain, max_tokens, seed, stop, top))

    def _new_run(
        self,
        prompt: Prompt,
        chain: Chain | Stage | Iterable[Stage] | None,
        max_tokens: int,
        seed: int | None,
        stop: str | Iterable[str],
        top: int,
    ) -> Run:
        chain = Chain.of(chain)
        limits = Limits(whole("max_tokens", max_tokens, 0, 1 << 31), stop_strings(stop))
        seed = seed_or_random(seed)
        tokens = self._prompt_tokens(prompt)
        trace = self._new_trace(tokens, chain, seed, top)
        context, model = self._context, self.model
        return Run(
            trace,
            chain,
            lambda run: generate(context, model, trace, run, limits),
            check=lambda chain: check(chain, model),
            owner=self,
        )

    def _launched(self, run: Run) -> Run:
        self._worker.submit(run._job)
        self.run, self.last_trace = run, run.trace
        for watch in list(self._watchers):
            watch(run)
        return run

    def on_start(self, callback: Callable[[Run], None]) -> Callable[[], None]:
        """Call `callback(run)` whenever a generation begins; returns what undoes it."""
        self._watchers.append(callback)
        return lambda: self._watchers.remove(callback)

    def chat(
        self,
        messages: Sequence[dict[str, str]],
        chain: Chain | Stage | Iterable[Stage] | None = None,
        *,
        max_tokens: int = 512,
        seed: int | None = None,
        stop: str | Iterable[str] = (),
        top: int = 64,
    ) -> Trace:
        """Answer a conversation, laid out by the model's own chat template.

        Args:
            messages: dicts such as {"role": "user", "content": "Hello"}.

        Raises:
            ValueError: a message is not of that form, or the model has no chat template.
        """
        from mullama_lab.engine import chat

        text = chat.render(self.model, messages)
        tokens = self.model.tokenize(text, add_special=False, parse_special=True)
        return self.generate(tokens, chain, max_tokens=max_tokens, seed=seed, stop=stop, top=top)

    def logits(self, prompt: Prompt) -> NDArray[np.float32]:
        """The row of logits after a prompt, float32 of shape (n_vocab,)."""
        return self._wait(self.start_logits(prompt))

    def start_logits(self, prompt: Prompt) -> Job[NDArray[np.float32]]:
        """Begin to compute the row of logits after a prompt; `.result()` waits for it."""
        tokens, context = self._prompt_tokens(prompt), self._context
        return self._worker.submit(Job(lambda: context.prefill(tokens).copy(), self))

    def score(self, text: Prompt, *, top: int = 64) -> Trace:
        """How likely the model finds a given text: a Trace with a step for each of its tokens.

        The first token has nothing before it and becomes the trace's prompt.
        """
        tokens = self._prompt_tokens(text)
        trace = self._new_trace(tokens[:1], Chain(), None, top)
        context, model = self._context, self.model
        job = Job(lambda: score(context, model, trace, tokens[1:]), self)
        with job.stopped_on_error():
            self._worker.submit(job)
            self.last_trace = trace
            job.result()
        return trace

    # The cache.

    @property
    def tokens(self) -> NDArray[np.int32]:
        """The tokens the cache holds."""
        return np.array(self._context.tokens, np.int32)

    @property
    def n_decoded(self) -> int:
        """How many tokens were decoded since the session was opened."""
        return self._context.n_decoded

    def reset(self) -> None:
        """Empty the cache."""
        self._wait(self._worker.submit(Job(self._context.forget, self)))

    # Ending.

    def stop(self) -> None:
        """Stop whatever is at work, from any thread."""
        self._worker.interrupt()

    @property
    def closed(self) -> bool:
        """Whether the session was closed."""
        return not self._close.alive

    def close(self) -> None:
        """Stop what is at work and free the context. Closing twice is fine."""
        if self._worker.is_this_thread:
            raise SessionError(
                "a Custom stage cannot close the session that is running it. "
                "Call session.stop() there, and close it afterwards."
            )
        self._close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.closed:
            return f"<Session of {self.model.name}: closed>"
        used = len(self._context.tokens)
        return f"<Session of {self.model.name}: {used} of {self.n_ctx} tokens cached, open>"

    # Inside.

    def _wait(self, job: Job[T]) -> T:
        return job.result_or_stop()

    def _prompt_tokens(self, prompt: Prompt) -> list[int]:
        if self.closed:
            raise ClosedError("the session is closed. Open another one with model.session().")
        if isinstance(prompt, str):
            must_be_short(self.model, prompt, self.n_ctx)
            tokens = self.model.tokenize(prompt, add_special=True, parse_special=True)
        elif isinstance(prompt, (bytes, dict)) or not isinstance(prompt, Iterable):
            raise TypeError(
                f"a prompt is a text or a list of token ids, not {type(prompt).__name__}."
            )
        else:
            tokens = [self.model._check_token(token) for token in prompt]
        if not tokens and self.model.bos is not None:
            tokens = [self.model.bos]
        if not tokens:
            raise ValueError(
                "the prompt is empty, and this model has no token that begins a text. "
                "Give at least one character."
            )
        if len(tokens) > self.n_ctx:
            raise ContextFull(
                f"the prompt has {len(tokens)} tokens, but the context has room for {self.n_ctx}. "
                "Open the session with a larger n_ctx, or shorten the prompt."
            )
        return tokens

    def _new_trace(self, tokens: list[int], chain: Chain, seed: int | None, top: int) -> Trace:
        return Trace(
            prompt_tokens=tokens,
            chain=chain,
            seed=seed,
            top=min(whole("top", top, 1, MAX_TOP), self.model.n_vocab),
            piece=piece_of(self.model),
            model_name=self.model.source,
        )
