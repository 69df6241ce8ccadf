"""What this process may take: of the machine, or of the control groups that limit it."""

from __future__ import annotations

import psutil
import pytest

from mullama_lab.engine.memory import machine
from mullama_lab.engine.memory.machine import total_and_free
from mullama_lab.engine.native.devices import devices
from mullama_lab.studies.monitor.counters import Memory

V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
V2 = ("memory.max", "memory.current", "")


@pytest.fixture(autouse=True)
def groups(tmp_path, monkeypatch):
    """Writes a group of a folder like /sys/fs/cgroup, of a machine that has 1000 of 2000 free."""
    memory = psutil.virtual_memory()._replace(total=2000, available=1000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "PROCESS_CGROUPS", tmp_path / "of_process")

    def write(of_process, folder, names, limit, current, of_files=0):
        (tmp_path / "of_process").write_text(of_process)
        group = tmp_path / folder
        group.mkdir(parents=True, exist_ok=True)
        limit_name, current_name, prefix = names
        (group / limit_name).write_text(f"{limit}\n")
        (group / current_name).write_text(f"{current}\n")
        stat = f"anon 5\n{prefix}inactive_file {of_files}\n{prefix}active_file 10\n"
        (group / "memory.stat").write_text(stat)

    return write


@pytest.mark.parametrize(
    ("of_process", "folder", "names"),
    [
        ("0::/a/b\n", "a/b", V2),
        ("0::/a/b\n", "a", V2),  # a parent's limit is its children's
        ("0::/\n", "", V2),  # as a container sees it
        ("9:name=systemd:/\n4:cpu,memory:/a/b\n3:cpuset:/\n0::/\n", "memory/a/b", V1),
        ("4:memory:/docker/3\n", "memory", V1),  # its group is the root that it sees
    ],
)
def test_a_limit_of_a_group_is_what_there_is(groups, of_process, folder, names):
    groups(of_process, folder, names, limit=800, current=500, of_files=40)
    # 500 are taken, 40 + 10 of them by pages of files, which can be given up
    assert total_and_free() == (800, 350)


def test_the_narrowest_group_counts_and_the_machine_where_it_has_less(groups):
    groups("0::/a/b\n", "a", V2, limit=700, current=100)
    groups("0::/a/b\n", "a/b", V2, limit=600, current=0)
    assert total_and_free() == (600, 600)
    groups("0::/a/b\n", "a", V2, limit=700, current=690)
    assert total_and_free() == (600, 20)
    groups("0::/a\n", "a", V2, limit=10**9, current=0)
    assert total_and_free() == (2000, 1000)


def test_a_group_that_took_more_than_its_limit_has_nothing_left(groups):
    groups("0::/\n", "", V2, limit=100, current=500)
    assert total_and_free() == (100, 0)


def test_without_a_limit_or_without_groups_it_is_the_machine(groups):
    assert total_and_free() == (2000, 1000)
    groups("0::/\n", "", V2, limit="max", current=500)
    assert total_and_free() == (2000, 1000)
    groups("4:memory:/elsewhere\n0::/\n", "other", V1, limit=1, current=1)
    assert total_and_free() == (2000, 1000)


def test_the_cpu_and_a_monitor_have_what_a_container_may_take(groups):
    groups("0::/\n", "", V2, limit=800, current=310)
    cpu = next(device for device in devices() if device.kind == "CPU")
    assert (cpu.total_bytes, cpu.free_bytes) == (800, 500)
    shown = Memory().read(0.0)
    assert (shown["total_bytes"], shown["free_bytes"]) == (800, 500)
