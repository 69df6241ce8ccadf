"""The card of a Model or an encoder: what one wants to know first. It needs no browser half."""

from __future__ import annotations

from typing import Protocol

from mullama_lab.glyphs import one_line, visible
from mullama_lab.widgets import _static

__all__ = ["bundle"]
__dir__ = __all__.copy  # what tab completion offers


class Carded(Protocol):
    """What has a card: facts as text by label, its name first."""

    @property
    def closed(self) -> bool: ...
    def card(self) -> dict[str, str]: ...


def bundle(subject: Carded) -> dict[str, str]:
    """The card as `text/html` without script and as `text/plain`.

    An encoder's `notes` stand below, for its vectors must not be shown without them.
    """
    facts = {label: one_line(visible(value)) for label, value in subject.card().items()}
    if subject.closed:
        facts["state"] = "closed"
    notes = [visible(note) for note in getattr(subject, "notes", ())]
    name, *labels = facts
    e = _static.element
    rows = [
        e(
            "tr",
            e("th", label, scope="row", style="text-align:left;font-weight:500;opacity:.7"),
            e("td", facts[label], style="text-align:left"),
        )
        for label in labels
    ]
    card = e(
        "div",
        e("b", facts[name]),
        e("table", e("tbody", *rows), cellpadding="3", style="margin-top:4px"),
        *(e("div", note, style="margin-top:4px;max-width:60ch") for note in notes),
        style=f"{_static.FONT};display:inline-block;padding:8px 12px;"
        "border:1px solid rgba(128,128,128,.35);border-radius:6px",
    )
    width = max(map(len, facts))
    lines = [*(f"{label:<{width}}  {value}" for label, value in facts.items()), *notes]
    return {"text/plain": "\n".join(lines), "text/html": _static.to_html(card)}
