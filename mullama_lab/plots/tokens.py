"""Tokens: the next one, those of a generation, and those of many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mullama_lab.counted import counted
from mullama_lab.engine.options import instance, whole
from mullama_lab.engine.stages.preview import Preview, StageView
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.stale import stale_words
from mullama_lab.glyphs import brief
from mullama_lab.plots.axes import AHEAD, legend_above, new_axes, tick_names, token_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mullama_lab.studies.seeds import SeedFan


MOST_MARKS = 80  # of a curve


def next_token(preview: Preview, ax: Axes | None = None, *, top: int = 12) -> Axes:
    """The likeliest tokens of a row: their probability in the model and after the chain.

    A token that the chain removed has no second bar; the one that is drawn has a star, and
    stands below a line where it is not among them. "n/a" is a probability that the preview
    does not list; `chain.preview(..., top=n)` lists more.

    Args:
        top: how many tokens, by their probability in the model.
    """
    instance("preview", preview, Preview, " chain.preview(row, model=model) makes one.")
    top = whole("top", top, 1, 1 << 20)
    choice = preview.choice
    ids = preview.before.ids[:top].tolist()
    n = len(ids)
    if choice not in ids:
        ids.append(choice)
    ax = new_axes(ax, 6, 1.5 + 0.3 * len(ids))
    places = np.arange(len(ids))
    model = [_listed_probability(preview.before, token) for token in ids]
    chain = [_listed_probability(preview.final, token) for token in ids]
    ax.barh(places - 0.2, np.nan_to_num(model), 0.4, color="0.72", label="in the model")
    ax.barh(places + 0.2, np.nan_to_num(chain), 0.4, color=AHEAD, label="after the chain")
    for shift, values in ((-0.2, model), (0.2, chain)):
        for place in np.flatnonzero(np.isnan(values)).tolist():
            ax.text(0, place + shift, " n/a", va="center", fontsize=7, color="0.4")
    if len(ids) > n:
        ax.axhline(n - 0.5, color="0.5", lw=0.8, ls=":")
    pieces = [preview.piece(token).decode("utf-8", "replace") for token in ids]
    star = ["★ " if token == choice else "" for token in ids]
    tick_names(
        ax, "y", [mark + token_label(piece) for mark, piece in zip(star, pieces, strict=True)]
    )
    ax.invert_yaxis()
    ax.set(xlabel="probability", xlim=(0, None))
    legend_above(ax)
    return ax


def token_strip(trace: Trace, ax: Axes | None = None) -> Axes:
    """The tokens of a generation, and the probability each had in the model and after the chain.

    The title says which steps are stale (`trace.stale`), if any.
    """
    instance("trace", trace, Trace)
    ax = new_axes(ax, max(3.6, 1 + 0.2 * len(trace)), 3.2)
    places = np.arange(len(trace))
    ax.bar(places, np.exp(trace.logprob), color="0.72", label="in the model")
    ax.plot(places, np.exp(trace.logprob_after), "o", color=AHEAD, ms=4, label="after the chain")
    tick_names(ax, "x", [token_label(piece.decode("utf-8", "replace")) for piece in trace.pieces])
    ax.set(ylim=(0, 1.05), ylabel="probability")
    if words := stale_words(trace):
        ax.set_title(words, fontsize=11)
    legend_above(ax)
    return ax


def seed_fan(fan: SeedFan, ax: Axes | None = None) -> Axes:
    """How far runs of one prompt agree: token by token, the share that still says the same.

    The other curve is how many different prefixes there are, by the number of runs.
    """
    from matplotlib.ticker import MaxNLocator

    if not hasattr(fan, "survival"):
        raise TypeError(f"fan={brief(fan)}: it must be what seed_fan() gives.")
    ax = new_axes(ax, 7, 3.2)
    table = fan.survival
    steps = np.arange(len(table) + 1)
    mark = "." if len(steps) <= MOST_MARKS else ""
    share, distinct = table["share"], table["distinct"] / table["runs"]
    ax.plot(steps, [1, *share], f"{mark}-", label="share with the most common prefix")
    ax.plot(steps, [1 / len(fan), *distinct], f"{mark}--", label="distinct prefixes / runs")
    ax.set(xlabel="tokens since the prompt", ylim=(0, 1.05), xlim=(0, None))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_title(
        f"{counted(len(fan), 'seed')}: all together for {counted(fan.n_together, 'token')}",
        fontsize=11,
    )
    legend_above(ax)
    return ax


def _listed_probability(view: StageView, token: int) -> float:
    """The probability of a token; 0 if it was removed, NaN if the view does not list it."""
    found = np.flatnonzero(view.ids == token)
    if len(found):
        return float(view.probs[found[0]])
    return 0.0 if view.n_kept <= len(view.ids) else np.nan
