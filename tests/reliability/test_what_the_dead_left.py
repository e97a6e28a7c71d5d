"""Processes of dead engines and workers are found and ended, those of the living are left alone."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from codomyrmex.clock import SystemClock
from codomyrmex.logistics.orchestration.project import engine_store, values
from codomyrmex.logistics.orchestration.project.executors.attempt import Attempt, OutcomeKind
from codomyrmex.logistics.orchestration.project.executors.process import ProcessExecutor
from codomyrmex.logistics.orchestration.project.executors.process_tree import (
    ENGINE_VARIABLE,
    descendants,
    find_marked,
    kill_left_behind,
)
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase
from waiting import wait_until

# Of this process alone: another session of these tests may run beside it.
OTHER_TOKEN = f"another-engine-{os.getpid()}"
WORKERS_TOKEN = f"engine-of-this-test-{os.getpid()}"
LEAVE = """
import subprocess, sys, threading

def leave():
    # What an attempt leaves is ended with it; this comes from a thread of it, when the worker is idle again.
    code = "import subprocess, sys; subprocess.Popen(['sleep', '600'], start_new_session=True)"
    threading.Timer(0.2, subprocess.run, ([sys.executable, "-S", "-c", code],)).start()
"""


@pytest.fixture
def left_process() -> Iterator[subprocess.Popen[bytes]]:
    """A process with the token of an engine that the test has yet to make up its mind about."""
    environment = {**os.environ, ENGINE_VARIABLE: OTHER_TOKEN}
    process = subprocess.Popen(["sleep", "600"], env=environment, start_new_session=True)
    yield process
    process.kill()
    process.wait()


def another_engine(state: Path) -> int:
    """A row of an engine whose run had ended when it died; its epoch."""
    with OrchestrationEngine(state=state):
        pass
    database = SQLiteDatabase.open(state / "state.db")
    with database.transaction() as tx:
        epoch, _token = engine_store.insert(tx, now_us=SystemClock().now_us())
        tx.execute("UPDATE engine SET token = ? WHERE epoch = ?", (OTHER_TOKEN, epoch))
    database.close()
    return epoch


def test_an_engine_that_opens_ends_what_a_dead_one_without_runs_left(
    tmp_path: Path, left_process: subprocess.Popen[bytes]
) -> None:
    epoch = another_engine(tmp_path / "state")
    lock = engine_store.lock_path(tmp_path / "state", epoch)
    lock.touch()
    with OrchestrationEngine(state=tmp_path / "state", recover=False):
        assert left_process.wait(timeout=5) == -signal.SIGKILL
        assert not lock.exists()


def test_an_engine_that_opens_leaves_the_processes_of_a_living_one_alone(
    tmp_path: Path, left_process: subprocess.Popen[bytes]
) -> None:
    epoch = another_engine(tmp_path / "state")
    lock = engine_store.EngineLock(engine_store.lock_path(tmp_path / "state", epoch))
    try:
        with OrchestrationEngine(state=tmp_path / "state") as engine:
            assert engine.recover() == []
        assert left_process.poll() is None
    finally:
        lock.release()


def test_what_an_idle_worker_left_ends_with_the_executor_though_its_supervisor_was_killed(
    tmp_path: Path,
) -> None:
    (tmp_path / "leaving.py").write_text(LEAVE)
    executor = ProcessExecutor(spool_dir=str(tmp_path / "spool"), engine_token=WORKERS_TOKEN, max_workers=1)
    try:
        outcome = executor.run(
            Attempt(
                token="1.run.leave.1",
                run_id="run",
                task="leave",
                number=1,
                module="leaving",
                action="leave",
                parameters=values.encode({}),
                working_dir=str(tmp_path),
                roots=(str(tmp_path),),
                idempotency_key="run.leave",
                log_path=None,
            )
        )
        assert outcome.kind is OutcomeKind.COMPLETED
        (supervisor,) = [pid for pid in descendants(os.getpid()) if _is_supervisor(pid)]
        wait_until(lambda: len(find_marked(ENGINE_VARIABLE, WORKERS_TOKEN)) == 3)
        os.kill(supervisor, signal.SIGKILL)
        wait_until(lambda: len(find_marked(ENGINE_VARIABLE, WORKERS_TOKEN)) == 1)
        executor.close()
        assert find_marked(ENGINE_VARIABLE, WORKERS_TOKEN) == []
    finally:
        kill_left_behind(WORKERS_TOKEN)


def _is_supervisor(pid: int) -> bool:
    parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    return int(parent) == os.getpid() and b"bootstrap.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
