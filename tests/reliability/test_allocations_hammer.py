"""Threads and processes that take, renew, forget, give back and die: never more than there is, nothing left."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import IO, Any

import pytest

from codomyrmex.logistics.orchestration.project.resource_manager import ResourceManager
from codomyrmex.logistics.orchestration.project.resources import Resource, ResourceType
from waiting import wait_until

HERE = Path(__file__).parent
PROCESSES = 4
CAPACITIES = {"mutex": 1, "seats": 5, "parts": 2.5, "wide": 100}
IN_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, kw_only=True)
class Form:
    """How many allocations, and kills of processes meanwhile."""

    allocations: int
    kills: int


SHORT = pytest.param(Form(allocations=3000, kills=3), id="short")
FULL = pytest.param(Form(allocations=1_000_000, kills=200), id="full", marks=pytest.mark.reliability)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In the memory of the machine where that is possible: it is the claims that are to be tried, not a disk."""
    if not os.access(IN_MEMORY, os.W_OK):
        yield tmp_path
        return
    made = Path(tempfile.mkdtemp(prefix="codomyrmex-hammer-", dir=IN_MEMORY))
    yield made
    shutil.rmtree(made)


@dataclass
class Hammer:
    """The processes on one state, each with its counter."""

    folder: Path
    form: Form
    chance: Random
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def start(self) -> None:
        for number in range(PROCESSES):
            self._counter(number).write_bytes(bytes(8))
            self.processes.append(self._start(number))

    def kill(self) -> bool:
        """`kill -9` of one that is at work; another goes on where it was. False where all have ended."""
        working = [number for number, process in enumerate(self.processes) if process.poll() is None]
        if not working:
            return False
        number = self.chance.choice(working)
        killed = self.processes[number]
        killed.kill()
        delivered = killed.wait() == -9
        _close(killed)
        self.processes[number] = self._start(number)
        return delivered

    def made(self) -> int:
        """How many allocations were made so far."""
        return sum(struct.unpack("<Q", self._counter(each).read_bytes())[0] for each in range(PROCESSES))

    def failed(self) -> bool:
        """Whether one of them has found something wrong."""
        return any(process.poll() not in (None, 0) for process in self.processes)

    def finish(self) -> None:
        for process in self.processes:
            output, _ = process.communicate(timeout=3000)
            assert process.returncode == 0, output

    def end(self) -> None:
        """Whatever has happened: none of them lives on."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            _close(process)

    def _start(self, number: int) -> subprocess.Popen[str]:
        goal = self.form.allocations // PROCESSES
        return _script(
            "allocations_worker.py",
            self.state, self.chance.randrange(10**9), goal, self._counter(number),
            host=self.folder / "host",
        )  # fmt: skip

    def _counter(self, number: int) -> Path:
        return self.folder / f"count-{number}"


def _script(name: str, *arguments: object, host: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, HERE / name, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "CODOMYRMEX_HOST_DIR": str(host)},
    )


def _close(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def _line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline().strip()


def hammer(manager: ResourceManager, work: Hammer) -> tuple[dict[str, Any], int]:
    """The whole course; returns what the reader saw, and how many kills hit a process at work."""
    reader = _script("allocations_reader.py", work.state / "state.db", host=work.folder / "host")
    kills = 0
    try:
        assert _line(reader.stdout) == "ready"
        work.start()
        for number in range(work.form.kills):
            due = work.form.allocations * (number + 1) // (work.form.kills + 2)
            wait_until(lambda: work.made() >= due or work.failed(), timeout_s=3000, what="allocations")  # noqa: B023
            if work.failed():
                break
            kills += work.kill()
        work.finish()
        manager.cleanup_expired_allocations()
        output, _ = reader.communicate(timeout=30)
        return json.loads(output), kills
    finally:
        work.end()
        if reader.poll() is None:
            reader.kill()
        reader.wait()
        _close(reader)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("form", [SHORT, FULL])
def test_no_more_than_there_is_was_ever_held_and_nothing_is_left(
    form: Form, folder: Path, chance: Random, record: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODOMYRMEX_HOST_DIR", str(folder / "host"))
    work = Hammer(folder, form, chance)
    began_s = time.monotonic()
    with ResourceManager(state=work.state) as manager:
        for name, capacity in CAPACITIES.items():
            manager.add_resource(Resource(name, name, ResourceType.CUSTOM, capacity))
        seen, kills = hammer(manager, work)
        usages = {name: manager.get_usage(name) for name in CAPACITIES}
        left = manager.list_allocations()
    assert seen["faults"] == []
    assert work.made() >= form.allocations
    assert left == []
    for name, usage in usages.items():
        assert usage is not None
        assert (usage.allocated_amount, usage.allocation_count) == (0, 0)
        assert 0 < usage.peak_amount <= CAPACITIES[name]
    record(
        "allocations of named resources from 8 threads in each of 4 processes, with expiry, renewal and `kill -9`",
        work.made(),
        f"{kills} processes killed, {seen['looks']} looks of an independent reader: used above capacity 0, "
        f"mutex held twice 0, left at the end 0; {time.monotonic() - began_s:.0f} s",
    )
