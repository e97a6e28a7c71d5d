"""What a machine has to give, as whole numbers.

Layer: pure. `machine_detection` finds it; the host ledger lends it to engines. A GPU is one resource of its
own, counted in ten-thousandths; one that somebody else works on has nothing to give.
"""

from __future__ import annotations

from dataclasses import dataclass

from codomyrmex.logistics.orchestration.project.resource_request import (
    CPU,
    DISK,
    MEMORY,
    NETWORK,
    UNIT,
    gpu_id,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundGpu:
    """A device, or a MIG instance of one, as its driver tells of it.

    `pids` are the processes that compute on it. `parts` are its MIG instances. One that the driver sees but
    cannot reach keeps its place in the order and is not `usable`.
    """

    uuid: str | None = None
    name: str = ""
    memory_bytes: int = 0
    pids: frozenset[int] = frozenset()
    parts: tuple[FoundGpu, ...] = ()
    usable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A device that attempts may be given; `index` counts what this engine sees, from 0.

    `busy`: a process of somebody else computes on it, or its driver cannot reach it. Then it is OFFLINE.
    """

    index: int
    uuid: str | None = None
    name: str = ""
    memory_bytes: int = 0
    busy: bool = False

    @property
    def id(self) -> str:
        """The id of the resource: `gpu-0`."""
        return gpu_id(self.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Milli-CPU, bytes, bytes per second, devices: what the engines of this host share."""

    cpu_milli: int
    memory_bytes: int
    disk_bytes: int = 0
    network_bps: int = 0
    gpus: tuple[Gpu, ...] = ()

    @property
    def default_workers(self) -> int:
        """How many attempts an engine runs at once where nobody says: 4 for each CPU, at least 8, at most 64."""
        return min(64, max(8, 4 * -(-self.cpu_milli // 1000)))

    def capacities(self) -> dict[str, int]:
        """{id of the resource: how much there is}; a busy GPU has 0."""
        devices = {gpu.id: 0 if gpu.busy else UNIT for gpu in self.gpus}
        return {
            CPU: self.cpu_milli,
            MEMORY: self.memory_bytes,
            DISK: self.disk_bytes,
            NETWORK: self.network_bps,
            **devices,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What the settings say instead of detection; None leaves it to detection."""

    cpu_milli: int | None = None
    memory_bytes: int | None = None
    gpu_count: int | None = None
    disk_bytes: int | None = None
    network_bps: int | None = None
