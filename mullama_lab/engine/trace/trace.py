"""Trace: the steps of one generation, as arrays that grow.

A Trace is a record, not a handle: it owns no native memory and outlives its session. The thread
that generates appends; others may read at any time and see whole steps only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.options import exact, whole
from mullama_lab.engine.setting import Setting
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.stages.schedule import Schedule
from mullama_lab.engine.steering.steering import Steering
from mullama_lab.engine.trace import file, parts, values
from mullama_lab.engine.trace.columns import COLUMNS, NARROW, WIDE, StepColumns
from mullama_lab.engine.trace.facts import FACTS
from mullama_lab.engine.trace.parts import InForce, TraceParts
from mullama_lab.engine.trace.record import StepRecord
from mullama_lab.engine.trace.stale import stale_spans, stale_words
from mullama_lab.engine.trace.step import Step
from mullama_lab.engine.trace.step_table import StepTable
from mullama_lab.engine.trace.step_texts import decoded
from mullama_lab.engine.trace.token_pieces import TokenPieces
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    import pandas

    from mullama_lab.engine.chat.tools import ToolCall
    from mullama_lab.engine.model import Model

_SHOWN_IN_STEP = tuple(name for name in NARROW if name in Step.__slots__)


class Trace(StepColumns, Sequence[Step]):
    """The steps of one generation, or of one scored text, and how each came about.

    Each per-token array is a property with one entry a step: `tokens`, `logprob` (nats, before
    the chain), `logprob_after`, `rank` (0 is the model's first choice), `entropy` (nats),
    `logsumexp`, `top_ids` and `top_logprobs` (n, top), `after_ids` and `after_logprobs`, `n_kept`
    (n, stages), the times `decode_ns`, `sample_ns`, `constraint_ns`, `capture_ns` and `wall_ns`,
    and `forced`; `help(Trace.rank)` says more of one. `trace[3]` is a Step, `trace[2:5]` a shorter
    Trace.

    Args:
        prompt_tokens: the token ids before the first step.
        top: how many of the likeliest tokens are listed of each step.
        piece: gives the bytes of a token; the model's own.
        model_name: the model's source: what `Model.load` takes.
        model_id: the model's `id`, which tells models of one name apart; "" where it is not known.

    Attributes:
        finish_reason: how it ended: length, eog (the model ended it), stop, complete (as a
            grammar's `stop` says), stopped (on request), context (full), scored, explored or
            failed; "" while it runs; "cut" of a part that ends before the last step: `trace[:n]`.
        model_options, session_options: `options` of the model and of the session that made it.
    """

    finish_reason: str

    def __init__(
        self,
        *,
        prompt_tokens: Sequence[int] | NDArray[np.int32] = (),
        chain: Chain | None = None,
        seed: int | None = None,
        top: int = 64,
        piece: Callable[[int], bytes] | None = None,
        model_name: str = "",
        model_id: str = "",
    ) -> None:
        self.model_name = model_name
        self.model_id = model_id
        self.model_options: Mapping[str, Any] = {}
        self.session_options: Mapping[str, Any] = {}
        self.prompt_tokens = exact("prompt_tokens", prompt_tokens, np.int32).copy()
        self.prompt_tokens.flags.writeable = False
        self.chains: list[tuple[int, Chain]] = [(0, chain if chain is not None else Chain())]
        self.in_force = [(0, InForce(Steering()))]  # on the weights, from which step on
        self.seed = seed
        self.top = top
        self.finish_reason = ""
        self.first_step = 0  # of a part of a trace: where in the whole it begins
        self.n_copied = 0  # steps at the beginning that another trace's generation made
        self.captured_aside = True  # a step was recorded while the next one was decoded
        self.n_prompt_decoded = 0
        self.n_prompt_reused = 0
        self.prompt_seconds = 0.0
        self.seconds_to_first_token: float | None = None
        self.seconds = 0.0
        self._steps = StepTable(top)
        self._token_pieces = TokenPieces(piece)

    # Growing: only the generating thread calls these.

    def append(self, record: StepRecord) -> None:
        """Add one step."""
        self._steps.append(record)

    def change_chain(self, chain: Chain) -> None:
        """Say that the steps from here on are made with another chain."""
        self.chains = parts.changed(self.chains, len(self), chain)

    def change_weights(self, steering: Steering, *, stale: bool = False) -> None:
        """Say what acts on the weights from the next step on, and what `Trace.stale` says."""
        self.in_force = parts.changed(self.in_force, len(self), InForce(steering, stale))

    def end_text(self, n_bytes: int | None) -> None:
        """Say that the text ends after this many bytes, for now or for good.

        There a stop string begins, or what may become one. None: it ends with the newest step.
        """
        self._steps.texts.end_at(n_bytes)

    # Reading.

    def column(self, name: str) -> NDArray[Any]:
        """The array with a name: `trace.column("rank")` is `trace.rank`."""
        if not isinstance(name, str) or name not in COLUMNS:
            raise ValueError(f"a Trace has no column {brief(name)}. It has {', '.join(COLUMNS)}.")
        return self._steps.column(name)

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def tokens(self) -> NDArray[np.int32]:
        """The token ids, int32 of shape (n,)."""
        return self.token

    @property
    def n_kept(self) -> NDArray[np.int32]:
        """Candidates left by each stage, shape (n, stages); -1 where a chain had fewer stages."""
        return self._steps.n_kept

    @property
    def pieces(self) -> list[bytes]:
        """The bytes of each step's token."""
        return self._steps.pieces

    @property
    def chain(self) -> Chain:
        """The chain in force at the end."""
        return self.chains[-1][1]

    @property
    def schedule(self) -> Schedule:
        """The chains by the step from which each was in force: what `session.generate` takes."""
        n = max(1, len(self))
        return Schedule(entry for entry in self.chains if entry[0] < n)

    def chain_at(self, step: int) -> Chain:
        """The chain that chose the token of a step."""
        return parts.value_at(self.chains, step)

    @property
    def settings(self) -> list[tuple[int, Setting]]:
        """What was in force, as (the step from which it was, a Setting); the first is step 0.

        The Settings as a dict are what `session.generate` takes: `dict(trace.settings)`.
        """
        n = max(1, len(self))
        acting = [(0, self.in_force[0][1].steering)]
        for first, one in self.in_force:
            acting = parts.changed(acting, first, one.steering)
        firsts = sorted({first for first, _ in (*self.chains, *acting) if first < n})
        return [(first, self.setting_at(first)) for first in firsts]

    @property
    def setting(self) -> Setting:
        """The Setting that was in force at the first step."""
        return self.setting_at(0)

    def setting_at(self, step: int) -> Setting:
        """The Setting that was in force at a step: its chain, and what acted on the weights."""
        acting = parts.value_at(self.in_force, step).steering
        return Setting(self.chain_at(step), acting.adapters, acting.control)

    @property
    def stale(self) -> NDArray[np.bool_]:
        """Whether other weights computed what was before a step, bool of shape (n,).

        So it is where adapters or a control vector were changed while the text was generated: it
        goes on over what the cache held. Of an old file, where it does not say which weights.
        """
        stale = np.zeros(len(self), bool)
        for start, stop in stale_spans(self):
            stale[start:stop] = True
        return stale

    @property
    def text_bytes(self) -> bytes:
        """The generated bytes, without control tokens and without a stop string."""
        return self._steps.texts.joined(len(self))

    @property
    def text(self) -> str:
        """The generated text: that of its steps, joined.

        Left out are control tokens, a stop string, and a character that is incomplete at the
        end. While it runs, also what a stop string may begin with: it takes nothing back.
        """
        return decoded(self.text_bytes)

    @property
    def parsed(self) -> Any:
        """The value of the text, where a grammar made of a JSON Schema or a class was in force.

        Where the grammar began after a marker, as `Constrain(grammar, after="</think>")`, it is the
        value of what comes after that.

        That is what `grammar.parse(trace.text)` gives: JSON, or an instance of the class. None
        while the text is not complete, and where no such grammar was; `parse` says why.

            pd.DataFrame([t.parsed for t in traces if t.parsed is not None])

        Raises:
            TypeError: the grammar is of a class, which the file that the trace was read from has
                not. `Grammar.of(Person).parse(trace.text)` gives it again.
        """
        return values.value_of(self)

    @property
    def parsed_so_far(self) -> Any:
        """The JSON that there is so far, for a view of a run's progress: `run.trace.parsed_so_far`.

        An object has the properties that have begun, and a string its beginning. None while
        nothing has, and where the text is no JSON.
        """
        return values.value_so_far(self)

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The calls that a model wrote in a chat with tools: ToolCalls, with name and arguments.

        They are there once each is at its end. Of a trace that was read from a file they say what
        was called, and cannot be run.
        """
        return values.tool_calls(self)

    @property
    def message(self) -> dict[str, Any]:
        """The text, and the calls, as a message of the assistant for the next `session.chat`.

        messages += [trace.message] + [call.answer() for call in trace.tool_calls]
        """
        return values.message(self)

    @property
    def step_bytes(self) -> list[bytes]:
        """The bytes of each step, a stop string among them; none of a control token."""
        return self._steps.texts.parts[: len(self)]

    @property
    def n_settled(self) -> int:
        """How many steps have a text that no later step can change; all, once it has ended."""
        n = len(self)
        return n if self.finish_reason else self._steps.texts.n_settled(n)

    @property
    def tokens_per_second(self) -> float:
        """Tokens by the seconds after the first that was drawn; 0 for fewer than two."""
        spent = self.seconds - (self.seconds_to_first_token or 0.0)
        n = len(self) - self.n_copied
        return (n - 1) / spent if n > 1 and spent > 0 else 0.0

    @property
    def n_decodes_saved(self) -> int:
        """How many decodes fewer it took, as tokens that a grammar forced were decoded together.

        With `Constrain(grammar, fast_forward=True)`; a token that is the last needs no decode.
        """
        return int(np.count_nonzero(self.ahead[self.n_copied : -1]))

    def piece(self, token: int) -> bytes:
        """The bytes of any token this trace names; "<id>" if its model is gone."""
        token = whole("token", token, -(2**31), 2**31 - 1)
        return self._token_pieces.of(token)

    def remember_pieces(self) -> None:
        """Take the bytes of every token that it names from the model.

        Done at the end of a generation: a trace outlives its model.
        """
        self._token_pieces.remember(self._parts().named_tokens())

    def history(self, step: int) -> NDArray[np.int32]:
        """The token ids before a step, prompt included."""
        step = whole("step", step, -(2**31), 2**31)
        return np.concatenate([self.prompt_tokens, self.tokens[:step]])

    def must_be_of(self, model: Model) -> None:
        """Refuse a trace that another model made, as far as its tokens tell.

        Raises:
            ValueError: a token is not in the model's vocabulary, or is another text there.
        """
        if not hasattr(model, "n_vocab"):
            raise TypeError(f"model={brief(model)}: it must be a Model.")
        n = len(self)
        tokens = self.history(n)
        fits = bool(np.all((tokens >= 0) & (tokens < model.n_vocab)))
        if not fits or any(
            model.piece(int(token)) != piece
            for token, piece in zip(self.tokens[:n], self.pieces, strict=False)
        ):
            raise ValueError(
                f"the trace was made with another vocabulary than that of {model.name}. "
                f"Load the model that made it: {self.model_name!r}."
            )

    def state(self, step: int) -> tuple[tuple[float, ...], ...]:
        """What each stage had learnt before a step: mirostat's mu, adaptive-p's averages."""
        return self._steps.state(self._place(step))

    def n_kept_at(self, step: int) -> tuple[int, ...]:
        """Candidates left by each stage at one step."""
        return self._steps.n_kept_at(self._place(step))

    def kept(self, step: int) -> tuple[NDArray[np.int32], NDArray[np.float32]] | None:
        """The likeliest candidates of a step's row as (ids, logits), in order of id.

        At least 4096 of them (all of a smaller vocabulary); None past the memory budget.
        """
        return self._steps.row(self._place(step))

    def _place(self, step: int) -> int:
        step = whole("step", step, -(2**63), 2**63 - 1)
        n = len(self)
        try:
            return range(n)[step]
        except IndexError:
            there = f"it has steps 0 to {n - 1}" if n else "it has no steps"
            raise IndexError(f"there is no step {brief(step)} in the trace: {there}.") from None

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> Trace: ...
    def __getitem__(self, index: int | slice) -> Step | Trace:
        if isinstance(index, slice):
            return self._of_parts(self._parts().sliced(index))
        i, steps = self._place(index), self._steps
        top = self._listed("top", i)
        return Step(
            index=i,
            piece=steps.piece(i),
            text=steps.texts.of(i),
            top=top,
            after=self._listed("after", i),
            remaining_mass=max(0.0, 1.0 - float(np.exp([x[2] for x in top]).sum())),
            n_kept=steps.n_kept_at(i),
            chain=self.chain_at(i),
            **steps.values(i, _SHOWN_IN_STEP),
        )

    def _listed(self, which: str, i: int) -> tuple[tuple[int, bytes, float], ...]:
        """(token, piece, log-probability) of a step's likeliest, "top" or "after" the chain."""
        ids, logprobs = (self._steps.column(f"{which}_{x}")[i] for x in ("ids", "logprobs"))
        pairs = zip(ids.tolist(), logprobs.tolist(), strict=True)
        return tuple((token, self.piece(token), x) for token, x in pairs if token >= 0)

    def begun(
        self, n: int, *, top: int, seed: int | None, piece: Callable[[int], bytes] | None
    ) -> Trace:
        """A trace that can grow, with the first n steps of this one; kept rows are shared."""
        return self._of_parts(self._parts().begun(n, top=top, seed=seed, piece=piece))

    def _parts(self) -> TraceParts:
        return TraceParts(
            model_name=self.model_name,
            prompt_tokens=self.prompt_tokens,
            seed=self.seed,
            chains=self.chains,
            in_force=self.in_force,
            steps=self._steps,
            pieces=self._token_pieces,
            facts={name: getattr(self, name) for name in FACTS},
        )

    @classmethod
    def _of_parts(cls, made: TraceParts) -> Trace:
        trace = cls(
            prompt_tokens=made.prompt_tokens,
            seed=made.seed,
            top=made.steps.top,
            model_name=made.model_name,
        )
        trace.chains, trace.in_force = made.chains, made.in_force
        trace._steps, trace._token_pieces = made.steps, made.pieces
        for name, value in made.facts.items():
            setattr(trace, name, value)
        return trace

    # Out and in again.

    def columns(self) -> dict[str, NDArray[Any]]:
        """All per-token arrays by name; pieces, `stale` and survivors by stage included."""
        if not self.finish_reason:
            return self._at_rest().columns()
        pieces = np.empty(len(self), object)
        pieces[:] = self.pieces
        arrays = {name: self._steps.column(name) for name in (*NARROW, *WIDE)}
        return {"piece": pieces, **arrays, "stale": self.stale, "n_kept": self.n_kept}

    def _at_rest(self) -> Trace:
        """A copy of what there is now; its finish reason says that it does not grow."""
        copy = self[:]
        copy.finish_reason = "running"
        return copy

    def to_pandas(self) -> pandas.DataFrame:
        """A table with one row a token, of the same columns whatever the text; needs pandas.

        Only how many `kept_` there are depends on the chain: one a stage.
        """
        import pandas as pd

        columns = self.columns()
        table = pd.DataFrame({n: a for n, a in columns.items() if a.ndim == 1})
        table["piece"] = [p.decode("utf-8", "replace") for p in columns["piece"]]
        for place, kept in enumerate(columns["n_kept"].T):
            table[f"kept_{place}"] = kept
        table.index.name = "step"
        return table

    def to_dict(self) -> dict[str, Any]:
        """Plain values that survive JSON; `Trace.from_dict` reads them. Kept rows stay out."""
        if not self.finish_reason:
            return {**self._at_rest().to_dict(), "finish_reason": ""}
        return file.packed(self._parts())

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, pieces: TokenPieces | None = None) -> Trace:
        """The trace a dict describes.

        Args:
            pieces: the bytes of tokens, where several traces share them; by default the dict's.

        Raises:
            ValueError: the dict is not one that `to_dict` made.
        """
        made = file.unpacked(data)
        if pieces is not None:
            made.pieces = pieces
        return cls._of_parts(made)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Trace):
            return NotImplemented
        ours, theirs = self._parts(), other._parts()
        same_chains = ours.chains == theirs.chains
        return same_chains and (
            file.packed_without_chains(ours) == file.packed_without_chains(theirs)
        )

    def __getstate__(self) -> dict[str, Any]:
        self.remember_pieces()
        return vars(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.prompt_tokens.flags.writeable = False  # which a pickle forgets

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        text = self.text
        shown = text if len(text) <= 60 else text[:59] + "…"
        said = [counted(len(self), "token"), self.finish_reason or "running", stale_words(self)]
        return f"Trace({', '.join(filter(None, said))}: {shown!r})"
