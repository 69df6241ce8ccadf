"""Which machine this is, and which build of llama.cpp runs on it, for what is measured here."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from typing import Any

import psutil

from mullama_lab.engine.native import VERSION, build
from mullama_lab.engine.native.devices import devices
from mullama_lab.glyphs import brief


@dataclass(frozen=True)
class Machine:
    """A machine and its software. What the system does not report is None or "".

    Attributes:
        cpu: the processor's name, as llama.cpp has it.
        n_cores, n_cpus: physical cores, and logical processors.
        memory_bytes: main memory.
        system, python: names and versions.
        llama_cpp, commit: llama.cpp's version, and the commit that was built.
        llama_cpp_python, mullama_lab: versions of the packages.
        backends: llama.cpp's, such as "CPU".
        features: instruction sets its kernels use.
        load: tasks that were ready to run in the minute before.
        gpu: what llama.cpp can use beside the processor; mostly "".
    """

    cpu: str = ""
    n_cores: int | None = None
    n_cpus: int | None = None
    memory_bytes: int | None = None
    system: str = ""
    python: str = ""
    llama_cpp: str = ""
    commit: str = ""
    llama_cpp_python: str = ""
    mullama_lab: str = ""
    backends: str = ""
    features: str = ""
    load: float | None = None
    gpu: str = ""

    @classmethod
    def here(cls) -> Machine:
        """This machine, now."""
        return cls(
            cpu=_cpu(),
            n_cores=psutil.cpu_count(logical=False),
            n_cpus=psutil.cpu_count(),
            memory_bytes=psutil.virtual_memory().total,
            system=f"{platform.system()} {platform.release()} {platform.machine()}",
            python=platform.python_version(),
            llama_cpp=build.version(),
            commit=build.commit(),
            llama_cpp_python=VERSION,
            mullama_lab=metadata.version("mullama-lab"),
            backends=",".join(name for name in build.backends() if name != "CPU") or "CPU",
            features=build.features(),
            load=_load(),
            gpu=_described("GPU", "integrated GPU"),
        )

    @property
    def hardware(self) -> tuple[object, ...]:
        """What two runs must share for their figures to be compared; the software may differ."""
        memory = None if self.memory_bytes is None else round(self.memory_bytes / 2**30)
        system = self.system.split(" ")[0]
        return (self.cpu, self.n_cores, self.n_cpus, memory, system, self.gpu)

    def text(self) -> str:
        """In one line."""
        cores = "" if self.n_cores is None else f", {self.n_cores} cores"
        memory = "" if self.memory_bytes is None else f", {self.memory_bytes / 2**30:.0f} GiB"
        gpu = self.gpu and f", {self.gpu}"
        return f"{self.cpu or 'an unnamed processor'}{cores}{memory}{gpu}, {self.system}"

    def busy(self) -> str:
        """That other work may have slowed what was measured, in a line; "" where it had room."""
        if self.load is None or not self.n_cpus or self.load <= 0.5 * self.n_cpus:
            return ""
        return f"busy: {self.load:g} tasks were ready to run when it began"

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Machine:
        """What `to_dict` gave; unknown names and values of another type are left out.

        Raises:
            ValueError: a number is one that no machine can have.
        """
        numbers = ("n_cores", "n_cpus", "memory_bytes", "load")
        given = {}
        for one in fields(cls):
            value = facts.get(one.name)
            kind = (int, float) if one.name in numbers else str
            if isinstance(value, kind) and not isinstance(value, bool):
                if not isinstance(value, str) and not 0 <= value < 1 << 63:  # a NaN neither
                    raise ValueError(f"its machine has {one.name}={brief(value)}")
                given[one.name] = value
        return cls(**given)

    def to_dict(self) -> dict[str, object]:
        """Its facts by name, as JSON has them."""
        return asdict(self)


def _described(*kinds: str) -> str:
    """What llama.cpp calls its devices of some kinds, as llama-bench writes it."""
    return ", ".join(device.description for device in devices() if device.kind in kinds)


def _cpu() -> str:
    """llama.cpp's name of it, which tells two Macs apart; where it has none, what Python knows."""
    name = _described("CPU")
    return platform.processor() if name in ("", "CPU") else name


def _load() -> float | None:
    with suppress(OSError, AttributeError):  # Windows has none
        return round(os.getloadavg()[0], 2)
    return None
