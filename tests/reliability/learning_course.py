"""Kills engines that learn and whose attempts say how far they are, and holds what the store says against it.

The steps tell in each message who they are, so a word shown for another attempt than the one that said it is found.
Every run follows an order drawn by lot, which has to outlive its engines. While an engine lives the state is read as
a client reads it; after each death, and at the end of each run, all of it is audited.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from run_audit import engine_tokens, journal_faults, left_over

from codomyrmex.exceptions import StoreError
from codomyrmex.logistics.orchestration.project.run_reader import RunReader
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase
from codomyrmex.performance.profiles import KEPT, Profile, quantiles
from codomyrmex.performance.samples import WHATEVER_SIZE

SCRIPT = Path(__file__).with_name("engine_script.py")
NAME = "learning"
RUN_LIMIT_S = 60.0
SLOWEST_S = 5.0
"""So much longer than it works an attempt takes at most, on a busy machine."""
LIVE_STATUSES = ("pending", "running", "paused")
ITEMS = 5
SECONDS = {"fetch": 0.1, "sift": 0.4, "train": 1.3, "check": 0.2, "draw": 0.7, "each": 0.2, "tell": 0.05}
NEEDS = {
    "sift": ["fetch"],
    "train": ["fetch"],
    "check": ["sift"],
    "draw": ["fetch"],
    "tell": ["check", "each"],
}
ACTS = """
import time

from codomyrmex import current_task

def work(seconds, number=0):
    task = current_task()
    parts = max(1, round(seconds / 0.05))
    for part in range(parts):
        task.progress(part, parts, f"{task.task} {task.attempt}")
        time.sleep(seconds / parts)
    return {"value": round(seconds * 1000) + number}
"""
TOLD = "SELECT count(*) FROM task_progress"
STALE = """
SELECT run.id, said.position, said.attempt, task.attempt FROM task_progress AS said
JOIN run ON run.number = said.run JOIN task ON task.run = said.run AND task.position = said.position
WHERE run.epoch = ? AND said.attempt < task.attempt
"""
PROFILES = "SELECT subject, size_class, count, samples, median_s, p90_s FROM profile"


@dataclass
class Figures:
    """What a whole course came to."""

    runs: int = 0
    kills: int = 0
    at_words: int = 0
    """Kills while words of running attempts stood in the store."""
    looks: int = 0
    words: int = 0
    """How often a word was shown for a running attempt."""
    profiles: int = 0
    faults: list[str] = field(default_factory=list)


def write_project(folder: Path) -> Path:
    """The workflow and its action; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "acts.py").write_text(ACTS)
    steps: list[dict[str, Any]] = []
    for name, seconds in SECONDS.items():
        step: dict[str, Any] = {"name": name, "call": "./acts.py:work", "with": {"seconds": seconds}}
        if name == "each":
            step |= {"foreach": list(range(ITEMS)), "with": {"seconds": seconds, "number": "${item}"}}
        steps.append(step | ({"needs": NEEDS[name]} if name in NEEDS else {}))
    steps[3]["isolation"] = "thread"  # the words of all kinds of attempts come by different ways
    file = folder / "workflow.json"
    file.write_text(json.dumps({"codomyrmex": 1, "name": NAME, "steps": steps}))
    return file


def any_order(chance: Random) -> list[str]:
    """The tasks in an order that respects what they need, drawn by lot."""
    waiting = [name for name in SECONDS if name != "each"] + [f"each[{item}]" for item in range(ITEMS)]
    order: list[str] = []
    while waiting:
        ready = [name for name in waiting if not any(_stands_for(need, waiting) for need in _needs(name))]
        order.append(chance.choice(ready))
        waiting.remove(order[-1])
    return order


def _needs(task: str) -> list[str]:
    return NEEDS.get(task.partition("[")[0], [])


def _stands_for(step: str, tasks: Sequence[str]) -> bool:
    return any(task.partition("[")[0] == step for task in tasks)


