"""What one Setting makes of a given text beside another, token by token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.loop.spread import Prompt
from mullama_lab.engine.noise_floor import NoiseFloor, divergence
from mullama_lab.engine.options import instance
from mullama_lab.engine.session import Session
from mullama_lab.engine.setting import Setting
from mullama_lab.engine.steering.steering import Steering
from mullama_lab.glyphs import piece_label
from mullama_lab.studies._given_text import GivenText, Seen
from mullama_lab.studies._together import Bar

if TYPE_CHECKING:
    import pandas


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
        DecodeError: what acts leads to logits that are no numbers.
    """
    changed, base = _sides(session, changed, base)
    return compared(GivenText.of(session, text, given), base, [changed])[0]


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
    return compared(shown, changed, [changed], before=base)[0]


def compared(
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
    return [made(shown, (base, other), kl, exact, seen, floor) for other, kl, seen in found]


def made(
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


def _sides(
    session: Session, changed: Setting | None, base: Setting | None
) -> tuple[Setting, Setting]:
    """What is compared: by default what is in force, with the model as it is."""
    instance("session", session, Session)
    if changed is None:
        changed = Setting(None, session.adapters, session.control)
    base = Setting() if base is None else base
    return instance("a Setting", changed, Setting), instance("a Setting", base, Setting)
