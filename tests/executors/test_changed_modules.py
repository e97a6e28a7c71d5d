"""An edit takes effect at the next attempt: a worker that holds old code is retired."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.logistics.orchestration.project import values
from codomyrmex.logistics.orchestration.project.executors.attempt import Attempt
from codomyrmex.logistics.orchestration.project.executors.process import ProcessExecutor

Make = Callable[..., Attempt]


@pytest.fixture
def run(executor: ProcessExecutor, make: Make) -> Iterator[Callable[[str, str], Any]]:
    def run_action(module: str, action: str) -> Any:
        outcome = executor.run(make(action, {"module": module}))
        assert outcome.result is not None, outcome
        time.sleep(0.021)  # the worker looks again only after 20 ms; nothing else can be waited for
        return values.decode(outcome.result)

    return run_action


def test_an_edit_of_the_same_size_in_the_same_second_is_seen(
    project: Path, run: Callable[[str, str], Any]
) -> None:
    module = project / "edited.py"
    for value in (1, 2, 3):
        module.write_text(f"def get(): return {value}\n")
        assert run("edited", "get") == value


def test_an_edit_of_an_imported_module_is_seen_one_imported_late_too(
    project: Path, run: Callable[[str, str], Any]
) -> None:
    inner = project / "inner.py"
    inner.write_text("VALUE = 1\n")
    (project / "outer.py").write_text("def get():\n    import inner\n    return inner.VALUE\n")
    assert run("outer", "get") == 1
    inner.write_text("VALUE = 2\n")
    assert run("outer", "get") == 2


def test_a_broken_edit_fails_and_the_repaired_file_runs(
    project: Path, executor: ProcessExecutor, make: Make, run: Callable[[str, str], Any]
) -> None:
    module = project / "broken.py"
    module.write_text("def get(: return 1\n")
    error = executor.run(make("get", {"module": "broken"})).error
    assert error is not None
    assert error.type == "SyntaxError"
    module.write_text("def get(): return 1\n")
    assert run("broken", "get") == 1


def test_a_module_written_after_the_worker_looked_for_it_is_found(
    project: Path, executor: ProcessExecutor, make: Make, run: Callable[[str, str], Any]
) -> None:
    error = executor.run(make("get", {"module": "coming"})).error
    assert error is not None
    assert error.type == "ActionNotFound"
    (project / "coming.py").write_text("def get(): return 1\n")
    os.utime(project, (1, 1))  # the folder's time stamp may be too coarse to show the new file
    assert run("coming", "get") == 1


def test_unchanged_code_keeps_its_worker(run: Callable[[str, str], Any], executor: ProcessExecutor) -> None:
    for _ in range(3):
        run("acts", "nothing")
    assert executor._pool.started == 1
