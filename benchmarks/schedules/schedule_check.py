"""Whether a schedule is one: every job once, nothing before what it waits for, never more in use than there is.

Pure, and on purpose without a line of the engine's code: it counts what is held at every instant, in the whole
numbers of the project's file. Jobs hold what they demand from the instant they begin up to, not with, the instant
they end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from schedules.project_file import Project


def faults_of(project: Project, starts: Mapping[int, int], ends: Mapping[int, int]) -> list[str]:
    """What is wrong with a schedule, by job number; nothing where it is feasible."""
    if missing := [number for number in project.jobs if number not in starts or number not in ends]:
        return [f"jobs {missing} are not in the schedule"]
    if strange := [number for number in starts if number not in project.jobs]:
        return [f"the schedule has jobs {strange}, which the project has not"]
    return [
        *_wrong_durations(project, starts, ends),
        *_broken_precedences(project, starts, ends),
        *_overuses(project, starts, ends),
    ]


def _wrong_durations(project: Project, starts: Mapping[int, int], ends: Mapping[int, int]) -> Iterator[str]:
    for number, job in project.jobs.items():
        if starts[number] < 0:
            yield f"job {number} begins at {starts[number]}"
        if ends[number] - starts[number] != job.duration:
            yield f"job {number} takes {ends[number] - starts[number]} instead of {job.duration}"


def _broken_precedences(
    project: Project, starts: Mapping[int, int], ends: Mapping[int, int]
) -> Iterator[str]:
    for number, job in project.jobs.items():
        for after in job.successors:
            if starts[after] < ends[number]:
                yield f"job {after} begins at {starts[after]}, before job {number} ends at {ends[number]}"


def _overuses(project: Project, starts: Mapping[int, int], ends: Mapping[int, int]) -> Iterator[str]:
    instants = range(max(ends.values(), default=0))
    for resource, capacity in enumerate(project.capacities):
        used = [0] * len(instants)
        for number, job in project.jobs.items():
            for instant in range(max(0, starts[number]), min(ends[number], len(instants))):
                used[instant] += job.demand[resource]
        for instant, amount in enumerate(used):
            if amount > capacity:
                yield f"at {instant} {amount} of resource {resource + 1} are in use, there are {capacity}"
                break
