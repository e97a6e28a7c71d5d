"""Recorded scientific workflows become workflows of ours, and what cannot become one is told of."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import pytest
from journal_order import broken_edges
from shared_data import edges_of, needed, recordings, text_of

from codomyrmex import OrchestrationEngine
from codomyrmex.exceptions import ValidationError
from codomyrmex.logistics.orchestration.project.workflow_file import load_text
from codomyrmex.logistics.orchestration.project.workflow_import.wfformat import Recording, read_wfformat
from codomyrmex.logistics.orchestration.project.workflow_yaml import write_yaml
from waiting import wait_until

SMALL = ("helloworld-chain-5-chameleon.json", "sarek-dirt02-001.json", "blast-chameleon-small-001.json")


def recording(*tasks: dict[str, Any], **executed: dict[str, Any]) -> str:
    """A recording of tasks that name their parents; each took two seconds unless told otherwise."""
    specified = [{"name": each.get("id"), "children": [], "parents": [], **each} for each in tasks]
    runs = [
        {"id": each["id"], "runtimeInSeconds": 2, **executed.get(each["id"], {})}
        for each in specified
        if "id" in each
    ]
    workflow = {"specification": {"tasks": specified}, "execution": {"tasks": runs}}
    return json.dumps({"name": "small", "schemaVersion": "1.5", "workflow": workflow}, indent=1)


def steps_of(text: str, **options: Any) -> dict[str, dict[str, Any]]:
    """The steps of an imported recording by name, as the loader reads them."""
    tree = read_wfformat(text, Recording(**options)).tree
    return {step["name"]: step for step in load_text(write_yaml(tree), format="yaml").document["steps"]}


def faults_of(text: str) -> list[str]:
    with pytest.raises(ValidationError) as refused:
        read_wfformat(text, Recording(file="run.json"))
    return [str(fault) for fault in refused.value.faults]


def test_every_recorded_workflow_imports_with_all_its_tasks_edges_and_seconds() -> None:
    lines = needed("wfinstances", "INDEX.csv").read_text().splitlines()
    index = {row["file"]: row for row in csv.DictReader(lines)}
    assert len(recordings()) == 18
    for path in recordings():
        steps = steps_of(text_of(path))
        row = index[path.name]
        edges = {(parent, name) for name, step in steps.items() for parent in step.get("dependencies", ())}
        seconds = sum(step["parameters"]["seconds"] for step in steps.values())
        assert len(steps) == int(row["tasks"]), path.name
        assert edges == edges_of(path), path.name
        assert seconds == pytest.approx(float(row["total_work_s"]), abs=0.01), path.name


@pytest.mark.parametrize("name", SMALL)
def test_no_child_starts_before_its_parents_results_are_recorded(name: str) -> None:
    path = needed("wfinstances", name)
    imported = read_wfformat(text_of(path), Recording(time_scale=0))
    with OrchestrationEngine(state=":memory:") as engine:
        run = engine.execute_workflow(imported.tree)
        assert run.success
        assert broken_edges(edges_of(path), engine.reader.events(run.execution_id)) == []


@pytest.mark.reliability
def test_all_recorded_workflows_run_on_disk_with_every_edge_respected(tmp_path: Path) -> None:
    tasks, begun = 0, time.monotonic()
    with OrchestrationEngine(state=tmp_path / "state") as engine:
        for path in recordings():
            imported = read_wfformat(text_of(path), Recording(time_scale=0))
            run = engine.execute_workflow(imported.tree)
            assert run.success, path.name
            events = list(engine.reader.events(run.execution_id))
            assert broken_edges(edges_of(path), events) == [], path.name
            tasks += sum(event["event"] == "completed" for event in events)
    print(f"{tasks:,} tasks of 18 recordings in {time.monotonic() - begun:.2f} s")


def test_a_broken_edge_is_seen_by_the_check_itself() -> None:
    events = [{"event": kind, "task": task} for kind, task in
              (("started", "a"), ("started", "b"), ("completed", "a"), ("completed", "b"))]  # fmt: skip
    assert broken_edges({("a", "b")}, events) == [("a", "b")]


def test_the_scale_multiplies_every_runtime_and_zero_waits_for_nothing() -> None:
    text = recording({"id": "a"}, {"id": "b", "parents": ["a"]}, b={"runtimeInSeconds": 0.5})
    assert [step["parameters"]["seconds"] for step in steps_of(text, time_scale=0.1).values()] == [0.2, 0.05]
    assert [step["parameters"]["seconds"] for step in steps_of(text, time_scale=0).values()] == [0, 0]


def test_recorded_cpus_and_memory_become_resources_and_can_be_capped() -> None:
    text = recording({"id": "a"}, a={"coreCount": 16, "memoryInBytes": 5_000_000_000})
    assert steps_of(text, isolation="process")["a"]["resources"] == {"cpu": 16_000, "memory": 4769 * 2**20}
    capped = Recording(isolation="process", max_cpu=2, max_memory_bytes=2**30)
    imported = read_wfformat(text, capped)
    assert imported.tree["steps"][0]["resources"] == {"cpu": 2, "memory": "1GiB"}
    assert [each.what for each in imported.left_out] == [
        "16 CPUs of 'a' became 2",
        "4769MiB of 'a' became 1GiB",
    ]


def test_memory_of_tasks_in_threads_is_noted_and_the_report_says_how_to_make_it_count() -> None:
    imported = read_wfformat(recording({"id": "a"}, a={"memoryInBytes": 1}), Recording())
    assert imported.tree["steps"][0]["x-memory"] == "1MiB"
    assert "--isolation process" in imported.left_out[0].advice


def test_names_that_are_not_allowed_are_rewritten_without_collisions_and_kept_as_descriptions() -> None:
    text = recording(
        {"id": "align (1)"}, {"id": "align_1"}, {"id": "align [1]", "parents": ["align (1)"]},
        {"id": "1/x"}, {"id": "::"},
    )  # fmt: skip
    steps = steps_of(text)
    assert list(steps) == ["align_1_2", "align_1", "align_1_3", "_1_x", "task"]
    assert steps["align_1_3"]["dependencies"] == ["align_1_2"]
    assert steps["align_1_3"]["description"] == "align [1]"
    assert "description" not in steps["align_1"]


def test_an_edge_that_only_the_parent_tells_is_an_edge() -> None:
    imported = read_wfformat(recording({"id": "a", "children": ["b"]}, {"id": "b"}), Recording())
    assert imported.tree["steps"][1]["needs"] == ["a"]
    assert "1 edges stand only in `children`" in imported.left_out[0].what


def test_broken_recordings_are_refused_with_the_place_of_every_fault() -> None:
    text = recording(
        {"id": "a", "parents": ["b"]}, {"id": "b", "parents": ["a"]}, {"id": "b"}, {"id": "c", "children": ["zz"]},
        c={"runtimeInSeconds": "long", "coreCount": -1},
    )  # fmt: skip
    found = "\n".join(faults_of(text))
    for expected in (
        "tasks[2].id: two tasks have the id 'b'",
        "children[0]: no task has the id 'zz'",
        "a -> b -> a",
        "runtimeInSeconds: a runtime of 0 seconds or more must stand here",
        "coreCount: an amount must stand here",
    ):
        assert expected in found, found
    lines = text.splitlines()
    place = next(line for line in found.splitlines() if "'zz'" in line)
    assert '"zz"' in lines[int(place.split(":")[1]) - 1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file is empty"),
        ("{", "run.json:1"),
        ("[1]", "`workflow` is missing"),
        ('{"workflow": {"tasks": []}}', "`workflow.specification` is missing"),
        ('{"workflow": {"specification": {"tasks": []}, "execution": {"tasks": [{"id": "a"}]}}}', "at least one"),
        ('{"workflow": {"specification": {"tasks": [{"id": "a"}]}, "execution": {"tasks": [{"id": "b"}]}}}',
         "no execution of the task 'a' is recorded"),
        ('{"a": 1, "a": 2}', "stands here twice"),
    ],
)  # fmt: skip
def test_what_is_no_recording_is_refused(text: str, expected: str) -> None:
    assert expected in "\n".join(faults_of(text))


def test_a_recorded_task_lets_go_soon_after_it_is_cancelled() -> None:
    imported = read_wfformat(recording({"id": "a"}, a={"runtimeInSeconds": 3000}), Recording())
    with OrchestrationEngine(state=":memory:") as engine:
        run = engine.start_workflow(imported.tree)
        wait_until(lambda: run.tasks["a"].status == "running")
        asked = time.monotonic()
        engine.cancel(run.execution_id)
        assert run.wait(5)
        assert run.status == "cancelled"
        assert time.monotonic() - asked < 1.5
