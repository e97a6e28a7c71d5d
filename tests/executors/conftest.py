"""A project with actions worth running, and executors on it that are closed again."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.logistics.orchestration.project import values
from codomyrmex.logistics.orchestration.project.executors.attempt import Attempt
from codomyrmex.logistics.orchestration.project.executors.process import ProcessExecutor
from codomyrmex.logistics.orchestration.project.executors.process_tree import kill_left_behind

ENGINE_TOKEN = f"engine-under-test-{os.getpid()}"  # another session may run beside this one
ACTIONS = '''
import ctypes, os, signal, subprocess, sys, time
from codomyrmex.current_task import current_task, action, TaskCancelled

STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(60)
"""

def nothing(): return None
def add(a, b=1): return a + b
def echo(**given): return given
def say(text, error=""):
    print(text)
    print(error, end="", file=sys.stderr)
def say_and_wait(text, until):
    print(text)
    while not os.path.exists(until): time.sleep(0.01)
def wait(until):
    while not os.path.exists(until): time.sleep(0.01)
    return "waited"
def spin():
    while True: pass
def leave_stubborn(pid_file, code=0):
    """A grandchild with a session of its own that ignores SIGTERM."""
    child = [sys.executable, "-c", STUBBORN, pid_file]
    middle = "import subprocess, sys; subprocess.Popen(sys.argv[1:], start_new_session=True)"
    subprocess.run([sys.executable, "-c", middle, *child], check=True)
    while not os.path.exists(pid_file) or not open(pid_file).read(): time.sleep(0.005)
def stubborn_and_wait(pid_file):
    leave_stubborn(pid_file)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
def stubborn_and_die(pid_file, how):
    leave_stubborn(pid_file)
    die(how)
def die(how):
    print("last words", flush=True)
    if how == "exit": os._exit(7)
    if how == "segv": ctypes.string_at(0)
    os.kill(os.getpid(), signal.SIGKILL)
def fail(): raise ConnectionError("no route")
def leave(code): sys.exit(code)
def hoard(): raise MemoryError
def opaque(): return {"rows": [1, object()]}
def look(): return {"cwd": os.getcwd(), "env": dict(os.environ)}
def litter():
    os.environ["LITTER"] = "1"
    os.environ.pop("HOME", None)
    os.chdir("/")
    sys.stdout = open(os.devnull, "w")
async def later(value):
    import asyncio
    await asyncio.sleep(0)
    return value
def whoami():
    task = current_task()
    return [task.run_id, task.task, task.attempt, task.idempotency_key, task.cancelled]
def tidy(started, done):
    open(started, "w").close()
    try:
        time.sleep(60)
    finally:
        open(done, "w").write("tidied")
def cooperate(started):
    task = current_task()
    while not task.cancelled:
        open(started, "a").close()
        time.sleep(0.005)
    return "stopped in peace"
def report_progress():
    task = current_task()
    task.progress(1, 2, "half")
    task.progress(2, 2, "done")
    task.metric("loss", 0.5)
    task.log.info("a line")
def tell_secret(key): return [key[::-1], current_task().secret("TOKEN")[::-1]]
@action(effects="unsafe", timeout_s=3)
def declared(path: str, count: int = 2, *, deep: bool = False) -> dict:
    """What it is for."""
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "acts.py").write_text(ACTIONS)
    return folder


@pytest.fixture
def make(project: Path, tmp_path: Path) -> Callable[..., Attempt]:
    """`make("add", a=1)`: an attempt of a project's action with parameters; a dict before them: fields."""
    numbers = itertools.count(1)

    def make_attempt(action: str, _options: dict[str, Any] | None = None, /, **parameters: Any) -> Attempt:
        number = next(numbers)
        given: dict[str, Any] = {
            "token": f"1.run.{action}.{number}",
            "run_id": "run",
            "task": action,
            "number": number,
            "module": "acts",
            "action": action,
            "parameters": values.encode(parameters),
            "working_dir": str(project),
            "roots": (str(project),),
            "idempotency_key": f"run/{action}",
            "log_path": str(tmp_path / "logs" / f"{action}.{number}.log"),
            "grace_s": 0.2,
        }
        return Attempt(**{**given, **(_options or {})})

    return make_attempt


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[ProcessExecutor]:
    made = ProcessExecutor(spool_dir=str(tmp_path / "spool"), engine_token=ENGINE_TOKEN, max_workers=4)
    yield made
    made.close()
    assert kill_left_behind(ENGINE_TOKEN) == []
    assert list((tmp_path / "spool").glob("*")) == []
