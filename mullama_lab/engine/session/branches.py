"""What a session generates from another token than the one that was chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mullama_lab.engine.loop.branch import Branch
from mullama_lab.engine.loop.lane import Lane, Limits, generate
from mullama_lab.engine.loop.run import Run, Runs
from mullama_lab.engine.loop.spread import Chains, Seeds, spread_branches
from mullama_lab.engine.options import MAX_TOP, Stop, seed_or_random, whole
from mullama_lab.engine.session.scoring import SessionScoring
from mullama_lab.engine.stages.chain_sampler import check
from mullama_lab.engine.stages.schedule import ChainOrSchedule, Schedule
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.vocabulary.one_token import one_token
from mullama_lab.engine.vocabulary.pieces import piece_of
from mullama_lab.engine.worker import Job, Part
from mullama_lab.glyphs import brief

Fork = tuple[Trace, int, "int | str"]  # (trace, step, token)


class SessionBranches(SessionScoring):
    """The branches of a session."""

    def branch(
        self,
        trace: Trace,
        step: int,
        token: int | str,
        chain: ChainOrSchedule = None,
        *,
        max_tokens: int = 128,
        seed: int | None = None,
        stop: Stop = (),
        top: int | None = None,
    ) -> Trace:
        """Go on from another token than the one a generation chose, and give the new Trace.

        The new trace has the same prompt. Its steps before `step` are those of `trace`; step
        `step` is the given token (`forced` says so), with the numbers that the row there gives
        it: its `logprob_after` is minus infinity if the chain had removed it. The steps after it
        draw with the same seed at the same numbers, so what differs is caused by the token.

        Where the cache still holds the tokens before it, one token is decoded; one more where
        the record does not have the token, or has a stage (mirostat, adaptive-p) that must learn
        from it. Ctrl-C stops it as it stops `generate`.

        Args:
            trace: any trace of this model, also one of `score` or of another session.
            step: where to go off, from 0 to len(trace) - 1.
            token: a token id, or a text that is exactly one token.
            chain: for the steps after it; None is the chain that was in force at `step`. A dict
                of chains by steps, as in `generate`, counts the steps of the whole trace.
            max_tokens: how many tokens at most after the given one.
            seed: None is that of `trace`.
            top: how many alternatives to record for each token; None is as many as `trace` has.

        Raises:
            ValueError: the step is out of range, the token is outside the vocabulary, is not one
                token, or has no probability at all there, or the trace is of another model.
            ContextFull: the tokens do not fit beside those of the sequences that are kept.
            ClosedError: the session was closed.
        """
        run = self._new_branch(
            (trace, step, token), chain, Limits.of(self.model, max_tokens, stop), seed=seed, top=top
        )
        with run._job.stopped_on_error():
            return self._launched(run).wait()

    def start_branch(
        self,
        trace: Trace,
        step: int,
        token: int | str,
        chain: ChainOrSchedule = None,
        *,
        max_tokens: int = 128,
        seed: int | None = None,
        stop: Stop = (),
        top: int | None = None,
    ) -> Run:
        """Begin a branch and return its Run at once; see `branch` for the arguments."""
        return self._launched(
            self._new_branch(
                (trace, step, token),
                chain,
                Limits.of(self.model, max_tokens, stop),
                seed=seed,
                top=top,
            )
        )

    def branch_many(
        self,
        branches: Iterable[Fork],
        chains: Chains = None,
        *,
        max_tokens: int = 128,
        seeds: Seeds = None,
        stop: Stop = (),
        top: int | None = None,
    ) -> list[Trace]:
        """Several branches, side by side in one batch of sequences as in `generate_many`.

        Args:
            branches: (trace, step, token) of each.
            chains: a chain, or a list with one for each; None is the one in force at its step.
            max_tokens, stop, top: as in `branch`, for each of them.
            seeds: a seed, or a list with one for each; None is that of its trace.

        Raises:
            ValueError: the lists differ in length, or one is empty; or as `branch`.
        """
        limits = Limits.of(self.model, max_tokens, stop)
        runs = self._new_branches(branches, chains, limits, seeds=seeds, top=top)
        with runs._job.stopped_on_error():
            return self._launched_many(runs).wait()

    def start_branches(
        self,
        branches: Iterable[Fork],
        chains: Chains = None,
        *,
        max_tokens: int = 128,
        seeds: Seeds = None,
        stop: Stop = (),
        top: int | None = None,
    ) -> Runs:
        """Begin `branch_many` and return its Runs at once."""
        limits = Limits.of(self.model, max_tokens, stop)
        return self._launched_many(
            self._new_branches(branches, chains, limits, seeds=seeds, top=top)
        )

    def _new_branch(
        self,
        fork: Fork,
        chain: ChainOrSchedule,
        limits: Limits,
        *,
        seed: int | None,
        top: int | None,
    ) -> Run:
        def job(lane: Lane) -> Job[None]:
            context = self._context
            return Job(lambda: generate(context, [lane]), self)

        return self._run_of(fork, chain, limits, job, seed=seed, top=top)

    def _new_branches(
        self,
        branches: Iterable[Fork],
        chains: Chains,
        limits: Limits,
        *,
        seeds: Seeds,
        top: int | None,
    ) -> Runs:
        lanes: list[Lane] = []
        context = self._context
        together = Job(lambda: generate(context, lanes), self)

        def part(lane: Lane) -> Job[None]:
            lanes.append(lane)
            return Part(together)

        made = [
            self._run_of(fork, chain, limits, part, seed=seed, top=top)
            for fork, chain, seed in spread_branches(branches, chains, seeds)
        ]
        return Runs(made, together)

    def _run_of(
        self,
        fork: Fork,
        chain: ChainOrSchedule,
        limits: Limits,
        job: Callable[[Lane], Job[None]],
        *,
        seed: int | None,
        top: int | None,
    ) -> Run:
        self.must_be_open()
        if not isinstance(fork, (tuple, list)) or len(fork) != 3:
            raise TypeError(f"a branch is (trace, step, token), not {brief(fork)}.")
        parent, step, name = fork
        model = self.model
        step, token = self._check_fork(parent, step, name)
        chains = Schedule.of(parent.chain_at(step) if chain is None else chain, step + 1)
        limits = Limits(step + 1 + limits.max_tokens, limits.stops)
        seed = seed_or_random(parent.seed if seed is None else seed)
        top = parent.top if top is None else min(whole("top", top, 1, MAX_TOP), model.n_vocab)
        trace = parent.begun(step, top=top, seed=seed, piece=piece_of(model))

        def job_of(run: Run) -> Job[None]:
            return job(Branch(model, trace, run, limits, parent=parent, step=step, token=token))

        return Run(trace, chains, job_of, check=lambda chain: check(chain, model))

    def _check_fork(self, parent: Trace, step: int, token: int | str) -> tuple[int, int]:
        if not isinstance(parent, Trace):
            raise TypeError(f"a branch goes off from a Trace, not {type(parent).__name__}.")
        if not len(parent):
            raise ValueError("the trace has no steps to go off from: generate some tokens first.")
        if parent.first_step and parent.seed is not None:
            raise ValueError(
                f"the trace is a part of another, from its step {parent.first_step} on, so its "
                "draws have moved. Branch off the whole trace, at the step as that counts it."
            )
        step = whole("step", step, 0, len(parent) - 1)
        parent.must_be_of(self.model)
        return step, one_token(self.model, token)
