"""Runs of a part of a workflow on results of earlier runs, from Python and from the command line."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.exceptions import ValidationError
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.logistics.orchestration.project.run_reuse import start_ready
from codomyrmex.logistics.orchestration.project.run_selection import Part
from codomyrmex.logistics.orchestration.project.workflow import Workflow
from codomyrmex.testing import FinishedRun
from waiting import wait_until

ACTS = """
from pathlib import Path

def work(name, x=0):
    with Path("ran.txt").open("a") as file:
        file.write(f"{name}\\n")
    if Path(f"fail-{name}").exists():
        raise ValueError(name)
    return f"{name}({x})"
"""


def step(name: str, *parents: str, **more: Any) -> dict[str, Any]:
    x = ",".join(f"${{steps.{parent}.output}}" for parent in parents)
    parameters = {"name": name, "x": x or 0}
    return {"name": name, "module": "acts", "action": "work", "parameters": parameters, **more}


STEPS = [
    step("a"),
    step("each", "a", foreach=[10, 20], parameters={"name": "each", "x": "${item}"}),
    step("b", "a", compensate={"module": "acts", "action": "work", "parameters": {"name": "undo-b"}}),
    step("c", "b", "each"),
    step("d", "c"),
]
FINALLY = [step("tidy", parameters={"name": "tidy", "x": "${steps.d.output ?? 'nothing'}"})]
FLOW = {
    "codomyrmex": 1,
    "name": "flow",
    "isolation": "thread",
    "steps": STEPS,
    "finally": FINALLY,
    "outputs": {"c": "${steps.c.output}", "d": "${steps.d.output}", "a": "${steps.a.output}"},
}
C = 'c(b(a(0)),["each(10)", "each(20)"])'


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OrchestrationEngine]:
    (tmp_path / "acts.py").write_text(textwrap.dedent(ACTS))
    monkeypatch.chdir(tmp_path)
    with OrchestrationEngine(state=tmp_path / ".codomyrmex", root=tmp_path) as engine:
        yield engine


def run(engine: OrchestrationEngine, document: dict[str, Any] = FLOW, **part: tuple[str, ...]) -> FinishedRun:
    workflows = engine.workflows
    ready = workflows.starter.ready(workflows.definition(document), {})
    live = start_ready(workflows.host, ready.run, ready.document, part=Part(**part))
    engine.wait(live.state.id, 30)
    return FinishedRun(engine.reader, live.state.id)


def ran(tmp_path: Path) -> list[str]:
    """What ran since this was last asked."""
    note = tmp_path / "ran.txt"
    names = note.read_text().split() if note.is_file() else []
    note.unlink(missing_ok=True)
    return names


def reused(found: FinishedRun) -> dict[str, str]:
    """{task: the run its result is of}, as the journal tells."""
    return {each["task"]: each["details"][0] for each in found.events if each["event"] == "reused"}


def test_until_runs_a_step_and_what_it_needs(engine: OrchestrationEngine, tmp_path: Path) -> None:
    found = run(engine, until=("b",))
    assert ran(tmp_path) == ["a", "b", "tidy"]
    assert found.statuses() == {"a": "completed", "b": "completed", "d": "skipped", "tidy": "completed"}
    assert found.outputs == {"a": "a(0)"}


def test_from_runs_a_step_and_what_depends_on_it_on_earlier_results(
    engine: OrchestrationEngine, tmp_path: Path
) -> None:
    whole = run(engine)
    ran(tmp_path)
    found = run(engine, from_steps=("c",))
    assert ran(tmp_path) == ["c", "d", "tidy"]
    assert found.outputs == {"c": whole.outputs["c"], "d": whole.outputs["d"]}
    assert found.statuses() == {
        "each": "completed", "each[0]": "completed", "each[1]": "completed", "b": "completed", "c": "completed",
        "d": "completed", "tidy": "completed",
    }  # fmt: skip
    assert reused(found) == {"each": whole.execution_id, "b": whole.execution_id}


def test_only_runs_one_step(engine: OrchestrationEngine, tmp_path: Path) -> None:
    run(engine)
    ran(tmp_path)
    assert run(engine, only=("d",)).outputs == {"c": C, "d": f"d({C})"}
    assert ran(tmp_path) == ["d", "tidy"]


def test_the_newest_completed_result_is_used_of_a_run_that_failed_too(
    engine: OrchestrationEngine, tmp_path: Path
) -> None:
    run(engine)
    (tmp_path / "fail-d").touch()
    document = {**FLOW, "steps": [{k: v for k, v in each.items() if k != "compensate"} for each in STEPS]}
    document["steps"][2] = {**document["steps"][2], "parameters": {"name": "b", "x": "new"}}
    failed = run(engine, document)
    assert failed.status == "failed"
    (tmp_path / "fail-d").unlink()
    assert run(engine, document, from_steps=("c",)).outputs["c"].startswith("c(b(new),")


def test_what_a_run_has_undone_is_not_used_again(engine: OrchestrationEngine, tmp_path: Path) -> None:
    (tmp_path / "fail-d").touch()
    assert run(engine).status == "failed"
    assert "undo-b" in ran(tmp_path)
    (tmp_path / "fail-d").unlink()
    with pytest.raises(ValidationError, match="step 'b'"):
        run(engine, from_steps=("c",))


def test_a_run_undoes_only_what_it_did(engine: OrchestrationEngine, tmp_path: Path) -> None:
    run(engine)
    ran(tmp_path)
    (tmp_path / "fail-d").touch()
    assert run(engine, from_steps=("c",)).status == "failed"
    assert ran(tmp_path) == ["c", "d", "tidy"]


def test_a_result_that_is_nowhere_is_named_with_the_way_to_it(engine: OrchestrationEngine) -> None:
    with pytest.raises(ValidationError) as refused:
        run(engine, from_steps=("c",))
    advice = {fault.got: fault.advice for fault in refused.value.faults}
    assert set(advice) == {"b", "each"}
    assert "--until b" in (advice["b"] or "")
    assert engine.reader.runs()[0] == [], "nothing was stored"


def test_a_needed_step_that_was_skipped_is_skipped_here(engine: OrchestrationEngine, tmp_path: Path) -> None:
    document = {
        **FLOW,
        "steps": [step("a", run_if="1 > 2"), step("z", dependencies=["a"], trigger_rule="none_failed")],
        "finally": [],
        "outputs": {},
    }
    run(engine, document)
    ran(tmp_path)
    assert run(engine, document, only=("z",)).statuses() == {"a": "skipped", "z": "completed"}
    assert ran(tmp_path) == ["z"]


def test_a_part_is_resumable_like_every_run(engine: OrchestrationEngine, tmp_path: Path) -> None:
    run(engine)
    found = run(engine, from_steps=("d",))
    again = run(engine, from_steps=("d",))
    assert again.outputs == found.outputs
    assert reused(again) == {"c": found.execution_id}, "what was used again is a result like any other"


def test_a_part_that_its_engine_left_goes_on_in_another(engine: OrchestrationEngine, tmp_path: Path) -> None:
    document = {**FLOW, "isolation": "process", "finally": []}
    run(engine, document)
    ran(tmp_path)
    workflows = engine.workflows
    ready = workflows.starter.ready(workflows.definition(document), {})
    start_ready(workflows.host, ready.run, ready.document, part=Part(from_steps=("c",)))
    wait_until((tmp_path / "ran.txt").exists)
    engine.shutdown()
    ran(tmp_path)
    with OrchestrationEngine(state=tmp_path / ".codomyrmex", root=tmp_path, recover=False) as later:
        if not later.reader.run(ready.run.id).final:  # it may have been quick
            later.resume(ready.run.id)
        later.wait(ready.run.id, 30)
        assert FinishedRun(later.reader, ready.run.id).outputs == {"c": C, "d": f"d({C})"}
    assert set(ran(tmp_path)) <= {"c", "d"}


def test_failed_items_of_a_reused_fan_out_stay_what_they_were(
    engine: OrchestrationEngine, tmp_path: Path
) -> None:
    (tmp_path / "fail-odd").touch()
    fan = step("each", foreach=["even", "odd"], on_item_failure="continue", parameters={"name": "${item}"})
    last = step("z", "each")
    last["parameters"]["name"] = "${len(steps.each.errors)}"
    document = {"codomyrmex": 1, "name": "items", "isolation": "thread", "steps": [fan, last]}
    document["outputs"] = {"z": "${steps.z.output}"}
    whole = run(engine, document)
    assert whole.status == "completed"
    part = run(engine, document, only=("z",))
    assert part.status == "completed"
    assert part.outputs == whole.outputs == {"z": "1(['even(0)', None])"}
    assert part.statuses() == whole.statuses()


@pytest.mark.parametrize("kind", [{"sleep": 0.0}, {"sleep": "${steps.a.output ?? 0}ms"}])
def test_what_waited_in_an_earlier_run_does_not_wait_again(
    engine: OrchestrationEngine, tmp_path: Path, kind: dict[str, Any]
) -> None:
    first = step("a", run_if="1 > 2")
    second = {"name": "w", **kind, "trigger_rule": "none_failed", "dependencies": ["a"]}
    third = step("z", dependencies=["w"])
    document = {"codomyrmex": 1, "name": "waits", "isolation": "thread", "steps": [first, second, third]}
    assert run(engine, document).status == "completed"
    part = run(engine, document, only=("z",))
    assert part.statuses() == {"w": "completed", "z": "completed"}
    assert "waiting" not in [each["event"] for each in part.events]


def test_a_part_of_a_workflow_made_in_python_keeps_its_functions(engine: OrchestrationEngine) -> None:
    workflow = Workflow("made")
    a = workflow.step(lambda: 20).options(name="a", isolation="thread")
    workflow.step(lambda x: x + 1, x=a.output).options(name="b", isolation="thread")
    workflows = engine.workflows
    for part in (Part(), Part(only=("b",))):
        ready = workflows.starter.ready(workflows.definition(workflow), {})
        live = start_ready(workflows.host, ready.run, ready.document, part=part)
        engine.wait(live.state.id, 30)
        assert FinishedRun(engine.reader, live.state.id).results == {"a": 20, "b": 21}
