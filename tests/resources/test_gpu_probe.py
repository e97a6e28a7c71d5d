"""Which GPUs an engine may give: the driver's list, the inherited one, and devices of somebody else.

No machine of ours has a GPU. The rules are proved with `FakeGpus`, the probe with a double of NVIDIA's library.
"""

from __future__ import annotations

import inspect
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codomyrmex.logistics.orchestration.project.executors.process_tree import ENGINE_VARIABLE
from codomyrmex.logistics.orchestration.project.machine import FoundGpu, Gpu, Overrides
from codomyrmex.logistics.orchestration.project.machine_detection import GpuProbe, detect_gpus
from codomyrmex.logistics.orchestration.project.nvml_probe import NvmlProbe
from codomyrmex.testing import FakeGpus

UUIDS = [device.uuid or "" for device in FakeGpus(4).devices()]


def found(probe: GpuProbe, visible: str | None = None, files: Path = Path("/")) -> list[Gpu]:
    inherited = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    return list(detect_gpus(probe=probe, inherited=inherited, files=files))


def test_every_device_is_found_with_what_the_driver_tells_of_it() -> None:
    gpus = found(FakeGpus(2, memory_bytes=80 * 2**30))
    assert [(gpu.id, gpu.index, gpu.uuid) for gpu in gpus] == [("gpu-0", 0, UUIDS[0]), ("gpu-1", 1, UUIDS[1])]
    assert {(gpu.name, gpu.memory_bytes, gpu.busy) for gpu in gpus} == {("Fake GPU", 80 * 2**30, False)}


def test_a_number_from_the_settings_is_believed_and_the_driver_not_asked() -> None:
    class Forbidden:
        def devices(self) -> tuple[FoundGpu, ...]:
            raise AssertionError("asked")

    assert detect_gpus(overrides=Overrides(gpu_count=2), probe=Forbidden()) == (Gpu(index=0), Gpu(index=1))
    assert detect_gpus(overrides=Overrides(gpu_count=0), probe=Forbidden()) == ()
    assert found(Forbidden(), "") == []


@pytest.mark.parametrize(
    ("visible", "devices"),
    [
        ("2,0", [2, 0]),
        (" 1 , 3 ", [1, 3]),
        (f"{UUIDS[3]},0", [3, 0]),
        (UUIDS[1][:12], [1]),
        ("0,7,1", [0]),
        ("-1,0", []),
        ("NoDevFiles", []),
        ("1,1,2", [1]),
        (f"1,{UUIDS[1]},2", [1]),
        ("GPU-,0", []),
        ("GPU-unknown", []),
        ("", []),
    ],
)
def test_an_inherited_list_says_which_devices_and_in_which_order(visible: str, devices: list[int]) -> None:
    gpus = found(FakeGpus(4), visible)
    assert [gpu.uuid for gpu in gpus] == [UUIDS[device] for device in devices]
    assert [gpu.index for gpu in gpus] == list(range(len(devices)))


def test_an_instance_of_a_device_is_found_by_its_name() -> None:
    probe = FakeGpus(2, memory_bytes=40 * 2**30, parts=2)
    second, third = (str(device.parts[1].uuid) for device in probe.devices())
    gpus = found(probe, f"{third},{second}")
    assert [(gpu.uuid, gpu.memory_bytes) for gpu in gpus] == [(third, 20 * 2**30), (second, 20 * 2**30)]


def test_a_device_on_which_somebody_else_computes_is_busy_until_they_leave() -> None:
    probe = FakeGpus(2)
    probe.occupy(1)
    assert [gpu.busy for gpu in found(probe)] == [False, True]
    assert [gpu.busy for gpu in found(probe, "1,0")] == [True, False]
    probe.release(1)
    assert [gpu.busy for gpu in found(probe)] == [False, False]


def test_a_device_that_is_lost_keeps_its_place_and_gets_no_work() -> None:
    probe = FakeGpus(3)
    probe.lose(1)
    assert [(gpu.uuid, gpu.busy) for gpu in found(probe)] == [
        (UUIDS[0], False),
        (None, True),
        (UUIDS[2], False),
    ]


