"""Projects with scarce resources: the `.sm` files of PSPLIB, and the tables of what the best schedules take.

Pure but for reading the file. A project is jobs, each with a duration, the jobs that come after it and a demand for
every resource while it runs. The first and the last job of a file are its empty source and sink. What is not as
the format has it raises `BrokenProject` with the name of the file.
Source: Kolisch and Sprecher, PSPLIB, European Journal of Operational Research 96 (1996).
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

_RULE = re.compile(r"^[*-]+$")


class BrokenProject(ValueError):
    """A file that is no project, or one that contradicts itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job; numbers are those of the file."""

    number: int
    duration: int
    demand: tuple[int, ...]
    """Per resource, what it holds while it runs."""
    successors: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """See the module; `jobs` by number, in the order of the file."""

    name: str
    jobs: dict[int, Job]
    capacities: tuple[int, ...]

    @property
    def ends(self) -> frozenset[int]:
        """Source and sink: they take no time, hold nothing, and nothing comes before or after them."""
        before = self.predecessors()
        return frozenset(
            number
            for number, job in self.jobs.items()
            if not (job.duration or any(job.demand) or (before[number] and job.successors))
        )

    @property
    def work(self) -> list[Job]:
        """All jobs but source and sink, in the order of the file."""
        ends = self.ends
        return [job for number, job in self.jobs.items() if number not in ends]

    def predecessors(self) -> dict[int, list[int]]:
        """Of each job those that come right before it, in the order of the file."""
        before: dict[int, list[int]] = {number: [] for number in self.jobs}
        for job in self.jobs.values():
            for after in job.successors:
                before[after].append(job.number)
        return before


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of the shortest schedule: none is below one, somebody found the other."""

    lower_bound: int
    best: int


def read_project(path: Path) -> Project:
    """The project in a file, checked against itself."""
    try:
        return _checked(parse_project(path.stem, path.read_text(encoding="latin-1")))
    except ValueError as error:
        raise BrokenProject(f"{path.name}: {error}") from error


def parse_project(name: str, text: str) -> Project:
    """The project that a text describes."""
    lines = [line.strip() for line in text.splitlines()]
    after = {}
    for number, _modes, count, *successors in _table(lines, "PRECEDENCE RELATIONS"):
        if len(successors) != count:
            raise BrokenProject(f"job {number} has {count} successors and names {len(successors)}")
        after[number] = tuple(successors)
    jobs = {
        number: Job(number=number, duration=duration, demand=tuple(demand), successors=after.get(number, ()))
        for number, _mode, duration, *demand in _table(lines, "REQUESTS/DURATIONS")
    }
    [capacities] = _table(lines, "RESOURCEAVAILABILITIES")
    told = int(lines[_line_of(lines, "jobs (incl.")].rpartition(":")[2])
    if not len(jobs) == len(after) == told:
        raise BrokenProject(
            f"it says {told} jobs, and has {len(after)} with successors, {len(jobs)} with durations"
        )
    return Project(name=name, jobs=jobs, capacities=tuple(capacities))


def read_known(path: Path) -> dict[str, Known]:
    """A table `instance,lower_bound,best_known,...` by instance; it may have no lower bounds."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return {
            row["instance"].removesuffix(".sm"): Known(
                lower_bound=int(row.get("lower_bound") or 0), best=int(row["best_known"])
            )
            for row in rows
        }
    except (KeyError, ValueError) as error:
        raise BrokenProject(
            f"{path.name}: `instance` and `best_known` of each row are wanted: {error}"
        ) from error


def _table(lines: list[str], title: str) -> list[list[int]]:
    """The rows of numbers below a title, up to the next rule of stars."""
    rows = []
    for line in lines[_line_of(lines, title) + 2 :]:
        if line.startswith("*"):
            break
        if line and not _RULE.match(line):
            rows.append([int(word) for word in line.split()])
    return rows


def _line_of(lines: list[str], start: str) -> int:
    for number, line in enumerate(lines):
        if line.startswith(start):
            return number
    raise BrokenProject(f"no line begins with `{start}`")


def _checked(project: Project) -> Project:
    for job in project.jobs.values():
        if job.duration < 0 or len(job.demand) != len(project.capacities):
            raise BrokenProject(f"job {job.number}: {job.duration} long, {len(job.demand)} resources")
        if any(amount > most for amount, most in zip(job.demand, project.capacities, strict=True)):
            raise BrokenProject(f"job {job.number} asks for more than there is")
        if unknown := [each for each in job.successors if each not in project.jobs]:
            raise BrokenProject(f"job {job.number} comes before {unknown}, which there are not")
    return project
