"""Planner: what a model and a session of it will take of the memory, before either is opened.

llama.cpp itself lays the network out, with no memory behind it, from what the file's header says:
no weights are read. So every architecture that it knows is planned as it will be.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mullama_lab.counted import size_in_words
from mullama_lab.engine.handle import Handle
from mullama_lab.engine.leaving import usable_in_forks
from mullama_lab.engine.memory import Buffers
from mullama_lab.engine.model import Model
from mullama_lab.engine.model.outline import outline
from mullama_lab.engine.native.devices import devices
from mullama_lab.engine.options import listed
from mullama_lab.engine.placement import ON_THE_CPU, Placement
from mullama_lab.engine.session import Session
from mullama_lab.engine.session.fit import free_without
from mullama_lab.engine.session.opening import lay_out
from mullama_lab.engine.session.request import takes
from mullama_lab.engine.session.settings import Settings

if TYPE_CHECKING:
    import pandas

__all__ = ["Plan", "Planner", "grid", "plan"]
__dir__ = __all__.copy  # what tab completion offers


@dataclass(frozen=True, repr=False)
class Plan(Buffers):
    """What a model and one session of it would take; all numbers are bytes.

    `session.memory` has the same numbers of an open session. What they leave out: Python, and
    llama.cpp's own tables; a vocabulary of 49 000 tokens took 20 MB there, one of 262 000 55 MB.

    Attributes:
        name: of the model.
        settings: of the session, by name.
        free: what was free by device when this was planned.
        in_place: whether what an open session and its model held, which this one would take the
            place of, counts as free.
    """

    name: str
    settings: Mapping[str, Any]
    free: Mapping[str, int]
    in_place: bool = False

    @property
    def fits(self) -> bool:
        """Whether each device had as much free as it would take there."""
        return all(size <= self.free.get(device, 0) for device, size in self.by_device.items())

    def __repr__(self) -> str:
        total = size_in_words(self.total_bytes)
        return f"<Plan of {self.name}, n_ctx={self.settings['n_ctx']}: {total}: {self._in_words()}>"


class Planner(Handle):
    """Plans of one model, whose file is read once: then each takes some 10 to 30 ms.

        with Planner("gemma3-270m") as planner:
            [planner.plan(n_ctx=n_ctx).total_bytes for n_ctx in range(1024, 32768, 1024)]

    Until it is closed it holds the vocabulary: 20 MB of 49 000 tokens, 55 MB of 262 000. Any thread
    may ask it.

    Args:
        source: as for `Model.load`; or an open session. Then plans are of sessions in its place,
            on its model as it was loaded, and what these two hold counts as free.
        placement: where the weights would go, as `model.placement` has it.
        mmap: as for `Model.load`.

    Raises:
        HubError, ModelFileError, ModelLoadError: as `plan`.
        ValueError: a pattern of the placement finds no tensor.
    """

    def __init__(
        self,
        source: str | Path | Session,
        placement: Placement = ON_THE_CPU,
        *,
        mmap: bool = True,
    ) -> None:
        self._lock = usable_in_forks(threading.Lock())  # nothing is freed that a plan needs
        self._outline = ExitStack()
        self._in_place_of = source if isinstance(source, Session) else None
        if isinstance(source, Session):
            model = source.model
            source, placement, mmap = model.path, model.placement, model.options.get("mmap", True)
        opened = outline(Model, source, placement, mmap=mmap)
        self._model, self._weights = self._outline.enter_context(opened)

    @takes(Settings)
    def plan(self, settings: Settings) -> Plan:
        """The plan of a session as `model.session` would open it.

        Raises:
            ValueError: a setting is out of range.
            ModelLoadError: the model does not generate, or llama.cpp refused the settings.
            ClosedError: the planner was closed.
        """
        model, session = self._model, self._in_place_of
        with self._lock:
            settled = settings.settled(model)
            buffers = self._weights + lay_out(model._handle, settled)
        if session is None:
            free = {device.name: device.free_bytes for device in devices()}
        else:
            free = free_without(session)
        return Plan(
            buffers,
            model.name,
            settled.as_mapping(),
            MappingProxyType(free),
            in_place=session is not None,
        )

    def close(self) -> None:
        with self._lock:
            self._outline.close()


def plan(
    source: str | Path,
    n_ctx: int | None = 4096,
    *,
    kv_type: str | tuple[str, str] = "f16",
    n_seq_max: int | None = None,
    n_batch: int = 512,
    n_ubatch: int = 512,
    flash_attention: str = "auto",
    kv_unified: bool = True,
    reproducible: bool = False,
    n_gpu_layers: int = 0,
    split_mode: str = "layer",
    main_gpu: int = 0,
    tensor_split: Sequence[float] | None = None,
    override_tensor: Mapping[str, str] | None = None,
    mmap: bool = True,
) -> Plan:
    """Say what a model and a session of it would take of the memory.

        planned = plan("smollm2-135m", n_ctx=8192, kv_type="q8_0")
        planned.kv_bytes, planned.total_bytes, planned.fits
        planned.to_pandas()

    A file that is not here is fetched first, whole. Then it takes what reading the vocabulary
    takes, 0.2 to 1 s; for many plans of one model see `Planner`. With n_gpu_layers the cache is
    divided over devices by layers, and override_tensor moves weights alone; that was not tried on a
    machine that has a GPU.

    Args:
        source, mmap, and those from n_gpu_layers to override_tensor: as for `Model.load`.
        n_ctx, kv_type, n_seq_max, n_batch, n_ubatch, flash_attention, kv_unified, reproducible:
            as for `model.session`.

    Raises:
        ValueError: a setting is out of range.
        HubError, ModelFileError, ModelLoadError: as `Model.load` and `model.session`: the file
            lacks something that llama.cpp needs, or is no model that generates.
    """
    placement = Placement.of(
        n_gpu_layers=n_gpu_layers,
        split_mode=split_mode,
        main_gpu=main_gpu,
        tensor_split=tensor_split,
        override_tensor=override_tensor,
    )
    with Planner(source, placement, mmap=mmap) as planner:
        return planner.plan(
            n_ctx=n_ctx,
            kv_type=kv_type,
            n_seq_max=n_seq_max,
            n_batch=n_batch,
            n_ubatch=n_ubatch,
            flash_attention=flash_attention,
            kv_unified=kv_unified,
            reproducible=reproducible,
        )


def grid(
    source: str | Path,
    *,
    n_ctx: Iterable[int] = (4096,),
    kv_type: Iterable[str | tuple[str, str]] = ("f16",),
    n_seq_max: Iterable[int | None] = (None,),
    n_ubatch: Iterable[int] = (512,),
    n_gpu_layers: int = 0,
    split_mode: str = "layer",
    main_gpu: int = 0,
    tensor_split: Sequence[float] | None = None,
    override_tensor: Mapping[str, str] | None = None,
    mmap: bool = True,
) -> pandas.DataFrame:
    """Plans for every combination of some settings: one row a plan; needs pandas.

        grid("gemma3-270m", n_ctx=[2048, 8192, 32768], kv_type=["f16", "q8_0"])

    Args:
        n_ubatch: as for `plan`, a list; n_batch is 512, or as large.
        n_ctx, kv_type, n_seq_max: as for `plan`, lists of those.
        source, and what else there is: as for `plan`.

    Returns:
        the settings, then weights, kv, state, compute, output and total in bytes, then whether
        it fits.

    Raises:
        ValueError: a list is empty, or a setting is out of range.
    """
    import pandas as pd

    lists = {"n_ctx": n_ctx, "kv_type": kv_type, "n_seq_max": n_seq_max, "n_ubatch": n_ubatch}
    axes = {name: listed(name, values, "settings") for name, values in lists.items()}
    for name, values in axes.items():
        if not values:
            raise ValueError(f"{name} has no values. Give one at least.")
    placement = Placement.of(
        n_gpu_layers=n_gpu_layers,
        split_mode=split_mode,
        main_gpu=main_gpu,
        tensor_split=tensor_split,
        override_tensor=override_tensor,
    )
    with Planner(source, placement, mmap=mmap) as planner:
        return pd.DataFrame(list(_rows(axes, planner)))


def _rows(axes: Mapping[str, list[Any]], planner: Planner) -> Iterator[dict[str, Any]]:
    for values in product(*axes.values()):
        given = dict(zip(axes, values, strict=True))
        planned = planner.plan(**given, n_batch=max(512, given["n_ubatch"]))
        yield {
            **given,
            "n_seq_max": planned.settings["n_seq_max"],
            "weights": planned.weights_bytes,
            "kv": planned.kv_bytes,
            "state": planned.state_bytes,
            "compute": planned.compute_bytes,
            "output": planned.output_bytes,
            "total": planned.total_bytes,
            "fits": planned.fits,
        }