@contextmanager
def process(environment: dict[str, str], *, nested: bool = False) -> Iterator[int]:
    """A living process, or one below it, with exactly that environment."""
    body = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {body!r}])"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", outer if nested else body],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as child:
        assert child.stdout is not None
        yield int(child.stdout.readline())
        child.communicate()


def busy_with(pid: int, files: Path = Path("/")) -> bool:
    probe = FakeGpus(1)
    probe.occupy(0, pid)
    return found(probe, files=files)[0].busy


def test_this_process_and_those_below_it_are_no_strangers() -> None:
    assert not busy_with(os.getpid())
    with process({}, nested=True) as pid:
        assert not busy_with(pid)


def test_a_process_beside_this_one_is_a_stranger(tmp_path: Path) -> None:
    assert busy_with(500, proc(tmp_path, {500: (1, "HOME=/root\0")}))


def test_the_processes_of_other_engines_of_this_machine_are_no_strangers(tmp_path: Path) -> None:
    environment = f"HOME=/\0{ENGINE_VARIABLE}=3.ab\0"
    assert not busy_with(500, proc(tmp_path, {500: (1, environment)}))
    assert busy_with(501, proc(tmp_path, {501: (1, f"MY_{ENGINE_VARIABLE}=1\0")}))


def test_a_process_below_this_one_that_hides_its_environment_is_no_stranger(tmp_path: Path) -> None:
    files = proc(tmp_path, {500: (499, None), 499: (os.getpid(), "")})
    assert not busy_with(500, files)


@pytest.mark.parametrize("stat", [b"", b"500 (a"])
def test_a_process_that_goes_while_it_is_looked_at_is_a_stranger(tmp_path: Path, stat: bytes) -> None:
    files = proc(tmp_path, {500: (1, "")})
    (files / "proc/500/stat").write_bytes(stat)
    assert busy_with(500, files)


def proc(folder: Path, processes: dict[int, tuple[int, str | None]]) -> Path:
    """A `/proc` of {pid: (parent, environment)}; process 1 is there too. The names hold what confuses readers."""
    for pid, (parent, environment) in {1: (0, ""), **processes}.items():
        place = folder / f"proc/{pid}"
        place.mkdir(parents=True, exist_ok=True)
        (place / "stat").write_text(f"{pid} (a) S (b 7 7) S {parent} 1 1 0 -1\n")
        if environment is not None:
            (place / "environ").write_text(environment)
    return folder


class Library:
    """A double of `pynvml`: devices are mappings, a value that is an exception class is raised."""

    NVML_DEVICE_MIG_ENABLE = 1

    class NVMLError(Exception):
        pass

    class NVMLError_LibraryNotFound(NVMLError):
        pass

    class NVMLError_DriverNotLoaded(NVMLError):
        pass

    class NVMLError_NotSupported(NVMLError):
        pass

    class NVMLError_NoPermission(NVMLError):
        pass

    class NVMLError_NotFound(NVMLError):
        pass

    class NVMLError_FunctionNotFound(NVMLError):
        pass

    class NVMLError_GpuIsLost(NVMLError):
        pass

    def __init__(self, *devices: Any, start: type[Exception] | None = None) -> None:
        self._devices = devices
        self._start = start
        self.open = 0

    def nvmlInit(self) -> None:
        if self._start is not None:
            raise self._start("broken")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self._devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        return _or_raise(self._devices[index])

    def nvmlDeviceGetUUID(self, handle: Any) -> Any:
        return _or_raise(handle["uuid"])

    def nvmlDeviceGetName(self, handle: Any) -> Any:
        return _or_raise(handle["name"])

    def nvmlDeviceGetMemoryInfo(self, handle: Any, version: Any = None) -> Any:
        return SimpleNamespace(total=_or_raise(handle["memory"]))

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any) -> Any:
        return [SimpleNamespace(pid=pid) for pid in _or_raise(handle["pids"])]

    def nvmlDeviceGetMigMode(self, device: Any) -> Any:
        return (
            [1 if device["parts"] else 0, 0] if "parts" in device else _or_raise(self.NVMLError_NotSupported)
        )

    def nvmlDeviceGetMaxMigDeviceCount(self, device: Any) -> int:
        return len(device["parts"])

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: Any, index: int) -> Any:
        return _or_raise(device["parts"][index])


