"""JSON out of a text: all of it, or what there is of it while it grows."""

from __future__ import annotations

from typing import Any

from mullama_lab.glyphs import brief


def read_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none, or not to its end.
    """
    import jiter

    try:
        return jiter.from_json(_data(text), allow_inf_nan=False)
    except ValueError as error:
        said = str(error)
        more = said.startswith("EOF")
        way = "It is cut off: give the run more max_tokens." if more else "Look at the text."
        raise ValueError(f"{brief(text)} is no JSON: {said}. {way}") from None


def json_so_far(text: str) -> Any:
    """The value of as much as there is of a JSON text; None where that is nothing, or no JSON."""
    import jiter

    try:
        return jiter.from_json(
            _data(text.strip()), allow_inf_nan=False, partial_mode="trailing-strings"
        )
    except ValueError:
        return None


def _data(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
