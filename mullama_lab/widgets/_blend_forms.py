"""A BlendPad without a browser half: as text and as elements.

It knows the values that the pad shows, not the pad.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from mullama_lab.glyphs import brief, one_line, visible
from mullama_lab.widgets._blend_grid import BlendGrid
from mullama_lab.widgets._next_token_effect import in_words, table_rows
from mullama_lab.widgets._static import FONT, QUIET, element, in_columns, table

PRINTED = 4  # every so manyth row and column of the map
COLUMNS = ("token", "id", "without", "with")


@dataclass(frozen=True, eq=False)
class Picture:
    """What a pad shows.

    Attributes:
        axes, at, shown, about, target: its traits.
        grid: the map.
    """

    axes: Sequence[Mapping[str, Any]]
    at: tuple[float, float]
    shown: Mapping[str, Any]
    about: str
    target: str
    grid: BlendGrid


def headline(pad: Picture) -> str:
    """The point, and what is so there."""
    if not pad.axes:
        return "BlendPad()"
    point = ", ".join(f"{axis['name']} × {x:g}" for axis, x in zip(pad.axes, pad.at))
    if not pad.shown:
        return f"BlendPad({point})"
    said, logprob = in_words(pad.shown), pad.shown["logprob"]
    if logprob is not None:
        base = pad.shown["base_logprob"]
        said += f", {_target(pad)} {logprob:.4g} nats (without them {base:.4g})"
    return f"BlendPad({point}: {said})"


def plain(pad: Picture) -> str:
    """The point, the next tokens there, and some of the map."""
    rows, grid = table_rows(pad.shown), _map_rows(pad)
    lines = [headline(pad), *filter(None, [pad.about])]
    lines += in_columns([COLUMNS, *rows]) if rows else []
    return "\n".join(lines + (["", _measure(pad), *in_columns(grid)] if grid else []))


def static(pad: Picture) -> Element:
    """The same as elements, the cells of the map the darker the higher."""
    rows, grid = table_rows(pad.shown), _map_rows(pad)
    return element(
        "div",
        element("b", "Blend pad "),
        element("span", headline(pad)),
        element("div", pad.about, style=QUIET) if pad.about else None,
        element("div", _measure(pad), style=QUIET) if grid else None,
        _coloured(pad, grid) if grid else None,
        table(COLUMNS, rows, title="Next token without and with") if rows else None,
        style=FONT,
    )


def _target(pad: Picture) -> str:
    return brief(one_line(visible(pad.target)))


def _measure(pad: Picture) -> str:
    if pad.target:
        return f"log-probability of {_target(pad)}, nats"
    return "KL of the next token from that without the two, nats"


def _map_rows(pad: Picture) -> list[list[str]]:
    """Some rows and columns of the map, the highest strength of the second at the top."""
    grid = pad.grid
    if not pad.axes or not 0 < grid.stride <= PRINTED:
        return []
    x, y = grid.axes(PRINTED)
    rows = zip(y.tolist(), grid.picture(PRINTED).tolist(), strict=True)
    first, second = (axis["name"] for axis in pad.axes)
    cells = [[f"{strength:g}", *map(_figure, row)] for strength, row in rows]
    return [[f"{second} \\ {first}", *(f"{one:g}" for one in x)], *reversed(cells)]


def _figure(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "n/a"


def _coloured(pad: Picture, rows: list[list[str]]) -> Element:
    values = pad.grid.picture(PRINTED)[::-1]
    low, high = np.nanmin(values), np.nanmax(values)
    shares = np.nan_to_num((values - low) / (high - low or 1.0))
    body = [
        element(
            "tr",
            element("th", name, scope="row"),
            *[
                element("td", text, style=f"background:rgba(47,111,180,{0.7 * share:.2f})")
                for text, share in zip(texts, line, strict=True)
            ],
        )
        for (name, *texts), line in zip(rows[1:], shares.tolist(), strict=True)
    ]
    head = element("tr", *[element("th", text, scope="col") for text in rows[0]])
    return element("table", head, *body, cellpadding="3", style="font-size:12px;text-align:right")
