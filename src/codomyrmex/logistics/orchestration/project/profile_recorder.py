"""What an engine learns of durations and needs while it works, and when that is stored.

Layer: the engine's shell, below the drain. `note` is told of every outcome that was committed and only counts
and keeps a few (`Decimated`); `flush` stores what is new, at the timekeeper's pace, at a run's end and at the
engine's. Nothing hangs on it: a flush that fails is tried again, and a crash loses seconds of learning.

Only what completed teaches how long something takes; what ran out of memory teaches that it needs more than
it had. A large workflow keeps no rows for its steps, and a task submitted alone none but those of its action:
the store is to hold what will be asked for again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from threading import Lock
from typing import TypeVar

from codomyrmex.clock import Clock
from codomyrmex.exceptions import StoreError
from codomyrmex.logistics.orchestration.project.executors.attempt import Outcome, OutcomeKind
from codomyrmex.logistics.orchestration.project.run_state import COMPLETED, RunState
from codomyrmex.logistics.orchestration.project.states import WorkflowStatus
from codomyrmex.logistics.orchestration.project.telling_actions import telling_action
from codomyrmex.logistics.storage.database import Database
from codomyrmex.performance import profiles
from codomyrmex.performance.profiles import Addition, Sample
from codomyrmex.performance.samples import (
    AT_ONCE_S,
    KEPT_OF_ONE_RUN,
    LARGE,
    WHATEVER_SIZE,
    Decimated,
    size_class,
)

STEPS_AT_MOST = 2000
"""Of a larger workflow nothing is kept by step, only by action."""
UNSTORED_AT_MOST = 1000
"""Runs that ended and whose flush fails; of more, the oldest are forgotten."""
LACKING_KEPT = 4
"""So many attempts at most of one step in one run that ran out of memory."""
TASK_LABEL = "codomyrmex.task"
"""The label of a run that is a task submitted alone (see `task_runs`)."""
_COMPLETED = OutcomeKind.COMPLETED
T = TypeVar("T")

RUN_TIMES = """
SELECT started_at, ended_at FROM run WHERE number = ? AND status = 'completed' AND started_at IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM event WHERE event.run = run.number AND event.body LIKE '%"run_paused"%')
"""
"""How long somebody kept a run paused says nothing of the next."""

_Taken = tuple[Sample, int]
"""One attempt that counts, with the size of its parameters."""


class _Noted(Decimated[_Taken]):
    """The attempts of one step, or of one spec where steps are too many."""

    __slots__ = ("action", "lacked", "lacking", "more", "step", "stored")

    def __init__(self, step: str, action: str) -> None:
        super().__init__()
        self.step = step
        """Its name, or empty where nothing is kept by step."""
        self.action = action
        """`module.action`, or empty where that says nothing."""
        self.lacking: list[_Taken] = []
        """The newest of those that ran out of memory, which have no place among those that completed:"""
        self.lacked = 0
        """so many there were."""
        self.stored = 0
        """What `seen` was when it was last stored."""
        self.more = 0
        """How many came since, as the flush under way found it."""

    @property
    def seen(self) -> int:
        """How many were counted, whatever became of them."""
        return self.count + self.lacked

    @property
    def taken(self) -> list[_Taken]:
        """All that is kept."""
        return [*self.lacking, *self.values]

    def lack(self, taken: _Taken) -> None:
        """One has run out of memory."""
        self.lacked += 1
        self.lacking.append(taken)
        del self.lacking[:-LACKING_KEPT]


class _RunNotes:
    """What is noted of one run; number 0: of all tasks submitted alone, together."""

    __slots__ = ("by_step", "items", "key_of", "large", "noted", "number", "whole", "workflow")

    def __init__(self, run: RunState | None) -> None:
        self.number = 0 if run is None else run.number
        self.workflow = "" if run is None else run.workflow.name
        self.by_step = run is not None and len(run.workflow) <= STEPS_AT_MOST
        self.large = self.by_step and run is not None and len(run.workflow) > LARGE
        """True where steps that are over at once are noted by their spec."""
        self.key_of: Sequence[int] = ()
        """Per step, where it stands in `noted`; below 0 stand those that are noted by their spec instead."""
        if run is not None:
            self.key_of = range(len(run.workflow)) if self.by_step else run.workflow.spec_of
        self.noted: dict[int | str, _Noted] = {}
        self.whole = False
        """True once the run has completed and all of it was done and seen here."""
        self.items: list[tuple[str, int]] = []
        """Once it has ended, its fan-outs and their sizes."""


class ProfileRecorder:
    """See the module. `note` and `ended` are called by one thread at a time, `flush` by any."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._runs: dict[int, _RunNotes] = {}
        self._tasks = _RunNotes(None)
        self._changed: dict[_RunNotes, None] = {}
        """Those of which more was kept since they were stored."""
        self._ended: dict[_RunNotes, None] = {}
        """Those of runs that have ended."""
        self._asked = False
        self._rows: int | None = None
        """How many rows there are, as far as this engine knows."""
        self._lock = Lock()
        """Held for moments: it guards what `note` changes when it keeps something."""
        self._flushing = Lock()

    # -- noting ----------------------------------------------------------------------------------

    def note(self, run: RunState, step: int, outcome: Outcome) -> None:
        """An attempt of a step has ended, and that is committed."""
        if outcome.kind is _COMPLETED:
            if outcome.cached:
                return
        elif outcome.kind is not OutcomeKind.OUT_OF_MEMORY or outcome.memory_bytes is None:
            return
        notes = self._runs.get(run.number)
        if notes is None:
            notes = self._begin(run)
            if not notes.number:
                self._count(notes, telling_action(run.workflow.spec(step)), run, step, outcome)
                return
        key = notes.key_of[step]
        if notes.large and outcome.duration_s < AT_ONCE_S:
            key = -1 - run.workflow.spec_of[step]
        noted = notes.noted.get(key)
        if noted is None or outcome.kind is not _COMPLETED:
            self._count(notes, key, run, step, outcome)
            return
        noted.count = count = noted.count + 1  # as `Decimated.come`, without the cost of a call
        if count >= noted.due:
            self._keep(notes, noted, outcome)

    def _begin(self, run: RunState) -> _RunNotes:
        if _is_task(run):
            return self._tasks
        notes = self._runs[run.number] = _RunNotes(run)
        return notes

    def _count(self, notes: _RunNotes, key: int | str, run: RunState, step: int, outcome: Outcome) -> None:
        """`note` where it may be the first of its kind, or did not complete."""
        noted = notes.noted.get(key)
        if noted is None:
            named = notes.by_step and (isinstance(key, str) or key >= 0)
            name = run.workflow.names[step] if named else ""
            noted = _Noted(name, telling_action(run.workflow.spec(step)))
            with self._lock:
                notes.noted[key] = noted
        if outcome.kind is not _COMPLETED:
            with self._lock:
                noted.lack(((None, None, outcome.memory_bytes), outcome.parameters_bytes))
                self._changed[notes] = None
        elif noted.come():
            self._keep(notes, noted, outcome)

    def _keep(self, notes: _RunNotes, noted: _Noted, outcome: Outcome) -> None:
        sample = outcome.duration_s, outcome.cpu_s, outcome.memory_bytes
        with self._lock:
            noted.keep((sample, outcome.parameters_bytes))
            self._changed[notes] = None

    def ended(self, run: RunState) -> bool:
        """A run is terminal, or goes on without this engine; true where a flush should be made soon."""
        notes = self._runs.pop(run.number, None)
        if notes is None:  # nothing of it needed a slot, or it is a task
            if _is_task(run):
                return False
            notes = _RunNotes(run)
        notes.whole = _is_whole(run, notes)
        names = run.workflow.names
        notes.items = [
            (names[step], group.size)
            for step, group in run.groups.items()
            if notes.by_step and (notes.whole or step in notes.noted)
        ]
        notes.key_of = ()
        if not (notes.whole or notes.noted or notes.items):
            return False
        with self._lock:
            self._changed.pop(notes, None)
            self._ended[notes] = None
            while len(self._ended) > UNSTORED_AT_MOST:
                del self._ended[next(iter(self._ended))]
        if run.parent is not None or self._asked:
            return False  # it is stored with the run at the top, or by the flush that was asked for already
        self._asked = True
        return True

    # -- storing ---------------------------------------------------------------------------------

    @property
    def has_news(self) -> bool:
        """True where a flush would store something."""
        return bool(self._changed or self._ended)

    def flush(self, database: Database) -> bool:
        """Stores what is new, in small transactions; False where that failed and is to be tried again."""
        with self._flushing:
            self._asked = False
            with self._lock:
                ended, self._ended = self._ended, {}
                changed, self._changed = self._changed, {}
                if self._tasks in changed:
                    self._tasks = _RunNotes(None)
                taken = [*ended, *changed]
                marks = [_mark(noted) for notes in taken for noted in notes.noted.values()]
                additions = [each for notes in taken for each in _additions(notes)]
            try:
                self._store(database, chain(additions, *(_of_run(database, notes) for notes in ended)))
            except StoreError:
                with self._lock:
                    self._ended = {**ended, **self._ended}
                    self._changed = {**changed, **self._changed}
                    for notes in self._ended:
                        self._changed.pop(notes, None)  # it has ended meanwhile
                return False
            for noted, count in marks:
                noted.stored = count
            return True

    def _store(self, database: Database, additions: Iterator[Addition]) -> None:
        new = profiles.add(database, additions, now_us=self._clock.now_us())
        if new and self._rows is not None:
            self._rows += new
        if new and (self._rows is None or self._rows > profiles.ROWS_AT_MOST):
            self._rows = profiles.prune(database)


