"""The card of a Model: what one wants to know before using it. It needs no browser half."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mullama_lab.widgets import _static

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model


def bundle(model: Model) -> dict[str, str]:
    """The card as `text/html` without script and as `text/plain`."""
    facts = model.card()
    if model.closed:
        facts = {**facts, "state": "closed"}
    e = _static.element
    rows = [
        e(
            "tr",
            e("th", label, scope="row", style="text-align:left;font-weight:500;opacity:.7"),
            e("td", value, style="text-align:left"),
        )
        for label, value in facts.items()
        if label != "name"
    ]
    card = e(
        "div",
        e("b", facts["name"]),
        e("table", e("tbody", *rows), cellpadding="3", style="margin-top:4px"),
        style=f"{_static.FONT};display:inline-block;padding:8px 12px;"
        "border:1px solid rgba(128,128,128,.35);border-radius:6px",
    )
    width = max(map(len, facts))
    text = "\n".join(f"{label:<{width}}  {value}" for label, value in facts.items())
    return {"text/plain": text, "text/html": _static.to_html(card)}
