"""Cards of adapters and vectors without a browser: as a table in HTML, and as lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias
from xml.etree.ElementTree import Element

from mullama_lab.widgets import _static

Cards: TypeAlias = Sequence[Mapping[str, Any]]  # as the trait `cards` of AdapterCards

AS_IT_IS = "the model as it is"


def plain_text(cards: Cards, in_force: str, note: str) -> str:
    """A line for each card, what acts, and what is said of the text."""
    rows = [[one["name"], f"{one['scale']:g}", _state(one), one["about"]] for one in cards]
    said = [f"in force: {in_force or AS_IT_IS}", note]
    return "\n".join(["Adapters", *_static.in_columns(rows), *filter(None, said)])


def static_html(cards: Cards, in_force: str, note: str) -> Element:
    """The same as HTML."""
    e = _static.element
    rows = [
        e(
            "tr",
            *[e("td", text) for text in (one["name"], f"{one['scale']:g}", _state(one))],
            e("td", one["about"], style=_static.QUIET),
        )
        for one in cards
    ]
    return e(
        "div",
        e("b", "Adapters"),
        e("table", *rows, cellpadding="3") if rows else None,
        e("div", f"In force: {in_force or AS_IT_IS}"),
        e("div", note, style=_static.QUIET) if note else None,
        style=_static.FONT,
    )


def _state(card: Mapping[str, Any]) -> str:
    return card["note"] or ("on" if card["on"] else "off")
