"""Pictures for papers: what the views show, drawn with matplotlib.

Every function draws on the Axes that it is given, or on new ones, and returns them;
`ax.figure.savefig("figure.pdf")` keeps the picture. matplotlib is loaded by the first of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted, size_in_words
from mullama_lab.engine.memory import Buffers, Memory
from mullama_lab.engine.memory.buffers import KINDS
from mullama_lab.engine.multivector import MultiVector, maxsim
from mullama_lab.engine.multivector.scales import BARS, SCALES, raw_ends
from mullama_lab.engine.options import instance, listed, whole
from mullama_lab.engine.stages.preview import Preview, StageView
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.stale import stale_words
from mullama_lab.glyphs import brief, one_line, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mullama_lab.studies.blend import Blend
    from mullama_lab.studies.control_vectors import Training
    from mullama_lab.studies.effect import Strengths
    from mullama_lab.studies.monitor import Monitor
    from mullama_lab.studies.seeds import SeedFan
    from mullama_lab.studies.timing import DepthCurve, Timing

Documents: TypeAlias = "Sequence[MultiVector] | Mapping[str, MultiVector]"

__all__ = [
    "blend",
    "depth_curve",
    "latency",
    "memory",
    "memory_over_time",
    "next_token",
    "rank_board",
    "seed_fan",
    "similarity_grid",
    "strengths",
    "throughput",
    "throughput_over_time",
    "token_strip",
    "training",
    "versus",
]
__dir__ = __all__.copy  # what tab completion offers

MOST_MARKS = 80  # of a curve
N_MEDIANS = 40  # of a running median
MOST_NAMES = 80  # along one axis; more would be a grey smear
MOST_NAME = 24  # characters
NARROW = 0.03  # of the axis: a part that is too short for its number
AHEAD, BEHIND = "#1f6feb", "#d9480f"


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
    ax = _axes(ax, 1 + 0.16 * len(document), 1.4 + 0.22 * len(query))
    ax.set_title(f"MaxSim {maxsim.score(query, document):.3f}")
    ax.set(xlabel="document" if len(document) else "an empty document", ylabel="query")
    if len(document):
        _heat_map(ax, values, scale, cmap, raw_ends(values, query, document))
        _tick_names(ax, "x", _labels(document))
        _tick_names(ax, "y", _labels(query))
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
    ax = _axes(ax, 8, 1.2 + 0.36 * len(documents))
    least = parts.min(axis=0, initial=np.inf) if bars == "difference" and len(parts) else 0.0
    start = float(np.sum(least))
    _stacked_bars(ax, parts[order] - least, _labels(query), start)
    _tick_names(ax, "y", [names[k] for k in order])
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
    ax = _axes(ax, 6, 1.2 + 0.26 * len(query))
    ax.barh(np.arange(len(by)), by[order], color=[AHEAD if x >= 0 else BEHIND for x in by[order]])
    ax.axvline(0, color="0.5", lw=0.8)
    labels = _labels(query)
    _tick_names(ax, "y", [f"{i + 1} {labels[i]}" for i in order.tolist()])
    ax.invert_yaxis()
    ax.set_xlabel(f"← {_short(names[1])} ahead     {_short(names[0])} ahead →", parse_math=False)
    gap = float(by.sum())
    title = f"{_short(names[0])} is {abs(gap):.3f} {'ahead of' if gap >= 0 else 'behind'} "
    ax.set_title(title + _short(names[1]), parse_math=False)
    return ax


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
    ax = _axes(ax, 6, 1.5 + 0.3 * len(ids))
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
    _tick_names(ax, "y", [mark + _label(piece) for mark, piece in zip(star, pieces, strict=True)])
    ax.invert_yaxis()
    ax.set(xlabel="probability", xlim=(0, None))
    _legend_above(ax)
    return ax


def token_strip(trace: Trace, ax: Axes | None = None) -> Axes:
    """The tokens of a generation, and the probability each had in the model and after the chain.

    The title says which steps are stale (`trace.stale`), if any.
    """
    instance("trace", trace, Trace)
    ax = _axes(ax, max(3.6, 1 + 0.2 * len(trace)), 3.2)
    places = np.arange(len(trace))
    ax.bar(places, np.exp(trace.logprob), color="0.72", label="in the model")
    ax.plot(places, np.exp(trace.logprob_after), "o", color=AHEAD, ms=4, label="after the chain")
    _tick_names(ax, "x", [_label(piece.decode("utf-8", "replace")) for piece in trace.pieces])
    ax.set(ylim=(0, 1.05), ylabel="probability")
    if words := stale_words(trace):
        ax.set_title(words, fontsize=11)
    _legend_above(ax)
    return ax


def seed_fan(fan: SeedFan, ax: Axes | None = None) -> Axes:
    """How far runs of one prompt agree: token by token, the share that still says the same.

    The other curve is how many different prefixes there are, by the number of runs.
    """
    from matplotlib.ticker import MaxNLocator

    if not hasattr(fan, "survival"):
        raise TypeError(f"fan={brief(fan)}: it must be what seed_fan() gives.")
    ax = _axes(ax, 7, 3.2)
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
    _legend_above(ax)
    return ax


def training(trained: Training, ax: Axes | None = None) -> Axes:
    """Layer by layer, how well a control vector tells apart the pairs that were held out.

    The bars are the separation, in standard deviations; the dots are the accuracy, which has the
    scale on the right, where the line is what chance gives. A separation that is none, of one pair
    alone, has no bar.
    """
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    if not hasattr(trained, "separation"):
        raise TypeError(f"trained={brief(trained)}: it must be what train() gives.")
    ax = _axes(ax, 2.5 + 0.16 * len(trained.layers), 3.2)
    bars = ax.bar(trained.layers, np.nan_to_num(trained.separation), color="0.72")
    ax.set(xlabel="layer", ylabel="separation (standard deviations)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    right = ax.twinx()
    (dots,) = right.plot(trained.layers, trained.accuracy, "o", color=AHEAD, ms=4)
    right.axhline(0.5, color="0.5", lw=0.8, ls=":")
    right.set(ylim=(0, 1.05), ylabel="accuracy")
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_title(f"{counted(trained.n_held_out, 'held-out pair')}", fontsize=11)
    _legend_above(ax, [bars, dots], ["separation", "accuracy"])
    return ax


def strengths(found: Strengths, ax: Axes | None = None, *, cmap: str = "Blues") -> Axes:
    """Strength by token: how far a lever moves what the model says at each token of a text.

    The colour is the Kullback-Leibler divergence from the model without it, in nats. A dot is where
    the likeliest token is another one.
    """
    if not hasattr(found, "effects"):
        raise TypeError(f"found={brief(found)}: it must be what strengths() gives.")
    kl, flips = found.kl, np.stack([one.flips for one in found.effects])
    ax = _axes(ax, 2.5 + 0.22 * kl.shape[1], 1.6 + 0.28 * len(kl))
    picture = ax.imshow(kl, cmap=_colours(cmap), vmin=0, aspect="auto")
    ax.figure.colorbar(picture, ax=ax, label="KL (nats)")
    rows, columns = np.nonzero(flips)
    ax.plot(columns, rows, ".", color=BEHIND, ms=4, label="another likeliest token")
    _tick_names(ax, "x", [_label(text) for text in found.effects[0].labels])
    ax.set(ylabel="strength", xlim=(-0.5, kl.shape[1] - 0.5), ylim=(len(kl) - 0.5, -0.5))
    _tick_names(ax, "y", [f"{one:g}" for one in found.strengths])
    _legend_above(ax)
    return ax


def memory(found: Buffers, ax: Axes | None = None) -> Axes:
    """Memory by kind: a bar each of a Memory or a Plan; `print(found)` has them as text.

    The darker part of the KV cache is in use; of models with states it is not told apart.
    """
    if not isinstance(found, Buffers):
        raise TypeError(f"found={brief(found)}: it must be session.memory, or what plan() gives.")
    sizes = {kind: getattr(found, f"{kind}_bytes") / 1e6 for kind in KINDS}
    shown = [kind for kind in KINDS if sizes[kind]]
    ax = _axes(ax, 6, 1.2 + 0.36 * len(shown))
    bars = ax.barh(range(len(shown)), [sizes[kind] for kind in shown], color="#9ecae1")
    ax.bar_label(bars, [size_in_words(int(sizes[kind] * 1e6)) for kind in shown], padding=3)
    if isinstance(found, Memory) and found.used_bytes and not found.state_bytes:
        ax.barh(shown.index("kv"), found.used_bytes / 1e6, color=AHEAD, label="in use")
        _legend_above(ax)
    _tick_names(ax, "y", [KINDS[kind] for kind in shown])
    ax.invert_yaxis()
    ax.set(xlabel=f"MB, {size_in_words(found.total_bytes)} in all")
    ax.margins(x=0.15)
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
    ax = _axes(ax, 5, 4)
    grid = found.x[columns], found.y[rows], values[np.ix_(rows, columns)]
    picture = ax.contourf(*grid, levels=10, cmap=_colours(cmap))
    ax.contour(*grid, levels=picture.levels, colors="0.3", linewidths=0.5)
    measure = "KL (nats)" if found.logprob is None else "log-probability (nats)"
    ax.figure.colorbar(picture, ax=ax, label=measure)
    if found.likeliest is not None:
        ax.plot(*found.likeliest, "*", color=BEHIND, ms=12)
    for side, name in zip(("x", "y"), found.names, strict=True):
        getattr(ax, f"set_{side}label")(_short(name), parse_math=False)
    return ax


def throughput(found: Timing, ax: Axes | None = None) -> Axes:
    """Tokens a second over the tokens of a generation, one by one and as a running median.

    The first token is left out, which has the prompt's time.
    """
    _must_be_timing(found)
    ax = _axes(ax, 7, 3.2)
    speed = 1e3 / found.after_first.to_pandas()["total"]
    width = max(1, len(speed) // N_MEDIANS)
    middle = speed.rolling(width, center=True, min_periods=1).median()
    ax.plot(speed.index, speed, ".", color="0.72", ms=3, label="each token")
    ax.plot(speed.index, middle, "-", color=AHEAD, label=f"median of {width}")
    ax.set(xlabel="step", ylabel="tokens a second", ylim=(0, None))
    ax.set_title(found.tokens.test, fontsize=11)
    _legend_above(ax)
    return ax


def latency(found: Timing, ax: Axes | None = None) -> Axes:
    """How long tokens take: the share of them that took at most so many milliseconds.

    The lines are the median and what 95 of 100 tokens stay below. The first token is left out.
    """
    from matplotlib.ticker import PercentFormatter

    _must_be_timing(found)
    ax = _axes(ax, 5, 3.2)
    ms = np.sort(found.after_first.total)
    ms = ms[np.isfinite(ms)]
    ax.step(ms, np.arange(1, len(ms) + 1) / max(1, len(ms)), where="post", color=AHEAD)
    ax.set(xlabel="milliseconds a token", ylabel="share of the tokens", ylim=(0, 1.05))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_title(found.tokens.test, fontsize=11)
    if len(ms):
        for share, style in ((0.5, "--"), (0.95, ":")):
            at = float(np.quantile(ms, share))
            ax.axvline(at, color="0.5", lw=0.8, ls=style, label=f"{share:.0%}: {at:.3g} ms")
        _legend_above(ax)
    return ax


def depth_curve(curve: DepthCurve, ax: Axes | None = None) -> Axes:
    """Milliseconds a token against the tokens in the cache: medians, quartiles, and a line.

    The band is the line's 95 % interval; where fewer than four depths were measured there is none.
    """
    if not hasattr(curve, "seconds_to_fill"):
        raise TypeError(f"curve={brief(curve)}: it must be what depth() or from_trace() gives.")
    ax = _axes(ax, 6, 3.6)
    table = curve.to_pandas()
    ends = [table["ms"] - table["q1"], table["q3"] - table["ms"]]
    ax.errorbar(
        table["depth"],
        table["ms"],
        ends,
        fmt="o",
        color="0.4",
        ms=4,
        lw=1,
        label="median, quartiles",
    )
    try:
        line = curve.line
    except ValueError:  # too few depths
        pass
    else:
        x = np.linspace(0, table["depth"].max(), 50)
        middle, low, high = np.array([line.at(one) for one in x]).T
        ax.plot(x, middle, "-", color=AHEAD, label=f"{1e3 * line.slope:+.3g} ms for each 1000")
        ax.fill_between(x, low, high, color=AHEAD, alpha=0.15, lw=0)
    ax.set(xlabel="tokens in the cache", ylabel="milliseconds a token", ylim=(0, None))
    _legend_above(ax)
    return ax


def throughput_over_time(monitor: Monitor, ax: Axes | None = None) -> Axes:
    """Tokens a second of a Monitor, interval by interval, and their average while any came.

    A gap is where it was stopped.
    """
    columns = _columns_of_monitor(monitor)
    ax = _axes(ax, 7, 3.2)
    seconds = columns["seconds"]
    ax.plot(seconds, columns["decoded_per_second"], color="0.72", label="decoded, prompts too")
    ax.plot(seconds, columns["tokens_per_second"], color=AHEAD, label="generated")
    if not np.isnan(monitor.average):
        ax.axhline(monitor.average, color=AHEAD, lw=0.8, ls=":")
        ax.set_title(f"{monitor.average:.3g} tokens/s on average", fontsize=11)
    ax.set(xlabel="seconds", ylabel="tokens/s", ylim=(0, None))
    _legend_above(ax)
    return ax


def memory_over_time(monitor: Monitor, ax: Axes | None = None) -> Axes:
    """Resident memory of the process while a Monitor ran, what the machine had free, and GPUs'.

    What was not available has no line, and the title says so where that is all of it.
    """
    columns = _columns_of_monitor(monitor)
    ax = _axes(ax, 7, 3.2)
    lines = {"resident_bytes": ("resident", AHEAD, "-"), "free_bytes": ("free", "0.5", "--")}
    for name in columns:
        if name.startswith("gpu_") and name.endswith("_bytes") and "total" not in name:
            number = name.split("_")[1]
            lines[name] = (f"GPU {number}", _colours("tab10")(1 + int(number) % 9), "-")
    shown = {name: line for name, line in lines.items() if name in columns}
    for name, (label, colour, style) in shown.items():
        ax.plot(columns["seconds"], columns[name] / 1e9, style, color=colour, label=label)
    ax.set(xlabel="seconds", ylabel="memory (GB)", ylim=(0, None))
    if shown:
        _legend_above(ax)
    else:
        ax.set_title("memory: not available", fontsize=11)
    return ax


# Parts


def _must_be_timing(found: object) -> None:
    if not hasattr(found, "after_first"):
        raise TypeError(f"found={brief(found)}: it must be what timing() gives.")


def _columns_of_monitor(monitor: Monitor) -> Mapping[str, NDArray[np.float64]]:
    if not hasattr(monitor, "sessions_to_pandas"):
        raise TypeError(f"monitor={brief(monitor)}: it must be a Monitor.")
    return monitor.columns()


def _heat_map(
    ax: Axes, values: NDArray[np.float32], scale: str, cmap: str, ends: tuple[float, float]
) -> None:
    """The matrix as an image, and a colour bar that says its scale."""
    stretched = scale == "by query"
    low, high = (0.0, 1.0) if stretched else ends
    picture = ax.imshow(
        _stretched(values) if stretched else values,
        cmap=_colours(cmap).with_extremes(under="0.75"),
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
    colours = _colours("tab20")
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


def _listed_probability(view: StageView, token: int) -> float:
    """The probability of a token; 0 if it was removed, NaN if the view does not list it."""
    found = np.flatnonzero(view.ids == token)
    if len(found):
        return float(view.probs[found[0]])
    return 0.0 if view.n_kept <= len(view.ids) else np.nan


def _legend_above(ax: Axes, *what: Any) -> None:
    """The legend between the picture and its title, where it covers nothing."""
    ax.legend(
        *what,
        loc="lower center",
        bbox_to_anchor=(0.5, 1),
        ncols=2,
        frameon=False,
        borderaxespad=0.2,
        fontsize="small",
    )
    if title := ax.get_title():
        ax.set_title(title, fontsize=ax.title.get_fontsize(), pad=26)


def _axes(ax: Axes | None, width: float, height: float) -> Axes:
    """The Axes given, or new ones of about this many inches."""
    if ax is not None:
        from matplotlib.axes import Axes as KnownAxes

        return instance("ax", ax, KnownAxes)
    import matplotlib.pyplot as plt

    size = (min(14.0, max(3.0, width)), min(10.0, max(1.8, height)))
    return plt.subplots(figsize=size, layout="constrained")[1]


def _frame(column: int, row: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=BEHIND, lw=1.5)


def _colours(name: str) -> Any:
    import matplotlib
    from matplotlib.colors import Colormap

    if isinstance(name, Colormap):
        return name
    if not isinstance(name, str) or name not in matplotlib.colormaps:
        raise ValueError(f"cmap={brief(name)}: matplotlib has no colour map of that name.")
    return matplotlib.colormaps[name]


def _tick_names(ax: Axes, side: str, names: Sequence[str]) -> None:
    """A name at each whole number, unless there are too many to read."""
    if len(names) > MOST_NAMES:
        return
    axis: Any = getattr(ax, f"{side}axis")
    shown = [_short(name) for name in names]
    axis.set_ticks(range(len(names)), shown, rotation=90 if side == "x" else 0, fontsize="small")
    for text in axis.get_ticklabels():
        text.set_parse_math(False)


def _labels(tokens: MultiVector) -> list[str]:
    return [_label(text) for text in tokens.token_texts]


def _label(text: str) -> str:
    """A short text a token in which nothing is invisible."""
    plain = "".join(c if c.isprintable() else _escaped(c) for c in text)
    return plain.strip(" ") or "␣"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _short(text: str) -> str:
    text = one_line(visible(text))
    return text if len(text) <= MOST_NAME else text[: MOST_NAME - 1] + "…"
