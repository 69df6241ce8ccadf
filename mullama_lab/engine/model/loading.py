"""What a person sees of a model while it loads: a bar, and what llama.cpp warns of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from mullama_lab.engine.bar import bar
from mullama_lab.glyphs import brief
from mullama_lab.warned import warn

Progress = Callable[[float], "bool | None"]

# A line begins with the function that says it.
_LOADING_LINE = re.compile(r"load\w*: (.*\w.*)")
_HARMLESS = re.compile(  # llama.cpp mends it, or it is a way to write "none"
    r"type will be overridden|attribute to USER_DEFINED|^removing .* from EOG list|^override '"
    r"|= 4294967295, using default id -1|^adding \d+ dummy tokens"
)
_NO_END_TOKEN = re.compile(r"special_eo\w_id is not in special_eog_ids")


@contextmanager
def reporter(progress: bool | Progress | None, name: str) -> Iterator[Progress | None]:
    """The function llama.cpp reports to: the caller's, or a bar after two seconds."""
    if progress is None or progress is False:
        yield None
    elif callable(progress):
        yield progress
    elif progress is True:
        with bar(name, 100, "%") as shown:
            yield lambda done: shown.update(round(100 * done) - shown.n) and None
    else:
        raise TypeError(
            f"progress={brief(progress)} must be None, True or a function of one number."
        )


def say_warnings(name: str, lines: Sequence[str], vocab_type: str) -> None:
    """Say once, through `warnings`, what llama.cpp warned of when it loaded a model."""
    said: dict[str, None] = {}
    for found in filter(None, map(_LOADING_LINE.fullmatch, lines)):
        words = found[1].strip()
        # No text is generated with a WordPiece vocabulary, so nothing need end one.
        needless = vocab_type == "WPM" and _NO_END_TOKEN.match(words)
        if not needless and not _HARMLESS.search(words):
            said[words] = None
    if said:
        warn(
            f"llama.cpp warns of the file of {name}: {'; '.join(said)}. "
            "Another conversion of the model may not have this."
        )
