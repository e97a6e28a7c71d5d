"""What one attempt claims: a vector of whole numbers, all of it or nothing.

Layer: pure. Whole numbers because sums of fractions drift. CPU is held in thousandths, GPUs and everything
that a state names itself in ten-thousandths (`UNIT`), memory and disk in bytes, network in bytes per second.
Equal requests are one *shape*: attempts that make the same request stand in the same queue.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

UNIT = 10_000
"""One unit of a named resource, one GPU."""
CPU, MEMORY, DISK, NETWORK = "sys-compute", "sys-memory", "sys-disk", "sys-network"
"""The ids of what every machine has."""
GPU = "gpu"
"""Stands for any device; the devices themselves are `gpu-0`, `gpu-1`..."""
DEFAULT_QUOTA = "api-global"
"""The quota that `api_quota` in `resources` means."""
DEFAULT_CPU_MILLI = 1000


def gpu_id(index: int) -> str:
    """The id of a device."""
    return f"{GPU}-{index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What an attempt needs while it runs; `named` is sorted by name."""

    cpu_milli: int = DEFAULT_CPU_MILLI
    memory_bytes: int = 0
    gpu: int = 0
    disk_bytes: int = 0
    network_bps: int = 0
    named: tuple[tuple[str, int], ...] = ()
    cpu_given: bool = False
    """False where nobody asked: then all there is does, if that is less than one CPU."""

    @property
    def plain(self) -> bool:
        """True when it asks for CPU alone."""
        return not (self.memory_bytes or self.gpu or self.disk_bytes or self.network_bps or self.named)

    def machine(self) -> Iterator[tuple[str, int]]:
        """(id, amount) of every machine resource that it asks for; `gpu` stands for any device."""
        if self.cpu_milli:
            yield CPU, self.cpu_milli
        if self.memory_bytes:
            yield MEMORY, self.memory_bytes
        if self.disk_bytes:
            yield DISK, self.disk_bytes
        if self.network_bps:
            yield NETWORK, self.network_bps
        if self.gpu:
            yield GPU, self.gpu


class NamedLimit(NamedTuple):
    """The most that can ever be asked of a named resource at once; `burst` is that of a quota, if it has one."""

    type: str
    capacity: int
    burst: int | None = None


class Grant(NamedTuple):
    """What an attempt was given: its request as it was admitted, and the devices it may use."""

    request: Request
    gpus: tuple[str, ...] = ()
