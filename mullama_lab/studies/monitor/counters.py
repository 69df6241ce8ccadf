"""Counters of the machine and of this process, as the operating system and drivers have them.

Each gives what it could read, by column. What cannot be read raises one of `UNREADABLE`, whose
text says why; nothing is estimated in its place.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import psutil

from mullama_lab.engine.memory.machine import total_and_free

UNREADABLE = (OSError, psutil.Error, NotImplementedError, ValueError, LookupError, AttributeError)
LEAST_SECONDS = 0.05
MOST_WATTS = 2000.0  # that a package of a processor may take
POWERCAP = Path("/sys/class/powercap")

Values: TypeAlias = dict[str, float]


class Counter(Protocol):
    """Something that can be read again and again, by one thread at a time."""

    def read(self, seconds: float) -> Values:
        """What it shows by column; `seconds` is the time now, of a clock that never goes back."""
        ...

    def close(self) -> None: ...


class Memory:
    """Resident memory of a process, and what of the machine's, or the container's, is free.

    Args:
        pid: of the process; None is this one.
    """

    def __init__(self, pid: int | None = None) -> None:
        self._pid = pid
        self._process: psutil.Process | None = None

    def read(self, seconds: float) -> Values:
        if self._process is None:
            self._process = psutil.Process(self._pid)
        total, free = total_and_free()
        return {
            "resident_bytes": float(self._process.memory_info().rss),
            "free_bytes": float(free),
            "total_bytes": float(total),
        }

    def close(self) -> None: ...


class Cores:
    """How busy each core was since the last value, by whatever process, in per cent.

    Systems count in ticks of a hundredth of a second: an interval of less than `LEAST_SECONDS` has
    no value.
    """

    def __init__(self) -> None:
        self._before: list[tuple[float, float]] = []  # (busy, in all), seconds
        self._read_at = -inf

    def read(self, seconds: float) -> Values:
        if seconds - self._read_at < LEAST_SECONDS:
            return {}
        now = [_busy_and_all(core) for core in psutil.cpu_times(percpu=True)]
        before, self._before, self._read_at = self._before, now, seconds
        if len(before) != len(now):
            return {}
        shares = [
            (busy - busy_before) / (total - total_before) if total > total_before else 0.0
            for (busy, total), (busy_before, total_before) in zip(now, before, strict=True)
        ]
        return {f"cpu_{n}_percent": 100 * min(1.0, max(0.0, x)) for n, x in enumerate(shares)}

    def close(self) -> None: ...


def _busy_and_all(core: Any) -> tuple[float, float]:
    times = core._asdict()
    guests = times.get("guest", 0.0) + times.get("guest_nice", 0.0)  # Linux has them in user too
    total = sum(times.values()) - guests
    return total - times["idle"] - times.get("iowait", 0.0), total


class Rapl:
    """Power of the processor's packages, by the energy counters of Linux (Intel and AMD).

    It is that of all processes, without memory modules. Most systems let only root read it.

    Args:
        folder: where Linux shows them.

    Source: Documentation/power/powercap/powercap.rst of the Linux kernel.
    """

    def __init__(self, folder: Path = POWERCAP) -> None:
        self._folder = folder
        self._before: dict[Path, tuple[float, int]] = {}  # (when, microjoules)

    def read(self, seconds: float) -> Values:
        packages = list(self._packages())
        if not packages:
            raise LookupError(f"{self._folder} has no energy counter of a processor")
        now = {zone: (seconds, _number(zone / "energy_uj")) for zone in packages}
        before, self._before = self._before, now
        watts = [_watts(zone, before[zone], now[zone]) for zone in packages if zone in before]
        return {"cpu_watts": sum(watts)} if len(watts) == len(packages) else {}

    def _packages(self) -> Iterator[Path]:
        """The zones of whole packages: parts of them and the platform would count twice."""
        if not self._folder.is_dir():
            return
        for zone in sorted(self._folder.iterdir()):
            is_whole = re.fullmatch(r"intel-rapl:\d+", zone.name) is not None
            if is_whole and (zone / "name").read_text(encoding="ascii").startswith("package"):
                yield zone

    def close(self) -> None: ...


def _watts(zone: Path, before: tuple[float, int], now: tuple[float, int]) -> float:
    (was, used_before), (at, used) = before, now
    most = 1e6 * MOST_WATTS * (at - was)  # microjoules
    whole = _number(zone / "max_energy_range_uj")
    if most >= whole:
        raise LookupError(
            f"the energy counter of {zone.name} may have wrapped around more than once in "
            f"{at - was:.0f} s; use a shorter interval between readings"
        )
    if used < used_before:  # it has wrapped around
        used += whole
    if used - used_before > most:
        raise LookupError(f"the energy counter of {zone.name} was set back")
    return (used - used_before) / 1e6 / (at - was) if at > was else 0.0


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


class NvidiaGpus:
    """Utilisation, memory, power and temperature of NVIDIA's GPUs, by NVML.

    They are those of the whole GPU, whatever process uses it; what one does not report has no
    column. Needs `nvidia-ml-py`, NVIDIA's own binding, which `mullama-lab[gpu]` installs. It was
    tested against a fake of that library alone, and not tried on a GPU.

    Source: https://docs.nvidia.com/deploy/nvml-api
    """

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handles: list[Any] = []

    def read(self, seconds: float) -> Values:
        if self._nvml is None:
            self._open()
        values: Values = {}
        for n, handle in enumerate(self._handles):
            values |= {f"gpu_{n}_{name}": value for name, value in self._of(handle).items()}
        if not values:
            raise LookupError("no NVIDIA GPU, or one that reports nothing")
        return values

    def _open(self) -> None:
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            raise LookupError(
                "nvidia-ml-py is not installed; pip install 'mullama-lab[gpu]' does that"
            ) from None
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            raise OSError(f"NVML cannot be used: {error}") from error
        self._nvml = nvml
        handle = nvml.nvmlDeviceGetHandleByIndex
        self._handles = [one for n in range(self._count()) for one in self._answers(handle, n)]

    def _count(self) -> int:
        return next(self._answers(self._nvml.nvmlDeviceGetCount), 0)

    def _of(self, handle: Any) -> Values:
        """What one GPU reports, by the end of its column's name."""
        nvml, values = self._nvml, {}
        for rates in self._answers(nvml.nvmlDeviceGetUtilizationRates, handle):
            values["percent"] = float(rates.gpu)
        for memory in self._answers(nvml.nvmlDeviceGetMemoryInfo, handle):
            values["bytes"], values["total_bytes"] = float(memory.used), float(memory.total)
        for milliwatts in self._answers(nvml.nvmlDeviceGetPowerUsage, handle):
            values["watts"] = milliwatts / 1000
        kind = nvml.NVML_TEMPERATURE_GPU
        for celsius in self._answers(nvml.nvmlDeviceGetTemperature, handle, kind):
            values["celsius"] = float(celsius)
        return values

    def _answers(self, ask: Callable[..., Any], *args: Any) -> Iterator[Any]:
        """The answer, if the GPU or its driver has one."""
        try:
            yield ask(*args)
        except self._nvml.NVMLError:
            return

    def close(self) -> None:
        if self._nvml is not None:
            list(self._answers(self._nvml.nvmlShutdown))
            self._nvml = None


def counters_of_machine(gpu: bool) -> dict[str, Counter]:
    """The counters of this machine, by what they count."""
    counters: dict[str, Counter] = {
        "memory": Memory(),
        "CPU by core": Cores(),
        "processor power": Rapl(),
    }
    return counters | {"GPU": NvidiaGpus()} if gpu else counters


def memories(values: Values) -> list[tuple[str, float, float]]:
    """(which, bytes that are free, bytes in all) of each memory that was read."""
    found = []
    if "free_bytes" in values:
        found.append(("memory", values["free_bytes"], values["total_bytes"]))
    for name, total in values.items():
        if name.startswith("gpu_") and name.endswith("_total_bytes"):
            number = name.split("_")[1]
            used = values[f"gpu_{number}_bytes"]
            found.append((f"memory of GPU {number}", total - used, total))
    return found
