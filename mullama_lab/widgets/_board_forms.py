"""A RankBoard without a browser half: as text, as elements, as the code that makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from mullama_lab.glyphs import visible
from mullama_lab.widgets import _tokens_in_text
from mullama_lab.widgets._shares import adds_up
from mullama_lab.widgets._static import FONT, QUIET, element, table

if TYPE_CHECKING:
    from mullama_lab.widgets.rank_board import RankBoard

MOST_ROWS = 10
MOST_NAME = 60
DIGITS = 2
COLUMNS = ("rank", "document", "score", "largest part")


def plain(board: RankBoard) -> str:
    head = [visible(line) for line in (board.title, board.note, board.problem) if line]
    if not board.hits:
        return "\n".join([*head, _nothing(board)])
    rows = [list(COLUMNS), *_rows(board)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*head, _summary(board), *lines])


def static(board: RankBoard) -> Element:
    """The table, open, with a bar for each score."""
    e = element
    head = e("div", e("b", board.title)) if board.title else None
    notes = [e("div", text, style=QUIET) for text in (board.note, board.problem) if text]
    if not board.hits:
        return e("div", head, *notes, e("div", _nothing(board)), style=FONT)
    scores = table(COLUMNS, _rows(board), title="Results")
    scores.set("open", "open")
    return e("div", head, *notes, e("div", _summary(board), style=QUIET), scores, style=FONT)


def code(board: RankBoard) -> str:
    lines = [f"lab.search({board.query!r})"]
    changed = [
        f"{name}={getattr(board, name)!r}"
        for name, usual in (("off", []), ("bars", "whole"))
        if getattr(board, name) != usual
    ]
    return "\n".join([*lines, *([f"lab.set({', '.join(changed)})"] if changed else [])])


def _nothing(board: RankBoard) -> str:
    done, total = board.progress
    if board.state in ("indexing", "stopped"):
        return f"RankBoard: {board.state}, {done} of {total} documents read"
    return f"RankBoard: no results, {board.total} documents"


def _summary(board: RankBoard) -> str:
    off = f", {len(board.off)} of {board.n_query} query tokens off" if board.off else ""
    return f"{visible(board.query)!r}: {len(board.hits)} of {board.total} documents{off}"


def _rows(board: RankBoard) -> list[list[str]]:
    names = [] if board._tokens is None else _tokens_in_text.labels(board._tokens)
    values, order = board.contributions, board.order
    rows = []
    for rank, k in enumerate(order[:MOST_ROWS], 1):
        parts, total = adds_up(values[k].tolist(), DIGITS)
        on = [i for i in range(len(parts)) if i not in board.off]
        best = max(on, key=lambda i: parts[i], default=None)
        part = "" if best is None else f"{best + 1} {visible(names[best])} {parts[best]:.{DIGITS}f}"
        name = visible(board.hits[k].name)
        short = name if len(name) <= MOST_NAME else name[: MOST_NAME - 1] + "…"
        rows.append([str(rank), short, f"{total:.{DIGITS}f}", part])
    more = len(order) - len(rows)
    return [*rows, ["…", f"{more} more", "", ""]] if more > 0 else rows
