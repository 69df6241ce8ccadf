"""What levers make of the next token: the likeliest tokens without them and with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.model import Model
from mullama_lab.engine.noise_floor import known_floor, row_differences
from mullama_lab.glyphs import piece_label
from mullama_lab.widgets._rows_aside import NO_NUMBERS

N_FIRST, N_MORE = 8, 4  # rows: the likeliest without, and those that are new among them with


def effect(base: NDArray[np.float32], row: NDArray[np.float32], model: Model) -> dict[str, Any]:
    """The likeliest tokens of two rows of logits, and how far these are apart.

    Raises:
        ValueError: a row has no numbers, as where an adapter is at a scale far too large.
    """
    if not (np.isfinite(base.max()) and np.isfinite(row.max())):
        raise ValueError(NO_NUMBERS)
    kl = row_differences(base, row)["kl"]
    p, q = _probabilities(base), _probabilities(row)
    first = [int(token) for token in np.argsort(-p, kind="stable")[:N_FIRST]]
    then = [int(token) for token in np.argsort(-q, kind="stable")[:N_FIRST]]
    listed = [*first, *[token for token in then if token not in first][:N_MORE]]
    floor, piece = known_floor(model), model.piece
    return {
        "rows": [[piece(token).hex(), token, float(p[token]), float(q[token])] for token in listed],
        "tops": [piece(first[0]).hex(), piece(then[0]).hex()],
        "changed": first[0] != then[0],
        "kl": kl,
        "noise": None if floor is None else floor.within(kl, "kl"),
    }


def in_words(shown: Mapping[str, Any]) -> str:
    """What `effect` found, as a line."""
    before, after = (piece_label(bytes.fromhex(top)) for top in shown["tops"])
    likeliest = f"stays {before!r}" if before == after else f"{before!r} becomes {after!r}"
    return f"KL {shown['kl']:.3g} nats, the likeliest token {likeliest}"


def table_rows(shown: Mapping[str, Any]) -> list[list[str]]:
    """The rows of `effect`: token, id, probability without and with."""
    return [
        [piece_label(bytes.fromhex(piece)), str(token), f"{p:.1%}", f"{q:.1%}"]
        for piece, token, p, q in shown.get("rows", [])
    ]


def _probabilities(row: NDArray[np.float32]) -> NDArray[np.float64]:
    weights = np.exp(row.astype(np.float64) - row.max())
    return weights / weights.sum()
