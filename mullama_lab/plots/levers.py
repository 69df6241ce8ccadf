"""Levers: how well a control vector was trained, and what strengths do to the next token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mullama_lab.counted import counted
from mullama_lab.glyphs import brief
from mullama_lab.plots.axes import (
    AHEAD,
    BEHIND,
    colour_map,
    legend_above,
    new_axes,
    short_name,
    tick_names,
    token_label,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mullama_lab.studies.blend import Blend
    from mullama_lab.studies.control_vectors import Training
    from mullama_lab.studies.effect import Strengths


def training(trained: Training, ax: Axes | None = None) -> Axes:
    """Layer by layer, how well a control vector tells apart the pairs that were held out.

    The bars are the separation, in standard deviations; the dots are the accuracy, which has the
    scale on the right, where the line is what chance gives. A separation that is none, of one pair
    alone, has no bar.
    """
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    if not hasattr(trained, "separation"):
        raise TypeError(f"trained={brief(trained)}: it must be what train() gives.")
    ax = new_axes(ax, 2.5 + 0.16 * len(trained.layers), 3.2)
    bars = ax.bar(trained.layers, np.nan_to_num(trained.separation), color="0.72")
    ax.set(xlabel="layer", ylabel="separation (standard deviations)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    right = ax.twinx()
    (dots,) = right.plot(trained.layers, trained.accuracy, "o", color=AHEAD, ms=4)
    right.axhline(0.5, color="0.5", lw=0.8, ls=":")
    right.set(ylim=(0, 1.05), ylabel="accuracy")
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_title(f"{counted(trained.n_held_out, 'held-out pair')}", fontsize=11)
    legend_above(ax, [bars, dots], ["separation", "accuracy"])
    return ax


def strengths(found: Strengths, ax: Axes | None = None, *, cmap: str = "Blues") -> Axes:
    """Strength by token: how far a lever moves what the model says at each token of a text.

    The colour is the Kullback-Leibler divergence from the model without it, in nats. A dot is where
    the likeliest token is another one.
    """
    if not hasattr(found, "effects"):
        raise TypeError(f"found={brief(found)}: it must be what strengths() gives.")
    kl, flips = found.kl, np.stack([one.flips for one in found.effects])
    ax = new_axes(ax, 2.5 + 0.22 * kl.shape[1], 1.6 + 0.28 * len(kl))
    picture = ax.imshow(kl, cmap=colour_map(cmap), vmin=0, aspect="auto")
    ax.figure.colorbar(picture, ax=ax, label="KL (nats)")
    rows, columns = np.nonzero(flips)
    ax.plot(columns, rows, ".", color=BEHIND, ms=4, label="another likeliest token")
    tick_names(ax, "x", [token_label(text) for text in found.effects[0].labels])
    ax.set(ylabel="strength", xlim=(-0.5, kl.shape[1] - 0.5), ylim=(len(kl) - 0.5, -0.5))
    tick_names(ax, "y", [f"{one:g}" for one in found.strengths])
    legend_above(ax)
    return ax


def blend(found: Blend, ax: Axes | None = None, *, cmap: str = "Blues") -> Axes:
    """Two levers at once: lines of the same KL over their strengths, in nats.

    With a target they are lines of its log-probability, and a star is where that is highest.

    Raises:
        ValueError: a lever has but one strength, and lines need two.
    """
    if not hasattr(found, "likeliest"):
        raise TypeError(f"found={brief(found)}: it must be what blend() gives.")
    if min(found.kl.shape) < 2:
        raise ValueError("lines need at least two strengths of each: blend() with more of them.")
    values = found.kl if found.logprob is None else found.logprob
    columns, rows = np.argsort(found.x), np.argsort(found.y)
    ax = new_axes(ax, 5, 4)
    grid = found.x[columns], found.y[rows], values[np.ix_(rows, columns)]
    picture = ax.contourf(*grid, levels=10, cmap=colour_map(cmap))
    ax.contour(*grid, levels=picture.levels, colors="0.3", linewidths=0.5)
    measure = "KL (nats)" if found.logprob is None else "log-probability (nats)"
    ax.figure.colorbar(picture, ax=ax, label=measure)
    if found.likeliest is not None:
        ax.plot(*found.likeliest, "*", color=BEHIND, ms=12)
    for side, name in zip(("x", "y"), found.names, strict=True):
        getattr(ax, f"set_{side}label")(short_name(name), parse_math=False)
    return ax
