"""Time and memory: throughput, latency, depth, and what holds the bytes."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import size_in_words
from mullama_lab.engine.memory import Buffers, Memory
from mullama_lab.engine.memory.buffers import KINDS
from mullama_lab.glyphs import brief
from mullama_lab.plots.axes import AHEAD, colour_map, legend_above, new_axes, tick_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mullama_lab.studies.bench import Scaling, Tuning
    from mullama_lab.studies.monitor import Monitor
    from mullama_lab.studies.timing import DepthCurve, Timing


N_MEDIANS = 40  # of a running median


def memory(found: Buffers, ax: Axes | None = None) -> Axes:
    """Memory by kind: a bar each of a Memory or a Plan; `print(found)` has them as text.

    The darker part of the KV cache is in use; of models with states it is not told apart.
    """
    if not isinstance(found, Buffers):
        raise TypeError(f"found={brief(found)}: it must be session.memory, or what plan() gives.")
    sizes = {kind: getattr(found, f"{kind}_bytes") / 1e6 for kind in KINDS}
    shown = [kind for kind in KINDS if sizes[kind]]
    ax = new_axes(ax, 6, 1.2 + 0.36 * len(shown))
    bars = ax.barh(range(len(shown)), [sizes[kind] for kind in shown], color="#9ecae1")
    ax.bar_label(bars, [size_in_words(int(sizes[kind] * 1e6)) for kind in shown], padding=3)
    if isinstance(found, Memory) and found.used_bytes and not found.state_bytes:
        ax.barh(shown.index("kv"), found.used_bytes / 1e6, color=AHEAD, label="in use")
        legend_above(ax)
    tick_names(ax, "y", [KINDS[kind] for kind in shown])
    ax.invert_yaxis()
    ax.set(xlabel=f"MB, {size_in_words(found.total_bytes)} in all")
    ax.margins(x=0.15)
    return ax


def throughput(found: Timing, ax: Axes | None = None) -> Axes:
    """Tokens a second over the tokens of a generation, one by one and as a running median.

    The first token is left out, which has the prompt's time.
    """
    _must_be_timing(found)
    ax = new_axes(ax, 7, 3.2)
    speed = 1e3 / found.after_first.to_pandas()["total"]
    width = max(1, len(speed) // N_MEDIANS)
    middle = speed.rolling(width, center=True, min_periods=1).median()
    ax.plot(speed.index, speed, ".", color="0.72", ms=3, label="each token")
    ax.plot(speed.index, middle, "-", color=AHEAD, label=f"median of {width}")
    ax.set(xlabel="step", ylabel="tokens a second", ylim=(0, None))
    ax.set_title(found.tokens.test, fontsize=11)
    legend_above(ax)
    return ax


def latency(found: Timing, ax: Axes | None = None) -> Axes:
    """How long tokens take: the share of them that took at most so many milliseconds.

    The lines are the median and what 95 of 100 tokens stay below. The first token is left out.
    """
    from matplotlib.ticker import PercentFormatter

    _must_be_timing(found)
    ax = new_axes(ax, 5, 3.2)
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
        legend_above(ax)
    return ax


def depth_curve(curve: DepthCurve, ax: Axes | None = None) -> Axes:
    """Milliseconds a token against the tokens in the cache: medians, quartiles, and a line.

    The band is the line's 95 % interval; where fewer than four depths were measured there is none.
    """
    if not hasattr(curve, "seconds_to_fill"):
        raise TypeError(f"curve={brief(curve)}: it must be what depth() or from_trace() gives.")
    ax = new_axes(ax, 6, 3.6)
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
    legend_above(ax)
    return ax


def scaling(found: Scaling, ax: Axes | None = None) -> Axes:
    """Tokens a second against threads or sequences: medians, and the range of the repeats.

    Dashed is what they would be in proportion to the least number. `print(found)` has it as text.
    """
    from matplotlib.ticker import MaxNLocator

    if not hasattr(found, "lines"):
        raise TypeError(f"found={brief(found)}: it must be what result.scaling() gives.")
    ax = new_axes(ax, 6, 3.6)
    for place, (name, points) in enumerate(found.lines.items()):
        n, median, low, high = np.array([point[:4] for point in points]).T
        colour, ends = colour_map("tab10")(place % 10), [median - low, high - median]
        ax.errorbar(n, median, ends, fmt="o-", color=colour, ms=4, lw=1, label=name)
        ax.plot(n, median[0] * n / n[0], "--", color=colour, lw=0.8)
    what = {"n_threads": "threads", "n_sequences": "sequences decoded together"}[found.by]
    ax.set(xlabel=what, ylabel="tokens a second", ylim=(0, None))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_above(ax)
    return ax


def tuning(found: Tuning, ax: Axes | None = None) -> Axes:
    """Tokens a second of each setting that was tried: the median, and the range of its repeats.

    Settings are threads / batch / ubatch, step by step from the top. A square is the default, and
    blue is the best, where it did not end early; the title says what it saves. `print(found)` has
    it as text.
    """
    if not hasattr(found, "saving"):
        raise TypeError(f"found={brief(found)}: it must be what autotune() gives.")
    rows = found.to_pandas().to_dict("records")
    ax = new_axes(ax, 6, 1.6 + 0.26 * len(rows))
    names = []
    for place, row in enumerate(rows):
        setting = tuple(row[name] for name in found.best)
        median = row["median_ts"]
        ends = [[median - row["min_ts"]], [row["max_ts"] - median]]
        mark = "s" if setting == found.default else "o"
        colour = AHEAD if row["is_best"] else "0.5"
        ax.errorbar(median, place, xerr=ends, fmt=mark, color=colour, ms=5, lw=1)
        names.append(f"{row['step']} {' / '.join(map(str, setting))}")
    tick_names(ax, "y", names)
    ax.invert_yaxis()
    ax.set(xlabel=f"tokens a second of {found.test}", xlim=(0, None))
    ax.set_title(fill(found.saving, 56), fontsize=9)
    return ax


def throughput_over_time(monitor: Monitor, ax: Axes | None = None) -> Axes:
    """Tokens a second of a Monitor, interval by interval, and their average while any came.

    A gap is where it was stopped.
    """
    columns = _columns_of_monitor(monitor)
    ax = new_axes(ax, 7, 3.2)
    seconds = columns["seconds"]
    ax.plot(seconds, columns["decoded_per_second"], color="0.72", label="decoded, prompts too")
    ax.plot(seconds, columns["tokens_per_second"], color=AHEAD, label="generated")
    if not np.isnan(monitor.average):
        ax.axhline(monitor.average, color=AHEAD, lw=0.8, ls=":")
        ax.set_title(f"{monitor.average:.3g} tokens/s on average", fontsize=11)
    ax.set(xlabel="seconds", ylabel="tokens/s", ylim=(0, None))
    legend_above(ax)
    return ax


def memory_over_time(monitor: Monitor, ax: Axes | None = None) -> Axes:
    """Resident memory of the process while a Monitor ran, what the machine had free, and GPUs'.

    What was not available has no line, and the title says so where that is all of it.
    """
    columns = _columns_of_monitor(monitor)
    ax = new_axes(ax, 7, 3.2)
    lines = {"resident_bytes": ("resident", AHEAD, "-"), "free_bytes": ("free", "0.5", "--")}
    for name in columns:
        if name.startswith("gpu_") and name.endswith("_bytes") and "total" not in name:
            number = name.split("_")[1]
            lines[name] = (f"GPU {number}", colour_map("tab10")(1 + int(number) % 9), "-")
    shown = {name: line for name, line in lines.items() if name in columns}
    for name, (label, colour, style) in shown.items():
        ax.plot(columns["seconds"], columns[name] / 1e9, style, color=colour, label=label)
    ax.set(xlabel="seconds", ylabel="memory (GB)", ylim=(0, None))
    if shown:
        legend_above(ax)
    else:
        ax.set_title("memory: not available", fontsize=11)
    return ax


def _must_be_timing(found: object) -> None:
    if not hasattr(found, "after_first"):
        raise TypeError(f"found={brief(found)}: it must be what timing() gives.")


def _columns_of_monitor(monitor: Monitor) -> Mapping[str, NDArray[np.float64]]:
    if not hasattr(monitor, "sessions_to_pandas"):
        raise TypeError(f"monitor={brief(monitor)}: it must be a Monitor.")
    return monitor.columns()
