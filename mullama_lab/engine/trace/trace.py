"""Trace: the steps of one generation, as arrays that grow.

A Trace is a record, not a handle: it owns no native memory and outlives its session. The thread
that generates appends; others may read at any time and see whole steps only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.options import MAX_STEP, exact, whole
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.stages.schedule import Schedule
from mullama_lab.engine.trace import arrays as trace_arrays
from mullama_lab.engine.trace import file, part
from mullama_lab.engine.trace.arrays import COLUMNS, TABLES
from mullama_lab.engine.trace.step import Facts, Step
from mullama_lab.engine.trace.step_texts import StepTexts, decoded
from mullama_lab.errors import ClosedError
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    import pandas

    from mullama_lab.engine.model import Model

ROW_BUDGET = 256 << 20  # bytes of kept candidates that one trace holds at most


class Trace(Sequence[Step]):
    """The steps of one generation, or of one scored text, and how each came about.

    Each per-token array has one entry a step: `tokens`, `logprob` (nats, before the chain),
    `logprob_after`, `rank` (0 is the model's first choice), `entropy` (nats), `logsumexp`,
    `top_ids` and `top_logprobs` (n, top), `after_ids` and `after_logprobs`, `n_kept`
    (n, stages), the times `decode_ns`, `sample_ns`, `constraint_ns`, `capture_ns` (`decode_ns` is
    that of the whole batch the token's row came from, also where other texts were in it; a step
    is captured while the next token is decoded, so `capture_ns` takes no time of its own), and
    `forced`: given by a caller instead of drawn, as at the step where a branch goes off.
    `trace[3]` is a Step, `trace[2:5]` a shorter Trace. `model_name` is the model's source: what
    `Model.load` takes.
    """

    finish_reason: str  # "" while running, else length, eog, stop, stopped, context, scored, failed

    def __init__(
        self,
        *,
        prompt_tokens: Sequence[int] | NDArray[np.int32] = (),
        chain: Chain | None = None,
        seed: int | None = None,
        top: int = 64,
        piece: Callable[[int], bytes] | None = None,
        model_name: str = "",
    ) -> None:
        self.model_name = model_name
        self.prompt_tokens = exact("prompt_tokens", prompt_tokens, np.int32).copy()
        self.prompt_tokens.flags.writeable = False
        self.chains: list[tuple[int, Chain]] = [(0, chain if chain is not None else Chain())]
        self.seed = seed
        self.top = top
        self.finish_reason = ""
        self.first_step = 0  # of a part of a trace: where in the whole it begins
        self.n_copied = 0  # steps at the beginning that another trace's generation made
        self.n_prompt_decoded = 0
        self.n_prompt_reused = 0
        self.prompt_seconds = 0.0
        self.seconds_to_first_token: float | None = None
        self.seconds = 0.0
        self.pieces: list[bytes] = []
        self._texts = StepTexts()
        self._piece_of = piece
        self._known_pieces: dict[int, bytes] = {}
        self._n = 0
        self._arrays = trace_arrays.blank(16, top)
        self._n_kept: list[tuple[int, ...]] = []
        self._states: list[tuple[tuple[float, ...], ...]] = []
        self._rows: list[tuple[NDArray[np.int32], NDArray[np.float32]] | None] = []
        self._row_bytes = 0

    # Growing: only the generating thread calls these.

    def append(self, facts: Facts) -> None:
        """Add one step."""
        i, row, arrays = self._n, facts.row, self._arrays
        if i == len(arrays["token"]):
            arrays = self._arrays = trace_arrays.doubled(arrays)
        for name, value in facts.columns.items():
            arrays[name][i] = value
        n = len(row.top_ids)
        arrays["top_ids"][i, :n] = row.top_ids
        arrays["top_logprobs"][i, :n] = row.top_logits - np.float32(row.logsumexp)
        n = len(facts.after_ids)
        arrays["after_ids"][i, :n] = facts.after_ids
        arrays["after_logprobs"][i, :n] = facts.after_logprobs
        self.pieces.append(facts.piece)
        self._texts.append(facts.text)
        self._n_kept.append(facts.n_kept)
        self._states.append(facts.state)
        size = row.ids.nbytes + row.logits.nbytes
        row.ids.flags.writeable = row.logits.flags.writeable = False
        fits = self._row_bytes + size <= ROW_BUDGET
        self._rows.append((row.ids, row.logits) if fits else None)
        self._row_bytes += size if fits else 0
        self._n = i + 1

    def append_forced(
        self,
        parent: Trace,
        step: int,
        token: int,
        *,
        before: tuple[float, int],
        after: float,
        piece: bytes,
        text: bytes,
    ) -> None:
        """Add a step that is another trace's step, but for its token, which is given.

        `before` is the token's log-probability and rank before the chain, `after` its
        log-probability after it: minus infinity if the chain had removed it.
        """
        i, arrays = self._n, self._arrays
        for name in ("entropy", "logsumexp"):
            arrays[name][i] = parent._arrays[name][step]
        for name in TABLES:
            width = min(self.top, parent.top)
            arrays[name][i, :width] = parent._arrays[name][step, :width]
        arrays["token"][i], arrays["forced"][i] = token, True
        arrays["logprob"][i], arrays["rank"][i] = before
        arrays["logprob_after"][i] = after
        self.pieces.append(piece)
        self._texts.append(text)
        self._n_kept.append(parent._n_kept[step])
        self._states.append(parent._states[step])
        self._rows.append(parent._rows[step])
        self._n = self.n_copied = i + 1

    def change_chain(self, chain: Chain) -> None:
        """Say that the steps from here on are made with another chain."""
        before = [entry for entry in self.chains if entry[0] < self._n]
        if before and before[-1][1] == chain:
            return
        self.chains = [*before, (self._n, chain)]  # at once, for whoever is reading

    def end_text(self, n_bytes: int | None) -> None:
        """Say that the text ends after this many bytes, for now or for good.

        There a stop string begins, or what may become one. None: it ends with the newest step.
        """
        self._texts.end_at(n_bytes)

    # Reading.

    def __getattr__(self, name: str) -> NDArray[Any]:
        # The arrays: `trace.logprob` and its sisters, cut to the steps there are.
        if name in COLUMNS or name in TABLES:
            view = self._arrays[name][: self._n]
            view.flags.writeable = False
            return view
        raise AttributeError(f"a Trace has no {brief(name)}; its arrays are in trace.columns()")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *COLUMNS, *TABLES})

    def __len__(self) -> int:
        return self._n

    @property
    def tokens(self) -> NDArray[np.int32]:
        """The token ids, int32 of shape (n,)."""
        return self.token

    @property
    def n_kept(self) -> NDArray[np.int32]:
        """Candidates left by each stage, shape (n, stages); -1 where a chain had fewer stages."""
        rows = self._n_kept[: self._n]
        width = max(map(len, rows), default=0)
        padded = [r + (-1,) * (width - len(r)) for r in rows]
        return np.array(padded, np.int32).reshape(len(rows), width)

    @property
    def chain(self) -> Chain:
        """The chain in force at the end."""
        return self.chains[-1][1]

    @property
    def schedule(self) -> Schedule:
        """The chains by the step from which each was in force: what `session.generate` takes."""
        n = max(1, self._n)
        return Schedule(entry for entry in self.chains if entry[0] < n)

    def chain_at(self, step: int) -> Chain:
        """The chain that chose the token of a step."""
        if (step := whole("step", step, -MAX_STEP, MAX_STEP)) < 0:
            raise IndexError(f"step {brief(step)}: steps count from 0.")
        return next(chain for first, chain in reversed(self.chains) if first <= step)

    @property
    def text_bytes(self) -> bytes:
        """The generated bytes, without control tokens and without a stop string."""
        return self._texts.joined(self._n)

    @property
    def text(self) -> str:
        """The generated text: that of its steps, joined.

        Left out are control tokens, a stop string, and a character that is incomplete at the
        end. While it runs, also what a stop string may begin with: it takes nothing back.
        """
        return decoded(self.text_bytes)

    @property
    def step_bytes(self) -> list[bytes]:
        """The bytes of each step, a stop string among them; none of a control token."""
        return self._texts.parts[: self._n]

    @property
    def n_settled(self) -> int:
        """How many steps have a text that no later step can change; all, once it has ended."""
        n = self._n
        return n if self.finish_reason else self._texts.n_settled(n)

    @property
    def tokens_per_second(self) -> float:
        """Tokens by the seconds after the first that was drawn; 0 for fewer than two."""
        spent = self.seconds - (self.seconds_to_first_token or 0.0)
        n = self._n - self.n_copied
        return (n - 1) / spent if n > 1 and spent > 0 else 0.0

    def piece(self, token: int) -> bytes:
        """The bytes of any token this trace names; "<id>" if its model is gone."""
        token = whole("token", token, -(2**31), 2**31 - 1)
        if token not in self._known_pieces and self._piece_of is not None:
            with suppress(ClosedError):
                return self._piece_of(token)
        return self._known_pieces.get(token, f"<{token}>".encode())

    def remember_pieces(self) -> None:
        """Take the bytes of every token that it names from the model.

        Done at the end of a generation: a trace outlives its model.
        """
        piece = self._piece_of
        if piece is not None:
            with suppress(ClosedError):
                self._known_pieces.update((token, piece(token)) for token in self._named_tokens())

    def _named_tokens(self) -> list[int]:
        """Every token of the prompt, `tokens`, `top_ids` and `after_ids`, once and in order."""
        columns = ("prompt_tokens", "token", "top_ids", "after_ids")
        named = [np.unique(getattr(self, name)) for name in columns]
        return [token for token in np.unique(np.concatenate(named)).tolist() if token >= 0]

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
        n = self._n
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
        return self._states[self._place(step)]

    def n_kept_at(self, step: int) -> tuple[int, ...]:
        """Candidates left by each stage at one step."""
        return self._n_kept[self._place(step)]

    def kept(self, step: int) -> tuple[NDArray[np.int32], NDArray[np.float32]] | None:
        """The likeliest candidates of a step's row as (ids, logits), in order of id.

        At least 4096 of them (all of a smaller vocabulary); None past the memory budget.
        """
        return self._rows[self._place(step)]

    def _place(self, step: int) -> int:
        step = whole("step", step, -(2**63), 2**63 - 1)
        try:
            return range(self._n)[step]
        except IndexError:
            there = f"it has steps 0 to {self._n - 1}" if self._n else "it has no steps"
            raise IndexError(f"there is no step {brief(step)} in the trace: {there}.") from None

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> Trace: ...
    def __getitem__(self, index: int | slice) -> Step | Trace:
        if isinstance(index, slice):
            return part.sliced(self, index)
        i = self._place(index)
        arrays = self._arrays
        top = self._named("top", i)
        return Step(
            index=i,
            piece=self.pieces[i],
            text=self._texts.of(i),
            top=top,
            after=self._named("after", i),
            remaining_mass=max(0.0, 1.0 - float(np.exp([x[2] for x in top]).sum())),
            n_kept=self._n_kept[i],
            chain=self.chain_at(i),
            **{n: arrays[n][i].item() for n in COLUMNS if n != "logsumexp"},
        )

    def _named(self, table: str, i: int) -> tuple[tuple[int, bytes, float], ...]:
        ids, logprobs = self._arrays[f"{table}_ids"][i], self._arrays[f"{table}_logprobs"][i]
        pairs = zip(ids.tolist(), logprobs.tolist(), strict=True)
        return tuple((token, self.piece(token), x) for token, x in pairs if token >= 0)

    def begun(
        self, n: int, *, top: int, seed: int | None, piece: Callable[[int], bytes] | None
    ) -> Trace:
        """A trace that can grow, with the first n steps of this one; kept rows are shared."""
        return part.begun(self, n, top=top, seed=seed, piece=piece)

    # Out and in again.

    def columns(self) -> dict[str, NDArray[Any]]:
        """All per-token arrays by name, pieces and survivors by stage included."""
        if not self.finish_reason:
            return self._at_rest().columns()
        pieces = np.empty(self._n, object)
        pieces[:] = self.pieces[: self._n]
        arrays = {n: getattr(self, n) for n in (*COLUMNS, *TABLES)}
        return {"piece": pieces, **arrays, "n_kept": self.n_kept}

    def _at_rest(self) -> Trace:
        """A copy of what there is now; its finish reason says that it does not grow."""
        copy = self[:]
        copy.finish_reason = "running"
        return copy

    def to_pandas(self) -> pandas.DataFrame:
        """A table with one row a token; needs pandas."""
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
        return file.packed(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Trace:
        """The trace a dict describes.

        Raises:
            ValueError: the dict is not one that `to_dict` made.
        """
        return file.unpacked(data, cls)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Trace):
            return NotImplemented
        same_chains = self.chains == other.chains
        return same_chains and file.all_but_chains(self) == file.all_but_chains(other)

    def __getstate__(self) -> dict[str, Any]:
        self.remember_pieces()
        return {**vars(self), "_piece_of": None}

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        text = self.text
        shown = text if len(text) <= 60 else text[:59] + "…"
        return f"Trace({self._n} tokens, {self.finish_reason or 'running'}: {shown!r})"
