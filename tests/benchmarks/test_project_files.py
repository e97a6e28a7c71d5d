"""The projects of PSPLIB are read whole, and what contradicts itself is refused by name."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from schedules.project_file import BrokenProject, Known, Project, parse_project, read_known, read_project
from small_project import TEXT

SETS = ("j30", "j60", "j120")


def longest_path(project: Project) -> int:
    """The sum of durations on the longest path; the files number every job after those before it."""
    ends: dict[int, int] = {}
    before = project.predecessors()
    for number, job in project.jobs.items():
        ends[number] = job.duration + max((ends[each] for each in before[number]), default=0)
    return max(ends.values())


def written(folder: Path, text: str) -> Path:
    path = folder / "small.sm"
    path.write_text(text)
    return path


def test_a_file_gives_its_jobs_their_order_their_demands_and_what_there_is() -> None:
    project = parse_project("small", TEXT)
    assert list(project.jobs) == [1, 2, 3, 4, 5, 6]
    assert project.capacities == (3, 2)
    assert (project.jobs[3].duration, project.jobs[3].demand, project.jobs[3].successors) == (2, (1, 1), (5,))
    assert project.predecessors()[6] == [4, 5]
    assert project.ends == {1, 6}
    assert [job.number for job in project.work] == [2, 3, 4, 5]


def test_an_empty_job_in_the_middle_is_no_end_because_order_passes_through_it() -> None:
    project = parse_project("small", TEXT.replace("  4      1     1       0    2", "  4  1  0  0  0"))
    assert project.ends == {1, 6}


@pytest.mark.parametrize("name", SETS)
def test_every_project_is_read_with_the_longest_path_that_its_table_tells(
    psplib_data: Path, name: str
) -> None:
    rows = {
        row["instance"]: row
        for row in csv.DictReader((psplib_data / f"{name}-best.csv").read_text().splitlines())
    }
    paths = sorted((psplib_data / name).glob("*.sm"))
    assert {path.stem for path in paths} == set(rows)
    for path in paths:
        project = read_project(path)
        assert len(project.work) == int(name[1:]), path.name
        assert longest_path(project) == int(rows[path.stem]["critical_path"]), path.name


@pytest.mark.parametrize(
    ("there", "here", "expected"),
    [
        (":  6", ":  7", "it says 7 jobs"),
        ("   2        1          1           4", "   2        1          2           4", "names 1"),
        ("   5        1          1           6", "   5        1          1           9", "[9], which there are not"),
        ("  5      1     4       2    1", "  5      1     4       4    1", "job 5 asks for more than there is"),
        ("  5      1     4       2    1", "  5      1     4       2", "job 5: 4 long, 1 resources"),
        ("  5      1     4       2    1", "  5      1     x       2    1", "invalid literal"),
        ("RESOURCEAVAILABILITIES", "AVAILABLE", "no line begins with `RESOURCEAVAILABILITIES`"),
    ],
)  # fmt: skip
def test_a_file_that_contradicts_itself_is_refused_by_name(
    tmp_path: Path, there: str, here: str, expected: str
) -> None:
    assert there in TEXT
    with pytest.raises(BrokenProject, match=r"^small\.sm: ") as refused:
        read_project(written(tmp_path, TEXT.replace(there, here, 1)))
    assert expected in str(refused.value)


def test_the_table_of_the_best_known_may_have_no_lower_bounds_but_not_no_best(tmp_path: Path) -> None:
    table = tmp_path / "best.csv"
    table.write_text("instance,lower_bound,best_known\nj301_1,43,44\n")
    assert read_known(table) == {"j301_1": Known(lower_bound=43, best=44)}
    table.write_text("instance,best_known\nj301_1.sm,44\n")
    assert read_known(table) == {"j301_1": Known(lower_bound=0, best=44)}
    table.write_text("instance,makespan\nj301_1,44\n")
    with pytest.raises(BrokenProject, match="`best_known` of each row"):
        read_known(table)
