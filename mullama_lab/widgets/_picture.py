"""A Preview as a small picture: the rows and columns that `next_token` draws.

Rows are tokens in the order of the raw row, so that they stay where they are while a setting
moves: the likeliest before the chain, and the few that matter after it. What the chain leaves
though it was not among the likeliest, as a grammar may, stands first. Columns are the raw row
and each stage. A cell is a probability, or says why there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mullama_lab.engine.stages.named_tokens import Spelling, named_in_brief

if TYPE_CHECKING:
    from mullama_lab.engine.stages.preview import Preview, StageView

N_ROWS = 20
N_FIRST = 14  # rows that only the raw row decides; the others also follow the chain

REMOVED = -1  # this stage removed it
UNLISTED = -2  # not among the likeliest that the preview lists after this stage
GONE = None  # a stage before this one removed it


def picture(preview: Preview) -> dict[str, Any]:
    """The Preview as plain values, a few kilobytes of JSON."""
    columns = [preview.before, *preview.stages]
    rows = _shown_tokens(preview)
    before = {token: i for i, token in enumerate(_ids(preview.before))}
    return {
        "n_vocab": int(preview.before.n_kept),
        "n_listed": len(before),
        "seed": int(preview.seed),
        "step": int(preview.step),
        "draw": _rounded(preview.draw),
        "choice": int(preview.choice),
        "columns": [_column_head(view, preview.piece) for view in columns],
        "rows": [
            {"id": token, "bytes": preview.piece(token).hex(), "rank": before.get(token)}
            for token in rows
        ],
        "cells": _cells(columns, rows),
    }


def _shown_tokens(preview: Preview) -> list[int]:
    raw, final = _ids(preview.before), _ids(preview.final)
    first = raw[:N_FIRST]
    wanted = dict.fromkeys([*first, int(preview.choice), *final[: N_ROWS - N_FIRST], *raw])
    chosen = set(list(wanted)[:N_ROWS])
    order = dict.fromkeys([*(token for token in final if token not in set(raw)), *raw, *chosen])
    return [token for token in order if token in chosen]


def _column_head(view: StageView, spell: Spelling) -> dict[str, Any]:
    return {
        "name": view.name if view.stage is None else named_in_brief(view.stage, spell),
        "inert": view.stage.why_inert() if view.stage is not None else "",
        "kept": int(view.n_kept),
        "removed": max(0.0, _rounded(view.removed_mass)),
        "entropy": _rounded(view.entropy),
        "changed": bool(view.changed),
    }


def _cells(columns: Sequence[StageView], rows: list[int]) -> list[list[float | None]]:
    """A list of cells for each column, a cell for each row."""
    lists = [dict(zip(_ids(v), map(_rounded, v.probs), strict=True)) for v in columns]
    kept_until = {token: i for i, listed in enumerate(lists) for token in listed}
    return [
        list(column)
        for column in zip(
            *(_row_cells(token, columns, lists, kept_until.get(token, -1)) for token in rows),
            strict=True,
        )
    ]


def _row_cells(
    token: int, columns: Sequence[StageView], lists: list[dict[int, float]], kept_until: int
) -> list[float | None]:
    cells: list[float | None] = []
    for i, (view, listed) in enumerate(zip(columns, lists, strict=True)):
        before = cells[-1] if cells else 0.0
        if token in listed:
            cells.append(listed[token])
        elif before is GONE or before == REMOVED:
            cells.append(GONE)
        elif i <= kept_until:
            cells.append(UNLISTED)
        elif len(listed) == view.n_kept:
            # All that is left is listed; whether this stage took it is known if it was listed.
            cells.append(GONE if before == UNLISTED else REMOVED)
        else:
            cells.append(REMOVED if i and _was_cut(token, columns[i - 1], view) else UNLISTED)
    return cells


def _was_cut(token: int, before: StageView, after: StageView) -> bool:
    """Whether a stage surely removed a token, though its list is cut: it was listed before it."""
    stage = after.stage
    if after.n_kept == before.n_kept or stage is None:
        return False
    if any(named.token == token and named.does == "bans" for named in stage.named()):
        return token in _ids(before)
    if stage.moves:
        return False  # a token that is missing in its list may only have become unlikely
    logits = dict(zip(_ids(before), before.logits, strict=True))
    return token in logits and bool(logits[token] > after.logits.min())


def _ids(view: StageView) -> list[int]:
    return [int(token) for token in view.ids]


def _rounded(x: float) -> float:
    return float(f"{float(x):.4g}")
