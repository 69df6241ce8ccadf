"""The Python that opens a model, and what works on it, as they were opened."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.steering.control_vector import ControlVector
from mullama_lab.engine.steering.steering import LoraOrVector, Steering


def session_code(session: Session) -> str:
    """The lines that make `model` and `session`, once `ml` is there, with what is in force."""
    opening = opening_code(session.model.source, session.model.options, session.options)
    return "\n".join([opening, *in_force_code(session.steering)])


def in_force_code(steering: Steering) -> list[str]:
    """The lines that have it act in `session`, once `ml` is there; none where it does nothing."""
    acting = [f"session.{name} = {code}" for name, code in steering_code(steering).items()]
    return [*to_be_saved([steering]), *acting]


def opening_code(
    source: str, model_options: Mapping[str, Any], session_options: Mapping[str, Any]
) -> str:
    """The same of what `Model.load` and `model.session` are to be given."""
    load = called("ml.Model.load", repr(source), **model_options)
    return f"model = {load}\nsession = {called('model.session', **session_options)}"


def model_code(model: Model) -> str:
    """The line that makes `model`, once `ml` is there."""
    return f"model = {called('ml.Model.load', repr(model.source), **model.options)}"


def steering_code(steering: Steering) -> dict[str, str]:
    """What of it does anything, as Python under the name `ml`: "adapters" and "control"."""
    loaded = [f"{lever_code(one)}: {scale!r}" for one, scale in steering.acting]
    adapters = {"adapters": f"{{{', '.join(loaded)}}}"} if loaded else {}
    vector = steering.acts
    return adapters | ({} if vector is None else {"control": vector_code(vector)})


def to_be_saved(steerings: Iterable[Steering]) -> list[str]:
    """Comments on the vectors that came from no file, which code loads all the same."""
    acting = dict.fromkeys(one.acts for one in steerings if one.acts is not None)
    made = [vector for vector in acting if _is_of_no_file(vector)]
    return [f"# save this control vector first: vector.save({_file_of(one)!r})" for one in made]


def lever_code(lever: LoraOrVector) -> str:
    """An adapter or a vector as Python under the name `ml`."""
    if isinstance(lever, ControlVector):
        return vector_code(lever)
    return f"ml.LoraAdapter.load({str(lever.path)!r})"


def vector_code(vector: ControlVector) -> str:
    """A vector as Python under the name `ml`; one that came from no file as one that was saved."""
    if _is_of_no_file(vector):
        return f"ml.ControlVector.load({_file_of(vector)!r})"
    return re.sub(r"\bControlVector\.(load|named)\(", r"ml.\g<0>", repr(vector))


def _is_of_no_file(vector: ControlVector) -> bool:
    return repr(vector).startswith("<")


def _file_of(vector: ControlVector) -> str:
    return f"vector-{vector.fingerprint[:8]}.gguf"


def called(function: str, *given: str, **options: Any) -> str:
    """The code of a call; `given` is code, options are values."""
    named = (f"{name}={value!r}" for name, value in options.items())
    return f"{function}({', '.join([*given, *named])})"
