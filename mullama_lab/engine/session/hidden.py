"""Hidden states of a text, with what is in force in a session."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.hidden import HiddenStates, checked_layers, must_fit_memory
from mullama_lab.engine.loop.spread import Prompt

if TYPE_CHECKING:
    from mullama_lab.engine.session.session import Session


def hidden(
    session: Session, text: Prompt, layers: Iterable[int] | None, progress: bool
) -> NDArray[np.float32]:
    """What `Session.hidden` gives."""
    tokens = session.prompt_tokens(text)
    wanted = checked_layers(layers, session.model)
    must_fit_memory(len(tokens), wanted, session.model)
    found: list[NDArray[np.float32]] = []
    with HiddenStates(
        session.model,
        layers=wanted,
        n_ctx=len(tokens),
        n_threads=session.n_threads,
        steering=session.steering,
        session=session,
    ) as reader:
        reader.read([tokens], lambda _, states: found.append(states), progress=progress)
    return found[0]