def _mark(noted: _Noted) -> tuple[_Noted, int]:
    """What is to be taken as stored once it is; `note` goes on counting meanwhile."""
    seen = noted.seen
    noted.more = seen - noted.stored
    return noted, seen


def _additions(notes: _RunNotes) -> Iterator[Addition]:
    """What is new of a run: the samples of its steps, and those of its actions, by size and whatever their size."""
    by_action: dict[str, list[_Noted]] = {}
    for noted in notes.noted.values():
        if noted.action:
            by_action.setdefault(noted.action, []).append(noted)
        if noted.step and noted.more:
            subject = profiles.step_subject(notes.workflow, noted.step)
            samples = [sample for sample, _ in noted.taken]
            yield Addition(subject, WHATEVER_SIZE, run=notes.number, more=noted.more, samples=samples)
    for action, each in by_action.items():
        if any(noted.more for noted in each):
            yield from _of_action(notes.number, action, each)


def _of_action(number: int, action: str, noted: list[_Noted]) -> Iterator[Addition]:
    subject = profiles.action_subject(action)
    taken = list(chain.from_iterable(each.taken for each in noted))
    if not taken:
        return  # the first has just been counted, and is kept in a moment
    more = sum(each.more for each in noted)
    by_size: dict[int, list[Sample]] = {WHATEVER_SIZE: [sample for sample, _ in taken]}
    for sample, size_bytes in taken:
        by_size.setdefault(size_class(size_bytes), []).append(sample)
    for size, samples in by_size.items():
        share = round(more * len(samples) / len(taken))
        yield Addition(subject, size, run=number, more=share, samples=_spread(samples))


