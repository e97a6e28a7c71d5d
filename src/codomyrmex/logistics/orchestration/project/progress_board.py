"""What the attempts of an engine say of how far they are: the newest word of each.

Layer: the engine's shell, below the orchestrator. `note` is called in whatever thread looks after an attempt and
only writes into a dictionary. `flush` is called by the timekeeper, once a second: it writes what is new in one
transaction, tells handlers, and drops what attempts said that have ended. What an attempt says is no part of the
run's history: it stands in no journal, and nothing depends on it.

Where the store refuses, nothing is lost but a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

from codomyrmex.clock import Clock
from codomyrmex.exceptions import StoreError
from codomyrmex.logging_monitoring import get_logger
from codomyrmex.logistics.orchestration.project import progress_store
from codomyrmex.logistics.orchestration.project.progress_store import ProgressRow
from codomyrmex.logistics.orchestration.project.run_state import RUNNING, RunState
from codomyrmex.logistics.orchestration.project.task_progress import Progress, read_note
from codomyrmex.logistics.storage.database import Database

TASK_PROGRESS = "task_progress"
"""The event that tells handlers of it."""

Place = tuple[int, int]
"""Run number and position."""
Tell = Callable[[RunState, str, dict[str, Any]], None]
"""Called with a run, the kind of an event, and its data."""

logger = get_logger(__name__)


@dataclass(slots=True)
class _Word:
    """What one attempt said last."""

    run: RunState
    position: int
    attempt: int
    progress: Progress

    @property
    def counts(self) -> bool:
        """Whether that attempt is still under way."""
        return self.run.state[self.position] == RUNNING and self.run.attempts[self.position] == self.attempt


class ProgressBoard:
    """See the module; `find` knows the runs that are live here by their ids, `tell` brings events to handlers."""

    def __init__(
        self, database: Database, clock: Clock, *, find: Callable[[str], RunState | None], tell: Tell
    ) -> None:
        self._database = database
        self._clock = clock
        self._find = find
        self._tell = tell
        self._guard = Lock()
        self._words: dict[Place, _Word] = {}
        self._new: set[Place] = set()
        self._stored: set[Place] = set()
        """What has a row, or may have one."""

    def note(self, token: str, note: Mapping[str, Any]) -> None:
        """Takes a word of the attempt `token`; one that is no number, or of nobody known, is not listened to."""
        _epoch, run_id, rest = token.split(".", 2)
        name, _dot, number = rest.rpartition(".")
        run = self._find(run_id)
        progress = read_note(note, at_us=self._clock.now_us())
        position = run.position_of(name) if run is not None else None
        if run is None or position is None or progress is None:
            return
        place = (run.number, position)
        with self._guard:
            self._words[place] = _Word(run, position, int(number), progress)
            self._new.add(place)

    def of_run(self, run: RunState) -> dict[int, Progress]:
        """What the attempts of a run that are under way said last, by position."""
        with self._guard:
            words = [word for word in self._words.values() if word.run is run]
        return {word.position: word.progress for word in words if word.counts}

    def flush(self) -> None:
        """Stores what is new and tells handlers of it; forgets what has ended. Repeatable whenever it fails."""
        with self._guard:
            words = dict(self._words)
            new, self._new = self._new, set()
        said = [words[place] for place in new if place in words and words[place].counts]
        ended = {place: word for place, word in words.items() if not word.counts}
        if not self._write(said, list(self._stored & ended.keys())):
            with self._guard:
                self._new |= new
            return
        for word in said:
            about = {"at_us": word.progress.at_us, "task": word.run.name_of(word.position)}
            self._tell(word.run, TASK_PROGRESS, about | word.progress.to_dict())
        with self._guard:
            for place, word in ended.items():
                if self._words.get(place) is word:
                    del self._words[place]

    def close(self) -> None:
        """Removes every row that there is: no attempt of this engine is under way any more."""
        self._write([], list(self._stored))

    def _write(self, said: list[_Word], gone: list[Place]) -> bool:
        if not said and not gone:
            return True
        rows = [ProgressRow(word.run.number, word.position, word.attempt, word.progress) for word in said]
        self._stored.update((row.run, row.position) for row in rows)
        try:
            with self._database.transaction() as tx:
                progress_store.put(tx, rows)
                progress_store.remove(tx, gone)
        except StoreError as error:
            logger.debug("progress was not stored: %s", error)
            return False
        self._stored.difference_update(gone)
        return True
