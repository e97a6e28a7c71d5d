"""Every way in which an attempt can misbehave, in every isolation where that makes sense.

Each cell runs beside a neighbour and is followed by another attempt. Asserted of each: the outcome is named
right, the neighbour is not touched, the next attempt works, no process of the attempt is left, and when the
executor is closed the engine's process has the descriptors that it had before, no children, and nothing new
lies in shared memory. The full form runs each cell ten times.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.clock import SystemClock
from codomyrmex.logistics.orchestration.project import values
from codomyrmex.logistics.orchestration.project.executors.attempt import (
    Attempt,
    Executor,
    Outcome,
    OutcomeKind,
)
from codomyrmex.logistics.orchestration.project.executors.process import ProcessExecutor
from codomyrmex.logistics.orchestration.project.executors.process_tree import find_marked
from codomyrmex.logistics.orchestration.project.executors.thread import ThreadExecutor
from codomyrmex.logistics.orchestration.project.timekeeper import Timekeeper
from waiting import wait_until

Make = Callable[..., Attempt]
MIB = 1024 * 1024
FULL = 10
ACTIONS = """
import collections, ctypes, itertools, os, signal, subprocess, sys, time

def segfault(): ctypes.string_at(0)
def signal_itself(number):
    os.kill(os.getpid(), number)
    time.sleep(60)
def leave_at_once(code): os._exit(code)
def leave(code): sys.exit(code)
def hold(size):
    held = bytearray(size)
    time.sleep(60)
def take(size): return len(bytearray(size))
def loop_in_c(): collections.deque(itertools.repeat(0), maxlen=0)
def fork(count):
    for _ in range(count):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
    time.sleep(60)
def fork_and_fail(count):
    for _ in range(count):
        subprocess.Popen(["sleep", "60"], start_new_session=True)
    os._exit(9)
def opaque(): return lambda: None
def large(size): return "x" * size
def close_output():
    print("the last words")
    sys.stdout.close()
    sys.stderr.close()
    os.close(1)
    os.close(2)
    return "closed"
def wait(started, until):
    open(started, "w").close()
    while not os.path.exists(until): time.sleep(0.005)
    return "waited"
def nothing(): return None
"""
HOLD = "import time; held = bytearray({}); time.sleep(60)"
PYTHON = sys.executable


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One way to misbehave, and what it is to be called."""

    name: str
    action: str
    given: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    kind: OutcomeKind
    says: str = ""
    number: int | None = None
    """The signal that the error names."""
    code: int | None = None
    """The exit code that the error names."""
    value: Callable[[Any], bool] = lambda value: True
    full: bool = False
    """Only in the full form: another cell stands for it, or it takes long."""


def shell(name: str, command: list[str] | str, kind: OutcomeKind, says: str = "", **more: Any) -> Cell:
    given = {"command": command, **({"shell": True} if isinstance(command, str) else {})}
    fields = {"module": "shell", **more.pop("fields", {})}
    return Cell(name=name, action="run", given=given, fields=fields, kind=kind, says=says, **more)


