"""The rules of `tests/conftest.py` do catch what they are there to catch."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]

OFFENDERS = """
import subprocess, sys, threading, time
import pytest

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
kept = []

def test_clean():
    subprocess.run([sys.executable, "-c", ""], check=True)
    threading.Thread(target=time.sleep, args=(0.05,)).start()

def test_skips():
    pytest.skip("no such thing here")

@pytest.mark.may_skip("only some machines have it")
def test_may_skip():
    pytest.skip("not this one")

@pytest.mark.xfail(reason="known")
def test_known_fault():
    raise AssertionError

def test_leaves_a_child():
    kept.append(subprocess.Popen(SLEEP))

def test_leaves_a_thread():
    threading.Thread(target=time.sleep, args=(3,), name="forgotten", daemon=True).start()
"""

ESCAPER = """
import subprocess, sys

def test_starts_what_slips_away():
    sleep = "[sys.executable, '-c', 'import time; time.sleep(60)']"
    code = f"import subprocess, sys; subprocess.Popen({sleep}, start_new_session=True)"
    subprocess.run([sys.executable, "-c", code], check=True)
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Each offender by name and what a build machine said of it."""
    folder = tmp_path_factory.mktemp("offenders")
    for name in ("conftest.py", "leftovers.py", "waiting.py"):
        shutil.copy(TESTS / name, folder)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    may_skip: may\n")
    (folder / "test_offenders.py").write_text(OFFENDERS)
    (folder / "test_escaper.py").write_text(ESCAPER)
    (folder / "test_absent.py").write_text("import pytest\npytest.importorskip('no_such_module')\n")
    environment = {**os.environ, "CI": "true", "CODOMYRMEX_TEST_SETTLING_S": "0.3"}
    options = "-rA -q --tb=line --continue-on-collection-errors -p no:cacheprovider -p no:randomly"
    command = [sys.executable, "-m", "pytest", *options.split()]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    for pid in map(int, re.findall(r"\b(\d+): \S*python\S* -c import time", done.stdout)):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    assert done.returncode != 0
    return {"all": done.stdout, "summary": done.stdout.partition("short test summary info")[2]}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("PASSED test_offenders.py::test_clean", "an ended child and a thread about to end are no offence"),
        ("FAILED test_offenders.py::test_skips", "a skip on the build machine"),
        ("SKIPPED", "a skip that is allowed"),
        ("XFAIL test_offenders.py::test_known_fault", "an expected failure is no skip"),
        ("ERROR test_offenders.py::test_leaves_a_child", "a child that lives on"),
        ("ERROR test_offenders.py::test_leaves_a_thread", "a thread that lives on"),
        ("ERROR test_escaper.py::test_starts_what_slips_away", "a process with a session of its own"),
        ("ERROR test_absent.py", "a whole module that is left out"),
    ],
)
def test_each_offence_is_told(told: dict[str, str], line: str, why: str) -> None:
    assert line in told["summary"], why


def test_what_was_left_is_named(told: dict[str, str]) -> None:
    assert "left threads behind: forgotten" in told["all"]
    assert re.search(r"left child processes behind: \d+: .*time.sleep", told["all"])
    assert re.search(r"processes live on: .*time.sleep", told["all"])
