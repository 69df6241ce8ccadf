"""A Trace without a browser half: as text, as elements, and as the code that makes it again."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np

from mullama_lab.counted import counted
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.stale import stale_words
from mullama_lab.glyphs import visible, visible_pieces
from mullama_lab.widgets._endings import ending
from mullama_lab.widgets._session_code import opening_code, to_be_saved
from mullama_lab.widgets._static import FONT, QUIET, element, table
from mullama_lab.widgets._trace_code import has_learnt, n_given_of, trace_code, was_decoded_anew

MOST_TEXT = 1000  # characters of the plain form
MOST_COLOURED = 72  # tokens of the static form; a saved notebook stays small
MOST_ROWS = 25
EDGES = (0.01, 0.05, 0.2, 0.5, 0.9)  # as LAYERS.probability in widgets/token_strip_columns.js
MARKS = ("≥ 90%", "≥ 50%", "≥ 20%", "≥ 5%", "≥ 1%", "< 1%")


def plain(trace: Trace | None) -> str:
    """The text and one line of figures that come out the same each time."""
    if trace is None or not len(trace):
        return "TokenStrip: no tokens yet"
    text = visible(trace.text)
    shown = text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}…"
    return f"{shown}\n[{summary(trace)}]"


def summary(trace: Trace) -> str:
    known = trace.logprob[np.isfinite(trace.logprob)]
    mean = f"{known.mean():.2f}" if len(known) else "n/a"
    n = len(trace)
    count = counted(n, "token")
    state = ending(trace) or ", ".join(filter(None, ["running", stale_words(trace)]))
    return f"{count}, mean logprob {mean}, {state}"


def static(trace: Trace | None, title: str, said: Sequence[str] = ()) -> Element:
    """Tokens coloured by probability before the chain, the scale, what is said, and a table."""
    if trace is None or not len(trace):
        return element("div", "No tokens yet.", style=f"{FONT};{QUIET}")
    texts = visible_pieces(trace.pieces[: len(trace)])
    levels = [_level(x) for x in np.exp(trace.logprob.astype(float))]
    tokens = [
        element("span", text or "‧", style=_look(level), title=_title(trace, i))
        for i, (text, level) in enumerate(zip(texts[:MOST_COLOURED], levels, strict=False))
    ]
    scale = [element("span", mark, style=_look(level)) for level, mark in enumerate(MARKS)]
    spaced = [part for mark in scale for part in (" ", mark)]
    prompt = "".join(visible_pieces(trace.piece(int(t)) for t in trace.prompt_tokens[-200:]))
    return element(
        "div",
        element("div", element("b", title)) if title else None,
        element("div", "Chance in the model, before the chain:", *spaced, style=QUIET),
        element(
            "div",
            element("span", prompt, style="opacity:.6"),
            *tokens,
            "".join(texts[MOST_COLOURED:]),
            dir="auto",
            style="white-space:pre-wrap;font-family:monospace;line-height:1.8;margin:6px 0",
        ),
        *(element("div", line, style=QUIET) for line in (summary(trace), *said)),
        table(("step", "token", "text", "probability", "rank"), _rows(trace, texts)),
        style=FONT,
    )


def code(trace: Trace | None, *, layer: str, title: str) -> str:
    """Python that makes the trace again, from the prompt's token ids, and shows it."""
    options = [f"layer={layer!r}"] if layer != "probability" else []
    options += [f"title={title!r}"] if title else []
    head = [
        "import mullama_lab as ml",
        "from mullama_lab.widgets.token_strip import TokenStrip",
        "",
    ]
    if trace is None:
        return "\n".join([*head, f"TokenStrip({', '.join(options)})"])
    path = trace_code(trace, str(trace.prompt_tokens.tolist()))
    n_given = n_given_of(trace)
    return "\n".join(
        [
            *head,
            opening_code(trace.model_name, trace.model_options, trace.session_options),
            *to_be_saved(setting.steering for _, setting in trace.settings),
            *(["# what was not drawn by this chain is given"] if n_given else []),
            *(["# what a stage had learnt from that is not"] if has_learnt(trace) else []),
            *(
                ["# what other weights decoded anew goes on stale"]
                if was_decoded_anew(trace)
                else []
            ),
            f"trace = {path}",
            f"TokenStrip({', '.join(['trace', *options])})",
        ]
    )


def _level(p: float) -> int:
    return 0 if math.isnan(p) else len(EDGES) - bisect_right(EDGES, p)


def _look(level: int) -> str:
    if level == 0:
        return ""
    return f"background:#f70{level + 1};border-bottom:{level}px solid #d60"


def _title(trace: Trace, i: int) -> str:
    return f"{_percent(trace, i)}, rank {int(trace.rank[i])}"


def _percent(trace: Trace, i: int) -> str:
    p = math.exp(trace.logprob[i])
    return "n/a" if math.isnan(p) else f"{p:.1%}"


def _rows(trace: Trace, texts: list[str]) -> list[list[str]]:
    rows = [
        [str(i), str(token), texts[i], _percent(trace, i), str(int(trace.rank[i]))]
        for i, token in enumerate(trace.tokens[:MOST_ROWS].tolist())
    ]
    more = len(trace) - len(rows)
    return [*rows, [f"… {more} more", "", "", "", ""]] if more > 0 else rows