LIMITED = {"memory_bytes": 48 * MIB}
HARD = {**LIMITED, "memory_hard": True}
SHORT = {"timeout_s": 0.15, "grace_s": 0.05}
PROCESS = [
    Cell(name="segfault", action="segfault", kind=OutcomeKind.CRASHED, says="(SIGSEGV)", number=11),
    Cell(
        name="kills itself",
        action="signal_itself",
        given={"number": int(signal.SIGKILL)},
        kind=OutcomeKind.CRASHED,
        says="(SIGKILL)",
        number=9,
    ),
    Cell(
        name="aborts",
        full=True,
        action="signal_itself",
        given={"number": int(signal.SIGABRT)},
        kind=OutcomeKind.CRASHED,
        says="(SIGABRT)",
        number=6,
    ),
    Cell(
        name="os._exit",
        action="leave_at_once",
        given={"code": 7},
        kind=OutcomeKind.CRASHED,
        says="exit code 7",
        code=7,
    ),
    Cell(
        name="sys.exit",
        action="leave",
        given={"code": 3},
        kind=OutcomeKind.FAILED,
        says="called sys.exit(3)",
        code=3,
    ),
    Cell(
        name="over its memory",
        action="hold",
        given={"size": 100 * MIB},
        fields=LIMITED,
        kind=OutcomeKind.OUT_OF_MEMORY,
        says="of the 48 MiB it asked for",
    ),
    Cell(
        name="over its hard limit",
        action="take",
        given={"size": 400 * MIB},
        fields=HARD,
        kind=OutcomeKind.OUT_OF_MEMORY,
        says="may have 48 MiB",
    ),
    Cell(
        name="an endless loop in C",
        action="loop_in_c",
        fields=SHORT,
        kind=OutcomeKind.TIMED_OUT,
        says="timeout of 0.15 s",
    ),
    Cell(
        name="50 forks",
        action="fork",
        given={"count": 50},
        fields={"timeout_s": 0.25, "grace_s": 0.05},
        kind=OutcomeKind.TIMED_OUT,
    ),
    Cell(
        name="a crash above 50 sessions",
        full=True,
        action="fork_and_fail",
        given={"count": 50},
        kind=OutcomeKind.CRASHED,
        says="exit code 9",
        code=9,
    ),
    Cell(name="no value to keep", action="opaque", kind=OutcomeKind.UNSERIALISABLE, says="output is a"),
    Cell(
        name="64 MiB of result",
        full=True,
        action="large",
        given={"size": 64 * MIB},
        kind=OutcomeKind.COMPLETED,
        value=lambda value: len(value) == 64 * MIB,
    ),
    Cell(
        name="output closed",
        action="close_output",
        kind=OutcomeKind.COMPLETED,
        value=lambda value: value == "closed",
    ),
]
SHELL = [
    shell("segfault", "kill -SEGV $$", OutcomeKind.FAILED, "signal 11", number=11, code=139),
    shell("kills itself", "kill -KILL $$", OutcomeKind.FAILED, "signal 9", number=9, code=137),
    shell("kills its worker", "kill -KILL $PPID; sleep 60", OutcomeKind.CRASHED, "(SIGKILL)", number=9),
    shell("exit", "exit 7", OutcomeKind.FAILED, "7", code=7),
    shell(
        "over its memory",
        [PYTHON, "-c", HOLD.format(100 * MIB)],
        OutcomeKind.OUT_OF_MEMORY,
        "of the 48 MiB it asked for",
        fields=LIMITED,
    ),
    shell(
        "over its hard limit",
        [PYTHON, "-c", HOLD.format(400 * MIB)],
        OutcomeKind.FAILED,
        "MemoryError",
        fields=HARD,
        code=1,
    ),
    shell("an endless loop", "trap '' TERM; while :; do :; done", OutcomeKind.TIMED_OUT, fields=SHORT),
    shell(
        "50 forks",
        "for i in $(seq 50); do setsid sleep 60 & done; wait",
        OutcomeKind.TIMED_OUT,
        fields={"timeout_s": 0.3, "grace_s": 0.05},
        full=True,
    ),
    shell(
        "processes left behind",
        "setsid sleep 60 & setsid sh -c 'sleep 60 & sleep 60' & exit 0",
        OutcomeKind.COMPLETED,
    ),
    shell(
        "64 MiB of output",
        "head -c 67108864 /dev/zero",
        OutcomeKind.COMPLETED,
        full=True,
        value=lambda value: len(value["stdout"]) == 65536,
    ),
    shell("output closed", "exec >&- 2>&-; sleep 0.01", OutcomeKind.COMPLETED),
]
THREAD = [
    Cell(
        name="sys.exit",
        action="leave",
        given={"code": 3},
        kind=OutcomeKind.FAILED,
        says="called sys.exit(3)",
        code=3,
    ),
    Cell(
        name="no memory",
        action="take",
        given={"size": 2**62},
        kind=OutcomeKind.OUT_OF_MEMORY,
        says="MemoryError",
    ),
    Cell(name="no value to keep", action="opaque", kind=OutcomeKind.UNSERIALISABLE, says="output is a"),
    Cell(
        name="64 MiB of result",
        full=True,
        action="large",
        given={"size": 64 * MIB},
        kind=OutcomeKind.COMPLETED,
        value=lambda value: len(value) == 64 * MIB,
    ),
]
IN_WORKERS = [*(("process", cell) for cell in PROCESS), *(("shell", cell) for cell in SHELL)]
IN_THREADS = [("thread", cell) for cell in THREAD]


def held_by_this_process() -> tuple[int, list[str]]:
    """How many descriptors are open, and what lies in shared memory."""
    return len(os.listdir("/proc/self/fd")), sorted(os.listdir("/dev/shm"))


def unexpected(error: BaseException) -> None:
    raise AssertionError("a call of the timekeeper failed") from error


@pytest.fixture
def in_workers(tmp_path: Path) -> Iterator[Executor]:
    """Workers as an engine has them, spares included."""
    before = held_by_this_process()
    keeper = Timekeeper(SystemClock(), idle=lambda: False, on_error=unexpected)
    keeper.start()
    executor = ProcessExecutor(
        spool_dir=str(tmp_path / "spool"),
        engine_token=f"matrix-{os.getpid()}",
        max_workers=4,
        spawn=keeper.run_here,
        later=keeper.call_soon,
    )
    yield executor
    executor.close()
    keeper.stop()
    assert list((tmp_path / "spool").glob("*")) == []
    wait_until(lambda: held_by_this_process() == before, what=f"nothing but {before}")


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch, project: Path) -> Iterator[Executor]:
    before = held_by_this_process()
    monkeypatch.syspath_prepend(str(project))
    executor = ThreadExecutor()
    yield executor
    executor.close()
    sys.modules.pop("misbehaving", None)
    assert held_by_this_process() == before


