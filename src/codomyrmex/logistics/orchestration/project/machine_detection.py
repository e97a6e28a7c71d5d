"""What this machine has: CPUs, memory, disk, network, GPUs; and what the settings say instead.

Layer: shell, below the engine. Detection takes the smaller of what the machine has and what the process may
use of it (affinity, control groups). `detect_machine` reads some ten small files and loads nothing, because
every engine starts with it; GPUs are another matter (loading their driver takes long), so `detect_gpus` is
asked only when somebody wants one.

A GPU on which a process of somebody else computes is busy and gets no work. Ours are this process, those
below it, and those of any engine on this machine, whose holdings the host ledger counts. A process that
cannot be seen (another container's, or hidden) is somebody else's; `resources.gpu` overrules all of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from codomyrmex.exceptions import SettingsError
from codomyrmex.logistics.orchestration.project.amounts import (
    MAX_SIZE_BYTES,
    read_milli_cpu,
    read_rate_bps,
    read_size_bytes,
)
from codomyrmex.logistics.orchestration.project.cgroup_limits import find_control_groups
from codomyrmex.logistics.orchestration.project.gpu_choice import CUDA, visible_entries
from codomyrmex.logistics.orchestration.project.machine import FoundGpu, Gpu, Machine, Overrides

if TYPE_CHECKING:
    from codomyrmex.settings import Settings

UNKNOWN_NETWORK_BPS: Final = 125_000_000
"""Of an interface that does not tell its speed: a gigabit."""
_ROOT: Final = Path("/")
_NO_OVERRIDES: Final = Overrides()
_UP, _LOOPBACK = 0x1, 0x8  # IFF_UP, IFF_LOOPBACK
_BYTES_PER_MEGABIT = 125_000


class GpuProbe(Protocol):
    """Who knows the GPUs of a machine: the driver (`NvmlProbe`), or `codomyrmex.testing.FakeGpus`."""

    def devices(self) -> Sequence[FoundGpu]:
        """Every device in the order of the PCI bus, with its processes; none without a driver."""


def detect_machine(
    root: Path,
    *,
    overrides: Overrides = _NO_OVERRIDES,
    files: Path = _ROOT,
    affinity: int | None = None,
    physical_bytes: int | None = None,
) -> Machine:
    """What the machine of the project in `root` has; GPUs only where `overrides` names their number.

    `files` stands for `/`, where `proc` and `sys` are read; `affinity` and `physical_bytes` for what the
    system says of the processors that this process may use and of the memory that is built in.
    """
    cpu, memory = overrides.cpu_milli, overrides.memory_bytes
    disk, network = overrides.disk_bytes, overrides.network_bps
    if cpu is None:
        cpu = available_cpu_milli(files=files, affinity=affinity)
    if memory is None:
        memory = available_memory_bytes(files=files, physical_bytes=physical_bytes)
    return Machine(
        cpu_milli=cpu,
        memory_bytes=memory,
        disk_bytes=free_disk_bytes(root) if disk is None else disk,
        network_bps=network_bytes_per_s(files=files) if network is None else network,
        gpus=_plain_gpus(overrides.gpu_count or 0),
    )


def available_cpu_milli(*, files: Path = _ROOT, affinity: int | None = None) -> int:
    """Thousandths of the CPUs that this process may use: whole ones, at least one."""
    if affinity is None:
        affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = find_control_groups(files).cpu_count()
    return 1000 * max(1, affinity if quota is None else min(affinity, quota))


def available_memory_bytes(*, files: Path = _ROOT, physical_bytes: int | None = None) -> int:
    """Bytes of memory that this process may use: what is built in, or less where a control group says so."""
    if physical_bytes is None:
        physical_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = find_control_groups(files).memory_bytes()
    return physical_bytes if limit is None else min(physical_bytes, limit)


def free_disk_bytes(root: Path) -> int:
    """Bytes that this user may still write to the file system of `root`, or of the nearest folder above."""
    folder = root.absolute()
    while True:
        try:
            found = os.statvfs(folder)
        except FileNotFoundError:
            folder = folder.parent
        else:
            return found.f_bavail * found.f_frsize


def network_bytes_per_s(*, files: Path = _ROOT) -> int:
    """The speeds of the interfaces that are up, together; `UNKNOWN_NETWORK_BPS` where none tells.

    Where a machine has hardware of its own only that counts: bridges, tunnels and bonds carry the same
    traffic once more. A container sees none and counts what it was given.
    """
    if sys.platform == "darwin":
        return _network_with_psutil()
    folder = files / "sys/class/net"
    try:
        names = os.listdir(folder)
    except OSError:
        names = []
    up = [folder / name for name in names if _carries(folder / name)]
    hardware = [interface for interface in up if (interface / "device").exists()]
    return sum(_speed_bps(interface) for interface in hardware or up) or UNKNOWN_NETWORK_BPS


def detect_gpus(
    *,
    overrides: Overrides = _NO_OVERRIDES,
    probe: GpuProbe | None = None,
    inherited: Mapping[str, str] | None = None,
    files: Path = _ROOT,
) -> tuple[Gpu, ...]:
    """The GPUs that attempts of this process may be given; a number in `overrides` is taken as it is.

    `probe` is NVIDIA's driver unless given; others need the number. A CUDA_VISIBLE_DEVICES in `inherited`
    (our environment) says which devices and in which order; as in CUDA its first entry that names no device,
    more than one, or one again ends it.
    """
    if overrides.gpu_count is not None:
        return _plain_gpus(overrides.gpu_count)
    if probe is None:
        from codomyrmex.logistics.orchestration.project.nvml_probe import NvmlProbe

        probe = NvmlProbe()
    entries = visible_entries((os.environ if inherited is None else inherited).get(CUDA))
    if entries == ():
        return ()
    devices = probe.devices()
    seen = devices if entries is None else _visible(devices, entries)
    return tuple(
        Gpu(
            index=index,
            uuid=device.uuid,
            name=device.name,
            memory_bytes=device.memory_bytes,
            busy=not device.usable or any(not _is_ours(pid, files) for pid in device.pids),
        )
        for index, device in enumerate(seen)
    )


def overrides_of(settings: Settings) -> Overrides:
    """What `resources.*` of the settings says; `SettingsError` with its place for what cannot be meant."""
    amounts = {
        name: _amount(settings, f"resources.{name}") for name in ("cpu", "memory", "gpu", "disk", "network")
    }
    return Overrides(
        cpu_milli=amounts["cpu"],
        memory_bytes=amounts["memory"],
        gpu_count=amounts["gpu"],
        disk_bytes=amounts["disk"],
        network_bps=amounts["network"],
    )


def _amount(settings: Settings, name: str) -> int | None:
    setting = settings.setting(name)
    if setting.value is None:
        return None
    text = str(setting.value)
    try:
        if name == "resources.cpu":
            return read_milli_cpu(float(text))
        if name == "resources.gpu":
            return int(text)
        amount = read_rate_bps(text) if name == "resources.network" else read_size_bytes(text)
        if amount > MAX_SIZE_BYTES:
            raise ValueError("that is more than any machine has")
    except ValueError as error:
        raise SettingsError(
            f"{setting.origin}: {name} is {text!r}; {error}",
            details={"setting": name, "origin": setting.origin, "got": text},
        ) from error
    return amount


def _plain_gpus(count: int) -> tuple[Gpu, ...]:
    return tuple(Gpu(index=index) for index in range(count))


def _visible(devices: Sequence[FoundGpu], entries: Sequence[str]) -> list[FoundGpu]:
    seen: list[FoundGpu] = []
    for entry in entries:
        found = _named(devices, entry)
        if len(found) != 1 or any(found[0] is device for device in seen):
            break
        seen.append(found[0])
    return seen


def _named(devices: Sequence[FoundGpu], entry: str) -> list[FoundGpu]:
    if entry.isdecimal():
        return list(devices[int(entry) : int(entry) + 1])
    if not entry.startswith(("GPU-", "MIG-")):
        return []
    # CUDA takes the beginning of a UUID for all of it, as long as one device alone begins so.
    every = [each for device in devices for each in (device, *device.parts)]
    return [device for device in every if device.uuid is not None and device.uuid.startswith(entry)]


def _is_ours(pid: int, files: Path) -> bool:
    from codomyrmex.logistics.orchestration.project.executors.process_tree import ENGINE_VARIABLE

    mark = f"\0{ENGINE_VARIABLE}=".encode()
    try:
        if mark in b"\0" + (files / f"proc/{pid}/environ").read_bytes():
            return True
    except OSError:
        pass  # another user's, or gone; its ancestors tell as well
    return _is_below(os.getpid(), pid, files)


def _is_below(ancestor: int, pid: int, files: Path) -> bool:
    try:
        while pid not in (ancestor, 0):
            stat = (files / f"proc/{pid}/stat").read_bytes()
            pid = int(stat.rpartition(b")")[2].split()[1])
    except (OSError, IndexError, ValueError):  # gone, maybe while it was read
        return False
    return pid == ancestor


def _carries(interface: Path) -> bool:
    try:
        flags = int((interface / "flags").read_text(), 16)
        state = (interface / "operstate").read_text().strip()
    except (OSError, ValueError):
        return False
    # A tunnel has no carrier to speak of and is "unknown" while it works.
    return bool(flags & _UP) and not flags & _LOOPBACK and state in ("up", "unknown")


def _speed_bps(interface: Path) -> int:
    try:
        megabits = int((interface / "speed").read_text())
    except (OSError, ValueError):
        megabits = -1
    return megabits * _BYTES_PER_MEGABIT if megabits > 0 else UNKNOWN_NETWORK_BPS


def _network_with_psutil() -> int:
    import psutil

    found = [
        stats.speed * _BYTES_PER_MEGABIT or UNKNOWN_NETWORK_BPS
        for name, stats in psutil.net_if_stats().items()
        if stats.isup and name.startswith("en")
    ]
    return sum(found) or UNKNOWN_NETWORK_BPS
