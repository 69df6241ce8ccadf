"""Effect: what adapters and control vectors make of a text, by token and by strength.

A given text is shown to both Settings, each in one batch (teacher forcing), and at each token what
the model says before the chain is compared, as `llama-perplexity --kl-divergence` compares a
quantised model with its original. So the text is the same on both sides, and what differs is caused
by what acts on the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import psutil
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.loop.spread import Prompt
from mullama_lab.engine.native import Logits
from mullama_lab.engine.noise_floor import NoiseFloor, divergence, known_floor, log_softmax
from mullama_lab.engine.options import MAX_SEED, instance, listed, whole
from mullama_lab.engine.session import Session
from mullama_lab.engine.session.scoring import split
from mullama_lab.engine.setting import Setting
from mullama_lab.engine.stages import Chain, Stage
from mullama_lab.engine.steering.control_vector import ControlVector
from mullama_lab.engine.steering.lora import LoraAdapter
from mullama_lab.engine.trace import Trace
from mullama_lab.glyphs import piece_label
from mullama_lab.studies._together import Bar, wait_for

if TYPE_CHECKING:
    import pandas

__all__ = ["Effect", "Steered", "Strengths", "effect", "staleness", "steered", "strengths"]
__dir__ = __all__.copy  # what tab completion offers

Lever: TypeAlias = ControlVector | LoraAdapter
BREAKS = 4.0  # times the perplexity of the plain text, from which a text is called broken


@dataclass(frozen=True, eq=False)
class Effect:
    """What one Setting makes of a text, beside another; arrays have one entry a token.

    Attributes:
        base, changed: the two Settings. Their chains play no part.
        tokens: the token ids of the text, int32 of shape (n,).
        kl: nats, float64: the Kullback-Leibler divergence of what `changed` says may come there
            from what `base` says.
        base_logprob, logprob: nats, float64: how likely each finds the token.
        base_best, best: the likeliest token of each, int32.
        floor: the noise that was measured for the model; None before `studies.noise`.
    """

    base: Setting
    changed: Setting
    tokens: NDArray[np.int32]
    kl: NDArray[np.float64]
    base_logprob: NDArray[np.float64]
    logprob: NDArray[np.float64]
    base_best: NDArray[np.int32]
    best: NDArray[np.int32]
    floor: NoiseFloor | None
    _pieces: Mapping[int, bytes] = field(repr=False)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def flips(self) -> NDArray[np.bool_]:
        """Where the likeliest token is another one."""
        return self.best != self.base_best

    @property
    def gain(self) -> float:
        """How much likelier the changed model finds the text, in nats; below 0, less likely."""
        return float(self.logprob.sum() - self.base_logprob.sum())

    @property
    def labels(self) -> list[str]:
        """The tokens of the text, for people."""
        return self._labels(self.tokens)

    def to_pandas(self) -> pandas.DataFrame:
        """One row a token; needs pandas."""
        import pandas as pd

        columns = {
            "token": self.tokens,
            "text": self.labels,
            "kl": self.kl,
            "base_logprob": self.base_logprob,
            "logprob": self.logprob,
            "base_best": self._labels(self.base_best),
            "best": self._labels(self.best),
            "flips": self.flips,
        }
        return pd.DataFrame(columns).rename_axis("step")

    def summary(self) -> str:
        """What it comes to, in a line."""
        most = int(self.kl.argmax())
        floor = "" if self.floor is None else f" (noise up to {self.floor.kl:.2g})"
        flips = counted(int(np.count_nonzero(self.flips)), "likeliest token")
        return (
            f"KL {self.kl.mean():.3g} nats a token{floor}, most at step {most} "
            f"{self.labels[most]!r} ({self.kl[most]:.3g}); {flips} of {len(self)} changed; "
            f"the text is {abs(self.gain):.3g} nats {'more' if self.gain >= 0 else 'less'} likely"
        )

    def __repr__(self) -> str:
        return f"<Effect over {counted(len(self), 'token')}: {self.summary()}>"

    def _labels(self, tokens: NDArray[np.int32]) -> list[str]:
        return [piece_label(self._pieces[token]) for token in tokens.tolist()]


def effect(
    session: Session,
    text: Prompt,
    changed: Setting | None = None,
    base: Setting | None = None,
    *,
    given: Prompt | None = None,
) -> Effect:
    """How what acts on the weights changes what the model says at each token of a text.

        seen = ml.studies.effect.effect(session, "It was a fine day.", ml.Setting(control=happy))
        seen.to_pandas().sort_values("kl")

    Sequence 0 holds the text afterwards, or another one where 0 was at work. Ctrl-C stops it.

    Args:
        text: a text, or token ids as they are; without a prompt its first token is only what
            comes before.
        changed: None is what is in force in the session.
        base: what it is compared with; None is the model as it is.
        given: the prompt before it, as in `session.score`.

    Raises:
        ValueError: the text has no token to look at, or its rows would not fit in memory; or a
            Setting does not fit the model.
        ContextFull: the text does not fit.
    """
    changed, base = _sides(session, changed, base)
    return _GivenText.of(session, text, given).compared(base, [changed])[0]


def staleness(
    session: Session,
    text: Prompt,
    changed: Setting | None = None,
    base: Setting | None = None,
    *,
    given: Prompt,
) -> Effect:
    """What it does to a text that the prompt before it was computed by other weights.

    So it is where adapters or a vector are changed while a text is generated. Of the Effect, `base`
    and `base_logprob` are the exact ones, all computed under `changed`; the others went on over a
    prompt that was computed under `base`.

        gap = ml.studies.effect.staleness(session, " fine day.", ml.Setting(control=happy),
                                          given="It was a")
        gap.kl  # nats, token by token

    Args:
        text, given: as in `effect`.
        changed: None is what is in force in the session.
        base: what computed the prompt; None is the model as it is.

    Raises:
        ValueError, ContextFull: as `effect`.
    """
    changed, base = _sides(session, changed, base)
    return _GivenText.of(session, text, given).compared(changed, [changed], before=base)[0]


@dataclass(frozen=True, eq=False)
class Strengths:
    """A lever at several strengths, over one given text.

    Attributes:
        lever: the control vector or the adapter.
        strengths: in the order given, float64 of shape (k,).
        effects: one Effect for each; all are compared with the lever at 0.
    """

    lever: Lever
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
    lever: Lever,
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
    numbers, at = _numbers(values), _settings(session, lever)
    shown = _GivenText.of(session, text, given)
    with Bar("strengths", len(numbers) + 1, " strengths", shown=progress) as bar:
        effects = shown.compared(at(0.0), [at(one) for one in numbers], bar)
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

    lever: Lever
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
    lever: Lever,
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
    numbers, at = _numbers(values), _settings(session, lever, chain)
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


# Inside.


def _sides(
    session: Session, changed: Setting | None, base: Setting | None
) -> tuple[Setting, Setting]:
    """What is compared: by default what is in force, with the model as it is."""
    instance("session", session, Session)
    if changed is None:
        changed = Setting(None, session.adapters, session.control)
    base = Setting() if base is None else base
    return instance("a Setting", changed, Setting), instance("a Setting", base, Setting)


@dataclass(frozen=True)
class _GivenText:
    """A text that is shown to several Settings.

    Attributes:
        prompt, tokens: what comes before, and what is looked at.
    """

    session: Session
    prompt: list[int]
    tokens: list[int]

    @classmethod
    def of(cls, session: Session, text: Prompt, given: Prompt | None) -> _GivenText:
        prompt, tokens = split(session, text, given)
        if not tokens:
            raise ValueError(
                "there is no token to look at: the first one is only what comes before. "
                "Give a longer text, or a prompt as `given`."
            )
        return cls(session, prompt, tokens)

    def compared(
        self,
        base: Setting,
        others: Sequence[Setting],
        bar: Bar | None = None,
        *,
        before: Setting | None = None,
    ) -> list[Effect]:
        """The effect of each of some Settings; the rows of the base are held meanwhile.

        Args:
            before: what computes the prompt where they are looked at; None is each itself.
        """
        held = self._room()
        best, logprobs = self._seen(base, lambda step, logs: held.__setitem__(step, logs))
        found = []
        for place, other in enumerate(others):
            kl = np.zeros(len(self.tokens))

            def compare(step: int, logs: NDArray[np.float64], kl: NDArray[np.float64] = kl) -> None:
                kl[step] = divergence(held[step].astype(np.float64), logs)

            if bar is not None:
                bar.show(place + 1)
            their_best, theirs = self._seen(other, compare, before)
            pieces = {*self.tokens, *best.tolist(), *their_best.tolist()}
            found.append(
                Effect(
                    base=base,
                    changed=other,
                    tokens=np.array(self.tokens, np.int32),
                    kl=kl,
                    base_logprob=logprobs,
                    logprob=theirs,
                    base_best=best,
                    best=their_best,
                    floor=known_floor(self.session.model),
                    _pieces={token: self.session.model.piece(token) for token in pieces},
                )
            )
        return found

    def _seen(
        self,
        setting: Setting,
        look: Callable[[int, NDArray[np.float64]], object],
        before: Setting | None = None,
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """The likeliest tokens, and the log-probabilities of the text's own, under a Setting."""
        first = len(self.prompt) - 1
        best = np.zeros(len(self.tokens), np.int32)
        logprobs = np.zeros(len(self.tokens))

        def see(place: int, row: Logits) -> None:
            step, logs = place - first, log_softmax(row)
            best[step], logprobs[step] = logs.argmax(), logs[self.tokens[step]]
            look(step, logs)

        tokens = [*self.prompt, *self.tokens[:-1]]
        self.session.visit_rows(tokens, first, see, setting=setting, before=before)
        return best, logprobs

    def _room(self) -> NDArray[np.float32]:
        """Room for a row of each token."""
        shape = (len(self.tokens), self.session.model.n_vocab)
        size, free = 4 * shape[0] * shape[1], psutil.virtual_memory().available
        if size > free:
            raise ValueError(
                f"the rows of {shape[0]} tokens take {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB "
                "are free. Give a shorter text."
            )
        return np.empty(shape, np.float32)


def _settings(
    session: Session, lever: Lever, chain: Chain | Stage | None = None
) -> Callable[[float], Setting]:
    """The Setting of a lever at a strength, beside what else is in force."""
    instance("session", session, Session)
    adapters, control = session.adapters, session.control
    if isinstance(lever, ControlVector):
        return lambda strength: Setting(chain, adapters, strength * lever)
    instance("a lever", lever, LoraAdapter, " Give that or a ControlVector.")
    return lambda strength: Setting(chain, {**adapters, lever: strength}, control)


def _numbers(values: Iterable[float]) -> list[float]:
    numbers = [float(one) for one in listed("values", values, "strengths")]
    if not numbers:
        raise ValueError("values=[]: give at least one strength.")
    return numbers


def _perplexity(session: Session, trace: Trace, base: Setting) -> float:
    """Of a generated text, to the model that `base` makes."""
    if not len(trace):
        return float("nan")
    given = _GivenText(session, trace.prompt_tokens.tolist(), trace.tokens.tolist())
    _, logprobs = given._seen(base, lambda step, logs: None)
    return float(np.exp(-logprobs.mean()))
