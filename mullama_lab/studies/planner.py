"""Planner: what a model and a session of it will take of the memory, before either is opened.

llama.cpp itself lays the network out, with no memory behind it, from what the file's header says:
no weights are read. So every architecture that it knows is planned as it will be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mullama_lab.counted import size_in_words
from mullama_lab.engine.memory import Buffer, Buffers
from mullama_lab.engine.model import Model
from mullama_lab.engine.model.outline import outline
from mullama_lab.engine.native.devices import devices
from mullama_lab.engine.options import instance, listed
from mullama_lab.engine.placement import Placement
from mullama_lab.engine.session import Session
from mullama_lab.engine.session.fit import free_without
from mullama_lab.engine.session.opening import lay_out
from mullama_lab.engine.session.settings import Settings

if TYPE_CHECKING:
    import pandas

__all__ = ["Plan", "grid", "plan"]
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
    in_place_of: Session | None = None,
) -> Plan:
    """Say what a model and a session of it would take of the memory.

        planned = plan("smollm2-135m", n_ctx=8192, kv_type="q8_0")
        planned.kv_bytes, planned.total_bytes, planned.fits
        planned.to_pandas()

    A file that is not here is fetched first, whole. Then it takes what reading the vocabulary
    takes, 0.2 to 1 s. With n_gpu_layers the cache is divided over devices by layers, and
    override_tensor moves weights alone; that was not tried on a machine that has a GPU.

    Args:
        source, mmap, and those from n_gpu_layers to override_tensor: as for `Model.load`.
        n_ctx, kv_type, n_seq_max, n_batch, n_ubatch, flash_attention, kv_unified, reproducible:
            as for `model.session`.
        in_place_of: an open session that this one would take the place of, with its model: what
            these hold counts as free.

    Raises:
        ValueError: a setting is out of range.
        TypeError: `in_place_of` is no Session.
        HubError, ModelFileError, ModelLoadError: as `Model.load` and `model.session`: the file
            lacks something that llama.cpp needs, or is no model that generates.
    """
    settings = Settings(
        n_ctx=n_ctx,
        kv_type=kv_type,
        n_seq_max=n_seq_max,
        n_batch=n_batch,
        n_ubatch=n_ubatch,
        flash_attention=flash_attention,
        kv_unified=kv_unified,
        reproducible=reproducible,
    )
    placement = Placement.of(
        n_gpu_layers=n_gpu_layers,
        split_mode=split_mode,
        main_gpu=main_gpu,
        tensor_split=tensor_split,
        override_tensor=override_tensor,
    )
    if in_place_of is not None:
        instance("in_place_of", in_place_of, Session)
    with outline(source, placement, mmap=mmap) as (model, weights):
        return _planned(model, weights, settings, in_place_of)


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
    with outline(source, placement, mmap=mmap) as (model, weights):
        return pd.DataFrame(list(_rows(axes, model, weights)))


def _rows(
    axes: Mapping[str, list[Any]], model: Model, weights: tuple[Buffer, ...]
) -> Iterator[dict[str, Any]]:
    for values in product(*axes.values()):
        given = dict(zip(axes, values, strict=True))
        settings = Settings(**given, n_batch=max(512, given["n_ubatch"]))
        planned = _planned(model, weights, settings)
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


def _planned(
    model: Model,
    weights: tuple[Buffer, ...],
    settings: Settings,
    in_place_of: Session | None = None,
) -> Plan:
    settled = settings.settled(model)
    buffers = weights + lay_out(model._handle, settled)
    if in_place_of is None:
        free = {device.name: device.free_bytes for device in devices()}
    else:
        free = free_without(in_place_of)
    return Plan(
        buffers,
        model.name,
        settled.as_mapping(),
        MappingProxyType(free),
        in_place=in_place_of is not None,
    )
