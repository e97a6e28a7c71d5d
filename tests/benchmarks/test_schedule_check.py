"""The checker of schedules finds every way to cheat; it is what the figures of the benchmark stand on."""

from __future__ import annotations

import pytest
from schedules.project_file import parse_project
from schedules.schedule_check import faults_of
from small_project import ENDS, STARTS, TEXT

PROJECT = parse_project("small", TEXT)


def moved(number: int, start: int, *, longer: int = 0) -> tuple[dict[int, int], dict[int, int]]:
    """The good schedule with one job somewhere else."""
    end = start + ENDS[number] - STARTS[number] + longer
    return {**STARTS, number: start}, {**ENDS, number: end}


def test_a_feasible_schedule_has_no_faults() -> None:
    assert faults_of(PROJECT, STARTS, ENDS) == []


def test_a_job_may_begin_at_the_instant_at_which_others_let_go() -> None:
    assert STARTS[5] == ENDS[2]  # together they would hold 4 of 3
    assert faults_of(PROJECT, STARTS, ENDS) == []


@pytest.mark.parametrize(
    ("number", "start", "longer", "expected"),
    [
        (4, 1, 0, "job 4 begins at 1, before job 2 ends at 3"),
        (5, 2, 0, "at 2 4 of resource 1 are in use, there are 3"),
        (4, 6, 0, "at 6 3 of resource 2 are in use, there are 2"),
        (4, 7, -1, "job 4 takes 0 instead of 1"),
        (2, -1, 0, "job 2 begins at -1"),
        (6, 7, 0, "job 6 begins at 7, before job 4 ends at 8"),
    ],
)
def test_what_is_no_schedule_is_told_with_job_and_instant(
    number: int, start: int, longer: int, expected: str
) -> None:
    assert expected in faults_of(PROJECT, *moved(number, start, longer=longer))


def test_a_job_left_out_or_made_up_is_a_fault_whatever_else_is_right() -> None:
    without = {number: at for number, at in STARTS.items() if number != 4}
    assert faults_of(PROJECT, without, ENDS) == ["jobs [4] are not in the schedule"]
    assert faults_of(PROJECT, {**STARTS, 9: 0}, {**ENDS, 9: 1}) == [
        "the schedule has jobs [9], which the project has not"
    ]
