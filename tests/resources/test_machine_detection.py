"""What is found of a machine: affinity, both versions of control groups, disk, network, and what overrules it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from codomyrmex.exceptions import SettingsError
from codomyrmex.logistics.orchestration.project.cgroup_limits import find_control_groups
from codomyrmex.logistics.orchestration.project.machine import Gpu, Machine, Overrides
from codomyrmex.logistics.orchestration.project.machine_detection import (
    UNKNOWN_NETWORK_BPS,
    available_cpu_milli,
    available_memory_bytes,
    detect_machine,
    free_disk_bytes,
    network_bytes_per_s,
    overrides_of,
)
from codomyrmex.settings import load_settings

GIB = 2**30
V2 = "31 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "36 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
)
HYBRID = V1 + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
SENTINEL = "9223372036854771712"


def system(folder: Path, *, groups: str, mounts: str, files: Mapping[str, str]) -> Path:
    """A tree that stands for `/`; `files` are relative to `/sys/fs/cgroup`."""
    texts = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    return tree(folder, {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts, **texts})


def tree(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_without_control_groups_affinity_and_memory_are_what_there_is(tmp_path: Path) -> None:
    assert available_cpu_milli(files=tmp_path, affinity=6) == 6000
    assert available_memory_bytes(files=tmp_path, physical_bytes=8 * GIB) == 8 * GIB


@pytest.mark.parametrize(
    ("quota", "affinity", "expected_milli"),
    [
        ("150000 100000\n", 8, 2000),
        ("200000 100000\n", 8, 2000),
        ("10000 100000\n", 8, 1000),
        ("400000 100000\n", 2, 2000),
        ("max 100000\n", 8, 8000),
        ("", 8, 8000),
        ("100000 0\n", 8, 8000),
    ],
)
def test_a_quota_counts_as_whole_cpus_rounded_up(
    tmp_path: Path, quota: str, affinity: int, expected_milli: int
) -> None:
    files = system(tmp_path, groups="0::/work\n", mounts=V2, files={"work/cpu.max": quota})
    assert available_cpu_milli(files=files, affinity=affinity) == expected_milli


@pytest.mark.parametrize("tight", ["", "a/", "a/b/", "a/b/c/"])
def test_the_limit_of_any_group_above_holds(tmp_path: Path, tight: str) -> None:
    limits = {f"{group}cpu.max": "max 100000\n" for group in ("a/", "a/b/", "a/b/c/")}
    limits |= {f"{group}memory.max": "max\n" for group in ("a/", "a/b/", "a/b/c/")}
    limits |= {f"{tight}cpu.max": "300000 100000\n", f"{tight}memory.max": f"{GIB}\n"}
    files = system(tmp_path, groups="0::/a/b/c\n", mounts=V2, files=limits)
    assert available_cpu_milli(files=files, affinity=64) == 3000
    assert available_memory_bytes(files=files, physical_bytes=64 * GIB) == GIB


def test_the_smallest_limit_of_the_chain_wins(tmp_path: Path) -> None:
    limits = {"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "500000 100000\n"}
    limits |= {"a/memory.max": f"{4 * GIB}\n", "a/b/memory.max": f"{2 * GIB}\n"}
    files = system(tmp_path, groups="0::/a/b\n", mounts=V2, files=limits)
    assert available_cpu_milli(files=files, affinity=64) == 2000
    assert available_memory_bytes(files=files, physical_bytes=64 * GIB) == 2 * GIB


@pytest.mark.parametrize("group", ["", "docker/", "docker/job/"])
def test_version_1_is_read_up_to_the_mount(tmp_path: Path, group: str) -> None:
    cpu, memory = f"cpu,cpuacct/{group}", f"memory/{group}"
    limits = {
        f"{cpu}cpu.cfs_quota_us": "250000\n",
        f"{cpu}cpu.cfs_period_us": "100000\n",
        f"{memory}memory.limit_in_bytes": f"{3 * GIB}\n",
    }
    groups = "4:memory:/docker/job\n2:cpu,cpuacct:/docker/job\n1:name=systemd:/\n"
    files = system(tmp_path, groups=groups, mounts=V1, files=limits)
    assert available_cpu_milli(files=files, affinity=64) == 3000
    assert available_memory_bytes(files=files, physical_bytes=64 * GIB) == 3 * GIB


def test_version_1_says_no_limit_with_minus_one_and_a_huge_number(tmp_path: Path) -> None:
    limits = {
        "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        "memory/memory.limit_in_bytes": f"{SENTINEL}\n",
    }
    files = system(tmp_path, groups="4:memory:/\n2:cpu,cpuacct:/\n", mounts=V1, files=limits)
    assert available_cpu_milli(files=files, affinity=64) == 64_000
    assert available_memory_bytes(files=files, physical_bytes=64 * GIB) == 64 * GIB
    assert find_control_groups(files).memory_bytes() is None


def test_on_a_hybrid_machine_both_versions_hold(tmp_path: Path) -> None:
    limits = {
        "cpu,cpuacct/job/cpu.cfs_quota_us": "400000\n",
        "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
        "memory/job/memory.limit_in_bytes": f"{4 * GIB}\n",
        "unified/slice/cpu.max": "300000 100000\n",
        "unified/slice/memory.max": f"{8 * GIB}\n",
    }
    groups = "4:memory:/job\n2:cpu,cpuacct:/job\n0::/slice\n"
    files = system(tmp_path, groups=groups, mounts=HYBRID, files=limits)
    assert available_cpu_milli(files=files, affinity=64) == 3000
    assert available_memory_bytes(files=files, physical_bytes=64 * GIB) == 4 * GIB


def test_a_container_whose_mount_shows_its_own_group_only_is_read_below_it(tmp_path: Path) -> None:
    mounts = V2.replace(" / /sys", " /docker/4f2 /sys")
    limits = {"job/memory.max": f"{2 * GIB}\n", "cpu.max": "200000 100000\n"}
    files = system(tmp_path, groups="0::/docker/4f2/job\n", mounts=mounts, files=limits)
    assert available_memory_bytes(files=files, physical_bytes=64 * GIB) == 2 * GIB
    assert available_cpu_milli(files=files, affinity=64) == 2000


@pytest.mark.parametrize(
    ("root", "path"),
    [("/docker/4f2", "/../../elsewhere"), ("/", "/../../elsewhere"), ("/docker/4f2", "/docker/4f2x/job")],
)
def test_a_group_outside_of_what_is_mounted_is_read_at_the_mount(
    tmp_path: Path, root: str, path: str
) -> None:
    limits = {"memory.max": f"{GIB}\n", "x/job/memory.max": "1\n", "../../elsewhere/memory.max": "1\n"}
    mounts = V2.replace(" / /sys", f" {root} /sys")
    files = system(tmp_path, groups=f"0::{path}\n", mounts=mounts, files={"cpu.max": "", **limits})
    assert available_memory_bytes(files=files, physical_bytes=64 * GIB) == GIB


def test_a_mount_with_a_blank_in_its_name_is_found(tmp_path: Path) -> None:
    mounts = V2.replace("/sys/fs/cgroup", r"/sys/fs/control\040groups")
    files = system(tmp_path, groups="0::/\n", mounts=mounts, files={})
    tree(files, {"sys/fs/control groups/cpu.max": "100000 100000\n"})
    assert available_cpu_milli(files=files, affinity=64) == 1000


def interface(name: str, *, speed: str = "-1", flags: str = "0x1003", state: str = "up") -> dict[str, str]:
    folder = f"sys/class/net/{name}/"
    return {folder + "flags": flags, folder + "operstate": state, folder + "speed": speed}


def test_the_network_is_all_that_is_up_and_has_hardware(tmp_path: Path) -> None:
    hardware = interface("eth0", speed="10000") | interface("eth1", speed="1000")
    hardware |= interface("eth2", speed="1000", flags="0x1002", state="down") | interface("wlan0")
    files = tree(tmp_path, hardware | interface("docker0", speed="10000") | interface("lo", flags="0x9"))
    for name in ("eth0", "eth1", "eth2", "wlan0"):
        (files / f"sys/class/net/{name}/device").mkdir()
    assert network_bytes_per_s(files=files) == 1_250_000_000 + 125_000_000 + UNKNOWN_NETWORK_BPS


def test_in_a_container_the_interface_that_it_was_given_counts(tmp_path: Path) -> None:
    files = tree(tmp_path, interface("eth0", speed="10000") | interface("lo", flags="0x9", state="unknown"))
    assert network_bytes_per_s(files=files) == 1_250_000_000


@pytest.mark.parametrize("found", [{}, interface("lo", flags="0x9", state="unknown")])
def test_a_network_of_which_nothing_is_known_is_a_gigabit(tmp_path: Path, found: dict[str, str]) -> None:
    assert network_bytes_per_s(files=tree(tmp_path, found)) == UNKNOWN_NETWORK_BPS


def test_disk_is_what_is_free_where_the_project_lies_or_will_lie(tmp_path: Path) -> None:
    free = free_disk_bytes(tmp_path / "not" / "yet")
    assert abs(free - shutil.disk_usage(tmp_path).free) < GIB


def test_overrides_stand_instead_of_what_is_found(tmp_path: Path) -> None:
    files = system(tmp_path, groups="0::/\n", mounts=V2, files={"cpu.max": "100000 100000\n"})
    overrides = Overrides(
        cpu_milli=1500, memory_bytes=GIB, gpu_count=2, disk_bytes=5 * GIB, network_bps=7_000
    )
    found = detect_machine(tmp_path, overrides=overrides, files=files, affinity=1, physical_bytes=4 * GIB)
    assert found == Machine(
        cpu_milli=1500,
        memory_bytes=GIB,
        disk_bytes=5 * GIB,
        network_bps=7_000,
        gpus=(Gpu(index=0), Gpu(index=1)),
    )


def test_nothing_is_an_override_of_its_own(tmp_path: Path) -> None:
    found = detect_machine(
        tmp_path, overrides=Overrides(gpu_count=0, disk_bytes=0), files=tmp_path, affinity=1
    )
    assert found.disk_bytes == 0
    assert found.gpus == ()


def test_the_capacities_go_by_the_ids_of_the_resources_and_a_busy_gpu_has_none() -> None:
    gpus = (Gpu(index=0), Gpu(index=1, busy=True))
    machine = Machine(cpu_milli=2000, memory_bytes=GIB, disk_bytes=3, network_bps=4, gpus=gpus)
    assert machine.capacities() == {
        "sys-compute": 2000,
        "sys-memory": GIB,
        "sys-disk": 3,
        "sys-network": 4,
        "gpu-0": 10_000,
        "gpu-1": 0,
    }


def test_this_machine_has_what_its_system_says(tmp_path: Path) -> None:
    found = detect_machine(tmp_path)
    assert 1000 <= found.cpu_milli <= 1000 * (os.cpu_count() or 1)
    assert 64 * 2**20 < found.memory_bytes <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert found.disk_bytes > 0
    assert found.network_bps > 0
    assert found.gpus == ()


def test_detection_loads_nothing_heavy() -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from codomyrmex.logistics.orchestration.project import machine_detection as detection\n"
        "detection.detect_machine(Path('.'))\n"
        "print(sorted({'psutil', 'pynvml', 'subprocess', 'shutil', 'ctypes'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_settings_overrule_the_machine(tmp_path: Path) -> None:
    text = '[resources]\ncpu = 1.5\nmemory = "8GiB"\ngpu = "2"\ndisk = 1000\nnetwork = "10MB/s"\n'
    (tmp_path / "config.toml").write_text(text)
    settings = load_settings(root=tmp_path, state=tmp_path, environ={})
    assert overrides_of(settings) == Overrides(
        cpu_milli=1500, memory_bytes=8 * GIB, gpu_count=2, disk_bytes=1000, network_bps=10_000_000
    )


def test_without_settings_nothing_is_overruled(tmp_path: Path) -> None:
    assert overrides_of(load_settings(root=tmp_path, environ={})) == Overrides()


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("CODOMYRMEX_RESOURCES_MEMORY", "0.3B", "not a whole number of bytes"),
        ("CODOMYRMEX_RESOURCES_NETWORK", "1.0001KB/s", "not a whole number of bytes"),
        ("CODOMYRMEX_RESOURCES_DISK", "2000000TiB", "more than any machine has"),
    ],
)
def test_an_amount_that_nothing_can_be_is_refused_with_its_place(
    tmp_path: Path, variable: str, value: str, told: str
) -> None:
    settings = load_settings(root=tmp_path, environ={variable: value})
    with pytest.raises(SettingsError, match=told) as caught:
        overrides_of(settings)
    assert str(caught.value).startswith(f"{variable}: resources.")
    assert caught.value.details["origin"] == variable
