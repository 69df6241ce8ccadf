"""Late interaction: what matches, document by document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.multivector import MultiVector, maxsim
from mullama_lab.engine.multivector.scales import BARS, SCALES, raw_ends
from mullama_lab.engine.options import listed
from mullama_lab.glyphs import brief
from mullama_lab.plots.axes import (
    AHEAD,
    BEHIND,
    MOST_NAMES,
    colour_map,
    new_axes,
    short_name,
    tick_names,
    token_label,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


Documents: TypeAlias = "Sequence[MultiVector] | Mapping[str, MultiVector]"

NARROW = 0.03  # of the axis: a part that is too short for its number


def similarity_grid(
    query: MultiVector,
    document: MultiVector,
    ax: Axes | None = None,
    *,
    scale: str = "raw",
    cmap: str = "Blues",
) -> Axes:
    """Query tokens by document tokens; the best match of each query token has a frame.

    The framed cells add up to the score in the title (MaxSim).

    Args:
        scale: "raw" is one scale for all rows, 0 to 1 for unit vectors; "by query" stretches
            each row from its lowest to its highest value. The colour bar says which.
        cmap: a colour map of matplotlib; what is below the scale is grey.

    Raises:
        ValueError: an unknown scale, no query token, or vectors of different sizes.
    """
    if not isinstance(scale, str) or scale not in SCALES:
        raise ValueError(f"scale={brief(scale)}: it must be one of {', '.join(map(repr, SCALES))}.")
    values = maxsim.similarity(query, document)
    ax = new_axes(ax, 1 + 0.16 * len(document), 1.4 + 0.22 * len(query))
    ax.set_title(f"MaxSim {maxsim.score(query, document):.3f}")
    ax.set(xlabel="document" if len(document) else "an empty document", ylabel="query")
    if len(document):
        _heat_map(ax, values, scale, cmap, raw_ends(values, query, document))
        tick_names(ax, "x", _labels(document))
        tick_names(ax, "y", _labels(query))
        for row, column in enumerate(values.argmax(axis=1).tolist()):
            ax.add_patch(_frame(column, row))
    return ax


def rank_board(
    query: MultiVector,
    documents: Documents,
    ax: Axes | None = None,
    *,
    names: Sequence[str] | None = None,
    bars: str = "whole",
) -> Axes:
    """One bar a document, best at the top: what each query token adds to its score.

    Args:
        documents: a list, or name -> MultiVector.
        names: of the documents of a list; None numbers them from 1.
        bars: "whole" begins at 0; "difference" leaves out what each token adds to every
            document, and begins at the sum of that.

    Raises:
        ValueError: a name for each document is needed; unknown bars; no query token; vectors of
            different sizes.
    """
    if not isinstance(bars, str) or bars not in BARS:
        raise ValueError(f"bars={brief(bars)}: it must be one of {', '.join(map(repr, BARS))}.")
    names, documents = _with_names(documents, names)
    parts = np.array([maxsim.contributions(query, each) for each in documents], np.float64)
    parts = parts.reshape(len(documents), len(query))
    scores = [maxsim.total(row) for row in parts]
    order = sorted(range(len(documents)), key=lambda k: (-scores[k], k))
    ax = new_axes(ax, 8, 1.2 + 0.36 * len(documents))
    least = parts.min(axis=0, initial=np.inf) if bars == "difference" and len(parts) else 0.0
    start = float(np.sum(least))
    _stacked_bars(ax, parts[order] - least, _labels(query), start)
    tick_names(ax, "y", [names[k] for k in order])
    ax.invert_yaxis()
    above = f", above the {start:.3f} that every document has" if bars == "difference" else ""
    ax.set_xlabel(f"score: the sum of what each query token adds{above}")
    return ax


def versus(
    query: MultiVector,
    a: MultiVector,
    b: MultiVector,
    ax: Axes | None = None,
    *,
    names: tuple[str, str] = ("A", "B"),
) -> Axes:
    """Why one document beats another: each query token's share of the difference.

    The bars add up to the difference of the scores in the title; what speaks most for A is at
    the top.
    """
    two = isinstance(names, (tuple, list)) and len(names) == 2
    if not two or not all(isinstance(name, str) for name in names):
        raise TypeError(f"names={brief(names)}: give two texts, of a and of b.")
    ours, theirs = (maxsim.contributions(query, each).astype(np.float64) for each in (a, b))
    by = ours - theirs
    order = np.argsort(-by, kind="stable")
    ax = new_axes(ax, 6, 1.2 + 0.26 * len(query))
    ax.barh(np.arange(len(by)), by[order], color=[AHEAD if x >= 0 else BEHIND for x in by[order]])
    ax.axvline(0, color="0.5", lw=0.8)
    labels = _labels(query)
    tick_names(ax, "y", [f"{i + 1} {labels[i]}" for i in order.tolist()])
    ax.invert_yaxis()
    ax.set_xlabel(
        f"← {short_name(names[1])} ahead     {short_name(names[0])} ahead →", parse_math=False
    )
    gap = float(by.sum())
    title = f"{short_name(names[0])} is {abs(gap):.3f} {'ahead of' if gap >= 0 else 'behind'} "
    ax.set_title(title + short_name(names[1]), parse_math=False)
    return ax


def _heat_map(
    ax: Axes, values: NDArray[np.float32], scale: str, cmap: str, ends: tuple[float, float]
) -> None:
    """The matrix as an image, and a colour bar that says its scale."""
    stretched = scale == "by query"
    low, high = (0.0, 1.0) if stretched else ends
    picture = ax.imshow(
        _stretched(values) if stretched else values,
        cmap=colour_map(cmap).with_extremes(under="0.75"),
        vmin=low,
        vmax=high,
        aspect="auto",
    )
    ax.figure.colorbar(
        picture,
        ax=ax,
        label="similarity" + (", each row on its own scale" if stretched else ""),
        extend="min" if not stretched and values.min() < low else "neither",
    )


def _stretched(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row from 0 (its lowest) to 1 (its highest); 0 where all are equal."""
    low = values.min(axis=1, keepdims=True, initial=np.inf)
    span = values.max(axis=1, keepdims=True, initial=-np.inf) - low
    return np.divide(values - low, span, out=np.zeros_like(values), where=span > 0)


