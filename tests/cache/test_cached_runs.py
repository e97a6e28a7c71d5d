"""The cache through whole runs: what later runs find, in threads, in worker processes and in fan-outs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.exceptions import ValidationError
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.testing import FinishedRun

ACTS = """
from pathlib import Path

def work(x, note="ran.txt"):
    with Path(note).open("a") as file:
        file.write(f"{x}\\n")
    return {"x": x, "doubled": x * 2 if isinstance(x, int) else None}
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OrchestrationEngine]:
    (tmp_path / "acts.py").write_text(textwrap.dedent(ACTS))
    monkeypatch.chdir(tmp_path)
    with OrchestrationEngine(state=tmp_path / ".codomyrmex", root=tmp_path) as engine:
        yield engine


def ran(tmp_path: Path) -> list[str]:
    """What the actions really did, in order."""
    note = tmp_path / "ran.txt"
    return note.read_text().split() if note.is_file() else []


def step(name: str, x: Any, *parents: str, **more: Any) -> dict[str, Any]:
    head = {"name": name, "module": "acts", "action": "work", "parameters": {"x": x}, "cache": {}}
    return {**head, "dependencies": list(parents), **more}


def run(engine: OrchestrationEngine, *steps: dict[str, Any], **more: Any) -> FinishedRun:
    document = {"codomyrmex": 1, "name": "flow", "steps": list(steps), **more}
    execution = engine.start_workflow(document)
    engine.wait(execution.execution_id, 30)
    return FinishedRun(engine.reader, execution.execution_id)


def cached(found: FinishedRun) -> list[str]:
    """The tasks whose completion was told as cached."""
    return [
        each["task"] for each in found.events if each["event"] == "completed" and "cached" in each["details"]
    ]


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_a_second_run_takes_results_from_the_first(
    engine: OrchestrationEngine, tmp_path: Path, isolation: str
) -> None:
    steps = [step("a", 3), step("b", "${steps.a.output.doubled}")]
    more = {"isolation": isolation, "outputs": {"b": "${steps.b.output.doubled}"}}
    first, second = run(engine, *steps, **more), run(engine, *steps, **more)
    assert first.outputs == second.outputs == {"b": 12}
    assert ran(tmp_path) == ["3", "6"]
    assert (cached(first), cached(second)) == ([], ["a", "b"])
    changed = run(engine, step("a", 4), steps[1], **more)
    assert changed.outputs == {"b": 16}
    assert ran(tmp_path) == ["3", "6", "4", "8"]


def test_a_step_that_gives_what_it_gave_lets_those_after_it_be_cached(
    engine: OrchestrationEngine, tmp_path: Path
) -> None:
    first = step("a", 1, parameters={"x": 1, "note": "first.txt"})
    del first["cache"]
    steps = [first, step("b", "${steps.a.output.doubled}")]
    for _ in range(2):
        run(engine, *steps)
    assert (tmp_path / "first.txt").read_text() == "1\n1\n"
    assert ran(tmp_path) == ["2"]


def test_items_are_kept_one_by_one(engine: OrchestrationEngine, tmp_path: Path) -> None:
    def fan(items: list[int]) -> FinishedRun:
        each = step("each", "${item}", foreach=items)
        return run(engine, each, outputs={"all": "${steps.each.output}"}, isolation="thread")

    fan([1, 2, 3])
    found = fan([3, 1, 4])
    assert [each["x"] for each in found.outputs["all"]] == [3, 1, 4]
    assert sorted(ran(tmp_path)) == ["1", "2", "3", "4"]


def test_an_edit_of_the_action_runs_it_again(engine: OrchestrationEngine, tmp_path: Path) -> None:
    run(engine, step("a", 1))
    (tmp_path / "acts.py").write_text(textwrap.dedent(ACTS) + "\n# edited\n")
    run(engine, step("a", 1))
    assert ran(tmp_path) == ["1", "1"]


def test_an_edit_at_any_moment_never_keeps_the_result_of_older_code(
    engine: OrchestrationEngine, tmp_path: Path
) -> None:
    """Warm workers look for edits every 20 ms; a key of newer code than what ran would be wrong for ever."""
    for number in range(8):
        (tmp_path / "acts.py").write_text(f"def work(x):\n    return {number}\n")
        found = run(engine, step("a", 1), outputs={"a": "${steps.a.output}"})
        assert found.outputs == {"a": number}


def test_results_outlive_their_engine(engine: OrchestrationEngine, tmp_path: Path) -> None:
    run(engine, step("a", 1))
    engine.shutdown()
    with OrchestrationEngine(state=tmp_path / ".codomyrmex", root=tmp_path) as later:
        run(later, step("a", 1))
    assert ran(tmp_path) == ["1"]


def test_a_command_goes_by_its_text_and_its_inputs(engine: OrchestrationEngine, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("one")
    count = {
        "name": "count",
        "module": "shell",
        "action": "run",
        "parameters": {"command": ["sh", "-c", "wc -c < in.txt > out.txt; echo ran >> ran.txt"]},
        "cache": {"inputs": ["in.txt"], "outputs": ["out.txt"]},
    }
    for _ in range(2):
        run(engine, count)
    assert ran(tmp_path) == ["ran"]
    (tmp_path / "out.txt").unlink()
    run(engine, count)
    (tmp_path / "in.txt").write_text("three")
    run(engine, count)
    assert ran(tmp_path) == ["ran"] * 3


def test_unsafe_effects_and_a_cache_are_refused_together(engine: OrchestrationEngine) -> None:
    with pytest.raises(ValidationError, match="unsafe"):
        run(engine, step("a", 1, effects="unsafe"))


def test_a_missing_input_fails_its_step_alone(engine: OrchestrationEngine) -> None:
    found = run(engine, step("a", 1, cache={"inputs": ["gone.csv"]}), step("b", 2))
    assert found.statuses() == {"a": "failed", "b": "completed"}


def test_a_script_is_an_input_of_the_step_that_runs_it(engine: OrchestrationEngine, tmp_path: Path) -> None:
    (tmp_path / "count.py").write_text("open('ran.txt', 'a').write('ran\\n')\n")
    count = {
        "name": "count",
        "module": "python",
        "action": "run",
        "parameters": {"script": "count.py"},
        "cache": {},
    }
    for _ in range(2):
        run(engine, count)
    assert ran(tmp_path) == ["ran"]
    (tmp_path / "count.py").write_text("open('ran.txt', 'a').write('changed\\n')\n")
    run(engine, count)
    assert ran(tmp_path) == ["ran", "changed"]


@pytest.mark.reliability
def test_no_kill_leaves_a_kept_result_that_no_run_has(engine: OrchestrationEngine, tmp_path: Path) -> None:
    """The row of the cache and the result it is made from stand in one transaction, or neither does."""
    for number in range(20):
        execution = engine.start_workflow(
            {
                "codomyrmex": 1,
                "name": "flow",
                "steps": [step(f"s{at}", number * 100 + at) for at in range(20)],
            }
        )
        engine.cancel(execution.execution_id, kill=True)
        engine.wait(execution.execution_id, 30)
    database = engine.workflows.host.database
    lost = database.query(
        "SELECT cache.key FROM cache LEFT JOIN task ON task.run = cache.run AND task.position = cache.position "
        "AND task.result = cache.result WHERE task.run IS NULL"
    )
    assert lost == []