@dataclass(kw_only=True)
class LearningCourse:
    """One state on which run after run is disturbed."""

    folder: Path
    file: Path
    chance: Random
    figures: Figures = field(default_factory=Figures)
    _order: list[str] = field(default_factory=list)
    _disturbed: set[int] = field(default_factory=set)
    """The numbers of the runs that lost an engine."""

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def perform(self, kills: int) -> Figures:
        """Kills so many engines whose run is unfinished; then lets that run end, and one more undisturbed."""
        while self.figures.kills < kills:
            self._strike(self._start())
        while self._live() is not None:
            self._watch(self._start(), until_s=RUN_LIMIT_S)
        self._watch(self._start(), until_s=RUN_LIMIT_S)
        self._audit_profiles(last=True)
        with closing(self._opened()) as database:
            self.figures.faults += [f"left over: {each}" for each in left_over(engine_tokens(database))]
        return self.figures

    # -- engines ---------------------------------------------------------------------------------

    def _start(self) -> subprocess.Popen[bytes]:
        verb = "run" if self._live() is None else "resume"
        if verb == "run":
            self._order = any_order(self.chance)
            self.figures.runs += 1
        by_command = verb == "resume" and self.chance.random() < 0.3
        if by_command:
            words = [
                "-m",
                "codomyrmex",
                verb,
                "--state",
                str(self.state),
                "--root",
                str(self.folder),
                "--json",
            ]
        else:
            words = [str(SCRIPT), verb, str(self.state), str(self.folder), str(self.file)]
        environment = {**os.environ, "FOLLOW": json.dumps(self._order)}
        with self._said.open("w") as output:
            return subprocess.Popen(
                [sys.executable, *words], cwd=self.folder, env=environment, stdout=output, stderr=output
            )

    @property
    def _said(self) -> Path:
        return self.folder / "engine.out"

    def _strike(self, engine: subprocess.Popen[bytes]) -> None:
        """Kills at a moment drawn by lot, half of them once attempts have said something that is stored."""
        if self.chance.random() < 0.5:
            self._watch(engine, until_s=self.chance.uniform(1.0, 4.0), until_told=True)
            _pause(engine, self.chance.uniform(0.0, 0.05))
        else:
            self._watch(engine, until_s=self.chance.uniform(0.2, 3.0))
        if engine.poll() is None:
            engine.kill()
        if engine.wait() != -signal.SIGKILL:
            return  # it was faster: `_watch` has audited its run
        live = self._live()
        if live is None:
            return
        self.figures.kills += 1
        self._disturbed.add(live)
        with closing(self._opened()) as database:
            self.figures.at_words += bool(database.query(TOLD)[0][0])
        self._audit_state()

    def _watch(self, engine: subprocess.Popen[bytes], *, until_s: float, until_told: bool = False) -> None:
        """Reads what an engine does until the moment has come, or it has ended."""
        limit_s = time.monotonic() + until_s
        told = False
        while engine.poll() is None and time.monotonic() < limit_s and not (until_told and told):
            told = self._look()
            _pause(engine, 0.02)
        if engine.poll() is None:
            if until_s >= RUN_LIMIT_S:
                engine.kill()
                engine.wait()
                self.figures.faults.append(f"an engine did not end in {until_s:g} s")
            return
        if engine.returncode:
            self.figures.faults.append(f"an engine ended with {engine.returncode}: {self._text()}")
        self._audit_end()
        self._audit_state()

    def _text(self) -> str:
        return self._said.read_text()[-3000:]

    # -- what the store says ---------------------------------------------------------------------

    def _opened(self) -> SQLiteDatabase:
        return SQLiteDatabase.open_existing(self.state / "state.db")

    def _live(self) -> int | None:
        """The number of the run that is unfinished."""
        try:
            with closing(self._opened()) as database:
                rows = database.query("SELECT number, status FROM run ORDER BY number DESC LIMIT 1")
        except StoreError:
            return None  # killed before there was a state
        return rows[0][0] if rows and rows[0][1] in LIVE_STATUSES else None

    def _look(self) -> bool:
        """What a client is shown now; True where attempts have said something that is stored."""
        try:
            database = self._opened()
        except StoreError:
            return False
        with closing(database):
            epochs = database.query("SELECT max(epoch) FROM engine WHERE ended_at IS NULL")
            for run, position, said, attempt in database.query(STALE, epochs[0]):
                self.figures.faults.append(
                    f"{run}: word of attempt {said} of {position}, which is at {attempt}"
                )
            reader = RunReader(database, self.state)
            for run in reader.runs(1000)[0]:
                if run.status in LIVE_STATUSES:
                    self._check_words(reader, run.execution_id)
            self.figures.looks += 1
            return bool(database.query(TOLD)[0][0])

    def _check_words(self, reader: RunReader, run_id: str) -> None:
        for task in reader.tasks(run_id):
            said = task.progress
            if said is None:
                continue
            self.figures.words += 1
            percent = said.percent
            if said.message != f"{task.name} {task.attempt}" or percent is None or not 0 <= percent <= 100:
                self.figures.faults.append(f"{run_id}: {task.name} at attempt {task.attempt} shows {said}")

    def _audit_state(self) -> None:
        with closing(self._opened()) as database:
            found = database.query("PRAGMA integrity_check")
        if [tuple(row) for row in found] != [("ok",)]:
            self.figures.faults.append(f"integrity_check: {found}")
        self._look()
        self._audit_profiles()

    def _audit_end(self) -> None:
        """An engine has ended by itself: its run is as it should be, and nothing of it is under way."""
        with closing(self._opened()) as database:
            reader = RunReader(database, self.state)
            run = reader.run(reader.find("@last"))
            events = list(reader.events(run.execution_id))
            values = {name: _values(result) for name, result in reader.results(run.execution_id).items()}
            told = database.query(TOLD)[0][0]
        faults = [f"{told} words are left of a run that has ended"] * bool(told) + journal_faults(events)
        if run.status != "completed":
            faults.append(f"{run.execution_id} is {run.status}: {run.error}; {self._text()}")
        elif values != {name: _right(name) for name in SECONDS}:
            faults.append(f"{run.execution_id} has other results: {values}")
        begun = dict.fromkeys(event["task"] for event in events if event["event"] == "started")
        wanted = self._order if run.status == "completed" else self._order[: len(begun)]
        if list(begun) != wanted:
            faults.append(f"{run.execution_id} was to begin {wanted}, and began {list(begun)}")
        self.figures.faults += faults

    def _audit_profiles(self, *, last: bool = False) -> None:
        with closing(self._opened()) as database:
            rows = list(database.query(PROFILES))
            reader = RunReader(database, self.state)
            ended: Counter[str] = Counter()
            for run in reader.runs(1000)[0]:
                for event in reader.events(run.execution_id):
                    ended[str(event["task"]).partition("[")[0]] += event["event"] == "completed"
        self.figures.profiles = len(rows)
        ended["each"] -= sum(1 for _ in self._whole_fan_outs())
        subjects = set()
        for subject, size, count, samples, median_s, p90_s in rows:
            profile = Profile.from_row(subject, size, count, samples)
            took = quantiles(profile.duration_s)
            if took is not None and (took.median, took.p90) != (median_s, p90_s):
                self.figures.faults.append(
                    f"{subject}: {median_s} {p90_s} is not what follows from {samples}"
                )
            self.figures.faults += list(self._profile_faults(profile, ended))
            subjects.add(subject)
        missing = {f"step:{NAME}/{step}" for step in SECONDS} | {f"run:{NAME}"} if last else set()
        self.figures.faults += [f"nothing was learned of {subject}" for subject in missing - subjects]

    def _whole_fan_outs(self) -> Iterator[int]:
        """Each fan-out that has ended: the step's own end is told beside those of its items."""
        with closing(self._opened()) as database:
            reader = RunReader(database, self.state)
            for run in reader.runs(1000)[0]:
                for event in reader.events(run.execution_id):
                    if event["event"] == "completed" and event["task"] == "each":
                        yield event["sequence"]

    def _profile_faults(self, profile: Profile, ended: Counter[str]) -> Iterator[str]:
        """What cannot be: more than was done, shorter than it works, a whole run that lost its engine."""
        kind, _, name = profile.subject.partition(":")
        known = [seconds for seconds in profile.duration_s if seconds is not None]
        least_s, most_s, done = min(SECONDS.values()), max(SECONDS.values()), sum(ended.values())
        if kind == "step":
            step = name.partition("/")[2]
            least_s = most_s = SECONDS[step]
            done = ended[step]
        elif kind == "run":
            least_s, most_s, done = most_s, sum(SECONDS.values()) + ITEMS, self.figures.runs
            if self._disturbed & set(profile.runs):
                yield f"{profile.subject} has runs that lost an engine: {profile.runs}"
        if not len(known) == len(profile.runs) <= KEPT or profile.size_class < WHATEVER_SIZE:
            yield f"{profile.subject}: {len(known)} durations, {len(profile.runs)} runs"
        if not len(known) <= max(profile.count, 0) <= done:
            yield f"{profile.subject}: {profile.count} counted of {done}, {len(known)} kept"
        if known and not (least_s * 0.99 <= min(known) and max(known) <= most_s + SLOWEST_S):
            yield f"{profile.subject}: {min(known)} to {max(known)} s, and it works {least_s} to {most_s} s"


def _values(result: Any) -> Any:
    return result["value"] if isinstance(result, Mapping) else [each["value"] for each in result]


def _right(step: str) -> Any:
    value = round(SECONDS[step] * 1000)
    return [value + item for item in range(ITEMS)] if step == "each" else value


def _pause(engine: subprocess.Popen[bytes], seconds: float) -> None:
    """Waits, but not longer than the engine lives."""
    try:
        engine.wait(seconds)
    except subprocess.TimeoutExpired:
        pass
