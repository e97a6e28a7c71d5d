"""An engine dies by kill -9: its workers end everything, and whoever comes next can finish what is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from codomyrmex.logistics.orchestration.project.executors.process_tree import (
    ENGINE_VARIABLE,
    descendants,
    find_marked,
    kill_left_behind,
)
from waiting import wait_until

TOKEN = f"engine-that-dies-{os.getpid()}"  # another session may run beside this one
ENGINE = """
import sys, threading
from codomyrmex.logistics.orchestration.project import values
from codomyrmex.logistics.orchestration.project.executors.attempt import Attempt
from codomyrmex.logistics.orchestration.project.executors.process import ProcessExecutor

def main(project, folder, token):
    executor = ProcessExecutor(spool_dir=folder + "/spool", engine_token=token, max_workers=4)
    def run(index):
        executor.run(Attempt(
            token=f"1.r.t.{index}", run_id="r", task="t", number=index, working_dir=project, roots=(project,),
            module="acts", action="stubborn_and_wait",
            parameters=values.encode({"pid_file": f"{folder}/pid{index}"}),
            log_path=f"{folder}/logs/{index}.log", grace_s=30.0,
        ))
    for index in (1, 2):
        threading.Thread(target=run, args=(index,)).start()

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


@pytest.fixture
def engine(project: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    script = tmp_path / "engine.py"
    script.write_text(ENGINE)
    started = subprocess.Popen([sys.executable, str(script), str(project), str(tmp_path), TOKEN])
    for index in (1, 2):
        wait_until((tmp_path / f"pid{index}").exists)
    yield started
    started.kill()
    started.wait()
    kill_left_behind(TOKEN)


def marked() -> list[int]:
    return find_marked(ENGINE_VARIABLE, TOKEN)


def test_a_killed_engine_takes_its_workers_and_all_below_them_along(
    engine: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert len(marked()) >= 6  # two supervisors, two runners, two grandchildren
    engine.kill()
    engine.wait()
    wait_until(lambda: not marked(), timeout_s=10, what="the end of the dead engine's processes")
    assert list((tmp_path / "spool").iterdir()) == []


def test_with_the_workers_killed_first_the_next_engine_finds_what_is_left(
    engine: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    grandchildren = {int((tmp_path / f"pid{index}").read_text()) for index in (1, 2)}
    supervisors = [pid for pid in descendants(engine.pid) if parent_of(pid) == engine.pid]
    os.kill(engine.pid, signal.SIGSTOP)  # it must not tidy up
    for pid in supervisors:
        os.kill(pid, signal.SIGKILL)
    engine.kill()
    engine.wait()
    wait_until(lambda: set(marked()) == grandchildren, what="only the grandchildren to be left")
    assert set(kill_left_behind(TOKEN)) == grandchildren
    assert marked() == []


def test_processes_of_another_engine_are_not_touched(engine: subprocess.Popen[bytes]) -> None:
    before = set(marked())
    assert kill_left_behind("another-engine") == []
    assert set(marked()) == before


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
