"""How far the runs of an engine are, from its memory: for whoever asks it, and for handlers.

Layer: the engine's shell, beside the teller. Working an estimate out takes a pass over the steps of a run, so it is
kept for half a second, and for longer where it is costly: at most a fiftieth of the time goes into it. What was learned
is read again now and then, because a run learns while it goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from threading import RLock
from typing import Any

from codomyrmex.clock import Clock
from codomyrmex.logistics.orchestration.project.child_definition import child_id
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.expectations import Expectation, Expectations
from codomyrmex.logistics.orchestration.project.named_resources import NamedResource
from codomyrmex.logistics.orchestration.project.run_estimate import (
    Items,
    Outlook,
    Room,
    RunEstimate,
    Standing,
    UnderWay,
    child_under_way,
)
from codomyrmex.logistics.orchestration.project.run_state import RunState
from codomyrmex.logistics.orchestration.project.states import BlockReason
from codomyrmex.logistics.orchestration.project.task_progress import Progress

KEPT_S = 0.5
_READ_AGAIN_S = (5.0, 60.0)
_SHARE = 50
_MOST_CHILDREN = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Machinery:
    """What is asked of an engine."""

    find: Callable[[str], RunState | None]
    """A run that is live here, by its id."""
    running: Callable[[RunState], Iterable[tuple[int, float]]]
    """The positions of a run whose attempts are under way, each with since when (monotonic seconds)."""
    words: Callable[[RunState], Mapping[int, Progress]]
    """What these say of themselves."""
    learned: Callable[[CompiledWorkflow], Expectations]
    workers: Callable[[], int]
    capacities: Callable[[], Mapping[str, int]]
    named: Callable[[str], NamedResource | None]


@dataclass(slots=True)
class _Kept:
    """What is known of one run."""

    outlook: Outlook
    read_again_s: float
    pause_s: float
    estimate: RunEstimate | None = None
    look_again_s: float = 0.0
    told: tuple[int, int] | None = None


class LiveEstimates:
    """See the module."""

    def __init__(self, clock: Clock, machinery: Machinery) -> None:
        self._clock = clock
        self._machinery = machinery
        self._guard = RLock()
        self._kept: dict[int, _Kept] = {}

    def of(self, run: RunState) -> RunEstimate | None:
        """How far a live run is, as of a moment ago; None where too little is known, or it has ended."""
        with self._guard:
            if run.terminal:
                self._kept.pop(run.number, None)
                return None
            begun_s = self._clock.monotonic_s()
            kept = self._kept.get(run.number)
            if kept is None or begun_s >= kept.read_again_s:
                kept = self._kept[run.number] = self._read(run, kept, begun_s)
            if begun_s >= kept.look_again_s:
                kept.estimate = kept.outlook.estimate(self._standing(run, begun_s))
                ended_s = self._clock.monotonic_s()
                kept.look_again_s = ended_s + max(KEPT_S, _SHARE * (ended_s - begun_s))
            return kept.estimate

    def news(self, runs: Iterable[RunState]) -> Iterator[tuple[RunState, dict[str, Any]]]:
        """What handlers are to be told of live runs: where something a person would see has changed."""
        live = list(runs)
        with self._guard:
            for number in self._kept.keys() - {run.number for run in live}:
                del self._kept[number]
        for run in live:
            found = self.of(run)
            kept = self._kept.get(run.number)
            if found is None or kept is None:
                continue
            seen = (int(found.percent * 10), round(found.left_s))
            if seen != kept.told:
                kept.told = seen
                yield run, {"at_us": self._clock.now_us(), **found.to_dict()}

    def _read(self, run: RunState, kept: _Kept | None, begun_s: float) -> _Kept:
        ask = self._machinery
        names = {name for spec in run.workflow.specs for name, _amount in spec.request.named}
        room = Room(
            workers=ask.workers(),
            machine=ask.capacities(),
            named={name: found for name in names if (found := ask.named(name)) is not None},
            max_parallel=run.options.max_parallel or run.workflow.max_parallel,
        )
        outlook = Outlook(run.workflow, ask.learned(run.workflow), room)
        first_s, longest_s = _READ_AGAIN_S
        pause_s = first_s if kept is None else min(longest_s, 2 * kept.pause_s)
        now_s = self._clock.monotonic_s()
        return _Kept(
            outlook,
            read_again_s=now_s + max(pause_s, _SHARE * (now_s - begun_s)),
            pause_s=pause_s,
            told=None if kept is None else kept.told,
        )

    def _standing(self, run: RunState, now_s: float) -> Standing:
        groups = run.groups.copy()
        return Standing(
            states=bytes(run.state[: run.step_count]),
            items={
                step: Items(
                    size=group.size,
                    ended=group.size - group.open,
                    done=max(0, group.size - group.open - group.cancelled),
                )
                for step, group in groups.items()
            },
            under_way=[*self._attempts(run, now_s), *self._waits(run)],
            phase=run.phase,
            stopping=run.stopping is not None,
            elapsed_s=max(0, self._clock.now_us() - run.began_us) / 1_000_000 if run.began_us else 0.0,
        )

    def _attempts(self, run: RunState, now_s: float) -> Iterator[UnderWay]:
        words, now_us = self._machinery.words(run), self._clock.now_us()
        for position, since_s in self._machinery.running(run):
            word = words.get(position)
            percent = word.percent if word is not None else None
            yield UnderWay(
                step=run.step_of(position),
                elapsed_s=max(0.0, now_s - since_s),
                fraction=percent / 100.0 if percent is not None else None,
                told_s=max(0.0, (now_us - word.at_us) / 1_000_000) if word is not None else 0.0,
            )

    def _waits(self, run: RunState) -> Iterator[UnderWay]:
        """Sleeps, retries that are put off, and runs that were started."""
        now_us, children = self._clock.now_us(), 0
        for position, due_us in run.timers.copy().items():
            if position < 0 or run.blocked.get(position, BlockReason.TIMER) is not BlockReason.TIMER:
                continue  # the deadline of the run, or of a question
            step, left_s = run.step_of(position), max(0.0, (due_us - now_us) / 1_000_000)
            wait = run.workflow.waiting.get(step)
            if wait is None:
                yield UnderWay(step=step, elapsed_s=0.0, starts_in_s=left_s)
            else:
                elapsed_s = max(0.0, wait.sleep_s - left_s)
                yield UnderWay(step=step, elapsed_s=elapsed_s, rest=Expectation(left_s, left_s))
        for position, why in run.blocked.copy().items():
            if why is BlockReason.CHILD and children < _MOST_CHILDREN:
                children += 1
                name = child_id(run.id, run.name_of(position), run.attempts[position])
                child = self._machinery.find(name)
                found = self.of(child) if child is not None else None
                if found is not None:
                    yield child_under_way(run.step_of(position), found)
