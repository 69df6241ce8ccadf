"""Elements and columns of text for the forms of a view that need no script.

Elements are escaped, self-contained, and fit light and dark.
Colours are translucent over whatever page they land on, so one form serves every theme.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.etree import ElementTree as ET

from mullama_lab.glyphs import visible

FONT = "font:13px/1.5 system-ui,sans-serif"
QUIET = "opacity:.7;font-size:12px"


def element(tag: str, *children: ET.Element | str | None, **attributes: str) -> ET.Element:
    """Make an element; a trailing underscore (`class_`) is dropped from attribute names.

    Text is made visible first: no control, bidi or zero-width character gets through. Attributes
    come in the order of their names, as exporters put them.
    """
    given = {key.rstrip("_"): visible(text) for key, text in attributes.items() if text}
    node = ET.Element(tag, dict(sorted(given.items())))
    last: ET.Element | None = None
    for child in children:
        if child is None:
            continue
        if isinstance(child, ET.Element):
            node.append(child)
            last = child
        elif last is None:
            node.text = (node.text or "") + visible(child)
        else:
            last.tail = (last.tail or "") + visible(child)
    return node


def table(
    columns: Iterable[str],
    rows: Iterable[Iterable[str | ET.Element]],
    *,
    title: str = "Show as table",
) -> ET.Element:
    """A closed `<details>` with a table."""
    head = element("tr", *[element("th", name, scope="col") for name in columns])
    body = [element("tr", *[element("td", text) for text in row]) for row in rows]
    return element(
        "details",
        element("summary", title, style=QUIET),
        element(
            "table",
            element("thead", head),
            element("tbody", *body),
            cellpadding="3",
            style="font-size:12px;text-align:right;white-space:pre",
        ),
    )


def in_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line of text for each row, its cells one below the other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def table_as_text(said: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A line, and a table below it if that has rows."""
    return "\n".join([said, *(in_columns([columns, *rows]) if rows else [])])


def special_token(name: str, says: str) -> ET.Element:
    """A token that stands for no text, as a badge; `says` tells which it is."""
    style = "border:1px solid;border-radius:3px;padding:0 3px;font-size:10px;opacity:.8"
    return element("span", name.strip("[]<>|"), title=says, style=style)


def to_html(node: ET.Element) -> str:
    return ET.tostring(node, encoding="unicode", method="html")
