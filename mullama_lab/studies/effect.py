"""Effect: what adapters and control vectors make of a text, by token and by strength.

A given text is shown to both Settings, each in one batch (teacher forcing), and at each token what
the model says before the chain is compared, as `llama-perplexity --kl-divergence` compares a
quantised model with its original. So the text is the same on both sides, and what differs is caused
by what acts on the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.loop.spread import Prompt
from mullama_lab.engine.noise_floor import NoiseFloor, divergence
from mullama_lab.engine.options import MAX_SEED, instance, whole
from mullama_lab.engine.session import Session
from mullama_lab.engine.setting import Setting
from mullama_lab.engine.stages import Chain, Stage
from mullama_lab.engine.steering.control_vector import ControlVector
from mullama_lab.engine.steering.lora import LoraAdapter
from mullama_lab.engine.steering.steering import Lever, Steering
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.divergence import divergence_from_row
from mullama_lab.glyphs import piece_label
from mullama_lab.studies._given_text import GivenText, Seen
from mullama_lab.studies._together import Bar, listed_strengths, wait_for

if TYPE_CHECKING:
    import pandas

__all__ = [
    "Effect",
    "Steered",
    "Strengths",
    "effect",
    "effect_in",
    "staleness",
    "staleness_in",
    "steered",
    "strengths",
]
__dir__ = __all__.copy  # what tab completion offers

Span: TypeAlias = tuple[tuple[int, int], Setting]  # steps from one to before another
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
        floor: the noise: what `studies.noise` measured for the model; where it did not, or adapters
            act, it is that of this text, whose last rows are decoded one by one too, as those of a
            generation are. None of a text of one token, in which there is nothing to measure.
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
    def mean(self) -> float:
        """The divergence of a token on average, in nats, where it is known."""
        known = self.kl[np.isfinite(self.kl)]
        return float(known.mean()) if len(known) else float("nan")

    @property
    def most(self) -> float:
        """The largest divergence of a token, in nats, of those that are known."""
        return float(self.kl[np.isfinite(self.kl)].max(initial=0.0))

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
        most = int(np.nan_to_num(self.kl, nan=-1.0).argmax())
        floor = "" if self.floor is None else f" (noise up to {self.floor.kl:.2g})"
        flips = counted(int(np.count_nonzero(self.flips)), "likeliest token")
        return (
            f"KL {self.mean:.3g} nats a token{floor}, most at step {most} "
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
    return _compared(GivenText.of(session, text, given), base, [changed])[0]


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
    shown = GivenText.of(session, text, given)
    return _compared(shown, changed, [changed], before=base)[0]


def effect_in(trace: Trace, *, on: Session) -> Effect:
    """How what acted on the weights changed what the model said at each token of a generation.

        seen = ml.studies.effect.effect_in(session.generate("It was"), on=session)

    It is compared with the model as it is. Both compute the whole text before each token: what went
    on over a stale cache is looked at as if it had not; see `staleness_in`. Of the Effect,
    `changed` is the Setting of the last step.

    Args:
        trace: a Trace; of one that still grows, the steps there are now.
        on: a Session of its model. What is in force in it plays no part.

    Raises:
        ValueError: the trace has no step, or was made with another vocabulary; or as `effect`.
        ContextFull: the text does not fit.
    """
    shown, base = GivenText.of_trace(trace, on), Setting()
    n = len(shown.tokens)
    held, kl, best, logprob = shown.room(), np.zeros(n), np.zeros(n, np.int32), np.zeros(n)
    exact = shown.seen(base, held.__setitem__)
    best[:], logprob[:] = exact

    def compare(step: int, logs: NDArray[np.float64]) -> None:
        kl[step] = divergence(held[step].astype(np.float64), logs)

    tail = dict[int, NDArray[Any]]()
    acting = [one for one in _spans(trace, n) if one[1].steering != base.steering]
    for part, setting in acting:
        steps = slice(*part)
        best[steps], logprob[steps] = shown.seen(setting, compare, part=part, tail=tail)
    longest, setting = max(acting, key=_length, default=((0, n), base))
    floor = shown.floor(setting, tail if acting else held, longest)
    return _made(shown, (base, trace.setting_at(n - 1)), kl, exact, (best, logprob), floor)


def staleness_in(trace: Trace, *, on: Session) -> Effect:
    """What it did to a generation that it went on over a cache which other weights had computed.

    That is at the steps `np.flatnonzero(trace.stale)`, whose tokens are those of the Effect. Its
    `base` and `base_logprob` are exact, of the weights that were in force at each step; the others
    are what the trace recorded. Where it kept a part of a row the divergence is at least that, and
    NaN where it kept nothing.

        gap = ml.studies.effect.staleness_in(run.wait(), on=session)
        gap.kl.max(), gap.floor.kl

    Args: as `effect_in`.

    Raises:
        ValueError: no step is stale; or as `effect_in`.
        ContextFull: the text does not fit.
    """
    shown = GivenText.of_trace(trace, on)
    n = len(shown.tokens)
    is_stale = trace.stale
    spans = [(part, setting) for part, setting in _spans(trace, n) if is_stale[part[0]]]
    if not spans:
        raise ValueError(
            "no step of the trace is stale: no weights were changed while it was generated, or "
            "what it had so far was decoded anew."
        )
    kl, best, logprob = np.full(n, np.nan), np.zeros(n, np.int32), np.zeros(n)
    tail = dict[int, NDArray[Any]]()

    def compare(step: int, logs: NDArray[np.float64]) -> None:
        found = divergence_from_row(logs, trace, step)
        kl[step] = np.nan if found is None else found.nats

    for part, setting in spans:
        steps = slice(*part)
        best[steps], logprob[steps] = shown.seen(setting, compare, part=part, tail=tail)
    longest, setting = max(spans, key=_length)
    recorded = trace.top_ids[:n, 0], trace.logprob[:n].astype(np.float64)
    last = trace.setting_at(n - 1)
    floor, at = shown.floor(setting, tail, longest), np.flatnonzero(is_stale[:n])
    return _made(shown, (last, last), kl, (best, logprob), recorded, floor, at)


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
    numbers, at = listed_strengths(values), _settings(session, lever)
    shown = GivenText.of(session, text, given)
    with Bar("strengths", len(numbers) + 1, " strengths", shown=progress) as bar:
        effects = _compared(shown, at(0.0), [at(one) for one in numbers], bar)
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


def _compared(
    shown: GivenText,
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
    held = shown.room()
    exact = shown.seen(base, held.__setitem__)
    found, tail = [], dict[int, NDArray[Any]]()
    for place, other in enumerate(others):
        kl = np.zeros(len(shown.tokens))

        def compare(step: int, logs: NDArray[np.float64], kl: NDArray[np.float64] = kl) -> None:
            kl[step] = divergence(held[step].astype(np.float64), logs)

        if bar is not None:
            bar.show(place + 1)
        found.append((other, kl, shown.seen(other, compare, before=before, tail=tail)))
    last = others[-1]
    steered_rows = before is None and last.steering != Steering()
    floor = shown.floor(last, tail) if steered_rows else shown.floor(base, held)
    return [_made(shown, (base, other), kl, exact, seen, floor) for other, kl, seen in found]


def _made(
    shown: GivenText,
    settings: tuple[Setting, Setting],
    kl: NDArray[np.float64],
    exact: Seen,
    theirs: Seen,
    floor: NoiseFloor | None,
    steps: NDArray[np.intp] | slice = slice(None),
) -> Effect:
    """What is known at some steps of a text, as an Effect."""
    tokens = np.array(shown.tokens, np.int32)[steps]
    best, others = exact[0][steps], theirs[0][steps]
    piece = shown.session.model.piece
    return Effect(
        base=settings[0],
        changed=settings[1],
        tokens=tokens,
        kl=kl[steps],
        base_logprob=exact[1][steps],
        logprob=theirs[1][steps],
        base_best=best,
        best=others,
        floor=floor,
        _pieces={i: piece(i) for i in {*tokens.tolist(), *best.tolist(), *others.tolist()}},
    )


def _length(span: Span) -> int:
    return span[0][1] - span[0][0]


def _spans(trace: Trace, n: int) -> Iterator[Span]:
    """The first n steps of a trace in parts of the same weights, stale or not: (part, Setting)."""
    firsts = [first for first, _ in trace.in_force if first < n]
    for part in zip(firsts, [*firsts[1:], n]):
        yield part, trace.setting_at(part[0])


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


def _perplexity(session: Session, trace: Trace, base: Setting) -> float:
    """Of a generated text, to the model that `base` makes."""
    if not len(trace):
        return float("nan")
    _, logprobs = GivenText.of_trace(trace, session).seen(base, lambda step, logs: None)
    return float(np.exp(-logprobs.mean()))
