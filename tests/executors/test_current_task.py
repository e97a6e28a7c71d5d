"""What an action sees of its attempt, and what a function may declare."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codomyrmex import current_task as current
from codomyrmex.current_task import CurrentTask, NoCurrentTask, action, current_task
from codomyrmex.logistics.orchestration.project.executors.worker import supervisor


@pytest.fixture
def notes() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def task(tmp_path: Path, notes: list[dict[str, Any]]) -> Iterator[CurrentTask]:
    made = CurrentTask(
        run_id="r",
        task="t",
        task_id="id",
        attempt=2,
        idempotency_key="r/t",
        working_dir=str(tmp_path),
        note=notes.append,
        secrets={"A": "1"},
        checkpoint_dir=str(tmp_path / "checkpoints"),
        artifact_dir=str(tmp_path / "artifacts"),
    )
    entered = current.enter(made)
    yield made
    current.leave(entered)


def test_outside_an_attempt_it_says_what_to_do() -> None:
    with pytest.raises(NoCurrentTask, match="only inside an action"):
        current_task()


def test_inside_it_is_this_attempt_and_only_in_its_own_context(task: CurrentTask) -> None:
    assert current_task() is task
    seen: list[object] = []

    def look() -> None:
        try:
            seen.append(current_task())
        except NoCurrentTask:
            seen.append(None)

    for _ in range(2):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        current.set_process_task(task)
    current.set_process_task(None)
    assert seen == [None, task]


def test_progress_is_thinned_out_but_its_end_is_told(task: CurrentTask, notes: list[dict[str, Any]]) -> None:
    for done in range(101):
        task.progress(done, 100)
    assert notes[0]["done"] == 0
    assert notes[-1]["done"] == 100
    assert len(notes) < 101


def test_a_secret_that_was_not_given_is_named_with_those_that_were(task: CurrentTask) -> None:
    assert task.secret("A") == "1"
    with pytest.raises(KeyError, match=r"'B' was given to this task \(given: A\)"):
        task.secret("B")


def test_checkpoints_and_artifacts_have_their_folders(
    task: CurrentTask, notes: list[dict[str, Any]], tmp_path: Path
) -> None:
    assert task.checkpoint_dir.is_dir()
    (tmp_path / "plot.svg").write_text("<svg/>")
    kept = task.save_artifact("plot.svg")
    assert kept.read_text() == "<svg/>"
    assert notes == [{"kind": "artifact", "name": "plot.svg", "path": str(kept), "size_bytes": 6}]
    with pytest.raises(ValueError, match="plain file name"):
        task.save_artifact("plot.svg", name="../out")
    assert [path.name for path in kept.parent.iterdir()] == ["plot.svg"]


def test_a_declared_function_stays_the_function_it_was() -> None:
    def plain() -> int:
        return 1

    declared = action(effects="unsafe", timeout_s=3, resources={"cpu": 2}, name="other")(plain)
    assert declared is plain
    assert plain.__codomyrmex_action__ == {  # type: ignore[attr-defined]
        "effects": "unsafe",
        "resources": {"cpu": 2},
        "timeout_s": 3,
        "isolation": None,
        "name": "other",
        "version": None,
    }


@pytest.mark.parametrize("wrong", [{"effects": "some"}, {"isolation": "ship"}, {"timeout_s": 0}])
def test_a_wrong_declaration_is_refused_where_it_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        action(**wrong)


def test_a_worker_without_the_package_offers_current_task_and_action(tmp_path: Path) -> None:
    folder = Path(supervisor.__file__).parent
    script = f"""
import sys, types
package = types.ModuleType("codomyrmex_worker"); package.__path__ = [{str(folder)!r}]
sys.modules["codomyrmex_worker"] = package
from codomyrmex_worker import stub_package
stub_package.install()
from codomyrmex import action, current_task
from codomyrmex.current_task import current_task as same
assert current_task is same
import codomyrmex
assert not hasattr(codomyrmex, "__version__"), codomyrmex
try:
    import codomyrmex.logistics
except ImportError:
    print("alone")
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.stdout == "alone\n", done.stderr
