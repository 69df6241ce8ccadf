"""Steering: what acts on a model's weights in a session, and how it comes into force.

Whatever is set acts from the next batch on. What the cache holds was computed by the weights
before: a text that begins anew takes none of it (`Text.epoch`), and one that is being generated
goes on over it, as a text of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Real
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.gguf.fingerprint import fingerprint_of
from mullama_lab.engine.native import steering as native
from mullama_lab.engine.options import instance
from mullama_lab.engine.per_model import once_per_model
from mullama_lab.engine.steering.control_vector import ControlVector, ggml_name
from mullama_lab.engine.steering.lora import LoraAdapter
from mullama_lab.engine.work import Job
from mullama_lab.glyphs import brief, one_line, visible

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model
    from mullama_lab.engine.session import Session

LoraOrVector: TypeAlias = LoraAdapter | ControlVector

LARGEST = float(np.finfo(np.float32).max)
NONE: Mapping[LoraAdapter, float] = MappingProxyType({})


@dataclass(frozen=True, eq=False, repr=False)
class Steering:
    """Adapters with their scales, and a control vector; what is at 0 does not act.

    Two are equal if they make the same weights.
    """

    adapters: Mapping[LoraAdapter, float] = field(default_factory=lambda: NONE)
    control: ControlVector | None = None

    @property
    def acting(self) -> list[tuple[LoraAdapter, float]]:
        """The adapters that act, in an order of their own."""
        known = sorted(self.adapters.items(), key=lambda one: one[0].fingerprint)
        return [(adapter, scale) for adapter, scale in known if np.float32(scale) != 0]

    @property
    def acts(self) -> ControlVector | None:
        """The control vector, if it does anything."""
        return None if self.control is None or self.control.is_zero else self.control

    @cached_property
    def epoch(self) -> str:
        """Names the weights that they make: "" for the model's own."""
        acting, vector = self.acting, self.acts
        if not acting and vector is None:
            return ""
        said = [(adapter.fingerprint, float(np.float32(scale)).hex()) for adapter, scale in acting]
        named = repr((said, "" if vector is None else vector.fingerprint))
        return hashlib.sha256(named.encode()).hexdigest()[:16]

    def plus(self, lever: LoraOrVector, strength: float) -> Steering:
        """With one more at a strength: a vector is added, an adapter has this scale then."""
        if isinstance(lever, LoraAdapter):
            return Steering({**self.adapters, lever: strength}, self.control)
        vector = lever if strength == 1 else strength * lever
        return Steering(self.adapters, vector if self.control is None else self.control + vector)

    @property
    def arguments(self) -> list[str]:
        """As code, the keyword arguments of a Setting that it is of; none where there is nothing.

        A vector that comes from no file has no code.
        """
        loaded = [f"LoraAdapter.load({str(a.path)!r}): {x!r}" for a, x in self.adapters.items()]
        adapters = [f"adapters={{{', '.join(loaded)}}}"] if loaded else []
        return adapters + ([] if self.control is None else [f"control={self.control!r}"])

    def __repr__(self) -> str:
        return f"Steering({', '.join(self.arguments)})"

    def __eq__(self, other: object) -> bool:
        return self.epoch == other.epoch if isinstance(other, Steering) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.epoch)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (dict(self.adapters), self.control)


def _unpickled(adapters: dict[LoraAdapter, float], control: ControlVector | None) -> Steering:
    return Steering(MappingProxyType(adapters), control)


