"""A SimilarityGrid without a browser half: as text, as elements, as the code that makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from mullama_lab.glyphs import visible
from mullama_lab.widgets import _tokens_in_text
from mullama_lab.widgets._shares import adds_up
from mullama_lab.widgets._static import FONT, QUIET, element, table

if TYPE_CHECKING:
    from mullama_lab.widgets.similarity_grid import SimilarityGrid

# A saved notebook stays small:
MOST_ROWS = 10  # of the table
MOST_TEXT = 600  # characters of the document
MOST_MARKS = 30
DIGITS = 2
COLUMNS = ("", "query token", "adds", "best match in the document", "place")


def plain(grid: SimilarityGrid) -> str:
    """The score and what it is made of, in columns."""
    if nothing := _nothing(grid):
        return f"SimilarityGrid: {nothing}"
    rows = [COLUMNS, *_rows(grid)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    head = [visible(grid.title)] if grid.title else []
    notes = [visible(grid.note)] if grid.note else []
    return "\n".join([*head, *notes, repr(grid), *lines])


def static(grid: SimilarityGrid) -> Element:
    """The table, open, and the document's text with the numbers of what matched best."""
    head = element("div", element("b", grid.title)) if grid.title else None
    note = element("div", grid.note, style=QUIET) if grid.note else None
    if nothing := _nothing(grid):
        return element("div", head, note, element("div", nothing), style=FONT)
    sums = table(COLUMNS, _rows(grid), title="What each query token adds to the score")
    sums.set("open", "open")
    return element(
        "div",
        head,
        note,
        element("div", _summary(grid), style=QUIET),
        element("div", *_marked(grid), dir="auto", style="white-space:pre-wrap;line-height:1.9"),
        sums,
        style=FONT,
    )


def code(grid: SimilarityGrid) -> str:
    options = [f"{name}={getattr(grid, name)!r}" for name in _changed(grid)]
    query, document = grid._query, grid._document
    head = "from mullama_lab.widgets import SimilarityGrid\n\n"
    if query is None or document is None:
        return f"{head}grid = SimilarityGrid({', '.join(options)})"
    lines = [
        f"query = encoder.encode_query({query.text!r})",
        f"document = encoder.encode_documents([{document.text!r}])[0]",
        f"grid = SimilarityGrid({', '.join(['query', 'document', *options])})",
        *([f"grid.off = {grid.off}"] if grid.off else []),
    ]
    return head + "\n".join(lines)


def _changed(grid: SimilarityGrid) -> list[str]:
    usual = {"scale": "raw", "unit": "pieces", "title": "", "note": ""}
    return [name for name, value in usual.items() if getattr(grid, name) != value]


def _nothing(grid: SimilarityGrid) -> str:
    if grid.n_query < 0:
        return "no query and document yet"
    if not grid.n_query:
        return "the query has no tokens, so there is nothing to match"
    return "" if grid.n_document else "the document has no tokens, so nothing can match it"


def _summary(grid: SimilarityGrid) -> str:
    n = grid.n_query - len(grid.off)
    off = f", {len(grid.off)} off" if grid.off else ""
    return f"score {grid.score:.{DIGITS}f}: the best matches of {n} query tokens added up{off}"


def _rows(grid: SimilarityGrid) -> list[list[str]]:
    query, document = grid._query, grid._document
    assert query is not None and document is not None
    names = _tokens_in_text.labels(query)
    places = _tokens_in_text.labels(document)
    on = [i for i in range(grid.n_query) if i not in set(grid.off)]
    parts, total = adds_up(grid.contributions[on].tolist(), DIGITS)
    adds = dict(zip(on, parts, strict=True))
    rows = [
        [
            str(i + 1),
            visible(names[i]),
            f"{adds[i]:.{DIGITS}f}" if i in adds else "off",
            visible(places[column]),
            str(column + 1),
        ]
        for i, column in enumerate(grid.best.tolist()[:MOST_ROWS])
    ]
    more = grid.n_query - len(rows)
    if more > 0:
        rest = sum(adds.get(i, 0.0) for i in range(len(rows), grid.n_query))
        rows.append(["…", f"{more} more", f"{rest:.{DIGITS}f}", "", ""])
    return [*rows, ["", "score", f"{total:.{DIGITS}f}", "", ""]]


def _marked(grid: SimilarityGrid) -> list[Element | str]:
    document = grid._document
    assert document is not None
    best: dict[int, list[int]] = {}
    for i, column in enumerate(grid.best.tolist()):
        if i not in grid.off:
            best.setdefault(column, []).append(i + 1)
    shown, gaps = _tokens_in_text.in_text(document)
    parts: list[Element | str] = []
    size = marks = 0
    for column, (gap, text) in enumerate(zip(gaps, shown, strict=False)):
        size += len(gap) + len(text)
        if size > MOST_TEXT or marks == MOST_MARKS:
            return [*parts, "…"]
        parts.append(gap)
        if column not in best:
            parts.append(text)
            continue
        numbers = " ".join(map(str, best[column][:3])) + ("+" if len(best[column]) > 3 else "")
        marks += 1
        parts.append(element("u", text, element("sup", numbers)))
    return [*parts, gaps[-1]]
