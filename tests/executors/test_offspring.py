"""A runner knows whether processes of an attempt are left, and a process that was forked in one ends by itself."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from codomyrmex.logistics.orchestration.project.executors.worker import offspring

# The script is the supervisor of a runner that it forks; what the runner writes is what a test sees.
SCRIPT = """
import os, signal, subprocess, sys, threading, time
from codomyrmex.logistics.orchestration.project.executors.worker import offspring, tree

def gone(pid):
    while os.path.exists("/proc/%d" % pid): time.sleep(0.002)

def in_thread(call, given):
    made, stay = [], threading.Event()
    def work():
        made.append(call(given))
        stay.wait()
    threading.Thread(target=work, daemon=True).start()
    while not made: time.sleep(0.002)
    return made[0]

def serve(family):
{body}

tree.become_subreaper()
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
if os.fork() == 0:
    serve(offspring.Offspring(os.getppid()))
    os._exit(0)
while True:
    try: os.wait()
    except ChildProcessError: break
"""
FORK = "if os.fork() == 0:\n    try: {action}\n    finally: family.leave_if_forked()\n"
TELL = "print(os.waitstatus_to_exitcode(os.wait()[1]), family.is_left())"


def run_as_runner(body: str) -> tuple[str, str]:
    indented = "".join(f"    {line}\n" for line in body.strip().splitlines())
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(body=indented)],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"},
    )
    return ended.stdout, ended.stderr


@pytest.mark.parametrize(
    ("what", "left"),
    [
        ("pass", False),
        ("child = subprocess.Popen(['sleep', '60'])", True),
        ("child = subprocess.Popen(['sleep', '60'], start_new_session=True)", True),
        ("subprocess.run(['true'])", False),
        (
            "ended = subprocess.Popen(['true']); os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)",
            False,
        ),
        ("os.close(family._orphans); os.close(family._children)", False),
        ("child = in_thread(subprocess.Popen, ['sleep', '60'])", True),
        ("in_thread(subprocess.run, ['true'])", False),
    ],
)
def test_what_lives_is_left_and_what_has_ended_is_not(what: str, left: bool) -> None:
    told = "print(family.is_left(), family.is_left())"
    ended = "child.kill(); child.wait(); print(family.is_left())" if "child =" in what else "print(False)"
    assert run_as_runner(f"{what}\n{told}\n{ended}")[0] == f"{left} {left}\nFalse\n"


def test_an_orphan_that_hangs_on_the_supervisor_is_left_until_it_ends() -> None:
    body = """
made = subprocess.run(["sh", "-c", "setsid sleep 60 >&- 2>&- & echo $!"], capture_output=True)
orphan = int(made.stdout)
print(family.is_left())
os.kill(orphan, 9)
gone(orphan)
print(family.is_left())
"""
    assert run_as_runner(body)[0] == "True\nFalse\n"


@pytest.mark.parametrize(
    ("action", "code", "said"),
    [
        ("pass", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(7)", 7, ""),
        ("sys.exit('no')", 1, ""),
        ("raise ValueError('odd')", 1, "ValueError: odd"),
    ],
)
def test_a_forked_copy_ends_as_a_program_would_and_never_comes_back(
    action: str, code: int, said: str
) -> None:
    output, errors = run_as_runner(FORK.format(action=action) + TELL)
    assert output == f"{code} False\n"
    assert said in errors


def test_the_runner_itself_goes_on() -> None:
    offspring.Offspring(os.getppid()).leave_if_forked()


def test_without_lists_of_children_it_is_the_own_children_that_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offspring, "_list_of", lambda pid: f"/proc/{pid}/absent")
    family = offspring.Offspring(os.getpid())
    assert not family.is_left()
    child = subprocess.Popen(["sleep", "60"])
    try:
        monkeypatch.setattr(family, "_pid", 0)
        assert family.is_left()
        monkeypatch.setattr(offspring, "_waitid", None)
        assert not family.is_left()
    finally:
        child.kill()
        child.wait()
