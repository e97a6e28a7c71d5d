"""Recorded workflows are really run, and their runs compared with plans; how near they come is for `make bench`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import wfinstances
from wfinstances import Round

SCRIPT = Path(wfinstances.__file__)
SMALL = (
    "helloworld-chain-5-chameleon.json",
    "helloworld-forkjoin-10-chameleon.json",
    "sarek-dirt02-001.json",
)


def ran(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def tree(*steps: tuple[str, list[str]]) -> dict[str, Any]:
    return {"name": "small", "steps": [{"name": name, "needs": needs} for name, needs in steps]}


def a_round(
    *, learned_s: float = 1.0, recorded_s: float = 1.0, run_s: float = 1.0, late_s: float = 0.0
) -> Round:
    return Round(learned_s=learned_s, recorded_s=recorded_s, run_s=run_s, late_s=late_s)


def test_three_recordings_are_planned_and_run_and_take_at_least_their_longest_path(recordings: Path) -> None:
    ended = ran(*(recordings / name for name in SMALL), "--time-scale", "0.0003", "--rounds", "1", "--json")
    assert ended.stderr == ""
    found = json.loads(ended.stdout)
    assert (found["cpus"], found["time_scale"]) == (wfinstances.CPUS, 0.0003)
    graphs = found["graphs"]
    assert {name: graph["tasks"] for name, graph in graphs.items()} == {
        "helloworld-chain-5-chameleon": 5, "helloworld-forkjoin-10-chameleon": 10, "sarek-dirt02-001": 26
    }  # fmt: skip
    chain = graphs["helloworld-chain-5-chameleon"]
    assert chain["recorded_s"] == pytest.approx(501.24 * 0.0003, abs=1e-5)
    assert chain["run_s"] > chain["recorded_s"]
    assert chain["learned_s"] > chain["recorded_s"]


def test_every_recorded_task_claims_one_cpu_and_as_much_time_as_the_scale_says(recordings: Path) -> None:
    found = wfinstances.workflow_of(recordings / "blast-chameleon-small-001.json", 0.5)
    assert len(found["steps"]) == 43
    assert {json.dumps(step.get("resources", {})) for step in found["steps"]} <= {"{}", '{"cpu": 1}'}
    assert sum(wfinstances.recorded_s(found).values()) == pytest.approx(382.913 / 2, abs=0.01)


def test_the_figure_of_a_graph_is_its_median_round_in_percent_of_the_plan_before_it() -> None:
    rounds = [a_round(learned_s=2.0, run_s=2.2, late_s=3e-4), a_round(run_s=1.0), a_round(run_s=1.3)]
    found = wfinstances.figures_of(tree(("a", []), ("b", ["a"]), ("c", ["a"])), rounds, cpus=2)
    assert (found["learned_percent"], found["learned_furthest_percent"]) == pytest.approx((10.0, 30.0))
    assert (found["recorded_percent"], found["recorded_furthest_percent"]) == pytest.approx((30.0, 120.0))
    assert (found["tasks"], found["in_a_row"], found["kept"]) == (3, 2, False)
    assert found["between_us"] == pytest.approx(0.2 / 2 * 1e6)
    assert found["late_us"] == 0.0


def test_a_run_that_ends_too_early_is_as_far_off_as_one_that_ends_too_late() -> None:
    found = wfinstances.figures_of(tree(("a", [])), [a_round(run_s=0.8)], cpus=1)
    assert not found["kept"]
    assert wfinstances.figures_of(tree(("a", [])), [a_round(run_s=0.9)], cpus=1)["kept"]


def test_as_many_tasks_stand_in_a_row_as_the_cpus_or_the_graph_make_them() -> None:
    wide = tree(*((f"t{number}", []) for number in range(10)))
    assert wfinstances.figures_of(wide, [a_round()], cpus=4)["in_a_row"] == 3
    assert wfinstances.figures_of(wide, [a_round()], cpus=10)["in_a_row"] == 1


def test_without_recordings_there_is_nothing_to_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wfinstances, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["wfinstances.py"])
    assert wfinstances.main() == 0
    assert "nothing to measure" in capsys.readouterr().err
