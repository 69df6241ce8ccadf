"""The largest context that fits in what memory is free now."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mullama_lab.counted import size_in_words
from mullama_lab.engine.memory import Buffers
from mullama_lab.engine.memory.buffers import must_be_heard, read
from mullama_lab.engine.native import model as native
from mullama_lab.engine.native.devices import devices
from mullama_lab.engine.session.checks import MOST_TOKENS, must_generate
from mullama_lab.engine.session.opening import lay_out

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model
    from mullama_lab.engine.session.session import Session
    from mullama_lab.engine.session.settings import Settings

STEP = 256  # cells, to whose multiples llama.cpp rounds up
LEFT_FREE = 0.1  # of what is free, for the rest of the process and all others

log = logging.getLogger(__name__)


def fitted(settings: Settings, model: Model) -> Settings:
    """Settings with n_ctx="fit", settled: it is the largest that fits, and is logged.

    Raises:
        ValueError: not even the smallest fits.
        ModelLoadError: llama.cpp's log, which has the sizes, was not heard.
        ModelFileError: its file, which is read again, is another by now.
    """
    must_generate(model)
    model._weight_files.must_be_on_disk()
    with _without_weights(model) as handle:
        return largest(settings, model, handle, _room(model))


def largest(settings: Settings, model: Model, handle: Any, room: dict[str, int]) -> Settings:
    """Settings with the largest n_ctx that fits, settled.

    Args:
        handle: the native model without its weights.
        room: bytes there are by device.
    """

    def of(n_ctx: int) -> Settings:
        return replace(settings, n_ctx=n_ctx).settled(model)

    def fits(steps: int) -> bool:
        taken = Buffers(lay_out(handle, of(min(steps * STEP, most)))).by_device
        return all(size <= room.get(device, 0) for device, size in taken.items())

    most = min(model.n_ctx_train or 4096, MOST_TOKENS)
    steps = largest_that(fits, -(-most // STEP))
    if steps == 0:
        free = ", ".join(f"{size_in_words(size)} on {name}" for name, size in room.items())
        raise ValueError(
            f"n_ctx='fit': not even {STEP} tokens fit in what is free beside the weights ({free}). "
            "Close other models, or use a smaller n_ubatch or n_seq_max."
        )
    found = of(min(steps * STEP, most))
    log.info("n_ctx='fit': %s tokens, of the %s of its training", found.n_ctx, most)
    return found


def largest_that(fits: Callable[[int], bool], most: int) -> int:
    """The largest number that fits, where all smaller ones do too; 0 if not even 1 does.

    >>> largest_that(lambda n: n * n < 50, 100)
    7
    """
    low, high = 0, most  # so many fit, and no more than so many
    tried = most
    while low < high:
        if fits(tried):
            low = tried
        else:
            high = tried - 1
        tried = -(-(low + high) // 2)
    return low


def _room(model: Model) -> dict[str, int]:
    """Bytes that a session may take, by device."""
    must_be_heard(model._buffers, "weights")
    mapped = _available_too(model)
    return {
        device.name: max(0, int((1 - LEFT_FREE) * (device.free_bytes - taken)))
        for device in devices()
        for taken in [mapped if device.kind == "CPU" else 0]
    }


def _available_too(model: Model) -> int:
    """Bytes of an open model's weights that are among what is free.

    What Linux calls available includes the weights that are used from their file, unless they are
    locked in memory; other systems leave them out.
    """
    if sys.platform != "linux" or model.options.get("mlock"):
        return 0
    return sum(b.size_bytes for b in model._buffers if b.name == "CPU_Mapped")


def free_without(session: Session) -> Mapping[str, int]:
    """Bytes that would be free at least if a session and its model were closed, by device.

    What a batch is computed in counts on devices alone: of the CPU's only what one needed is in
    memory, and the rest is free already.
    """
    model = session.model
    weights = () if model.closed else model._buffers
    own = () if session.closed else read(session._said_of_sizes)
    whole = tuple(b for b in own if b.device != "CPU" or b.kind not in ("compute", "output"))
    held = dict(Buffers(weights + whole).by_device)
    if weights and "CPU" in held:
        held["CPU"] -= _available_too(model)
    return {device.name: device.free_bytes + held.get(device.name, 0) for device in devices()}


@contextmanager
def _without_weights(model: Model) -> Iterator[Any]:
    """The native model a second time, without memory for its weights."""
    handle = native.load_outline(model.path, model.placement, model._overrides)
    try:
        yield handle
    finally:
        native.free_model(handle)
