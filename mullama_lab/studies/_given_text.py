"""A text that is shown to several Settings: the rows of each in one batch, and their noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.loop.spread import Prompt
from mullama_lab.engine.memory.machine import total_and_free
from mullama_lab.engine.native import Logits
from mullama_lab.engine.noise_floor import (
    NoiseFloor,
    floor_above,
    highest,
    known_floor,
    log_softmax,
    row_differences,
)
from mullama_lab.engine.options import instance
from mullama_lab.engine.rows.capture import must_be_sound
from mullama_lab.engine.session import Session
from mullama_lab.engine.session.scoring import split
from mullama_lab.engine.setting import Setting
from mullama_lab.engine.trace import Trace

N_ALONE = 5  # rows that are decoded one by one too, to see the noise

LogProbs = NDArray[np.floating[Any]]  # of every token of the vocabulary, nats: (n_vocab,)
Seen = tuple[NDArray[np.int32], NDArray[np.float64]]  # likeliest tokens, logprobs of the text's own


@dataclass(frozen=True)
class GivenText:
    """A prompt, and the tokens after it that are looked at, at least one."""

    session: Session
    prompt: list[int]
    tokens: list[int]

    @classmethod
    def of(cls, session: Session, text: Prompt, given: Prompt | None) -> GivenText:
        """ValueError: there is no token to look at."""
        prompt, tokens = split(session, text, given)
        if not tokens:
            raise ValueError(
                "there is no token to look at: the first one is only what comes before. "
                "Give a longer text, or a prompt as `given`."
            )
        return cls(session, prompt, tokens)

    @classmethod
    def of_trace(cls, trace: Trace, session: Session) -> GivenText:
        """The steps that a trace has now; ValueError: it has none, or another vocabulary."""
        instance("trace", trace, Trace)
        instance("on", session, Session)
        trace.must_be_of(session.model)
        tokens = trace.tokens.tolist()
        if not tokens:
            raise ValueError("the trace has no steps: generate some tokens first.")
        return cls(session, trace.prompt_tokens.tolist(), tokens)

    def seen(
        self,
        setting: Setting,
        look: Callable[[int, NDArray[np.float64]], object],
        *,
        part: tuple[int, int] | None = None,
        before: Setting | None = None,
        tail: dict[int, LogProbs] | None = None,
    ) -> Seen:
        """What a Setting says at each token; `look(step, logprobs)` is given each whole row.

        Args:
            part: the steps that are looked at, from the first to before the second; None is all.
            before: whose weights compute what is before them; None is the same.
            tail: takes the rows of the last `N_ALONE` of them, by step.

        Raises:
            DecodeError: a row has a NaN, an infinity or a huge number.
        """
        start, stop = (0, len(self.tokens)) if part is None else part
        first = len(self.prompt) - 1 + start
        best, logprobs = np.zeros(stop - start, np.int32), np.zeros(stop - start)

        def see(place: int, row: Logits) -> None:
            must_be_sound(row)
            i, logs = place - first, log_softmax(row)
            best[i], logprobs[i] = logs.argmax(), logs[self.tokens[start + i]]
            look(start + i, logs)
            if tail is not None and start + i >= stop - N_ALONE:
                tail[start + i] = logs

        tokens = [*self.prompt, *self.tokens[: stop - 1]]
        self.session.visit_rows(tokens, first, see, setting=setting, before=before)
        return best, logprobs

    def floor(
        self,
        setting: Setting,
        rows: Mapping[int, LogProbs] | NDArray[np.float32],
        part: tuple[int, int] | None = None,
    ) -> NoiseFloor | None:
        """What differences of such rows mean nothing.

        It is what is known for the model, unless adapters act, whose products are noisier than the
        model itself; or else what is seen here: some rows are decoded one by one too, as those of a
        generation are, after one batch of what is before them. None where neither is known, and one
        token is all that is looked at.

        Args:
            rows: what `setting` says, by step: those of the last `N_ALONE` of the part.
        """
        known = known_floor(self.session.model)
        start, stop = (0, len(self.tokens)) if part is None else part
        if stop - start < 2 or (known is not None and not setting.steering.acting):
            return known
        seen: list[dict[str, float]] = []
        largest = 0.0
        for step in range(max(start, stop - N_ALONE), stop):

            def see(_: int, logs: NDArray[np.float64], row: LogProbs = rows[step]) -> None:
                seen.append(row_differences(row, logs))

            self.seen(setting, see, part=(step, step + 1))
            finite = np.isfinite(rows[step])
            largest = max(largest, float(np.abs(rows[step][finite]).max()))
        found = floor_above(seen, largest)
        return found if known is None else highest([known, found])

    def room(self) -> NDArray[np.float32]:
        """Room for a row of each token; ValueError where that does not fit in memory."""
        shape = (len(self.tokens), self.session.model.n_vocab)
        size, (_, free) = 4 * shape[0] * shape[1], total_and_free()
        if size > free:
            raise ValueError(
                f"the rows of {shape[0]} tokens take {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB "
                "are free. Give a shorter text."
            )
        return np.empty(shape, np.float32)