def _of_run(database: Database, notes: _RunNotes) -> Iterator[Addition]:
    """What is known of a run only at its end: the sizes of its fan-outs, and how long all of it took."""
    for step, size in notes.items:
        subject = profiles.step_subject(notes.workflow, step)
        yield Addition(subject, WHATEVER_SIZE, run=notes.number, items=[size])
    for started_us, ended_us in database.query(RUN_TIMES, (notes.number,)) if notes.whole else ():
        subject = profiles.run_subject(notes.workflow)
        took_s = max(0, ended_us - started_us) / 1e6
        yield Addition(subject, WHATEVER_SIZE, run=notes.number, more=1, samples=[(took_s, None, None)])


def _is_task(run: RunState) -> bool:
    return TASK_LABEL in run.workflow.document.get("labels", ())


def _is_whole(run: RunState, notes: _RunNotes) -> bool:
    """Whether a run completed and each result of it was made by it, in this engine.

    One that took results from a cache, from an earlier run or from a dead engine does not tell how long it takes.
    """
    if run.status is not WorkflowStatus.COMPLETED:
        return False
    made = run.counts[COMPLETED]
    for step, group in run.groups.items():
        made -= run.state[step] == COMPLETED
        if step in run.workflow.waiting:
            made -= run.state.count(COMPLETED, group.first, group.first + group.size)
    for step in run.workflow.waiting:
        made -= step not in run.groups and run.state[step] == COMPLETED
    return made == sum(noted.count for noted in notes.noted.values())


def _spread(values: list[T]) -> list[T]:
    """At most as many as one run may add to a subject, from the whole length of the list."""
    size = len(values)
    if size <= KEPT_OF_ONE_RUN:
        return values
    return [values[at * size // KEPT_OF_ONE_RUN] for at in range(KEPT_OF_ONE_RUN)]
