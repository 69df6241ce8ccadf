"""Lists as one line of text: token ids, biases and strings, as a chain editor shows them.

What a list may hold is decided by the stage; here is only how it is written.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable

from mullama_lab.glyphs import brief

MAX_IDS = 4096


def read_ids(text: str) -> list[int]:
    """Token ids from text.

    >>> read_ids("12, 15, 100-103")
    [12, 15, 100, 101, 102, 103]

    Raises:
        ValueError: no such list, or one of more than 4096 ids.
    """
    ids: list[int] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"(\d{1,10})(?:\s*-\s*(\d{1,10}))?", part)
        if match is None:
            raise ValueError(f"{part!r} is not a token id. Write ids such as 12, 15, 100-120.")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 0 <= last - first < MAX_IDS - len(ids):
            raise ValueError(
                f"{part!r} must go up and name at most {MAX_IDS} ids in all. "
                "Give longer lists from Python."
            )
        ids.extend(range(first, last + 1))
    return ids


def write_ids(ids: Iterable[int] | None) -> str:
    """The text that `read_ids` reads back.

    >>> write_ids([12, 15, 100, 101, 102, 103])
    '12, 15, 100-103'
    """
    spans: list[list[int]] = []
    for token in ids or ():
        if spans and token == spans[-1][1] + 1:
            spans[-1][1] = token
        else:
            spans.append([token, token])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def read_biases(text: str) -> dict[int, float]:
    """Biases by token id from text.

    >>> read_biases("262: -1.5, 198: -inf")
    {262: -1.5, 198: -inf}
    """
    biases: dict[int, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"(\d{1,10})\s*:\s*([-+]?(?:inf|\d*\.?\d+(?:e[-+]?\d+)?))", part, re.I)
        if match is None:
            raise ValueError(
                f"{part!r} is not a bias. Write token: bias, as in 262: -1.5, 198: -inf."
            )
        biases[int(match[1])] = float(match[2])
    return biases


def write_biases(biases: Iterable[tuple[int, float]]) -> str:
    """The text that `read_biases` reads back."""
    return ", ".join(f"{t}: {b:.6g}" if math.isfinite(b) else f"{t}: -inf" for t, b in biases)


def read_strings(text: str) -> list[str]:
    """Strings from text.

    >>> read_strings('"one", "two"')
    ['one', 'two']
    """
    try:
        strings = json.loads(f"[{text}]")
    except ValueError:
        strings = None
    if strings is None or not all(isinstance(s, str) for s in strings):
        raise ValueError(
            f"{brief(text)} is not a list of quoted texts. Write them with commas, "
            'as in "\\n", ":".'
        )
    return strings


def write_strings(strings: Iterable[str]) -> str:
    """The text that `read_strings` reads back."""
    return ", ".join(json.dumps(s, ensure_ascii=False) for s in strings)
