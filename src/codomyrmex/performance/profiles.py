"""What work took: the newest samples of each subject and what follows from them, kept in the table `profile`.

Layer: above storage, knows nothing of runs but their numbers. A *subject* is a text: `step:WORKFLOW/STEP` is
one step of one workflow, `action:MODULE.ACTION` whatever calls that action, `run:WORKFLOW` a whole run. An
action has a row for each size class of its parameters too.

A row keeps the newest 64 samples, at most 32 of one run, so that one large run does not drown all others. What
a run adds replaces what it added before: to store the same twice changes nothing but the count. Rows are read
before the write lock is taken: where two engines learn of one subject in the same moment, the later one wins,
and the samples of the other are lost. Nothing but the quality of a forecast hangs on them.

Every engine imports this on its way, so classes are written out: to have them made costs a millisecond.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from codomyrmex.logistics.storage.database import Database, Row
from codomyrmex.performance.samples import WHATEVER_SIZE, quantile

KEPT = 64
"""Samples of a subject."""
ROWS_AT_MOST = 20_000
ROWS_AFTER_PRUNING = 19_000
WRITTEN_AT_ONCE = 250
"""More rows are written by further transactions, so that none holds the write lock for long."""

FIND = "SELECT count, samples FROM profile WHERE subject = ? AND size_class = ?"
FIND_ALL = """
SELECT subject, size_class, count, samples FROM profile WHERE subject IN (SELECT value FROM json_each(?))
"""
PUT = """
INSERT INTO profile (subject, size_class, count, samples, median_s, p90_s, updated_at)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (subject, size_class) DO UPDATE SET count = excluded.count, samples = excluded.samples,
    median_s = excluded.median_s, p90_s = excluded.p90_s, updated_at = excluded.updated_at
"""
COUNT_ROWS = "SELECT count(*) FROM profile"
PRUNE = """
DELETE FROM profile WHERE (subject, size_class) IN
    (SELECT subject, size_class FROM profile ORDER BY updated_at LIMIT ?)
"""
# The samples of a fan-out begin with its numbers of items; those of all others need not be read.
_SUMMARY = """
SELECT subject, size_class, count, median_s, p90_s,
    CASE WHEN substr(samples, 1, 8) = '{"items"' THEN samples END
