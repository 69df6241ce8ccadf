"""A session brought along when its model is loaded again with other options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from mullama_lab.engine.session import cells, file
from mullama_lab.engine.session.settings import Settings
from mullama_lab.engine.steering.steering import Weights
from mullama_lab.errors import SessionError, SessionFileError

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model
    from mullama_lab.engine.session.session import Session
    from mullama_lab.engine.session.state import Contents
    from mullama_lab.engine.trace import Trace
    from mullama_lab.engine.tree import Tree

S = TypeVar("S", bound="Session")


def reloaded(
    session: S,
    progress: bool | Callable[[float], bool | None] | None,
    options: Mapping[str, Any],
) -> S:
    """What `Session.reloaded` does."""
    session.must_be_open()
    model = session.model.reloaded(progress=progress, **options)
    try:
        return _brought_along(session, model)
    except BaseException:
        model.close()
        raise


def _brought_along(session: S, model: Model) -> S:
    cells.recover(session)
    contents, last_trace, last_traces, tree = session._do_with_cells(lambda: _held_by(session))
    if model.id != session.model.id:  # it would compute them in another way
        for held in contents.held.values():
            held.provenance.cut(0)
    weights = Weights.of(contents.steering, model)
    again = type(session)(model, Settings(**session.options))
    try:
        again._do_with_cells(lambda: file.take(again, contents, weights))
    except SessionFileError as error:
        again.close()
        raise SessionError(
            "the model was loaded again, and its session does not take the cache of this one: "
            f"{error} Open one with model.reloaded(...).session(...), and give it its texts anew."
        ) from error
    except BaseException:
        again.close()
        raise
    again.last_trace, again.last_traces, again.tree = last_trace, last_traces, tree
    return again


def _held_by(session: Session) -> tuple[Contents, Trace | None, list[Trace], Tree | None]:
    """What comes along: all of one moment."""
    contents, _, _ = file.contents_of(session, {})
    return contents, session.last_trace, list(session.last_traces), session.tree