@pytest.fixture(autouse=True)
def misbehaving(project: Path) -> None:
    (project / "misbehaving.py").write_text(ACTIONS)


class Neighbour:
    """An attempt that runs all the while."""

    def __init__(self, executor: Executor, make: Make, folder: Path) -> None:
        started, self._until = folder / "started", folder / "until"
        attempt = make("wait", {"module": "misbehaving"}, started=str(started), until=str(self._until))
        self._outcomes: list[Outcome] = []
        self._thread = threading.Thread(target=lambda: self._outcomes.append(executor.run(attempt)))
        self._thread.start()
        wait_until(started.exists)

    def outcome(self) -> Outcome:
        self._until.touch()
        self._thread.join(20)
        return self._outcomes[0]


def value_of(outcome: Outcome) -> Any:
    assert outcome.kind is OutcomeKind.COMPLETED, outcome
    assert outcome.result is not None
    return values.decode(outcome.result)


def check(cell: Cell, outcome: Outcome) -> None:
    assert outcome.kind is cell.kind, outcome.error
    if cell.kind is OutcomeKind.COMPLETED:
        assert cell.value(value_of(outcome))
        return
    assert outcome.error is not None
    assert cell.says in outcome.error.message
    assert (outcome.error.signal, outcome.error.exit_code) == (cell.number, cell.code)


def try_cell(executor: Executor, make: Make, cell: Cell, folder: Path, times: int) -> None:
    folder.mkdir(exist_ok=True)
    neighbour = Neighbour(executor, make, folder)
    try:
        for _ in range(times):
            attempt = make(cell.action, {"module": "misbehaving", **cell.fields}, **cell.given)
            check(cell, executor.run(attempt))
            assert find_marked("CODOMYRMEX_ATTEMPT", attempt.token) == []
            assert executor.run(make("nothing", {"module": "misbehaving"})).kind is OutcomeKind.COMPLETED
    finally:
        outcome = neighbour.outcome()
    assert value_of(outcome) == "waited"


def named(cells: list[tuple[str, Cell]], *, full: bool) -> Any:
    wanted = [(isolation, cell) for isolation, cell in cells if full or not cell.full]
    return pytest.mark.parametrize(
        "cell", [pytest.param(cell, id=f"{isolation}: {cell.name}") for isolation, cell in wanted]
    )


@named(IN_WORKERS, full=False)
def test_in_a_worker_it_is_named_right_and_touches_nobody_else(
    in_workers: Executor, make: Make, tmp_path: Path, cell: Cell
) -> None:
    try_cell(in_workers, make, cell, tmp_path / "neighbour", 1)


@named(IN_THREADS, full=False)
def test_in_a_thread_it_is_named_right_and_touches_nobody_else(
    in_threads: Executor, make: Make, tmp_path: Path, cell: Cell
) -> None:
    try_cell(in_threads, make, cell, tmp_path / "neighbour", 1)


@pytest.mark.reliability
@named(IN_WORKERS, full=True)
def test_in_a_worker_every_cell_holds_ten_times(
    in_workers: Executor, make: Make, tmp_path: Path, cell: Cell
) -> None:
    try_cell(in_workers, make, cell, tmp_path / "neighbour", FULL)


@pytest.mark.reliability
@named(IN_THREADS, full=True)
def test_in_a_thread_every_cell_holds_ten_times(
    in_threads: Executor, make: Make, tmp_path: Path, cell: Cell
) -> None:
    try_cell(in_threads, make, cell, tmp_path / "neighbour", FULL)


def test_a_thread_that_blocks_in_c_can_be_asked_but_not_ended(make: Make) -> None:
    executor = ThreadExecutor()
    gate = threading.Lock()
    gate.acquire()
    outcomes: list[Outcome] = []

    def block() -> str:
        with gate:
            return "went through"

    attempt = make("block", {"function": block, "timeout_s": 0.01})
    thread = threading.Thread(target=lambda: outcomes.append(executor.run(attempt)))
    thread.start()
    try:
        wait_until(lambda: executor.cancel(attempt.token))
        assert executor.cancel(attempt.token, kill=True)
        executor.close()
        thread.join(0.05)
        assert thread.is_alive()
        assert outcomes == []
    finally:
        gate.release()
        thread.join()
    assert value_of(outcomes[0]) == "went through"


def test_a_process_that_a_thread_left_behind_is_the_engines_own_child_and_lives_on(
    in_threads: Executor, make: Make
) -> None:
    import subprocess

    children: list[subprocess.Popen[bytes]] = []

    def leave_one() -> int:
        children.append(subprocess.Popen(["sleep", "60"], start_new_session=True))
        return children[0].pid

    pid = value_of(in_threads.run(make("leave_one", {"function": leave_one})))
    assert Path(f"/proc/{pid}").exists()
    children[0].kill()
    children[0].wait()