FROM profile
"""
SUMMARIES_BETWEEN = f"{_SUMMARY} WHERE subject >= ? AND subject < ?"
SUMMARIES_OF = f"{_SUMMARY} WHERE subject = ?"


def step_subject(workflow: str, step: str) -> str:
    """The subject of one step of one workflow."""
    return f"step:{workflow}/{step}"


def action_subject(action: str) -> str:
    """The subject of an action, `module.action`."""
    return f"action:{action}"


def run_subject(workflow: str) -> str:
    """The subject of whole runs of a workflow."""
    return f"run:{workflow}"


Sample = tuple[float | None, float | None, int | None]
"""What one attempt, or one run, took: seconds, seconds of CPU, and the bytes of its peak, or of the limit that it
ran into; None for what is not known."""


class Quantiles(NamedTuple):
    """Half of the samples are no larger than `median`, nine in ten no larger than `p90`."""

    median: float
    p90: float


class Profile:
    """One row: the samples of a subject, oldest first, columns of the same length."""

    __slots__ = ("count", "cpu_s", "duration_s", "items", "memory_bytes", "runs", "size_class", "subject")

    def __init__(self, subject: str, size_class: int = WHATEVER_SIZE) -> None:
        self.subject = subject
        self.size_class = size_class
        self.count = 0
        """How many were ever seen, kept or not."""
        self.duration_s: list[float | None] = []
        self.cpu_s: list[float | None] = []
        self.memory_bytes: list[int | None] = []
        self.runs: list[int] = []
        """The number of the run that each is of; 0 where runs are not told apart."""
        self.items: list[int] = []
        """Of a fan-out, how many items it had, run by run; no column beside the others."""

    @property
    def durations(self) -> Quantiles | None:
        """In seconds."""
        return quantiles(self.duration_s)

    @property
    def cpu(self) -> Quantiles | None:
        """CPU time in seconds, of all its processes."""
        return quantiles(self.cpu_s)

    @property
    def memory(self) -> Quantiles | None:
        """Peak memory in bytes."""
        return quantiles(self.memory_bytes)

    def add(self, addition: Addition) -> None:
        """Takes in what a run adds, in place of what it added before; the oldest samples go."""
        if addition.run and addition.samples and addition.run in self.runs:
            stays = [at for at, run in enumerate(self.runs) if run != addition.run]
            for column in self._columns():
                column[:] = [column[at] for at in stays]
        for duration_s, cpu_s, memory_bytes in addition.samples:
            self.duration_s.append(_rounded(duration_s))
            self.cpu_s.append(_rounded(cpu_s))
            self.memory_bytes.append(memory_bytes)
            self.runs.append(addition.run)
        for column in self._columns():
            del column[:-KEPT]
        self.items = [*self.items, *addition.items][-KEPT:]
        self.count += addition.more

    def _columns(self) -> tuple[list[Any], ...]:
        return self.duration_s, self.cpu_s, self.memory_bytes, self.runs

    def to_row(self, now_us: int) -> Row:
        """A row for `PUT`."""
        columns: dict[str, Any] = {"items": self.items} if self.items else {}  # first: see `_SUMMARY`
        columns["duration_s"] = self.duration_s
        for name, column in (("cpu_s", self.cpu_s), ("memory_bytes", self.memory_bytes)):
            if any(value is not None for value in column):
                columns[name] = column
        if any(self.runs):
            columns["runs"] = self.runs
        took = self.durations or NOT_KNOWN
        samples = msgspec.json.encode(columns).decode()
        return (self.subject, self.size_class, self.count, samples, took.median, took.p90, now_us)

    @classmethod
    def from_row(cls, subject: str, size_class: int, count: int, samples: str) -> Profile:
        """The reverse of `to_row`."""
        profile = cls(subject, size_class)
        found: dict[str, Any] = msgspec.json.decode(samples)
        profile.count = count
        profile.duration_s = found["duration_s"]
        size = len(profile.duration_s)
        profile.cpu_s = found.get("cpu_s") or [None] * size
        profile.memory_bytes = found.get("memory_bytes") or [None] * size
        profile.runs = found.get("runs") or [0] * size
        profile.items = found.get("items", [])
        return profile


class Addition:
    """What a run, by its number, adds to a subject: so many attempts `more`, and of all it had so far these samples.

    With run 0 the samples come on top of what there is.
    """

    __slots__ = ("items", "more", "run", "samples", "size_class", "subject")

    def __init__(
        self,
        subject: str,
        size_class: int,
        *,
        run: int,
        more: int = 0,
        samples: Sequence[Sample] = (),
        items: Sequence[int] = (),
    ) -> None:
        self.subject = subject
        self.size_class = size_class
        self.run = run
        self.more = more
        self.samples = samples
        self.items = items


class Summary:
    """What is asked of a row most: its durations in seconds, if any are known, and its numbers of items."""

    __slots__ = ("count", "durations", "items", "size_class", "subject")

    def __init__(self, row: Row) -> None:
        self.subject: str
        self.size_class: int
        self.count: int
        self.subject, self.size_class, self.count, median_s, p90_s, samples = row
        self.durations = Quantiles(median_s, p90_s) if median_s >= 0 else None
        self.items: list[int] = msgspec.json.decode(samples)["items"] if samples is not None else []


NOT_KNOWN = Quantiles(-1.0, -1.0)
"""What the columns hold of a subject of which no duration is known."""


def quantiles(values: Iterable[float | None]) -> Quantiles | None:
    """Of the values that are known; None where none is."""
    ordered = sorted(value for value in values if value is not None)
    return Quantiles(quantile(ordered, 0.5), quantile(ordered, 0.9)) if ordered else None


def _rounded(seconds: float | None) -> float | None:
    """To a microsecond: it is stored as text."""
    return None if seconds is None else round(seconds, 6)


def find(database: Database, subject: str, size_class: int = WHATEVER_SIZE) -> Profile | None:
    """All that is known of a subject."""
    rows = database.query(FIND, (subject, size_class))
    return Profile.from_row(subject, size_class, *rows[0]) if rows else None


def summaries(database: Database, subject: str) -> list[Summary]:
    """Of a subject, one for each size class."""
    return [Summary(row) for row in database.query(SUMMARIES_OF, (subject,))]


def summaries_below(database: Database, prefix: str) -> list[Summary]:
    """Of all subjects that begin with `prefix`, which ends with an ASCII character."""
    after = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    return [Summary(row) for row in database.query(SUMMARIES_BETWEEN, (prefix, after))]


def add(database: Database, additions: Iterable[Addition], *, now_us: int) -> int:
    """Stores what was learned, in transactions of a few hundred rows; returns how many rows are new.

    Raises `StoreError`; what was stored until then stays, and to store it again does no harm.
    """
    waiting = iter(additions)
    new = 0
    while some := list(islice(waiting, WRITTEN_AT_ONCE)):
        profiles = _known(database, {each.subject for each in some})
        changed: dict[tuple[str, int], Profile] = {}
        for each in some:
            key = (each.subject, each.size_class)
            profile = profiles.get(key)
            if profile is None:
                profile = profiles[key] = Profile(*key)
                new += 1
            profile.add(each)
            changed[key] = profile
        with database.transaction() as tx:
            tx.execute_many(PUT, [profile.to_row(now_us) for profile in changed.values()])
    return new


def _known(database: Database, subjects: Collection[str]) -> dict[tuple[str, int], Profile]:
    """All that is known of some subjects, in one statement."""
    rows = database.query(FIND_ALL, (msgspec.json.encode(list(subjects)).decode(),))
    return {(row[0], row[1]): Profile.from_row(*row) for row in rows}


def count_rows(database: Database) -> int:
    """How many subjects are known, each size class counted."""
    return int(database.query(COUNT_ROWS)[0][0])


def prune(database: Database) -> int:
    """Removes the rows that were not added to for longest where there are too many; returns how many are left."""
    count = count_rows(database)
    if count <= ROWS_AT_MOST:
        return count
    with database.transaction() as tx:
        tx.execute(PRUNE, (count - ROWS_AFTER_PRUNING,))
    return ROWS_AFTER_PRUNING
