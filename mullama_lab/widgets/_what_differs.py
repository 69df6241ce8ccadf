"""What tells two runs apart that was asked for: settings of their chains, seeds, models, in words.

What became of it, such as where their texts part, is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import PurePath
from typing import Any

from mullama_lab.engine.trace import Trace
from mullama_lab.glyphs import brief
from mullama_lab.widgets._runs import Ends

MOST = 12  # differences that are said
OF_SIZE = ("n_ctx",)  # options of a session that no token depends on


def what_differs(
    before: Trace, after: Trace, ends: tuple[Ends | None, Ends | None] = (None, None)
) -> list[str]:
    """The differences one by one, from the first of two traces to the second.

    Args:
        ends: where each was asked to end; None where that is not known.
    """
    found = [
        *_of_models(before, after),
        *(_other_prompt(before, after)),
        *between_settings(before, after),
        *_changed("seed", before.seed, after.seed),
        *_between_ends(*ends),
    ]
    return found if len(found) <= MOST else [*found[: MOST - 1], f"{len(found) - MOST + 1} more"]


def between_settings(a: Trace, b: Trace) -> Iterator[str]:
    """What chains and weights, which may change on the way, do not have in common, and where."""
    spans: list[tuple[int, list[str]]] = []
    for step in sorted({*dict(a.settings), *dict(b.settings)}):
        found = a.setting_at(step).difference(b.setting_at(step), a.piece)
        if not spans or spans[-1][1] != found:
            spans.append((step, found))
    if len(spans) == 1:
        yield from spans[0][1]
        return
    for (first, found), (end, _) in zip_longest(spans, spans[1:], fillvalue=(0, [])):
        until = f"to {end - 1}" if end else "on"
        yield from (f"{one} from step {first} {until}" for one in found)


def _of_models(a: Trace, b: Trace) -> Iterator[str]:
    if a.model_id != b.model_id:
        names = [PurePath(trace.model_name).name or "n/a" for trace in (a, b)]
        yield "another file of the model" if names[0] == names[1] else "model " + " → ".join(names)
    for one, other in ((a.model_options, b.model_options), (a.session_options, b.session_options)):
        yield from _between_options(one, other)


def _between_options(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*a, *b} - {*OF_SIZE}):
        values = [brief(one[name]) if name in one else "default" for one in (a, b)]
        if values[0] != values[1]:
            yield f"{name} {' → '.join(values)}"


def _other_prompt(a: Trace, b: Trace) -> list[str]:
    same = a.prompt_tokens.tolist() == b.prompt_tokens.tolist()
    return [] if same else ["another prompt"]


def _between_ends(a: Ends | None, b: Ends | None) -> Iterator[str]:
    if a is not None and b is not None:
        yield from _changed("max tokens", a.max_tokens, b.max_tokens)
        if a.stop_strings != b.stop_strings:
            yield "other stop strings"


def _changed(name: str, a: int | None, b: int | None) -> list[str]:
    known = ["n/a" if one is None else str(one) for one in (a, b)]
    return [] if a == b else [f"{name} {' → '.join(known)}"]
