"""A SimilarityGrid without a browser half: as text, as elements, as the code that makes it.

It knows the values that the grid shows, not the grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree.ElementTree import Element

from mullama_lab.counted import counted
from mullama_lab.engine.multivector import MultiVector
from mullama_lab.glyphs import visible
from mullama_lab.widgets import _tokens_in_text
from mullama_lab.widgets._rounding import adds_up
from mullama_lab.widgets._static import (
    FONT,
    QUIET,
    element,
    in_columns,
    special_token,
    table,
)

# A saved notebook stays small:
MOST_ROWS = 10  # of the table
MOST_TEXT = 600  # characters of the document
MOST_MARKS = 22
DIGITS = 2
COLUMNS = ("", "query token", "adds", "best match in the document", "place")


@dataclass(frozen=True, eq=False)
class Match:
    """A query and a document as a grid shows them.

    Attributes:
        query, document: their tokens.
        off: places of query tokens that are left out of the score.
        contributions: what each query token adds to the score; 0 for those that are off.
        best: the document token that each query token matches best; -1 in an empty document.
        score: the sum of the contributions.
    """

    query: MultiVector
    document: MultiVector
    off: list[int]
    contributions: list[float]
    best: list[int]
    score: float


def headline(n_query: int, n_document: int) -> str:
    return f"SimilarityGrid({n_query} query × {n_document} document tokens)"


def plain(match: Match | None, *, title: str, note: str) -> str:
    """The score and what it is made of, in columns."""
    if empty := _why_empty(match):
        return f"SimilarityGrid: {empty}"
    assert match is not None
    head = [visible(line) for line in (title, note) if line]
    size = headline(len(match.query), len(match.document))
    return "\n".join([*head, size, *in_columns([COLUMNS, *_rows(match)])])


def static(match: Match | None, *, title: str, note: str) -> Element:
    """The table, open, and the document's text with the numbers of what matched best."""
    head = element("div", element("b", title)) if title else None
    said = element("div", note, style=QUIET) if note else None
    if empty := _why_empty(match):
        return element("div", head, said, element("div", empty), style=FONT)
    assert match is not None
    sums = table(COLUMNS, _with_badges(match), title="What each query token adds to the score")
    sums.set("open", "open")
    return element(
        "div",
        head,
        said,
        element("div", _summary(match), style=QUIET),
        element("div", *_marked(match), dir="auto", style="white-space:pre-wrap;line-height:1.9"),
        sums,
        style=FONT,
    )


def code(texts: tuple[str, str] | None, *, off: list[int], **options: str) -> str:
    """Python that shows the same, once `encoder` is there.

    Args:
        texts: of the query and of the document; None where nothing is shown.
        off: query tokens that are left out.
        options: of the grid; those that are as usual are left out.
    """
    usual = {"scale": "raw", "unit": "pieces"}
    given = [f"{name}={value!r}" for name, value in options.items() if value != usual.get(name, "")]
    head = "from mullama_lab.widgets import SimilarityGrid\n\n"
    if texts is None:
        return f"{head}grid = SimilarityGrid({', '.join(given)})"
    query, document = texts
    lines = [
        f"query = encoder.encode_query({query!r})",
        f"document = encoder.encode_documents([{document!r}])[0]",
        f"grid = SimilarityGrid({', '.join(['query', 'document', *given])})",
        *([f"grid.off = {off}"] if off else []),
    ]
    return head + "\n".join(lines)


def _why_empty(match: Match | None) -> str:
    """Why there is nothing to show; empty if there is something."""
    if match is None:
        return "no query and document yet"
    if not len(match.query):
        return "the query has no tokens, so there is nothing to match"
    return "" if len(match.document) else "the document has no tokens, so nothing can match it"


def _summary(match: Match) -> str:
    n = len(match.query) - len(match.off)
    off = f", {len(match.off)} off" if match.off else ""
    tokens = counted(n, "query token")
    return f"score {match.score:.{DIGITS}f}: the best matches of {tokens} added up{off}"


def _rows(match: Match) -> list[list[str]]:
    """A row for each of the first query tokens, one for the rest, and their sum."""
    names = _tokens_in_text.labels(match.query)
    places = _tokens_in_text.labels(match.document)
    on = [i for i in range(len(names)) if i not in set(match.off)]
    parts, total = adds_up([match.contributions[i] for i in on], DIGITS)
    adds = dict(zip(on, parts, strict=True))
    rows = [
        [
            str(i),
            visible(names[i]),
            f"{adds[i]:.{DIGITS}f}" if i in adds else "off",
            visible(places[column]),
            str(column),
        ]
        for i, column in enumerate(match.best[:MOST_ROWS])
    ]
    more = len(names) - len(rows)
    if more > 0:
        rest = sum(adds.get(i, 0.0) for i in range(len(rows), len(names)))
        rows.append(["…", f"{more} more", f"{rest:.{DIGITS}f}", "", ""])
    return [*rows, ["", "score", f"{total:.{DIGITS}f}", "", ""]]


def _with_badges(match: Match) -> list[list[str | Element]]:
    """The rows of the table, with badges for tokens that stand for no text."""
    query, document = _tokens_in_text.special(match.query), _tokens_in_text.special(match.document)
    rows: list[list[str | Element]] = [list(row) for row in _rows(match)]
    for row, says, column in zip(rows[:MOST_ROWS], query, match.best, strict=False):
        for cell, about in ((1, says), (3, document[column])):
            if about:
                row[cell] = special_token(str(row[cell]), about)
    return rows


def _marked(match: Match) -> list[Element | str]:
    """The document's text; what matches best is underlined and has its query tokens' numbers."""
    matched_by: dict[int, list[int]] = {}
    for i, column in enumerate(match.best):
        if i not in match.off:
            matched_by.setdefault(column, []).append(i)
    shown, gaps = _tokens_in_text.in_text(match.document)
    special = _tokens_in_text.special(match.document)
    parts: list[Element | str] = []
    size = marks = 0
    for column, (gap, text) in enumerate(zip(gaps, shown, strict=False)):
        size += len(gap) + len(text)
        if size > MOST_TEXT or marks == MOST_MARKS:
            return [*parts, "…"]
        parts.append(gap)
        name = special_token(text, special[column]) if special[column] else text
        if column not in matched_by:
            parts.append(name)
            continue
        rows = matched_by[column]
        numbers = " ".join(map(str, rows[:3])) + ("+" if len(rows) > 3 else "")
        marks += 1
        parts.append(element("u", name, element("sup", numbers)))
    return [*parts, gaps[-1]]
