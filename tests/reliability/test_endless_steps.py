"""Steps that never end, with grandchildren that ignore SIGTERM: each stops at its timeout, the whole tree,
before anybody else gets its place; the neighbours go on."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine

TIMEOUT_S = 0.5
STUBBORN = """
import os, signal, sys, time

def ignore():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

def remember(folder):
    open(os.path.join(folder, str(os.getpid())), "w").close()

def leave(folder):
    '''A grandchild with a session of its own, whose parent has gone; and one that stays in the family.'''
    for detach in (False, True):
        if os.fork() == 0:
            ignore()
            if detach:
                os.setsid()
                if os.fork():
                    os._exit(0)
            remember(folder)
            time.sleep(600)
            os._exit(0)

def never_end(folder):
    ignore()
    leave(folder)
    remember(folder)
    while True:
        try:
            time.sleep(600)
        except BaseException:
            continue

def alive(folder):
    '''The pids that were noted and still run.'''
    return [int(name) for name in os.listdir(folder) if os.path.exists(f"/proc/{name}/exe")]

def step(number):
    time.sleep(0.05)
    return number

if __name__ == "__main__":
    never_end(sys.argv[1])
"""
SMALL = {"resources": {"cpu": 0.05}}


def workflow(folder: Path, each: int) -> Path:
    """`each` endless steps of both kinds, a look at what is left after each, and a chain of neighbours."""
    pids = folder / "pids"
    shell = f"trap '' TERM\n{shlex.quote(sys.executable)} -S stubborn.py"
    steps: list[dict[str, object]] = []
    for number in range(each):
        for kind in ("shell", "python"):
            name, place = f"{kind}{number}", f"{pids}/{kind}{number}"
            os.makedirs(place)
            endless: dict[str, object] = {"run": f"{shell} {shlex.quote(place)} &\nsleep 600"}
            if kind == "python":
                endless = {"call": "stubborn:never_end", "with": {"folder": place}}
            steps.append({"name": name, **endless, **SMALL, "timeout_s": TIMEOUT_S, "required": False})
            look = {"call": "stubborn:alive", "with": {"folder": place}, "trigger_rule": "all_done"}
            steps.append({"name": f"after_{name}", **look, **SMALL, "dependencies": [name]})
    for number in range(12):
        needs = {"dependencies": [f"neighbour{number - 1}"]} if number else {}
        call = {"call": "stubborn:step", "with": {"number": number}}
        steps.append({"name": f"neighbour{number}", **call, **SMALL, **needs})
    (folder / "stubborn.py").write_text(STUBBORN)
    file = folder / "endless.json"
    file.write_text(json.dumps({"codomyrmex": 1, "name": "endless", "steps": steps}))
    return file


@pytest.mark.parametrize(
    "each", [pytest.param(1, id="short"), pytest.param(10, id="full", marks=pytest.mark.reliability)]
)
def test_a_step_that_never_ends_stops_at_its_timeout_with_all_below_it(
    each: int, tmp_path: Path, record: Callable[..., None]
) -> None:
    file = workflow(tmp_path, each)
    began_s = time.monotonic()
    with OrchestrationEngine(state=tmp_path / "state", root=tmp_path, max_workers=2 * each + 6) as engine:
        run = engine.execute_workflow(file)
        took_s = time.monotonic() - began_s
        assert run.status == "completed"
        tasks = {task.name: task for task in engine.reader.tasks(run.execution_id)}
        results = engine.reader.results(run.execution_id)
        endless = [name for name in tasks if name.startswith(("shell", "python"))]
        assert len(endless) == 2 * each
        for name in endless:
            assert (tasks[name].status, tasks[name].error["kind"]) == ("failed", "timed_out")  # type: ignore[index]
            assert f"timeout of {TIMEOUT_S:g} s" in tasks[name].error["message"]  # type: ignore[index]
            assert len(list((tmp_path / "pids" / name).iterdir())) == 3
            assert results[f"after_{name}"] == []
        assert [results[f"neighbour{number}"] for number in range(12)] == list(range(12))
        last = max(
            task.ended_at for name, task in tasks.items() if name.startswith("neighbour") and task.ended_at
        )
        first = min(tasks[name].ended_at or last for name in endless)
        assert last < first, "the neighbours had to wait for the endless steps"
    record(
        "steps that never end, with grandchildren that ignore SIGTERM",
        2 * each,
        f"all timed out, processes left when the next step began 0 of {6 * each}; "
        f"12 neighbours completed meanwhile; {took_s:.1f} s",
    )
