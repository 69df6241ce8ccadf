"""Counters of the machine: what they show, and what they say where there are none."""

from __future__ import annotations

import subprocess
import sys
from collections import namedtuple
from types import SimpleNamespace

import psutil
import pytest

from mullama_lab.studies.monitor import Monitor
from mullama_lab.studies.monitor.counters import UNREADABLE, Cores, Memory, NvidiaGpus, Rapl

Times = namedtuple("Times", "user system idle iowait guest")


def test_a_process_that_ends_while_it_is_read_says_so():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        memory = Memory(child.pid)
        assert memory.read(0.0)["resident_bytes"] > 0
        child.communicate(b"\n")
        with pytest.raises(psutil.NoSuchProcess, match=f"{child.pid}"):
            memory.read(1.0)
    assert issubclass(psutil.NoSuchProcess, UNREADABLE)


def test_a_core_is_busy_when_it_neither_idles_nor_waits_and_a_guest_counts_once(monkeypatch):
    read = [[Times(10, 2, 50, 3, 4), Times(0, 0, 1, 0, 0)],
            [Times(13, 3, 54, 4, 5), Times(0, 0, 1, 0, 0)]]  # fmt: skip
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: read.pop(0))
    cores = Cores()
    assert cores.read(0.0) == {}  # since when?
    assert cores.read(0.01) == {}  # a tick, in which a core was busy or not
    # 3 + 1 busy, which the guest's 1 is part of, and 4 + 1 idle or waiting
    assert cores.read(1.0) == {"cpu_0_percent": pytest.approx(400 / 9), "cpu_1_percent": 0.0}


def test_cores_that_come_or_go_are_not_known_for_once(monkeypatch):
    one, two = [Times(1, 1, 1, 0, 0)], [Times(2, 1, 1, 0, 0)] * 2
    read = [one, two, two]
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: read.pop(0))
    cores = Cores()
    assert [len(cores.read(float(n))) for n in range(3)] == [0, 0, 2]


@pytest.fixture
def zone(tmp_path):
    """Writes a zone of a folder like /sys/class/powercap."""

    def write(name, energy, kind="package-0", most=262_143_000_000):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "name").write_text(kind + "\n")
        (folder / "energy_uj").write_text(f"{energy}\n")
        (folder / "max_energy_range_uj").write_text(f"{most}\n")

    return write


def test_power_is_that_of_whole_packages(tmp_path, zone):
    rapl = Rapl(tmp_path)
    for n, (first, second) in enumerate([(0, 1_000_000), (4_000_000, 10_000_000)]):
        zone("intel-rapl:0", first, "package-0"), zone("intel-rapl:1", second, "package-1")
        zone("intel-rapl:0:0", 9 * first, "core"), zone("intel-rapl-mmio:0", first)
        zone("intel-rapl:2", 9 * first, "psys")
        shown = rapl.read(2.0 * n)
    assert shown == {"cpu_watts": (4 + 9) / 2}


def test_a_counter_that_begins_again_at_nought_goes_on(tmp_path, zone):
    rapl = Rapl(tmp_path)
    zone("intel-rapl:0", 262_142_000_000)
    assert rapl.read(0.0) == {}
    zone("intel-rapl:0", 1_000_000)
    assert rapl.read(1.0) == {"cpu_watts": 2.0}


def test_power_is_not_known_where_a_counter_was_set_back_or_may_have_gone_round_twice(
    tmp_path, zone
):
    rapl = Rapl(tmp_path)
    zone("intel-rapl:0", 100_000_000)
    assert rapl.read(0.0) == {}
    zone("intel-rapl:0", 0)  # else 262 043 J in 1 s
    with pytest.raises(UNREADABLE, match="was set back"):
        rapl.read(1.0)
    zone("intel-rapl:0", 5_000_000)
    assert rapl.read(2.0) == {"cpu_watts": 5.0}
    zone("intel-rapl:0", 6_000_000)
    with pytest.raises(UNREADABLE, match="more than once in 3600 s; use a shorter interval"):
        rapl.read(3602.0)


def test_counters_of_energy_that_are_missing_or_secret_are_said(tmp_path, zone):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(UNREADABLE, match="has no energy counter of a processor"):
            Rapl(folder).read(0.0)
    zone("intel-rapl:0", "garbage")
    with pytest.raises(UNREADABLE):
        Rapl(tmp_path).read(0.0)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    with pytest.raises(UNREADABLE, match="energy_uj"):
        Rapl(tmp_path).read(0.0)


class NVMLError(Exception):
    pass


