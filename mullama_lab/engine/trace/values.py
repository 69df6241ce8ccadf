"""What a generated text says to a program: its JSON, the value of a class, or calls of tools.

The grammar that was in force says how the text is read; where it began after a marker, what is
before that says nothing.
"""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from mullama_lab.engine.chat.calling import Answers
from mullama_lab.engine.chat.tools import ToolCall
from mullama_lab.engine.grammar.json_text import json_so_far, read_json
from mullama_lab.engine.grammar.matching.marker import end_of_marker
from mullama_lab.engine.grammar.stored import Stored
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.stages.constrain import Constrain
from mullama_lab.engine.trace.step_texts import decoded

if TYPE_CHECKING:
    from mullama_lab.engine.trace.trace import Trace


def value_of(trace: Trace) -> Any:
    """The value of a text that its chain constrained; None where it has none, or not yet."""
    stage = _stage_of(trace.chain)
    if stage is not None and (text := _text_of(trace, stage)) is not None:
        answers = _answers(trace.chain)
        with suppress(ValueError):
            return answers(text) if answers is not None else stage.grammar.parse(text)
    return None


def is_cut_off(trace: Trace) -> bool:
    """Whether a text that its chain constrained to JSON is none to its end; else False."""
    stage = _stage_of(trace.chain)
    if stage is None or not stage.grammar.is_json:
        return False
    with suppress(ValueError):
        read_json(_text_of(trace, stage) or "")
        return False
    return True


def value_so_far(trace: Trace) -> Any:
    """The JSON that there is of a text, or of what the grammar is about."""
    stage = _stage_of(trace.chain)
    text = trace.text if stage is None else _text_of(trace, stage)
    return None if text is None else json_so_far(text)


def tool_calls(trace: Trace) -> list[ToolCall]:
    """The calls in an answer of a model that had tools."""
    answers = _answers(trace.chain)
    return answers(trace.text) if answers is not None else []


def message(trace: Trace) -> dict[str, Any]:
    """An answer as a message of the assistant."""
    answers, text = _answers(trace.chain), trace.text
    if answers is None or not (calls := answers(text)):
        return {"role": "assistant", "content": text}
    parts = [call.as_message_part for call in calls]
    return {"role": "assistant", "content": answers.content(text), "tool_calls": parts}


def _stage_of(chain: Chain) -> Constrain | None:
    """The stage of a chain whose grammar's texts have values."""
    found = (stage for stage in chain if isinstance(stage, Constrain))
    return next((stage for stage in found if stage.grammar.has_values), None)


def _answers(chain: Chain) -> Answers | None:
    stage = _stage_of(chain)
    reads = None if stage is None else stage.grammar.reads
    if isinstance(reads, Stored) and reads.kind == "calls":
        return Answers.from_dict(reads.about)
    return reads if isinstance(reads, Answers) else None


def _text_of(trace: Trace, stage: Constrain) -> str | None:
    """The text that a stage's grammar is about; None before its marker."""
    marker = stage.after
    if marker is None:
        return trace.text
    pieces, texts = trace.pieces, trace.step_bytes
    if isinstance(marker, int):
        tokens = trace.tokens.tolist()[: len(texts)]
        if marker not in tokens:
            return None
        n = sum(map(len, texts[: tokens.index(marker) + 1]))
    else:
        assert not isinstance(marker, re.Pattern)  # which a stage makes a Grammar
        end = end_of_marker(marker, b"".join(pieces))
        if end is None:
            return None
        ends = list(accumulate(map(len, pieces)))
        step = next(place for place, at in enumerate(ends) if at >= end)
        rest = ends[step] - end  # of the token, if it is text
        n = sum(map(len, texts[: step + 1])) - min(rest, len(texts[step]))
    return decoded(trace.text_bytes[n:])