def _or_raise(value: Any) -> Any:
    if isinstance(value, type) and issubclass(value, Exception):
        raise value("told to")
    return value


def device(uuid: str, **more: Any) -> dict[str, Any]:
    return {"uuid": uuid, "name": "H100", "memory": 80, "pids": [], **more}


def test_the_library_is_asked_for_every_device_and_closed_again() -> None:
    library = Library(device("GPU-a", pids=[7, 8]), device("GPU-b", parts=[]))
    assert NvmlProbe(library).devices() == (
        FoundGpu(uuid="GPU-a", name="H100", memory_bytes=80, pids=frozenset({7, 8})),
        FoundGpu(uuid="GPU-b", name="H100", memory_bytes=80),
    )
    assert library.open == 0


def test_the_instances_of_a_device_are_found_across_gaps() -> None:
    parts = [Library.NVMLError_NotFound, device("MIG-x", memory=10), device("MIG-y", memory=20, pids=[9])]
    (gpu,) = NvmlProbe(Library(device("GPU-a", parts=parts))).devices()
    assert [(part.uuid, part.memory_bytes, set(part.pids)) for part in gpu.parts] == [
        ("MIG-x", 10, set()),
        ("MIG-y", 20, {9}),
    ]


def test_what_a_device_does_not_support_is_left_out() -> None:
    missing = {"name": Library.NVMLError_FunctionNotFound, "memory": Library.NVMLError_NotSupported}
    (gpu,) = NvmlProbe(Library(device("GPU-a", pids=Library.NVMLError_NoPermission, **missing))).devices()
    assert gpu == FoundGpu(uuid="GPU-a")


def test_a_lost_device_is_unusable_and_the_others_keep_their_numbers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    library = Library(Library.NVMLError_GpuIsLost, device("GPU-b"))
    with caplog.at_level(logging.WARNING):
        first, second = NvmlProbe(library).devices()
    assert not first.usable
    assert (second.uuid, second.usable) == ("GPU-b", True)
    assert "GPU 0 cannot be reached" in caplog.text
    assert library.open == 0


@pytest.mark.parametrize("start", [Library.NVMLError_LibraryNotFound, Library.NVMLError_DriverNotLoaded])
def test_a_machine_without_a_driver_has_no_gpus_and_nobody_is_told(
    start: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    assert NvmlProbe(Library(start=start)).devices() == ()
    assert not caplog.records


def test_a_driver_that_fails_means_no_gpus_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert NvmlProbe(Library(start=Library.NVMLError)).devices() == ()
    assert "cannot be listed: broken" in caplog.text


def test_without_the_library_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert NvmlProbe().devices() == ()
    assert detect_gpus(inherited={}) == ()


@pytest.mark.may_skip("the extra `gpu` is not needed to run the tests")
def test_the_double_has_the_functions_of_the_real_library() -> None:
    real = pytest.importorskip("pynvml")
    methods: list[Callable[..., Any]] = [
        member for name, member in vars(Library).items() if name.startswith("nvml") and callable(member)
    ]
    for method in methods:
        expected = list(inspect.signature(getattr(real, method.__name__)).parameters)
        assert list(inspect.signature(method).parameters)[1:] == expected, method.__name__
    for name in vars(Library):
        if name.startswith("NVML") and name != "NVMLError":
            assert hasattr(real, name), name
    assert Library.NVML_DEVICE_MIG_ENABLE == real.NVML_DEVICE_MIG_ENABLE
