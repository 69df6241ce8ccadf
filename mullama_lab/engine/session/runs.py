"""What a session generates: one text, many side by side, a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.chat import RenderedChat
from mullama_lab.engine.loop.expand import rows_after
from mullama_lab.engine.loop.lane import Lane, Limits, generate
from mullama_lab.engine.loop.news import call_logged, must_be_callable
from mullama_lab.engine.loop.run import Run, Runs
from mullama_lab.engine.loop.spread import Chains, Prompt, Seeds, spread
from mullama_lab.engine.loop.stream import Stream
from mullama_lab.engine.options import MAX_TOP, Stop, listed, seed_or_random, whole
from mullama_lab.engine.session.cache import SessionCache
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.stages.chain_sampler import check
from mullama_lab.engine.stages.schedule import ChainOrSchedule, Schedule
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.vocabulary.ends import warn_of_two
from mullama_lab.engine.vocabulary.pieces import piece_of
from mullama_lab.engine.vocabulary.too_long import must_be_short
from mullama_lab.engine.worker import Job, Part
from mullama_lab.errors import ContextFull


class SessionRuns(SessionCache):
    """The generations of a session."""

    def generate(
        self,
        prompt: Prompt,
        chain: ChainOrSchedule = None,
        *,
        max_tokens: int = 128,
        seed: int | None = None,
        stop: Stop = (),
        top: int = 64,
        sequence: int = 0,
    ) -> Trace:
        """Generate from a prompt and give the Trace.

        Ctrl-C (the kernel's interrupt) stops it, also during prompt processing, and raises
        KeyboardInterrupt; what there was is in `session.last_trace`, and the session stays
        usable.

        Args:
            prompt: a text, or token ids as they are.
            chain: a Chain or a stage; None is llama.cpp's default chain. A dict has a chain for
                each step from which another one is in force: `{0: first, 12: then}`, such as
                `trace.schedule` of a run whose chain was changed on the way.
            max_tokens: how many at most; 0 only processes the prompt.
            seed: from 0 to 2**32 - 2; None picks one, which `trace.seed` then names.
            stop: what ends the text and is left out of it: a string, a token id, or a list of
                those. "<|im_end|>", the text of a control token, is that token too.
            top: how many alternatives to record for each token.
            sequence: where in the cache to work (see `fork`); it holds the whole text afterwards.

        Raises:
            ContextFull: the prompt does not fit.
            NoCandidates: the chain removed every token.
            StageFailed: a Custom stage raised or returned something unusable.
            ClosedError: the session was closed.
        """
        run = self._new_run(
            prompt,
            chain,
            Limits.of(self.model, max_tokens, stop),
            seed=seed,
            top=top,
            sequence=sequence,
        )
        with run._job.stopped_on_error():
            return self._launched(run).wait()

    def stream(
        self,
        prompt: Prompt,
        chain: ChainOrSchedule = None,
        *,
        max_tokens: int = 128,
        seed: int | None = None,
        stop: Stop = (),
        top: int = 64,
        sequence: int = 0,
    ) -> Stream:
        """Generate and yield each Step as it comes, in a `for` or an `async for`.

            for step in session.stream("Once upon a time"):
                print(step.text, end="")

        What a step adds to the text can be printed: joined it is the trace's text. So a step
        comes when it is known whether a stop string begins in it.

        It begins with the first step that is asked for; leaving the loop, or cancelling the task
        that waits in it, stops it. The arguments and errors are those of `generate`.
        """
        run = self._new_run(
            prompt,
            chain,
            Limits.of(self.model, max_tokens, stop),
            seed=seed,
            top=top,
            sequence=sequence,
        )

        return Stream(run, self._launched)

    def start(
        self,
        prompt: Prompt,
        chain: ChainOrSchedule = None,
        *,
        max_tokens: int = 128,
        seed: int | None = None,
        stop: Stop = (),
        top: int = 64,
        sequence: int = 0,
    ) -> Run:
        """Begin to generate and return a Run at once; see `generate` for the arguments."""
        return self._launched(
            self._new_run(
                prompt,
                chain,
                Limits.of(self.model, max_tokens, stop),
                seed=seed,
                top=top,
                sequence=sequence,
            )
        )

    def generate_many(
        self,
        prompts: Prompt | Iterable[Prompt],
        chains: Chains = None,
        *,
        max_tokens: int = 128,
        seeds: Seeds = None,
        stop: Stop = (),
        top: int = 64,
    ) -> list[Trace]:
        """Generate several texts side by side, in one batch of sequences.

        A prompt is processed once for all that begin with it. A prompt, a chain or a seed given
        alone goes with all; a list has one for each:

            session.generate_many("Once upon a time", chain, seeds=range(8))
            session.generate_many(["Yes", "No"], [TopK(40), MinP(0.1)], seeds=7)

        As many run at once as the session has sequences (n_seq_max) that may be overwritten, and
        as fit in the cache with all of their max_tokens; the others follow. Each draws what it
        would draw alone, up to the noise in the logits that another size of batch brings.

        Args:
            prompts: a text, token ids, or a list of those.
            chains: a chain or a stage, or a list with one for each: a list of stages is a list of
                chains of one stage. `TopK(40) | MinP(0.1)` is one chain.
            max_tokens, stop, top: as in `generate`, for each of them.
            seeds: a seed, or a list with one for each; None picks one for each.

        Raises:
            ValueError: the lists differ in length, or one is empty.
            MullamaError: what made the first of them fail; the others are in
                `session.last_traces`, in the order of the prompts.
        """
        runs = self._new_runs(
            prompts, chains, Limits.of(self.model, max_tokens, stop), seeds=seeds, top=top
        )
        with runs._job.stopped_on_error():
            return self._launched_many(runs).wait()

    def start_many(
        self,
        prompts: Prompt | Iterable[Prompt],
        chains: Chains = None,
        *,
        max_tokens: int = 128,
        seeds: Seeds = None,
        stop: Stop = (),
        top: int = 64,
    ) -> Runs:
        """Begin `generate_many` and return its Runs at once."""
        return self._launched_many(
            self._new_runs(
                prompts, chains, Limits.of(self.model, max_tokens, stop), seeds=seeds, top=top
            )
        )

    def _new_run(
        self,
        prompt: Prompt,
        chain: ChainOrSchedule,
        limits: Limits,
        *,
        seed: int | None,
        top: int,
        sequence: int,
    ) -> Run:
        chains = Schedule.of(chain)
        seed = seed_or_random(seed)
        tokens = self.prompt_tokens(prompt)
        trace = self._new_trace(tokens, chains.at(0), seed, top)
        sequence = self._check_sequence(sequence)
        context, model = self._context, self.model

        def job(run: Run) -> Job[None]:
            lane = Lane(model, trace, run, limits, sequence)
            return Job(lambda: generate(context, [lane]), self)

        return Run(trace, chains, job, check=lambda chain: check(chain, model))

    def _new_runs(
        self,
        prompts: Prompt | Iterable[Prompt],
        chains: Chains,
        limits: Limits,
        *,
        seeds: Seeds,
        top: int,
    ) -> Runs:
        context, model = self._context, self.model
        lanes: list[Lane] = []
        whole_job = Job(lambda: generate(context, lanes), self)
        runs = []
        for prompt, chain, seed in spread(prompts, chains, seeds):
            trace = self._new_trace(self.prompt_tokens(prompt), chain, seed, top)
            run = Run(
                trace,
                Schedule.of(chain),
                lambda _: Part(whole_job),
                check=lambda chain: check(chain, model),
            )
            runs.append(run)
            lanes.append(Lane(model, trace, run, limits))
        return Runs(runs, whole_job)

    def _launched(self, run: Run) -> Run:
        self.must_be_open()
        self.run, self.last_trace = run, run.trace  # a Custom stage of it may ask for them
        self._worker.submit(run._job)
        for watch in list(self._watchers):
            call_logged(watch, run)
        return run

    def _launched_many(self, runs: Runs) -> Runs:
        self.must_be_open()
        self.last_traces = runs.traces
        self._worker.submit(runs._job)
        return runs

    def on_start(self, callback: Callable[[Run], None]) -> Callable[[], None]:
        """Call `callback(run)` for each Run that is asked for from now on, on the thread that asks.

        That is when it is queued, so other work may still come before it. Those of `generate`,
        `stream`, `chat` and `branch` count too; several side by side (`generate_many`,
        `branch_many`) and `score` do not. What the callback raises is logged and stops nothing.

        Returns:
            what undoes it, however often it is called.

        Raises:
            TypeError: it cannot be called.
        """
        must_be_callable(callback, "Run")
        self._watchers.append(callback)

        def undo() -> None:
            with suppress(ValueError):
                self._watchers.remove(callback)

        return undo

    def logits(self, prompt: Prompt, *, sequence: int = 0) -> NDArray[np.float32]:
        """The row of logits after a prompt, float32 of shape (n_vocab,).

        Args:
            prompt: a text, or token ids as they are.
            sequence: where in the cache to work; it holds the prompt afterwards.

        Raises:
            ContextFull: the prompt does not fit.
            Stopped: another thread stopped the session meanwhile.
            ClosedError: the session was closed.
        """
        return self.start_logits(prompt, sequence=sequence).result_or_stop()

    def start_logits(self, prompt: Prompt, *, sequence: int = 0) -> Job[NDArray[np.float32]]:
        """Begin to compute the row of logits after a prompt; `.result()` waits for it.

        Raises:
            ContextFull: the prompt is longer than the context. What else `logits` raises comes
                from `.result()`.
            ClosedError: the session was closed.
        """
        tokens, context = self.prompt_tokens(prompt), self._context
        sequence = self._check_sequence(sequence)
        return self._worker.submit(Job(lambda: context.prefill(tokens, sequence).copy(), self))

    def start_rows(
        self, texts: Iterable[Sequence[int]], visit: Callable[[int, NDArray[np.float32]], None]
    ) -> Job[None]:
        """Begin to compute the row of logits after each of several texts, side by side.

        `visit(place, row)` is called on the session's thread; a row is gone after its visit.

        Args:
            texts: token ids of each, at least one. What they begin with alike is decoded once.
        """
        given = listed("texts", texts, "token ids of each text")
        prompts, context = [self.prompt_tokens(tokens) for tokens in given], self._context
        return self._worker.submit(Job(lambda: rows_after(context, prompts, visit), self))

    def prompt_tokens(self, prompt: Prompt) -> list[int]:
        """The token ids that a prompt becomes: what `generate` would process for it.

        Args:
            prompt: a text, or token ids as they are. A text's special tokens are read as such,
                and one that begins with the token that begins a text ("<s>Hello") has it once.
                Token ids that have it twice are taken as they are, with a warning.

        Raises:
            ValueError: it has no token, or one outside the vocabulary.
            TypeError: it is neither a text nor token ids.
            ContextFull: it is longer than the context.
            ClosedError: the session was closed.
        """
        self.must_be_open()
        if isinstance(prompt, str):
            must_be_short(self.model, prompt, self.n_ctx)
            tokens = self.model.tokenize(prompt, add_special=True, parse_special=True)
        else:
            _must_be_no_chat(prompt)
            tokens = self.model.vocabulary.check_all(
                prompt, "a prompt is a text or a list of token ids"
            )
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
        warn_of_two(self.model, tokens)
        return tokens

    def empty_trace(self, prompt: Prompt, *, top: int = 64) -> Trace:
        """A Trace of a prompt without a step: what an exploration goes on from.

        Raises: as `prompt_tokens`.
        """
        return self._new_trace(self.prompt_tokens(prompt), Chain(), None, top)

    def _new_trace(self, tokens: list[int], chain: Chain, seed: int | None, top: int) -> Trace:
        return Trace(
            prompt_tokens=tokens,
            chain=chain,
            seed=seed,
            top=min(whole("top", top, 1, MAX_TOP), self.model.n_vocab),
            piece=piece_of(self.model),
            model_name=self.model.source,
            model_id=self.model.id,
        )


def _must_be_no_chat(prompt: object) -> None:
    """Refuse messages, and a chat rendered from them, where a prompt is meant."""
    first = prompt[0] if isinstance(prompt, list) and prompt else None
    if isinstance(prompt, RenderedChat) or isinstance(first, Mapping):
        raise TypeError(
            "a prompt is a text or a list of token ids, and this is a chat. "
            "session.chat answers one, and model.render_chat(messages).tokens is its prompt."
        )
