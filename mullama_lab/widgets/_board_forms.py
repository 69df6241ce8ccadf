"""A RankBoard without a browser half: as text, as elements, as the code that makes it.

It knows the values that the board shows, not the board.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from xml.etree.ElementTree import Element

from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.glyphs import visible
from mullama_lab.widgets._rounding import adds_up
from mullama_lab.widgets._static import (
    FONT,
    QUIET,
    element,
    in_columns,
    special_token,
    table,
)

MOST_ROWS = 10
MOST_NAME = 60
DIGITS = 2
COLUMNS = ("rank", "document", "score", "largest part")


@dataclass(frozen=True, eq=False)
class Results:
    """What a board shows.

    Attributes:
        title, note, problem: lines above the results; empty for none.
        state: of the board, as in `rank_board.STATES`.
        progress: documents read, of how many.
        query: the query, as typed.
        token_labels: a short text for each query token.
        special: what a query token is that stands for no text; empty for the others.
        off: places of query tokens that are left out of the scores.
        total: how many documents there are.
        names: of the documents, best first.
        contributions: shape (documents, query tokens), best first; 0 where a query token is off.
    """

    title: str
    note: str
    problem: str
    state: str
    progress: tuple[int, int]
    query: str
    token_labels: list[str]
    special: list[str]
    off: list[int]
    total: int
    names: list[str]
    contributions: NDArray


def plain(results: Results) -> str:
    """The table, in columns, below the lines that stand above the board."""
    lines = (results.title, results.note, results.problem)
    head = [visible(line) for line in lines if line]
    if not results.names:
        return "\n".join([*head, _no_results(results)])
    return "\n".join([*head, _summary(results), *in_columns([COLUMNS, *_rows(results)])])


def static(results: Results) -> Element:
    """The table, open."""
    e = element
    head = e("div", e("b", results.title)) if results.title else None
    notes = [e("div", text, style=QUIET) for text in (results.note, results.problem) if text]
    if not results.names:
        return e("div", head, *notes, e("div", _no_results(results)), style=FONT)
    scores = table(COLUMNS, map(partial(_with_badges, results), _rows(results)), title="Results")
    scores.set("open", "open")
    return e("div", head, *notes, e("div", _summary(results), style=QUIET), scores, style=FONT)


def code(query: str, *, off: list[int], bars: str) -> str:
    """Python that searches for the same, once `lab` is there."""
    changed = [f"off={off!r}"] if off else []
    changed += [f"bars={bars!r}"] if bars != "difference" else []
    settings = [f"lab.set({', '.join(changed)})"] if changed else []
    return "\n".join([f"lab.search({query!r})", *settings])


def _no_results(results: Results) -> str:
    done, total = results.progress
    if results.state in ("indexing", "stopped"):
        return f"RankBoard: {results.state}, {done} of {counted(total, 'document')} read"
    return f"RankBoard: no results, {counted(results.total, 'document')}"


def _summary(results: Results) -> str:
    n, n_off = len(results.token_labels), len(results.off)
    off = f", {n_off} of {counted(n, 'query token')} off" if n_off else ""
    documents = counted(results.total, "document")
    return f"{visible(results.query)!r}: {len(results.names)} of {documents}{off}"


def _rows(results: Results) -> list[list[str]]:
    """Rank, name, score and largest part of the first documents; then how many more there are."""
    shown = zip(results.names[:MOST_ROWS], results.contributions, strict=False)
    rows = [
        [ordinal(rank), *_row(results, visible(name), parts.tolist())]
        for rank, (name, parts) in enumerate(shown, 1)
    ]
    more = len(results.names) - len(rows)
    return [*rows, ["…", f"{more} more", "", ""]] if more > 0 else rows


def _row(results: Results, name: str, contributions: list[float]) -> list[str]:
    parts, total = adds_up(contributions, DIGITS)
    on = [i for i in range(len(parts)) if i not in results.off]
    best = max(on, key=lambda i: parts[i], default=None)
    part = ""
    if best is not None:
        part = f"{best} {visible(results.token_labels[best])} {parts[best]:.{DIGITS}f}"
    short = name if len(name) <= MOST_NAME else name[: MOST_NAME - 1] + "…"
    return [short, f"{total:.{DIGITS}f}", part]


def _with_badges(results: Results, row: list[str]) -> list[str | Element]:
    """A row of the table, its largest part as a badge where a special token adds it."""
    *cells, part = row
    at, _, rest = part.partition(" ")
    says = results.special[int(at)] if rest else ""
    if not says:
        return list(row)
    name, _, adds = rest.rpartition(" ")
    return [*cells, element("span", f"{at} ", special_token(name, says), f" {adds}")]


def ordinal(rank: int) -> str:
    """A rank from 1 as "1st", "2nd", "11th"."""
    ending = (
        "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    )
    return f"{rank}{ending}"