@dataclass(frozen=True)
class Weights:
    """What acts on a model's weights, as llama.cpp takes it; it holds no model.

    Attributes:
        adapters: handles of the model's, with their scales.
        rows: the directions of layer 1 and those after it, (n_layer - 1, n_embd).
    """

    steering: Steering = field(default_factory=Steering)
    adapters: tuple[tuple[Any, float], ...] = ()
    rows: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, steering: Steering, model: Model) -> Weights:
        """A steering for one model, whose adapters are read if they were not yet.

        Raises:
            ModelFileError, ModelLoadError, ValueError: it does not fit the model.
        """
        adapters = tuple((_handle(model, adapter), scale) for adapter, scale in steering.acting)
        if steering.control is not None:
            _must_fit(steering.control, model)
        return cls(steering, adapters, _rows(steering.acts, model))

    @property
    def epoch(self) -> str:
        """Names the weights; "" for the model's own."""
        return self.steering.epoch

    def act_in(self, context: Any) -> None:
        """Have it act in a native context of the model; only on the thread that owns that."""
        native.set_adapters(context, self.adapters)
        native.set_control(context, self.rows)


def name_of(lever: LoraOrVector) -> str:
    """What to call an adapter or a vector in a line: the name of its file, or its own."""
    if isinstance(lever, LoraAdapter):
        return one_line(visible(lever.path.stem))
    return one_line(visible(lever.name)) or "vector"


def adapters_of(value: Any) -> Mapping[LoraAdapter, float]:
    """What is set as `session.adapters`, checked: {adapter: scale}."""
    if not isinstance(value, Mapping):
        raise TypeError(
            f"adapters are {{adapter: scale}}, not {brief(value)}. {{}} takes all away."
        )
    known: dict[LoraAdapter, float] = {}
    for adapter, scale in value.items():
        instance("an adapter", adapter, LoraAdapter, " LoraAdapter.load(path) reads one.")
        is_number = isinstance(scale, (Real, np.number)) and not isinstance(scale, bool)
        if not is_number or not abs(float(scale)) <= LARGEST:
            raise ValueError(f"the scale of {adapter!r} is {brief(scale)}; it is a finite number.")
        known[adapter] = float(scale)
    return MappingProxyType(known)


def control_of(value: Any) -> ControlVector | None:
    """What is set as `session.control`, checked."""
    return None if value is None else instance("control", value, ControlVector, " Or None.")


def steer(session: Session, *, exact: bool = False, **changes: Any) -> None:
    """Have adapters or a control vector act in a session from its next batch on.

    Args:
        exact: whether texts that are under way are decoded again first.
    """
    session.must_be_open()
    Weights.of(replace(session.steering, **changes), session.model)  # or it is refused here

    def put_in_force() -> None:
        wanted = Weights.of(replace(session.steering, **changes), session.model)
        session._cache.put_in_force(wanted)
        session._scheduler.change_weights(wanted, exact=exact)

    job = Job(put_in_force, session)
    session._worker.submit(job)
    job.result_or_stop()


@once_per_model
def _handle(model: Model, adapter: LoraAdapter) -> Any:
    """The adapter as llama.cpp has it for a model; read once."""
    with model._memory.in_use():
        adapter.must_fit(model)
        return native.load_adapter(model._handle, adapter.path)


def _must_fit(vector: ControlVector, model: Model) -> None:
    kinds = {ggml_name(vector.architecture), ggml_name(model.architecture)} - {""}
    last = max(vector.directions)
    if len(kinds) > 1:
        why = f"it is for {vector.architecture}, and {model.name} is {model.architecture}"
    elif vector.n_embd != model.n_embd:
        why = f"it has {vector.n_embd} numbers a layer, and {model.name} has {model.n_embd}"
    elif last >= model.n_layer:
        why = f"it has a layer {last}, and {model.name} takes layers 1 to {model.n_layer - 1}"
    elif vector.model not in ("", fingerprint_of(model)):
        why = (
            f"it was learnt on another file than {model.path.name}. Learn one on this, or take "
            "ControlVector(vector.directions) to try it all the same"
        )
    else:
        return
    raise ValueError(f"{vector!r} does not fit this model: {why}.")


def _rows(vector: ControlVector | None, model: Model) -> NDArray[np.float32] | None:
    """The directions of layer 1 and those after it, (n_layer - 1, n_embd)."""
    if vector is None:
        return None
    rows = np.zeros((model.n_layer - 1, model.n_embd), np.float32)
    for layer, row in vector.directions.items():
        rows[layer - 1] = row
    return rows
