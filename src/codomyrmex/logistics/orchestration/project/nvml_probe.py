"""The GPUs of a machine as NVIDIA's management library tells of them.

Layer: shell. `nvidia-ml-py` (module `pynvml`, extra `gpu`) is loaded when somebody asks. Without it, without
the driver's library or without a driver there are no GPUs. Answers that a device does not support (memory on
some, processes under some hypervisors) are left out; a device that is lost keeps its place and is unusable,
because the numbers of those behind it must not change.
Source: NVML API reference. No machine with a GPU was at hand: what this says to the library was tried
against a double of it, whose functions are those of the real one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from codomyrmex.logistics.orchestration.project.machine import FoundGpu

logger = logging.getLogger(__name__)


class NvmlProbe:
    """A `GpuProbe`; `library` stands for the module `pynvml`."""

    def __init__(self, library: Any = None) -> None:
        self._library = library

    def devices(self) -> tuple[FoundGpu, ...]:
        """Every device in the library's order, which is that of the PCI bus; none where there is no driver."""
        nvml = self._library or _load()
        if nvml is None:
            return ()
        try:
            nvml.nvmlInit()
        except (nvml.NVMLError_LibraryNotFound, nvml.NVMLError_DriverNotLoaded):
            return ()
        except nvml.NVMLError as error:
            logger.warning("the GPUs of this machine cannot be listed: %s", error)
            return ()
        try:
            return tuple(_device(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))
        finally:
            nvml.nvmlShutdown()


def _load() -> Any:
    from importlib import import_module

    try:
        return import_module("pynvml")
    except ImportError:
        return None


def _device(nvml: Any, index: int) -> FoundGpu:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        parts = tuple(_described(nvml, part) for part in _parts(nvml, handle))
        return _described(nvml, handle, parts)
    except nvml.NVMLError as error:
        logger.warning("GPU %d cannot be reached: %s", index, error)
        return FoundGpu(usable=False)


def _described(nvml: Any, handle: Any, parts: tuple[FoundGpu, ...] = ()) -> FoundGpu:
    memory = _supported(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    processes = _supported(nvml, nvml.nvmlDeviceGetComputeRunningProcesses, handle) or ()
    return FoundGpu(
        uuid=nvml.nvmlDeviceGetUUID(handle),
        name=_supported(nvml, nvml.nvmlDeviceGetName, handle) or "",
        memory_bytes=0 if memory is None else int(memory.total),
        pids=frozenset(process.pid for process in processes),
        parts=parts,
    )


def _parts(nvml: Any, handle: Any) -> list[Any]:
    """Handles of the MIG instances; their numbers may have gaps."""
    mode = _supported(nvml, nvml.nvmlDeviceGetMigMode, handle)
    if mode is None or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
        return []
    found = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index))
        except nvml.NVMLError_NotFound:
            continue
    return found


def _supported(nvml: Any, ask: Callable[[Any], Any], handle: Any) -> Any:
    try:
        return ask(handle)
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_NoPermission, nvml.NVMLError_FunctionNotFound):
        return None
