"""The longest path of a run, and of the runs that its steps start: so long it takes on any machine.

Layer: pure. What a task took is known from a simulation. A step that starts a run takes at least as long as the
longest path of that run, whatever the run waited for; a fan-out as long as its longest item. The phases of a run
follow each other, so their paths add up. A step that did not run is on no path.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from codomyrmex.logistics.orchestration.project.run_state import RunState
from codomyrmex.logistics.orchestration.project.states import RunPhase
from codomyrmex.logistics.orchestration.project.tails import longest_path

_EQUAL = 1 - 1e-9
Key = tuple[int, int]
"""A run by its number, and a position of it."""


class Lasting(NamedTuple):
    """A task that ended well, and how many seconds after it began."""

    run: RunState
    position: int
    lasted_s: float


class PlanPaths:
    """The paths of a tree of runs: what each task takes at least, and which are `critical`, on the longest path."""

    def __init__(self, tasks: Iterable[Lasting]) -> None:
        self.least_s: dict[Key, float] = {}
        self.critical: set[Key] = set()
        self.paths: dict[int, list[int]] = {}
        """By the number of a run, the steps of its longest path."""
        self._longest: dict[int, dict[int, float]] = {}
        by_run: dict[int, list[Lasting]] = {}
        for task in tasks:
            by_run.setdefault(task.run.number, []).append(task)
        own_s: dict[Key, float] = {}
        for number in sorted(by_run, reverse=True):  # a run has a greater number than the one that started it
            run = by_run[number][0].run
            total_s = self._settle(run, by_run[number], own_s)
            if run.parent is not None:
                own_s[run.parent.run, run.parent.position] = total_s
        self._mark(by_run)

    def of(self, run: RunState) -> tuple[list[int], float]:
        """The steps of the longest path of a run, in order, and the seconds that they take one after the other."""
        longest = self._longest.get(run.number, {})
        path = self.paths.get(run.number, [])
        return path, sum(longest[step] for step in path)

    def _settle(self, run: RunState, tasks: Iterable[Lasting], own_s: dict[Key, float]) -> float:
        """Works out one run, those that it starts being known; returns the seconds of its longest path."""
        workflow = run.workflow
        longest = self._longest[run.number] = {}
        for _run, position, lasted_s in tasks:
            key = run.number, position
            least_s = self.least_s[key] = own_s.get(key, lasted_s)
            step = run.step_of(position)
            longest[step] = max(longest.get(step, 0.0), least_s)
        durations = [longest.get(step, 0.0) for step in range(len(workflow))]
        path = self.paths[run.number] = []
        for phase in RunPhase:
            steps = [step for step in workflow.phase_steps(phase) if step in longest]
            path += [step for step in longest_path(workflow.graph, durations, steps) if step in longest]
        return sum(durations[step] for step in path)

    def _mark(self, by_run: dict[int, list[Lasting]]) -> None:
        """The path of the first run, and of the runs that tasks on it start."""
        marked = set[Key]()
        for number in sorted(by_run):
            run = by_run[number][0].run
            above = run.parent
            if above is not None and (above.run, above.position) not in marked:
                continue
            path, longest = set(self.paths[number]), self._longest[number]
            for _run, position, _lasted_s in by_run[number]:
                step, key = run.step_of(position), (number, position)
                if step in path and self.least_s[key] >= longest[step] * _EQUAL:
                    marked.add(key)
        self.critical = marked
