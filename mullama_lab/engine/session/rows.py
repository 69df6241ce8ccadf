"""The rows of logits after given texts, handed to a callback or copied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from mullama_lab.engine.loop.given import LastRow, Rows
from mullama_lab.engine.loop.lane import Place
from mullama_lab.engine.loop.spread import Prompt
from mullama_lab.engine.native import Logits
from mullama_lab.engine.options import instance, listed, whole
from mullama_lab.engine.session.cells import checked_sequence
from mullama_lab.engine.setting import Setting
from mullama_lab.engine.steering.steering import Weights
from mullama_lab.engine.text import Text
from mullama_lab.engine.work import Together, Work
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.session.session import Session

Visit = Callable[[int, Logits], None]  # (place, row)


def start_logits(session: Session, prompt: Prompt, sequence: int | None) -> Work[Logits]:
    """What `Session.start_logits` does."""
    place = Place.HOME if sequence is None else checked_sequence(session, sequence)
    lane = LastRow(Text(session.prompt_tokens(prompt)), session, place=place)
    session._worker.submit(lane)
    return lane


def start_rows(
    session: Session,
    texts: Iterable[Sequence[int]],
    visit: Visit,
    n_prompt: int | None,
    setting: Setting | None,
) -> Work[None]:
    """What `Session.start_rows` does."""
    _must_take_rows(visit)
    given = listed("texts", texts, "token ids of each text")
    n_prompt = None if n_prompt is None else whole("n_prompt", n_prompt, 0, session.n_ctx)
    own = _weights(session, setting)
    lanes = []
    for place, tokens in enumerate(map(session.prompt_tokens, given)):
        text = Text(tokens[:n_prompt])
        text.extend(tokens[len(text) :], generated=True)
        lanes.append(Rows(text, partial(visit, place), session, place=Place.ANY, own=own))
    together = Together(lanes)
    together.submit_to(session._worker)
    return together


def visit_rows(
    session: Session,
    tokens: Sequence[int],
    first: int,
    visit: Visit,
    setting: Setting | None,
    before: Setting | None,
) -> None:
    """What `Session.visit_rows` does."""
    _must_take_rows(visit)
    tokens = session.model.vocabulary.check_all(tokens, "a text is a list of token ids")
    if not tokens:
        raise ValueError("the text has no tokens, and a row comes after one. Give at least one.")
    first = whole("first", first, 0, len(tokens) - 1)
    places = iter(range(first, len(tokens)))
    own, then, text = _weights(session, setting), None, Text(tokens)
    if before is not None:
        own, then = _weights(session, before), own or session._cache.weights
        text = Text(tokens[:first])  # the rest is decoded apart, as what is generated
        text.extend(tokens[first:], generated=True)
    lane = Rows(
        text, lambda row: visit(next(places), row), session, first_row=first, own=own, then=then
    )
    with lane.stopped_on_error():
        session._worker.submit(lane)
        lane.result()


def _weights(session: Session, setting: Setting | None) -> Weights | None:
    """Those of a setting; None is those in force in the session."""
    if setting is None:
        return None
    return Weights.of(instance("setting", setting, Setting).steering, session.model)


def _must_take_rows(visit: object) -> None:
    if not callable(visit):
        raise TypeError(f"visit={brief(visit)}: it must be a function of a place and a row.")
