"""What an adapter or a control vector makes of texts at several strengths: given, and generated."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.loop.spread import Prompt
from mullama_lab.engine.options import MAX_SEED, instance, whole
from mullama_lab.engine.session import Session
from mullama_lab.engine.setting import Setting
from mullama_lab.engine.stages import Chain, Stage
from mullama_lab.engine.steering.control_vector import ControlVector
from mullama_lab.engine.steering.lora import LoraAdapter
from mullama_lab.engine.steering.steering import LoraOrVector
from mullama_lab.engine.trace import Trace
from mullama_lab.studies._given_text import GivenText
from mullama_lab.studies._together import Bar, listed_strengths, wait_for
from mullama_lab.studies.effect.by_token import Effect, compared

if TYPE_CHECKING:
    import pandas

BREAKS = 4.0  # times the perplexity of the plain text, from which a text is called broken


@dataclass(frozen=True, eq=False)
class Strengths:
    """A lever at several strengths, over one given text.

    Attributes:
        lever: the control vector or the adapter.
        strengths: in the order given, float64 of shape (k,).
        effects: one Effect for each; all are compared with the lever at 0.
    """

    lever: LoraOrVector
    strengths: NDArray[np.float64]
    effects: tuple[Effect, ...]

    @property
    def kl(self) -> NDArray[np.float64]:
        """Strength by token, in nats: float64 of shape (k, n)."""
        return np.stack([one.kl for one in self.effects])

    def __len__(self) -> int:
        return len(self.effects)

    def to_pandas(self) -> pandas.DataFrame:
        """One row for each token at each strength; needs pandas."""
        import pandas as pd

        tables = [one.to_pandas() for one in self.effects]
        return pd.concat(tables, keys=self.strengths, names=["strength"]).reset_index()

    def __repr__(self) -> str:
        ends = f"{self.strengths.min():g} to {self.strengths.max():g}"
        tokens = counted(len(self.effects[0]), "token")
        return f"<Strengths of {self.lever!r}: {len(self)} from {ends}, over {tokens}>"


def strengths(
    session: Session,
    text: Prompt,
    lever: LoraOrVector,
    values: Iterable[float],
    *,
    given: Prompt | None = None,
    progress: bool = True,
) -> Strengths:
    """The effect of a control vector or an adapter on a text at several strengths.

        found = ml.studies.effect.strengths(session, "It was a fine day.", happy, [-2, -1, 1, 2])
        ml.plots.strengths(found)  # strength by token

    What else is in force in the session stays; a control vector takes the place of another.

    Args:
        lever: a vector, or an adapter.
        values: what the vector is multiplied by, or the scales of the adapter.
        given: the prompt before the text, as in `session.score`.
        progress: show a bar if it takes longer than two seconds.

    Raises:
        ValueError: no strength is given, or as `effect`.
        ContextFull: the text does not fit.
    """
    numbers, at = listed_strengths(values), _settings(session, lever)
    shown = GivenText.of(session, text, given)
    with Bar("strengths", len(numbers) + 1, " strengths", shown=progress) as bar:
        effects = compared(shown, at(0.0), [at(one) for one in numbers], bar)
    return Strengths(lever, np.array(numbers), tuple(effects))


@dataclass(frozen=True, eq=False)
class Steered:
    """Texts that were generated at several strengths with the same draws.

    A perplexity is that of the model without the lever, on the text that was generated with it:
    exp of the mean of -ln p over its tokens. A text is called broken where that is more than four
    times the perplexity of the text at strength 0. A text that repeats itself has a low one, so
    read them too.

    Attributes:
        lever: the control vector or the adapter.
        strengths: float64 of shape (k,).
        traces: what was generated at each.
        perplexity: float64 of shape (k,); NaN of a text without a token.
        plain: the trace at strength 0, and `plain_perplexity` its own.
    """

    lever: LoraOrVector
    strengths: NDArray[np.float64]
    traces: tuple[Trace, ...]
    perplexity: NDArray[np.float64]
    plain: Trace
    plain_perplexity: float

    @property
    def breaks(self) -> NDArray[np.bool_]:
        """Whether each text is broken."""
        return self.perplexity > BREAKS * self.plain_perplexity

    def __len__(self) -> int:
        return len(self.traces)

    def to_pandas(self) -> pandas.DataFrame:
        """One row a strength; needs pandas."""
        import pandas as pd

        columns = {
            "strength": self.strengths,
            "perplexity": self.perplexity,
            "breaks": self.breaks,
            "n_tokens": [len(trace) for trace in self.traces],
            "text": [trace.text for trace in self.traces],
        }
        return pd.DataFrame(columns)

    def __repr__(self) -> str:
        whole = self.strengths[~self.breaks]
        last = f"whole from {whole.min():g} to {whole.max():g}" if len(whole) else "all broken"
        return f"<Steered by {self.lever!r}: {len(self)} texts, {last}>"


def steered(
    session: Session,
    prompt: Prompt,
    lever: LoraOrVector,
    values: Iterable[float],
    *,
    chain: Chain | Stage | None = None,
    seed: int = 0,
    max_tokens: int = 64,
    progress: bool = True,
) -> Steered:
    """Generate at several strengths, and see where the text breaks.

        found = ml.studies.effect.steered(session, "My day was", happy, [0.5, 1, 2, 4, 8])
        found.to_pandas()

    All have the same draws, so that what differs is caused by the strength. What else is in force
    in the session stays; a control vector takes the place of another.

    Args:
        lever: a vector, or an adapter.
        values: what the vector is multiplied by, or the scales of the adapter.
        chain, seed, max_tokens: as in `session.generate`.
        progress: show a bar if it takes longer than two seconds.

    Raises:
        ValueError: no strength is given, or as `effect`. What `generate_many` raises, this does.
    """
    numbers, at = listed_strengths(values), _settings(session, lever, chain)
    seed = whole("seed", seed, 0, MAX_SEED)
    settings = [at(one) for one in (0.0, *numbers)]
    with Bar("steered", len(settings) * max_tokens, " tokens", shown=progress) as bar:
        runs = session.start_many(prompt, settings, seeds=seed, max_tokens=max_tokens)
        traces = wait_for(runs, max_tokens, bar)
    runs.wait()  # which raises what made one fail
    perplexities = [_perplexity(session, trace, settings[0]) for trace in traces]
    return Steered(
        lever,
        np.array(numbers),
        tuple(traces[1:]),
        np.array(perplexities[1:]),
        traces[0],
        perplexities[0],
    )


def _settings(
    session: Session, lever: LoraOrVector, chain: Chain | Stage | None = None
) -> Callable[[float], Setting]:
    """The Setting of a lever at a strength, beside what else is in force."""
    instance("session", session, Session)
    adapters, control = session.adapters, session.control
    if isinstance(lever, ControlVector):
        return lambda strength: Setting(chain, adapters, strength * lever)
    instance("a lever", lever, LoraAdapter, " Give that or a ControlVector.")
    return lambda strength: Setting(chain, {**adapters, lever: strength}, control)


def _perplexity(session: Session, trace: Trace, base: Setting) -> float:
    """Of a generated text, to the model that `base` makes."""
    if not len(trace):
        return float("nan")
    _, logprobs = GivenText.of_trace(trace, session).seen(base, lambda step, logs: None)
    return float(np.exp(-logprobs.mean()))
