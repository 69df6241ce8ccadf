"""What a person may pick: what is open, what was at work before, and the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mullama_lab import hub
from mullama_lab.counted import in_words
from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.session.checks import must_generate
from mullama_lab.engine.trace import Trace
from mullama_lab.errors import ModelLoadError
from mullama_lab.glyphs import one_line, visible
from mullama_lab.hub.entries import CatalogueEntry

MOST_END = 60  # characters of what a session generated last


@dataclass(frozen=True)
class Offer:
    """One of them; `row` is what a view shows of it."""

    source: str | Model | Session
    row: dict[str, Any]


@dataclass(frozen=True)
class Before:
    """A model that was at work where the picker stands.

    Attributes:
        source: what `Model.load` takes.
        name, size_bytes: as the model says them.
        n_runs: how many of its runs are kept there, to be shown again with it.
    """

    source: str
    name: str
    size_bytes: int
    n_runs: int


def offers(before: Sequence[Before] = ()) -> dict[str, Offer]:
    """All there are by key, those that are open first; only what predicts tokens is among them.

    An open model stands before its sessions; models of one name are numbered, and so are the
    sessions of a model.

    Args:
        before: models that are offered once more, if nothing else offers them.
    """
    models = sorted(filter(_generates, Model.opened()), key=known_as)
    entries = [entry for entry in hub.catalogue().values() if entry.generates]
    is_open = {model.source for model in models}
    there = is_open | {entry.name for entry in entries}
    found = []
    for model, name in zip(models, _told_apart([known_as(model) for model in models])):
        found.append(_of_model(model, name))
        found += [_of_session(one, name, i) for i, one in enumerate(model.sessions, 1)]
    found += [_of_before(one) for one in before if one.source not in there]
    found += [_of_entry(entry, entry.name in is_open) for entry in entries]
    return {offer.row["key"]: offer for offer in found}


def source_of(offer: Offer) -> str:
    """What `Model.load` takes for its model."""
    source = offer.source
    model = source.model if isinstance(source, Session) else source
    return model.source if isinstance(model, Model) else model


def known_as(model: Model) -> str:
    """The model's name in the catalogue, or its own."""
    return model.source if model.source in hub.catalogue() else model.name


def _generates(model: Model) -> bool:
    try:
        must_generate(model)
    except ModelLoadError:
        return False
    return True


def _told_apart(names: Sequence[str]) -> list[str]:
    """Names, numbered where several are the same.

    >>> _told_apart(["a", "b", "a"])
    ['a (1)', 'b', 'a (2)']
    """
    return [
        f"{name} ({names[: i + 1].count(name)})" if names.count(name) > 1 else name
        for i, name in enumerate(names)
    ]


def _of_session(session: Session, name: str, number: int) -> Offer:
    row = {"kind": "session", "n_ctx": session.n_ctx, "tokens": session.n_cells}
    row |= {"number": number, "text": _end_of(session.last_trace)}
    return Offer(session, {"key": f"session {id(session):x}", "name": name, **row})


def _end_of(trace: Trace | None) -> str:
    """The end of the text that a session generated last, on one line; "" before the first."""
    if trace is None:
        return ""
    before = b"".join(trace.piece(int(token)) for token in trace.prompt_tokens[-MOST_END:])
    text = one_line(visible((before + trace.text_bytes).decode("utf-8", "replace").rstrip()))
    return text if len(text) <= MOST_END else f"…{text[-MOST_END:]}"


def _of_model(model: Model, name: str) -> Offer:
    row = {"kind": "model", "what": f"{model.architecture}, {in_words(model.n_params)} parameters"}
    key = f"model {id(model):x}"
    return Offer(model, {"key": key, "name": name, "size": model.size_bytes, **row})


def _of_before(one: Before) -> Offer:
    row = {"kind": "before", "what": "a file", "size": one.size_bytes}
    return Offer(one.source, {"key": f"before {hash(one.source):x}", "name": one.name, **row})


def _of_entry(entry: CatalogueEntry, is_open: bool) -> Offer:
    row = {"kind": "catalogue", "what": entry.what, "licence": entry.licence, "open": is_open}
    here = {"size": entry.size_bytes, "cached": hub.is_cached(entry.name)}
    return Offer(entry.name, {"key": entry.name, "name": entry.name, **row, **here})
