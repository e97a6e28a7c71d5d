"""What a run's journal and its steps' side effects must never show, whatever was killed; and who is left.

The journal is what the engine says happened; the side-effect file is what did happen. `faults` holds one
against the other and lists every contradiction.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codomyrmex.logistics.orchestration.project.executors.process_tree import ENGINE_VARIABLE
from codomyrmex.logistics.orchestration.project.run_reader import RunReader
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase

ENDS = ("completed", "failed", "cancelled", "skipped")


@dataclass(frozen=True)
class Effect:
    """One line that a step appended: `begin`, `end` or `alive`, and whose."""

    word: str
    epoch: int
    task: str
    attempt: int


@contextmanager
def opened(state: Path) -> Iterator[tuple[SQLiteDatabase, RunReader]]:
    """The state as a client sees it."""
    database = SQLiteDatabase.open_existing(state / "state.db")
    try:
        yield database, RunReader(database, state)
    finally:
        database.close()


def read_effects(path: Path) -> list[Effect]:
    """The lines in the order in which they were written."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        word, token = line.split()
        epoch, _run, task, attempt = token.split(".")
        found.append(Effect(word, int(epoch), task, int(attempt)))
    return found


def repeats(effects: Iterable[Effect]) -> int:
    """How many attempts began for a task that had begun before."""
    begun = Counter(effect.task for effect in effects if effect.word == "begin")
    return sum(begun.values()) - len(begun)


def started_again(events: Iterable[Mapping[str, Any]]) -> int:
    """The same by the journal: attempts that were started beyond the first of each task."""
    started = Counter(event["task"] for event in events if event["event"] == "started")
    returned = sum(event["event"] == "returned" and event["details"][1] == "recalled" for event in events)
    return sum(started.values()) - len(started) - int(returned)


def journal_faults(events: Sequence[Mapping[str, Any]]) -> list[str]:
    """Contradictions of a journal with itself: a task that goes on after its end, or has two."""
    found, over = [], set()
    for event in events:
        task, kind = event["task"], event["event"]
        if task is None:
            continue
        if task in over:
            found.append(f"{task}: {kind} in entry {event['sequence']}, after its end was recorded")
        if kind in ENDS:
            over.add(task)
    return found


def effect_faults(
    effects: Sequence[Effect], events: Sequence[Mapping[str, Any]], parents: Mapping[str, Sequence[str]]
) -> list[str]:
    """Contradictions between what steps did and what the journal says of them."""
    found = []
    recorded = {
        event["task"]: event["details"][0]
        for event in events
        if event["event"] == "completed" and event["task"]
    }
    started = {(event["task"], event["details"][0]) for event in events if event["event"] == "started"}
    newest: dict[str, int] = defaultdict(int)
    ended: set[tuple[str, int]] = set()
    for effect in effects:
        task, attempt = effect.task, effect.attempt
        if attempt < newest[task]:
            found.append(f"{task}: attempt {attempt} {effect.word} after attempt {newest[task]} had begun")
        if effect.word == "end":
            ended.add((task, attempt))
        if effect.word != "begin":
            continue
        newest[task] = max(newest[task], attempt)
        if (task, attempt) not in started:
            found.append(f"{task}: attempt {attempt} began, and the journal has no start of it")
        if attempt > recorded.get(task, attempt):
            found.append(f"{task}: attempt {attempt} began after attempt {recorded[task]} was recorded")
        for parent in parents.get(task, ()):
            if (parent, recorded.get(parent, -1)) not in ended:
                found.append(f"{task} began before {parent}, on which it depends, had its recorded end")
    found += [
        f"{task}: recorded attempt {number} never ended"
        for task, number in recorded.items()
        if (task, number) not in ended
    ]
    return found


def left_over(tokens: Iterable[str]) -> list[str]:
    """The living processes that carry the token of one of these engines, as text."""
    wanted = {f"{ENGINE_VARIABLE}={token}".encode() for token in tokens}
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            environment = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
            if wanted.intersection(environment):
                command = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                found.append(f"{name}: {command}")
        except OSError:
            continue  # ended meanwhile, or somebody else's
    return found


def engine_tokens(database: SQLiteDatabase) -> list[str]:
    """The tokens of every engine that ever opened this state."""
    return [row[0] for row in database.query("SELECT token FROM engine")]