def _stacked_bars(
    ax: Axes, parts: NDArray[np.float64], labels: Sequence[str], start: float
) -> None:
    """A bar a row; parts below 0 go to the left. Each part that is wide enough has its number."""
    places = np.arange(len(parts))
    colours = colour_map("tab20")
    ends = np.full((2, len(parts)), start)  # of what adds and of what takes away
    longest = max(np.abs(parts).sum(axis=1).max(initial=0.0), 1e-9)
    for i, label in enumerate(labels):
        side = (parts[:, i] < 0).astype(int)
        left = ends[side, places].copy()
        ends[side, places] += parts[:, i]
        ax.barh(
            places, parts[:, i], left=left, color=colours(i % 20), edgecolor="white", lw=0.5,
            label=f"{i + 1} {label}",
        )  # fmt: skip
        for k in np.flatnonzero(np.abs(parts[:, i]) > NARROW * longest).tolist():
            ax.text(left[k] + parts[k, i] / 2, k, str(i + 1), ha="center", va="center", fontsize=7)
    if 0 < len(labels) <= MOST_NAMES // 2 and len(parts):
        legend = ax.legend(
            loc="upper left", bbox_to_anchor=(1, 1), fontsize="small", ncols=1 + len(labels) // 20
        )
        for text in legend.get_texts():
            text.set_parse_math(False)


def _with_names(
    documents: Documents, names: Sequence[str] | None
) -> tuple[list[str], list[MultiVector]]:
    if isinstance(documents, Mapping):
        names = list(documents) if names is None else names
        documents = list(documents.values())
    documents = listed("documents", documents, "MultiVectors")
    if names is None:
        names = [str(k + 1) for k in range(len(documents))]
    names = [
        name if isinstance(name, str) else brief(name) for name in listed("names", names, "texts")
    ]
    if len(names) != len(documents):
        raise ValueError(f"{len(names)} names for {len(documents)} documents; give one each.")
    return names, documents


def _labels(tokens: MultiVector) -> list[str]:
    return [token_label(text) for text in tokens.token_texts]


def _frame(column: int, row: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=BEHIND, lw=1.5)