class FakeNvml:
    """What of NVIDIA's library is used: the first GPU tells all, the second its memory alone."""

    NVML_TEMPERATURE_GPU = 0
    NVMLError = NVMLError

    def __init__(self, n=2):
        self.n, self.n_open, self.broken = n, 0, False

    def nvmlInit(self):
        if self.broken:
            raise NVMLError("Driver Not Loaded")
        self.n_open += 1

    def nvmlShutdown(self):
        self.n_open -= 1

    def nvmlDeviceGetCount(self):
        return self.n

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetMemoryInfo(self, handle):
        return SimpleNamespace(total=80, used=30 + handle, free=50 - handle)

    def _of_first(self, handle, value):
        if handle or self.broken:
            raise NVMLError("Not Supported")
        return value

    def nvmlDeviceGetUtilizationRates(self, handle):
        return self._of_first(handle, SimpleNamespace(gpu=97, memory=50))

    def nvmlDeviceGetPowerUsage(self, handle):
        return self._of_first(handle, 250_500)

    def nvmlDeviceGetTemperature(self, handle, sensor):
        assert sensor == self.NVML_TEMPERATURE_GPU
        return self._of_first(handle, 61)


@pytest.fixture
def nvml(monkeypatch):
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def test_a_gpu_has_a_column_for_what_it_tells(nvml):
    gpus = NvidiaGpus()
    assert gpus.read(0.0) == {
        "gpu_0_percent": 97, "gpu_0_bytes": 30, "gpu_0_total_bytes": 80, "gpu_0_watts": 250.5,
        "gpu_0_celsius": 61, "gpu_1_bytes": 31, "gpu_1_total_bytes": 80,
    }  # fmt: skip
    nvml.broken = True  # in the midst
    assert list(gpus.read(1.0)) == [
        f"gpu_{n}_{x}" for n in (0, 1) for x in ("bytes", "total_bytes")
    ]
    gpus.close(), gpus.close()
    assert nvml.n_open == 0


def test_no_driver_no_gpu_and_no_library_are_said(nvml, monkeypatch):
    nvml.broken = True
    with pytest.raises(UNREADABLE, match="NVML cannot be used: Driver Not Loaded"):
        NvidiaGpus().read(0.0)
    nvml.broken, nvml.n = False, 0
    with pytest.raises(UNREADABLE, match="no NVIDIA GPU"):
        NvidiaGpus().read(0.0)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(UNREADABLE, match="nvidia-ml-py is not installed; pip install 'mullama"):
        NvidiaGpus().read(0.0)


def test_a_monitor_asks_for_gpus_only_when_it_is_told_to(nvml):
    with Monitor(interval=3600) as monitor:
        assert nvml.n_open == 0
    assert "GPU" not in monitor.not_available
    with Monitor(interval=3600, gpu=True) as monitor:
        assert nvml.n_open == 1
    assert nvml.n_open == 0 and monitor.columns()["gpu_0_watts"].tolist() == [250.5, 250.5]
    text = monitor.to_text()
    for label in ("GPU 0 utilisation", "GPU 0 power", "GPU 0 temperature", "GPU 1 memory"):
        assert f"\n{label} " in text
    assert "GPU 1 power" not in text


def test_a_monitor_without_gpus_goes_on_and_says_so(nvml):
    nvml.broken = True
    with Monitor(interval=3600, gpu=True) as monitor:
        pass
    assert monitor.not_available["GPU"] == "NVML cannot be used: Driver Not Loaded"
    assert not any(name.startswith("gpu") for name in monitor.columns())
    assert "not available: GPU: NVML cannot be used: Driver Not Loaded" in monitor.to_text()


def test_the_library_itself_has_what_is_used_of_it():
    pynvml = pytest.importorskip("pynvml")
    used = [name for name in vars(FakeNvml) if name.startswith(("nvml", "NVML"))]
    assert len(used) == 10 and not [name for name in used if not hasattr(pynvml, name)]


def test_a_machine_without_proc_has_a_monitor_of_its_sessions_alone(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError(2, "No such file or directory", "/proc/stat")

    for name in ("virtual_memory", "cpu_times"):
        monkeypatch.setattr(psutil, name, missing)
    with Monitor(interval=3600) as monitor:
        pass
    assert {"memory", "CPU by core"} <= set(monitor.not_available)
    assert not {"resident_bytes", "free_bytes", "cpu_0_percent"} & set(monitor.columns())
    assert "not available: CPU by core: [Errno 2]" in monitor.to_text()
