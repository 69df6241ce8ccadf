"""Session: one llama.cpp context, and the thread that owns it.

Whatever touches the context is done by the session's worker, so any thread may call any method.
What is generated runs side by side, as far as there are sequences and room. A wait that Ctrl-C
interrupts stops what it waits for first, and the session stays usable.

Here is what can be asked; `request.py` has the parameters; `runs.py`, `scoring.py`,
`rows.py`, `cells.py` and `file.py` do it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.cache.cache import PAUSE
from mullama_lab.engine.cache.ledger import Ledger
from mullama_lab.engine.chat.tools import ToolLike
from mullama_lab.engine.handle import ContextOwner
from mullama_lab.engine.loop.choices import Choices
from mullama_lab.engine.loop.news import News, call_logged, must_be_callable
from mullama_lab.engine.loop.run import Run, Runs
from mullama_lab.engine.loop.scheduler import Scheduler, SequenceJob
from mullama_lab.engine.loop.spread import Prompt
from mullama_lab.engine.loop.stream import Stream
from mullama_lab.engine.memory import Memory
from mullama_lab.engine.native import Logits
from mullama_lab.engine.native.context import StopFlag
from mullama_lab.engine.native.log import said_of_sizes
from mullama_lab.engine.options import flag, instance
from mullama_lab.engine.session import cells, file, rows
from mullama_lab.engine.session.conversation import Conversation, as_request
from mullama_lab.engine.session.file import SavedSession
from mullama_lab.engine.session.gauges import Gauges, tell_opened
from mullama_lab.engine.session.hidden import hidden
from mullama_lab.engine.session.opening import open_cache
from mullama_lab.engine.session.reloading import reloaded
from mullama_lab.engine.session.request import (
    BranchRequest,
    ChatRequest,
    ManyBranches,
    ManyRequests,
    Request,
    takes,
)
from mullama_lab.engine.session.runs import (
    branch_of,
    branches_of,
    new_trace,
    prompt_tokens,
    run_of,
    runs_of,
)
from mullama_lab.engine.session.scoring import chosen, scored
from mullama_lab.engine.session.settings import Settings
from mullama_lab.engine.setting import Setting
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.steering.control_vector import ControlVector
from mullama_lab.engine.steering.lora import LoraAdapter
from mullama_lab.engine.steering.steering import Steering, adapters_of, control_of, steer
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.tree import Tree
from mullama_lab.engine.work import Work
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

S = TypeVar("S", bound="Session")
T = TypeVar("T")


class Session(ContextOwner):
    """One context of a model: its cache, and a worker thread that makes every call on it.

    `model.session(...)` opens one and explains the settings.

    Sequence 0 of the cache is where `generate` works unless told otherwise. `fork` makes others,
    which are yours until you remove them. Branches and `generate_many` work in whichever sequence
    is free, and leave there what they decoded; later work may take it over, and sequence 0 too.

    Attributes:
        settings: those it was opened with, by name.
        options: what `model.session` opens an equal one with: n_ctx, and what was no default.
        run, last_trace, last_traces: what was asked for last.
        tree: the one it was loaded with, or saved with last.
        saved: the file it was loaded from.
        gauges: what it is doing, cheap to read often.
    """

    tree: Tree | None = None
    saved: SavedSession | None = None

    def __init__(self, model: Model, settings: Settings | None = None) -> None:
        settings = Settings() if settings is None else settings
        if not isinstance(settings, Settings):
            raise TypeError(f"settings is a Settings or None, not {brief(settings)}.")
        asked, settings = settings, settings.checked(model)
        self.model = model
        self.last_trace: Trace | None = None
        self.last_traces: list[Trace] = []
        self.run: Run | None = None
        self._watchers: list[Callable[[Run], None]] = []
        # As they were asked for; each lives until it has ended.
        self._runs: weakref.WeakKeyDictionary[Run, None] = weakref.WeakKeyDictionary()
        self._aside: dict[Work[Any], None] = {}  # in contexts of their own
        self.settings: Mapping[str, Any] = settings.as_mapping()
        self.options: Mapping[str, Any] = settings.options(asked)
        stop = StopFlag()
        with model._memory.in_use():
            with said_of_sizes() as self._said_of_sizes:
                cache = self._cache = open_cache(model, settings, stop)
            self.n_ctx, self.n_seq_max = cache.n_ctx, cache.sequences.n_max
            self._scheduler = Scheduler(cache)
            self._own(
                cache,
                stop,
                self._scheduler,
                what="session",
                opened_by="model.session()",
                caller="a Custom stage",
            )
        self._rested = News()
        self._worker.at_rest = self._rested.tell
        self.gauges = Gauges(self)
        tell_opened(self.gauges)

    # Generating.

    @takes(Request)
    def generate(self, request: Request) -> Trace:
        """Generate from a prompt and give the Trace.

        Ctrl-C (the kernel's interrupt) stops it, also during prompt processing, and raises
        KeyboardInterrupt; what there was is in `session.last_trace`, and the session stays
        usable.

        The same call gives the same text, as long as nothing else runs in the session or is left
        in its cache: `trace.canonical` says of which steps that is so. What was generated and is
        given again as a prompt is computed with another rounding; `reproducible=True` of
        `model.session` has none of these differences.

        Raises:
            ContextFull: the prompt does not fit.
            NoCandidates: the chain removed every token.
            StageFailed: a Custom stage raised or returned something unusable.
            GrammarError: the grammar cannot be carried out on this model.
            ClosedError: the session was closed.
        """
        run = run_of(self, request)
        with run._lane.stopped_on_error():
            return self._launch(run).wait()

    @takes(Request)
    def stream(self, request: Request) -> Stream:
        """Generate and yield each Step as it comes, in a `for` or an `async for`.

            for step in session.stream("Once upon a time"):
                print(step.text, end="")

        What a step adds to the text can be printed: joined it is the trace's text. So a step
        comes when it is known whether a stop string begins in it.

        It begins with the first step that is asked for; leaving the loop, or cancelling the task
        that waits in it, stops it. The errors are those of `generate`.
        """
        return Stream(run_of(self, request), self._launch)

    @takes(Request)
    def start(self, request: Request) -> Run:
        """Begin to generate and return a Run at once; see `generate`."""
        return self._launch(run_of(self, request))

    @takes(ManyRequests)
    def generate_many(self, request: ManyRequests) -> list[Trace]:
        """Generate several texts side by side, in one batch of sequences.

        A prompt is processed once for all that begin with it. A prompt, a chain or a seed given
        alone goes with all; a list has one for each:

            session.generate_many("Once upon a time", chain, seeds=range(8))
            session.generate_many(["Yes", "No"], [TopK(40), MinP(0.1)], seeds=7)

        As many run at once as the session has sequences (n_seq_max) that may be overwritten, and
        as fit in the cache with all of their max_tokens; the others follow. Each draws what it
        would draw alone, up to the noise in the logits that another size of batch brings.

        Raises:
            ValueError: the lists differ in length, or one is empty.
            MullamaError: what made the first of them fail; the others are in
                `session.last_traces`, in the order of the prompts.
        """
        runs = runs_of(self, request)
        with runs._lanes.stopped_on_error():
            return self._launch_many(runs).wait()

    @takes(ManyRequests)
    def start_many(self, request: ManyRequests) -> Runs:
        """Begin `generate_many` and return its Runs at once."""
        return self._launch_many(runs_of(self, request))

    # Chats.

    @takes(ChatRequest)
    def chat(self, request: ChatRequest) -> Trace:
        """Answer a conversation, laid out by the model's own chat template.

        What people and tools say is plain text: "<|im_end|>" in a message ends nothing.
        `conversation` keeps the messages for you; `model.render_chat` shows what the model reads.

        Raises:
            TypeError: messages are no list of dicts with a role.
            ValueError: the model has no chat template, or that refuses these messages.
            ModelError: the template failed, as on a message without its content.
            ContextFull: the conversation does not fit. What else `generate` raises, this does.
        """
        run = run_of(self, as_request(self, request))
        with run._lane.stopped_on_error():
            return self._launch(run).wait()

    @takes(ChatRequest)
    def stream_chat(self, request: ChatRequest) -> Stream:
        """Answer a conversation and yield each Step as it comes; see `chat` and `stream`."""
        run = run_of(self, as_request(self, request))
        return Stream(run, self._launch)

    @takes(ChatRequest)
    def start_chat(self, request: ChatRequest) -> Run:
        """Begin to answer a conversation and return a Run at once; see `chat`."""
        return self._launch(run_of(self, as_request(self, request)))

    def conversation(
        self,
        system: str | None = None,
        *,
        tools: Sequence[ToolLike] | None = None,
        sequence: int = 0,
        **template_variables: Any,
    ) -> Conversation:
        """Begin a Conversation, which keeps its messages, and of which only the new is decoded.

            talk = session.conversation("You are brief.")
            talk.say("Name a planet.").text
            talk.say("And another?").text

        Args:
            system: what the model is told first; None leaves that to the template.
            tools: what the model may call, as in `chat`.
            sequence: where in the cache it lives (see `fork`); 0 is where `generate` works too,
                which then takes its place, and the next turn is decoded from the beginning.
            template_variables: what else the template may use, such as `enable_thinking=False`.

        Raises:
            ValueError: the model has no chat template, or there is no such sequence.
        """
        return Conversation(
            self, system, tools=tools, sequence=sequence, template_variables=template_variables
        )

    # Branches.

    @takes(BranchRequest)
    def branch(self, request: BranchRequest) -> Trace:
        """Go on from another token than the one a generation chose, and give the new Trace.

        The new trace has the same prompt. Its steps before `step` are those of `trace`; step
        `step` is the given token (`forced` says so), with the numbers that the row there gives
        it: its `logprob_after` is minus infinity if the chain had removed it. The steps after it
        draw with the same seed at the same numbers, so what differs is caused by the token.

        Where the cache still holds the tokens before it, one token is decoded; one more where
        the record does not have the token, or has a stage (mirostat, adaptive-p) that must learn
        from it. Ctrl-C stops it as it stops `generate`.

        Raises:
            ValueError: the step is out of range, the token is outside the vocabulary, is not one
                token, or has no probability at all there, or the trace is of another model.
            ContextFull: the tokens do not fit beside those of the sequences that are kept.
            ClosedError: the session was closed.
        """
        run = branch_of(self, request)
        with run._lane.stopped_on_error():
            return self._launch(run).wait()

    @takes(BranchRequest)
    def start_branch(self, request: BranchRequest) -> Run:
        """Begin a branch and return its Run at once; see `branch`."""
        return self._launch(branch_of(self, request))

    @takes(ManyBranches)
    def branch_many(self, request: ManyBranches) -> list[Trace]:
        """Several branches, side by side in one batch of sequences as in `generate_many`.

        Raises:
            ValueError: the lists differ in length, or one is empty; or as `branch`.
        """
        runs = branches_of(self, request)
        with runs._lanes.stopped_on_error():
            return self._launch_many(runs).wait()

    @takes(ManyBranches)
    def start_branches(self, request: ManyBranches) -> Runs:
        """Begin `branch_many` and return its Runs at once."""
        return self._launch_many(branches_of(self, request))

    @property
    def runs(self) -> list[Run]:
        """The Runs that have not ended, the oldest first; of those that `on_start` tells of."""
        runs = [ref() for ref in self._runs.keyrefs()]
        return [run for run in runs if run is not None and not run.done]

    def on_start(self, callback: Callable[[Run], None]) -> Callable[[], None]:
        """Call `callback(run)` for each Run that is asked for from now on, on the thread that asks.

        It is called before the run is queued, so what it registers misses nothing, and what it
        sets is in force from the first token on; to wait for the run there is refused with
        SessionError. Runs of `generate`, `stream`, `chat` and `branch` count too; several side by
        side (`generate_many`, `branch_many`) and `score` do not. What the callback raises is
        logged and stops nothing.

            undo = session.on_start(lambda run: run.on_step(watch))

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

    def on_rest(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call `callback()` each time the session has done all that it was asked for.

        Whatever that was: a generation, one of many, a row, `rewind`, `reset`. It is called on the
        session's own thread, so it must take microseconds: wake a thread of yours. It is called
        once more when the session was closed. What it raises is logged.

        Returns:
            what undoes it, however often it is called.

        Raises:
            TypeError: it cannot be called.
        """
        must_be_callable(callback)
        return self._rested.listen(callback)

    # Given texts.

    def score(self, text: Prompt, *, given: Prompt | None = None, top: int = 64) -> Trace:
        """How likely the model finds a given text: a Trace with a step for each of its tokens.

        Without a prompt, the text's first token has nothing before it and becomes the trace's
        prompt. Sequence 0 holds the text afterwards, or another one where 0 was at work. Ctrl-C
        stops it; the steps there were are in `session.last_trace`.

            session.score(" Paris", given="The capital of France is").logprob.sum()

        Args:
            text: a text, or token ids as they are.
            given: the prompt before it, not decoded again where the cache has it. Both are
                tokenised together and cut where the prompt's tokens end; spaces at its end go to
                the text. Where a token would lie across the seam, each is tokenised alone.
            top: how many alternatives to record for each token.

        Raises:
            ContextFull: the text does not fit.
            Stopped: another thread stopped the session meanwhile.
            ClosedError: the session was closed.
        """
        return scored(self, text, given, top)

    def choose(self, prompt: Prompt, candidates: Iterable[Prompt]) -> Choices:
        """How likely each of some texts is after a prompt, side by side.

            session.choose("The capital of France is", [" Paris", " Lyon", " a city"]).best.text

        The prompt is decoded once. Each candidate has what `score(candidate, given=prompt)` gives
        it, up to the noise in the logits that another size of batch brings. Ctrl-C stops it.

        Args:
            prompt: a text, or token ids as they are.
            candidates: texts, or token ids as they are: at least one, none empty, none twice.

        Raises:
            ValueError: there is no candidate, an empty one, or one twice.
            TypeError: candidates are no list of texts or token ids.
            ContextFull: the prompt with a candidate does not fit.
            Stopped: another thread stopped the session meanwhile.
            ClosedError: the session was closed.
        """
        return chosen(self, prompt, candidates)

    def logits(self, prompt: Prompt, *, sequence: int | None = None) -> NDArray[np.float32]:
        """The row of logits after a prompt, float32 of shape (n_vocab,).

        Args:
            prompt: a text, or token ids as they are.
            sequence: where in the cache to work; it holds the prompt afterwards. None is
                sequence 0, or a free one while a text is generated there.

        Raises:
            ContextFull: the prompt does not fit.
            Stopped: another thread stopped the session meanwhile.
            ClosedError: the session was closed.
        """
        return self.start_logits(prompt, sequence=sequence).result_or_stop()

    def hidden(
        self, text: Prompt, layers: Iterable[int] | None = None, *, progress: bool = True
    ) -> NDArray[np.float32]:
        """What the layers pass on for each token of a text: float32, (n_layers, n_tokens, n_embd).

        That is the residual stream after a layer (`l_out` in llama.cpp), with the adapters and
        the control vector that are in force. It is read in a context of its own, so that the
        cache stays as it is and a session that never asks pays nothing. Ctrl-C stops it.

            states = session.hidden("The capital of France is", layers=[10, 20])
            states[:, -1]  # after the last token

        Args:
            text: a text, or token ids as they are.
            layers: which, from 0 on, in rising order; None is all. A ControlVector's layer N is
                added to what layer N passes on.
            progress: show a bar if it takes longer than two seconds.

        Raises:
            ValueError: there is no such layer, or the states would not fit in memory.
            ContextFull: the text is longer than the context.
            DecodeError: llama.cpp shows no such layers of this architecture.
            Stopped: another thread called `session.stop()`.
            ClosedError: the session was closed.
        """
        return hidden(self, text, layers, progress)

    def start_logits(
        self, prompt: Prompt, *, sequence: int | None = None
    ) -> Work[NDArray[np.float32]]:
        """Begin to compute the row of logits after a prompt; `.result()` waits for it.

        Raises:
            ContextFull: the prompt is longer than the context. What else `logits` raises comes
                from `.result()`.
            ClosedError: the session was closed.
        """
        return rows.start_logits(self, prompt, sequence)

    def start_rows(
        self,
        texts: Iterable[Sequence[int]],
        visit: Callable[[int, NDArray[np.float32]], None],
        *,
        n_prompt: int | None = None,
        setting: Setting | None = None,
    ) -> Work[None]:
        """Begin to compute the row of logits after each of several texts, side by side.

        `visit(place, row)` is called on the session's thread; a row is gone after its visit.

        Args:
            texts: token ids of each, at least one. What they begin with alike is decoded once.
            n_prompt: how many tokens at the beginning of each are a prompt, where the others were
                generated or tried; None is all.
            setting: whose adapters and vector compute them; None is what is in force.
        """
        return rows.start_rows(self, texts, visit, n_prompt, setting)

    def visit_rows(
        self,
        tokens: Sequence[int],
        first: int,
        visit: Callable[[int, Logits], None],
        *,
        setting: Setting | None = None,
        before: Setting | None = None,
    ) -> None:
        """Call `visit(place, row)` with the row after each token of a text, from place `first` on.

        The rows come from one batch, or from several where they take more than 64 MB; what is
        before them is decoded as a prompt is. On the session's thread; a row is gone after its
        visit. Sequence 0 holds the text afterwards.

        Args:
            setting: whose adapters and vector compute them; None is what is in force.
            before: whose compute what is before place `first`, over which the rows are stale
                then; None is the same.

        Raises:
            ContextFull: the text does not fit.
            ValueError: it has no such place, or a token outside the vocabulary.
        """
        rows.visit_rows(self, tokens, first, visit, setting, before)

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
        return prompt_tokens(self, prompt)

    def empty_trace(self, prompt: Prompt, *, top: int = 64) -> Trace:
        """A Trace of a prompt without a step: what an exploration goes on from.

        Raises: as `prompt_tokens`.
        """
        return new_trace(self, self.prompt_tokens(prompt), Chain(), None, top)

    # What acts on the weights.

    @property
    def steering(self) -> Steering:
        """`adapters` and `control` as one value, which a Setting has as `setting.steering`."""
        return self._cache.weights.steering

    @property
    def adapters(self) -> Mapping[LoraAdapter, float]:
        """The LoRA adapters with their scales; set another mapping to have others act.

            session.adapters = {style: 0.8, terse: -0.3}
            session.adapters = {}

        They act from the next token on, in a text that is being generated too, and in this
        session alone. A scale of 0 is the model without the adapter, bit for bit. What is asked
        for afterwards takes nothing from the cache that other weights computed: its prompt is
        decoded again. A text that was under way goes on over what it has, which its
        `trace.stale` says; one that was given a Setting of its own keeps that.

        Raises:
            ModelFileError: an adapter is for another model, or its file was altered.
            ModelLoadError: llama.cpp refused it.
            TypeError, ValueError: it is no mapping of LoraAdapters to finite numbers.
            ClosedError: the session was closed.
        """
        return self.steering.adapters

    @adapters.setter
    def adapters(self, adapters: Mapping[LoraAdapter, float]) -> None:
        steer(self, adapters=adapters_of(adapters))

    @property
    def control(self) -> ControlVector | None:
        """The ControlVector that is added to what the layers give; None is none.

            session.control = 0.8 * happy

        When it acts and what becomes of the cache is as for `adapters`. None, or a vector of
        zeros, gives the logits of the model as it is, bit for bit.

        Raises:
            ValueError: it is for another model.
            TypeError: it is no ControlVector.
            ClosedError: the session was closed.
        """
        return self.steering.control

    @control.setter
    def control(self, vector: ControlVector | None) -> None:
        steer(self, control=control_of(vector))

    def steer(self, setting: Setting, *, exact: bool = False) -> None:
        """Have the adapters and the vector of a Setting act; its chain plays no part.

            session.steer(ml.Setting(control=0.8 * happy), exact=True)

        What it is about is as for `adapters`. A text that is under way goes on over what other
        weights computed of it, which is stale; `studies.effect.staleness` measures what that does.

        Args:
            exact: decode anew what such texts have so far, before they go on. One for which the
                cells beside other sequences are too few stays stale, which is logged.

        Raises:
            ModelFileError, ModelLoadError, ValueError: it does not fit the model.
            TypeError: it is no Setting.
            ClosedError: the session was closed.
        """
        acting = instance("setting", setting, Setting).steering
        exact = flag("exact", exact)
        steer(self, exact=exact, adapters=acting.adapters, control=acting.control)

    # The cache.

    @property
    def tokens(self) -> NDArray[np.int32]:
        """The tokens the cache holds in sequence 0."""
        return np.array(self._cache.sequences[0].text.tokens, np.int32)

    @property
    def sequences(self) -> Mapping[int, NDArray[np.int32]]:
        """The tokens of each sequence in the cache, int32 of shape (n,), by its id; read-only.

        A recurrent model that is stopped while it decodes loses every state. Sequences that you
        keep still have their tokens then, which are decoded again when they are next needed.
        """
        return cells.sequences(self)

    @property
    def n_cells(self) -> int:
        """Cells of the cache in use: a token that sequences share takes one, not one for each."""
        return self._cache.sequences.n_cells

    @property
    def memory(self) -> Memory:
        """What the session and its model take of the memory, and what of its cache is in use now.

            session.memory.kv_bytes                  # of all cells
            session.memory.sequences[0]              # of those that sequence 0 alone holds
            session.memory.to_pandas()               # by kind and device

        The buffers are as they were when it was opened: that of the output grows later where the
        logits of many tokens are read at once (to 64 MiB), and those of LoRA adapters are not
        among them.

        Raises:
            ClosedError: the session was closed.
            ModelLoadError: llama.cpp's log, which has the sizes, was not heard.
        """
        return cells.memory(self)

    @property
    def ledger(self) -> Ledger:
        """What was decoded, and what was not, since the session was opened."""
        return self._cache.ledger

    @property
    def n_decoded(self) -> int:
        """How many tokens were decoded since the session was opened."""
        return self._cache.n_decoded

    @property
    def n_threads(self) -> int:
        """How many threads decode."""
        return int(self.settings["n_threads"])

    def fork(self, sequence: int = 0, *, n_tokens: int | None = None) -> int:
        """A new sequence that begins like another one; its id.

        They share the cells of what they have in common, and nothing is decoded. Where a cache
        cannot share (kv_unified=False) or cannot be cut (a recurrent model, at another place
        than its end), the tokens are decoded again, and `session.ledger` says so.

        Args:
            sequence: the one to begin like.
            n_tokens: how many of its tokens; None is all of them.

        Raises:
            ValueError: there is no such sequence, or it has fewer tokens.
            SessionError: n_seq_max sequences are in use.
            ContextFull: tokens must be decoded again, and do not fit beside the other sequence.
        """
        return cells.fork(self, sequence, n_tokens)

    def rewind(self, n_tokens: int, *, sequence: int = 0) -> None:
        """Let a sequence keep its first tokens and forget the rest.

        A recurrent model cannot forget a tail: its tokens are decoded again then.

        Raises:
            ValueError: there is no such sequence, or it has fewer tokens.
        """
        cells.rewind(self, sequence, n_tokens)

    def remove(self, sequence: int) -> None:
        """Forget a sequence; its id may be given again. Sequence 0 becomes empty.

        Raises:
            ValueError: there is no such sequence.
        """
        cells.remove(self, sequence)

    def reset(self) -> None:
        """Empty the cache: no sequence but 0 is left."""
        self._do_with_cells(self._cache.forget)

    def give_way(self) -> None:
        """Let generation wait for a moment before its next token: a person is moving something.

        For a kernel, a server and a browser that must follow a hand on one machine. It does
        nothing where decoding leaves them two cores, and costs at most 0.1 s a token.
        """
        if self.n_threads > (os.cpu_count() or 1) - 2:
            self._cache.pause_until = monotonic() + PAUSE

    # Files.

    def save(self, path: str | Path, tree: Tree | None = None) -> SavedSession:
        """Write what the session holds into one file, which `Session.load` opens again.

        That is: the tokens of every sequence and their cells of the cache, the settings, the
        adapters (by their paths) and the control vector in force, the last trace with its seed
        and chain (its kept rows of logits stay out), and a Tree. A file of
        that name is replaced when the new one is complete on the disk, and not before. It waits
        for what the session is generating.

        Args:
            path: where to; ".safetensors" is the usual ending.
            tree: a Tree to keep with it; None is `session.tree`.

        Raises:
            SessionNotSaved: the disk is full, or the place cannot be written to. An older file
                of that name is as it was.
            ValueError: a chain in the tree has a Custom stage, whose function is no value.
            ClosedError: the session was closed.
        """
        return file.save(self, path, tree)

    @classmethod
    def load(
        cls: type[S],
        path: str | Path,
        model: Model,
        *,
        adapters: Mapping[LoraAdapter, float] | None = None,
        **settings: Any,
    ) -> S:
        """Open a session as it was saved: nothing is decoded, and `generate` goes on from there.

        `session.last_trace`, `session.tree` and `session.saved` (size and time) are set.

        With kv_unified=False, or all sequences but one in use, a cache with a sliding window can
        be rewound no further than the window afterwards; what is before it is decoded again.

        Args:
            path: a file that `save` wrote.
            model: the model it was saved with, wherever its file is now.
            adapters: those to be in force, in place of those that were, as where a file of one
                has moved. What the cache holds serves if they are the same.
            settings: those of `model.session` that shall differ: n_threads, n_batch and n_ubatch
                may, and n_ctx and n_seq_max may be larger. The threads are not those of the saved
                one, which may have been on another machine.

        Raises:
            SessionMismatch: the model is another one, or a setting cannot be that.
            SessionFileError: there is no such file, or it was cut off or altered; llama.cpp has
                not seen any of it then. Or there is not enough memory for its n_ctx, or an adapter
                that was in force is gone.
            ValueError: one of `settings` is out of range.
        """
        return file.load(cls, path, model, adapters, settings)

    def reloaded(
        self: S,
        *,
        progress: bool | Callable[[float], bool | None] | None = None,
        **options: Any,
    ) -> S:
        """The model loaded again with other options, and a session on it that holds what this does.

            again = session.reloaded(n_gpu_layers=20, progress=True)
            session.model.close()

        Settings, sequences, adapters, control vector, last trace and tree are those of this one,
        and nothing is decoded: the cells of the cache are copied. Where the model would compute
        them in another way, on another device, they serve what goes on from them, and what is asked
        for anew is decoded anew. It waits for what this session is generating; `on_start` watches
        and conversations stay with this one.

        This session and its model stay open, whatever goes wrong. Until you close them both are in
        memory, the weights too where they are not used from the file (mmap). Where that is too
        much, `save` it, close its model, load that anew and open the file with `Session.load`.

        Args:
            progress: as for `Model.load`.
            options: those of `Model.load` that shall differ, as for `model.reloaded`.

        Raises:
            SessionError: the new session does not take this one's cache.
            ValueError: an option is out of range, or a second session does not fit in memory.
            ClosedError: the session was closed. What else `model.reloaded` raises.
        """
        return reloaded(self, progress, options)

    def stop(self) -> None:
        """Stop whatever is at work, from any thread; hidden states that are read, too."""
        super().stop()
        for work in list(self._aside):
            work.stop()

    def __repr__(self) -> str:
        if self.closed:
            return f"<Session of {self.model.name}: closed>"
        used = self.n_cells
        return f"<Session of {self.model.name}: {used} of {self.n_ctx} tokens cached, open>"

    # For the modules beside this one.

    @contextmanager
    def _stops_too(self, work: Work[Any]) -> Iterator[None]:
        """Meanwhile `stop` ends a work that another worker does for the session, too."""
        self._aside[work] = None
        try:
            yield
        finally:
            del self._aside[work]

    def _launch(self, run: Run) -> Run:
        """Tell the watchers of a Run, then queue it.

        Whoever waits for it writes that out, as a token's way shall stay short: see `loop`.
        """
        self.must_be_open()
        self.run, self.last_trace = run, run.trace  # a Custom stage of it may ask for them
        self._runs[run] = None
        run._lane.told_by = get_ident()
        with run._lane.stopped_on_error():
            for watch in list(self._watchers):
                call_logged(watch, run)
            self._worker.submit(run._lane)
        return run

    def _launch_many(self, runs: Runs) -> Runs:
        self.must_be_open()
        self.last_traces = runs.traces
        runs._lanes.submit_to(self._worker)
        return runs

    def _do_with_cells(self, do: Callable[[], T], sequence: int | None = None) -> T:
        """Do something with a sequence, or with all of the cache, when it is not at work."""
        self.must_be_open()
        job = SequenceJob(do, self, sequence=sequence)
        self._worker.submit(job)
        return job.result_or_stop()
