"""GPUs for machines without any.

Layer: testing. It fills the port that NVIDIA's driver fills (`GpuProbe`), so a test can give an engine two
devices, let somebody else take one, or lose one. Nothing computes: what attempts see are the variables
(CUDA_VISIBLE_DEVICES and kin) that real devices would bring.
"""

from __future__ import annotations

from dataclasses import replace

from codomyrmex.logistics.orchestration.project.machine import FoundGpu

_NOBODYS_PID = 2**22 + 1
"""One above what Linux gives to a process: not ours, whatever runs."""


class FakeGpus:
    """`count` devices of `memory_bytes` each, every one cut into `parts` MIG instances; none by default."""

    def __init__(self, count: int = 1, *, memory_bytes: int = 16 * 2**30, parts: int = 0) -> None:
        self._devices = [
            FoundGpu(
                uuid=f"GPU-{index:08x}-0000-4000-8000-{index:012x}",
                name="Fake GPU",
                memory_bytes=memory_bytes,
                parts=tuple(_part(index, part, memory_bytes // parts) for part in range(parts)),
            )
            for index in range(count)
        ]

    def devices(self) -> tuple[FoundGpu, ...]:
        """See `GpuProbe.devices`."""
        return tuple(self._devices)

    def occupy(self, index: int, pid: int = _NOBODYS_PID) -> None:
        """That process computes on the device now; by default it is one of somebody else."""
        device = self._devices[index]
        self._devices[index] = replace(device, pids=device.pids | {pid})

    def release(self, index: int) -> None:
        """No process computes on the device any more."""
        self._devices[index] = replace(self._devices[index], pids=frozenset())

    def lose(self, index: int) -> None:
        """The device does not answer any more; it keeps its place in the order."""
        self._devices[index] = FoundGpu(usable=False)


def _part(device: int, part: int, memory_bytes: int) -> FoundGpu:
    return FoundGpu(
        uuid=f"MIG-{device:08x}-{part:04x}-5000-8000-{part:012x}",
        name="Fake GPU instance",
        memory_bytes=memory_bytes,
    )
