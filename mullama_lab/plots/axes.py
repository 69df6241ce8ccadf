"""What the pictures share: Axes, names that can be read, a legend that covers nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mullama_lab.engine.options import instance
from mullama_lab.glyphs import brief, one_line, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MOST_NAMES = 80  # along one axis; more would be a grey smear
MOST_NAME = 24  # characters
AHEAD, BEHIND = "#1f6feb", "#d9480f"


def new_axes(ax: Axes | None, width: float, height: float) -> Axes:
    """The Axes given, or new ones of about this many inches."""
    if ax is not None:
        from matplotlib.axes import Axes as KnownAxes

        return instance("ax", ax, KnownAxes)
    import matplotlib.pyplot as plt

    size = (min(14.0, max(3.0, width)), min(10.0, max(1.8, height)))
    return plt.subplots(figsize=size, layout="constrained")[1]


def legend_above(ax: Axes, *what: Any) -> None:
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


def colour_map(name: str) -> Any:
    """A colour map of matplotlib."""
    import matplotlib
    from matplotlib.colors import Colormap

    if isinstance(name, Colormap):
        return name
    if not isinstance(name, str) or name not in matplotlib.colormaps:
        raise ValueError(f"cmap={brief(name)}: matplotlib has no colour map of that name.")
    return matplotlib.colormaps[name]


def tick_names(ax: Axes, side: str, names: Sequence[str]) -> None:
    """A name at each whole number, unless there are too many to read."""
    if len(names) > MOST_NAMES:
        return
    axis: Any = getattr(ax, f"{side}axis")
    shown = [short_name(name) for name in names]
    axis.set_ticks(range(len(names)), shown, rotation=90 if side == "x" else 0, fontsize="small")
    for text in axis.get_ticklabels():
        text.set_parse_math(False)


def token_label(text: str) -> str:
    """The text of a token, in which nothing is invisible."""
    plain = "".join(c if c.isprintable() else _escaped(c) for c in text)
    return plain.strip(" ") or "␣"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def short_name(text: str) -> str:
    """A name on one line, without what is invisible, cut where it is long."""
    text = one_line(visible(text))
    return text if len(text) <= MOST_NAME else text[: MOST_NAME - 1] + "…"
