"""Projects go through the admission of every run, and what comes out is checked by somebody else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psplib
import pytest
from schedules import project_workflow
from schedules.project_file import Known, Project, parse_project, read_known
from schedules.project_workflow import Times, document_of, planned, times_of
from schedules.schedule_check import faults_of
from small_project import ENDS, TEXT

from codomyrmex.logistics.orchestration.project.states import OrchestrationMode

SCRIPT = Path(psplib.__file__)
SETS = ("j30", "j60", "j120")


@pytest.fixture
def project() -> Project:
    return parse_project("small", TEXT)


@pytest.fixture
def small_set(tmp_path: Path) -> tuple[Path, Path]:
    """A folder with one project, and its table."""
    folder = tmp_path / "small-set"
    folder.mkdir()
    (folder / "small.sm").write_text(TEXT)
    table = tmp_path / "best.csv"
    table.write_text(f"instance,lower_bound,best_known\nsmall,8,{ENDS[6]}\n")
    return folder, table


def ran(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["psplib.py", *map(str, arguments)])
    return psplib.main()


def test_a_project_becomes_a_workflow_of_one_step_for_each_job_but_its_two_ends(project: Project) -> None:
    assert document_of(project)["steps"] == [
        {"name": "j2", "call": "bench_actions:noop", "resources": {"cpu": 0, "r1": 2}},
        {"name": "j3", "call": "bench_actions:noop", "resources": {"cpu": 0, "r1": 1, "r2": 1}},
        {"name": "j4", "call": "bench_actions:noop", "resources": {"cpu": 0, "r2": 2}, "needs": ["j2"]},
        {"name": "j5", "call": "bench_actions:noop", "resources": {"cpu": 0, "r1": 2, "r2": 1}, "needs": ["j3"]},
    ]  # fmt: skip


@pytest.mark.parametrize("mode", list(OrchestrationMode))
def test_every_mode_makes_a_feasible_schedule_of_it(project: Project, mode: OrchestrationMode) -> None:
    times = times_of(project, planned(project, mode))
    assert faults_of(project, times.starts, times.ends) == []
    assert times.makespan >= ENDS[6]


def test_one_after_the_other_takes_as_long_as_all_jobs_together(project: Project) -> None:
    plan = planned(project, OrchestrationMode.SEQUENTIAL)
    assert times_of(project, plan).makespan == sum(job.duration for job in project.work)


def test_the_command_prints_how_many_are_feasible_and_how_far_they_are_off(
    small_set: tuple[Path, Path],
) -> None:
    ended = ran(*small_set, "--json")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout) == {"instances": 1, "feasible": 1, "mean_gap_percent": 0.0}


def test_without_json_fifo_stands_beside_the_admission(
    small_set: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(monkeypatch, *small_set) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("small-set    1 instances,    1 feasible   admission   0.00 %   fifo ")


def test_a_broken_schedule_counts_as_infeasible_and_fails_the_command(
    small_set: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def too_early(project: Project, plan: Any) -> Times:
        times = times_of(project, plan)
        return Times(starts={**times.starts, 5: 1}, ends={**times.ends, 5: 5})

    monkeypatch.setattr(psplib, "times_of", too_early)
    assert main(monkeypatch, *small_set, "--json") == 1
    told = capsys.readouterr()
    assert json.loads(told.out) == {"instances": 1, "feasible": 0, "mean_gap_percent": None}
    assert "small: job 5 begins at 1, before job 3 ends at 2" in told.err


def test_a_schedule_that_is_shorter_than_is_possible_is_no_success() -> None:
    gaps = psplib.Gaps()
    gaps.add("small", [], 7, Known(lower_bound=8, best=9))
    assert (gaps.feasible, gaps.mean) == (0, None)
    assert gaps.faults == ["small: takes 7, and nothing takes less than 8"]


def test_a_project_of_which_no_best_is_known_is_checked_and_has_no_gap() -> None:
    gaps = psplib.Gaps()
    gaps.add("small", [], 9, None)
    assert (gaps.feasible, gaps.mean, gaps.faults) == (1, None, [])


def test_a_folder_without_projects_and_half_of_the_arguments_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "best.csv"
    table.write_text("instance,best_known\n")
    assert (ran(tmp_path, table).returncode, ran(tmp_path).returncode) == (2, 2)
    assert "there is no .sm file" in ran(tmp_path, table).stderr


def test_a_part_of_a_set_is_spread_over_all_of_it() -> None:
    paths = [Path(str(number)) for number in range(10)]
    assert [path.name for path in psplib.spread(paths, 3)] == ["0", "3", "6"]
    assert psplib.spread(paths, 99) == psplib.spread(paths, None) == paths


@pytest.mark.parametrize("name", SETS)
def test_a_tenth_of_each_set_is_scheduled_feasibly_and_shorter_than_in_order_of_arrival(
    psplib_data: Path, name: str
) -> None:
    found = measured(psplib_data, name, tenth=True, fifo=True)
    count = len(found["fifo"].percent)
    assert count >= 12
    assert [(gaps.feasible, gaps.faults) for gaps in found.values()] == [(count, [])] * 2
    admission, fifo = found["admission"].mean, found["fifo"].mean
    assert admission is not None
    assert fifo is not None
    assert admission < fifo


@pytest.mark.reliability
@pytest.mark.parametrize("name", SETS)
def test_whole_sets_are_at_most_as_far_above_the_best_as_promised(psplib_data: Path, name: str) -> None:
    found = measured(psplib_data, name, tenth=False, fifo=False)["admission"]
    assert found.faults == []
    assert found.mean is not None
    assert found.mean <= psplib.LIMITS[name]


def test_the_solver_keeps_to_the_project_and_is_never_longer_than_the_admission(psplib_data: Path) -> None:
    pytest.importorskip("ortools")
    paths = psplib.spread(sorted((psplib_data / "j30").glob("*.sm")), 3)
    known = read_known(psplib_data / "j30-best.csv")
    found = psplib.measured(paths, known, fifo=False, optimise_s=0.5)
    assert [gaps.faults for gaps in found.values()] == [[], []]
    for better, first in zip(found["optimised"].percent, found["admission"].percent, strict=True):
        assert better <= first


def measured(data: Path, name: str, *, tenth: bool, fifo: bool) -> dict[str, psplib.Gaps]:
    paths = sorted((data / name).glob("*.sm"))
    paths = psplib.spread(paths, len(paths) // 10 if tenth else None)
    return psplib.measured(paths, read_known(data / f"{name}-best.csv"), fifo=fifo, optimise_s=None)


def test_times_that_are_no_whole_units_are_refused_rather_than_rounded() -> None:
    with pytest.raises(ValueError, match="no whole time"):
        project_workflow._whole(1.5)
