"""Kills engines at what a workflow is to be killed at, and audits every run of the state afterwards.

A kill counts when the state says, after the death, that the aim held: a fan-out half done, a child run under way,
the phase of the compensation, an open question. It comes some time after the aim was seen first, and what people
answer is sent to the inbox by a client without an engine, before the kill or after it. The audit compares with
an undisturbed run, holds journals against themselves and against what the actions noted in a file.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from run_audit import Effect, effect_faults, engine_tokens, journal_faults, left_over

from codomyrmex.clock import SystemClock
from codomyrmex.exceptions import Conflict, StoreError
from codomyrmex.logistics.orchestration.project import approvals
from codomyrmex.logistics.orchestration.project.approvals import Answerer
from codomyrmex.logistics.orchestration.project.run_control import RunControl
from codomyrmex.logistics.orchestration.project.run_reader import RunReader
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase

SCRIPT = Path(__file__).with_name("engine_script.py")
RUN_LIMIT_S = 120.0
SOON_S = 0.03
"""Half of the kills come so soon after the aim was seen: at the very change that is aimed at."""
LIVE = "SELECT number, status FROM run WHERE parent IS NULL"
LIVE_STATUSES = ("pending", "running", "paused")
WAITING = "SELECT position FROM task WHERE run = 1 AND state = 'blocked' AND reason = 'signal'"
CHILDREN_TWICE = """
SELECT parent, parent_position, parent_attempt, count(*) FROM run WHERE parent IS NOT NULL
GROUP BY parent, parent_position, parent_attempt HAVING count(*) > 1
"""
PARENTS = "SELECT number, id, parent, parent_position, parent_attempt FROM run ORDER BY number"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """One run of a tree as it ended, without anything that another one of the same workflow may have otherwise."""

    status: str
    failed_step: str | None
    error: Any
    outputs: Any
    results: Mapping[str, Any]
    tasks: Mapping[str, str]


@dataclass
class Audit:
    """A whole state: every run by the path of tasks that leads to it, and what is wrong."""

    runs: dict[str, Ended] = field(default_factory=dict)
    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    views: dict[str, list[Any]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    tasks: int = 0
    repeats: int = 0
    kills: int = 0
    """Deaths at which the aim held."""
    other_kills: int = 0


@dataclass(kw_only=True)
class KindCourse:
    """One workflow on one fresh state. `aim` is a query that finds rows while the moment has come."""

    folder: Path
    file: Path
    chance: Random
    aim: str
    within_s: float
    """A kill comes at most so long after the aim was seen."""
    answers: Mapping[str, Any] = field(default_factory=dict)
    """What is said of each approval by its task (data, or True), and of each signal by its name."""
    _asked: set[str] = field(default_factory=set)
    _said: set[str] = field(default_factory=set)
    _faults: list[str] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def perform(self, kills: int) -> Audit:
        """Kills so many engines at the aim (fewer if the run ends first), then lets it end."""
        delivered = others = 0
        while delivered < kills:
            struck = self._strike(self._start())
            if struck is None:
                break
            delivered, others = delivered + struck, others + (not struck)
            self._check_survivors()
            if self.chance.random() < 0.5:
                self._answer_some(1)
        if self._status() in ("", *LIVE_STATUSES):
            self._finish(self._start())
        audit = self._audit()
        audit.kills, audit.other_kills = delivered, others
        return audit

    # -- engines ---------------------------------------------------------------------------------

    def _start(self) -> subprocess.Popen[bytes]:
        verb = "resume" if self._status() else "run"
        words = [str(SCRIPT), verb, str(self.state), str(self.folder), str(self.file)]
        with self._said_file.open("w") as output:
            return subprocess.Popen([sys.executable, *words], cwd=self.folder, stdout=output, stderr=output)

    @property
    def _said_file(self) -> Path:
        return self.folder / "engine.out"

    def _strike(self, engine: subprocess.Popen[bytes]) -> bool | None:
        """Waits for the moment and kills; whether the aim held at the death, None when the engine was faster."""
        at_start = self.chance.random() < 0.2  # also one that is still opening, or taking over
        limit_s = time.monotonic() + RUN_LIMIT_S
        with self._opened_soon(engine) as database:
            while engine.poll() is None and database is not None:
                if database.query(self.aim) and (at_start or "engine " in self._said_file.read_text()):
                    break
                time.sleep(0.002)
                if time.monotonic() >= limit_s:
                    engine.kill()
                    engine.wait()
                    raise AssertionError(f"the moment never came: {self._said_file.read_text()}")
        _pause(engine, self.chance.uniform(0.0, self.chance.choice((SOON_S, self.within_s))))
        if self.chance.random() < 0.5:
            self._answer_some(self.chance.randint(1, 2))
            _pause(engine, self.chance.choice((0.0, 0.002, 0.01, 0.05)))
        self._remember_questions()
        if engine.poll() is None:
            engine.kill()
        if engine.wait() != -signal.SIGKILL or self._status() not in LIVE_STATUSES:
            return None
        return bool(self._query(self.aim))

    def _finish(self, engine: subprocess.Popen[bytes]) -> None:
        limit_s = time.monotonic() + RUN_LIMIT_S
        while engine.poll() is None and time.monotonic() < limit_s:
            self._answer_some(2)
            _pause(engine, 0.02 if self.answers else 0.5)
        if engine.poll() is None:
            engine.kill()
            self._faults.append(f"the last engine did not end in {RUN_LIMIT_S:g} s: {self._explained()}")
        said = self._said_file.read_text()
        if engine.wait() not in (0, 1) or "Traceback" in said:
            self._faults.append(f"the last engine ended with {engine.returncode}: {said[-3000:]}")

    # -- people ----------------------------------------------------------------------------------

    def _answer_some(self, most: int) -> None:
        """Answers what is open, through the inbox; and then says the opposite, which must change nothing."""
        if not self.answers or not self._status():
            return
        database = SQLiteDatabase.open_existing(self.state / "state.db")
        try:
            reader = RunReader(database, self.state)
            control = RunControl(database, self.state, reader, now_us=SystemClock().now_us)
            run_id = reader.find("@last")
            questions = approvals.list_open(database)
            names = [self._name_of(reader, question) for question in questions]
            names = [name for name in names if name not in self._said]
            signals = [name for name in self.answers if name not in self._said and "signal:" in name]
            chosen = names + (signals if self.chance.random() < 0.5 or not names else [])
            for name in self.chance.sample(chosen, min(most, len(chosen))):
                self._say(control, run_id, name)
        except Conflict:
            pass  # the run has ended meanwhile
        finally:
            database.close()

    def _say(self, control: RunControl, run_id: str, name: str) -> None:
        given = self.answers[name]
        self._said.add(name)
        if name.startswith("signal:"):
            control.signal(run_id, name.removeprefix("signal:"), given)
            return
        data = None if given is True else given
        control.answer(run_id, name, data=data, who=Answerer(name="alice"))
        try:
            control.answer(run_id, name, approved=False, who=Answerer(name="bob"))
        except Conflict:
            pass  # the first answer was taken already

    def _name_of(self, reader: RunReader, question: approvals.Approval) -> str:
        for task in reader.tasks(question.run_id):
            if (
                task.module == "approval"
                and reader.place_of(question.run_id, task.name)[1] == question.position
            ):
                return task.name
        raise AssertionError(f"no task has the question {question}")

    def _remember_questions(self) -> None:
        if self.answers:
            self._asked |= {str(row[0]) for row in self._query("SELECT position FROM approval")}
            self._asked |= {f"signal {row[0]}" for row in self._query(WAITING)}

    def _check_survivors(self) -> None:
        """What was asked before a death is asked, or answered, after it."""
        there = {
            str(row[0])
            for row in self._query("SELECT position FROM approval WHERE status IN ('open', 'approved')")
        }
        there |= {f"signal {row[0]}" for row in self._query(WAITING)}
        there |= {
            f"signal {row[0]}" for row in self._query("SELECT position FROM task WHERE state = 'completed'")
        }
        self._faults += [f"{question} did not survive" for question in self._asked - there]

    # -- what the store says ---------------------------------------------------------------------

    @contextmanager
    def _opened_soon(self, engine: subprocess.Popen[bytes]) -> Iterator[SQLiteDatabase | None]:
        """The state as soon as it can be opened; None where the engine ended first."""
        database = None
        while database is None and engine.poll() is None:
            try:
                database = SQLiteDatabase.open_existing(self.state / "state.db")
            except StoreError:
                time.sleep(0.005)
        try:
            yield database
        finally:
            if database is not None:
                database.close()

    def _query(self, sql: str) -> list[Any]:
        try:
            database = SQLiteDatabase.open_existing(self.state / "state.db")
        except StoreError:
            return []
        try:
            return database.query(sql)
        finally:
            database.close()

    def _status(self) -> str:
        rows = self._query(LIVE)
        return str(rows[0][1]) if rows else ""

    def _explained(self) -> str:
        database = SQLiteDatabase.open_existing(self.state / "state.db")
        try:
            reader = RunReader(database, self.state)
            return " ".join(reader.explain(reader.find("@last")))[:2000]
        finally:
            database.close()

    def _audit(self) -> Audit:
        audit = Audit(faults=list(self._faults))
        database = SQLiteDatabase.open_existing(self.state / "state.db")
        try:
            tokens = engine_tokens(database)
            twice = database.query(CHILDREN_TWICE)
            audit.faults += [
                f"attempt {row[2]} of task {row[1]} of run {row[0]} started {row[3]} runs" for row in twice
            ]
            effects = read_noted(self.folder / "effects.txt")
            for path, run_id in _paths(database, RunReader(database, self.state)):
                _audit_run(audit, RunReader(database, self.state), path, run_id, effects.get(run_id, []))
            audit.faults += _approval_faults(database, audit.events[""])
        finally:
            database.close()
        audit.faults += [f"left over: {process}" for process in left_over(tokens)]
        return audit


# -- the audit -------------------------------------------------------------------------------------


def read_noted(file: Path) -> dict[str, list[Effect]]:
    """What actions noted, by run."""
    found: dict[str, list[Effect]] = defaultdict(list)
    for line in file.read_text().splitlines() if file.exists() else ():
        word, run_id, task, attempt = line.split()
        found[run_id].append(Effect(word, 0, task, int(attempt)))
    return found


def _paths(database: SQLiteDatabase, reader: RunReader) -> list[tuple[str, str]]:
    """Every run with the tasks and attempts that lead to it: the same in every run of a workflow."""
    paths: dict[int, tuple[str, str]] = {}
    names: dict[tuple[int, int], str] = {}
    for number, run_id, parent, position, attempt in database.query(PARENTS):
        if parent is None:
            paths[number] = ("", run_id)
            continue
        above, parent_id = paths[parent]
        if (parent, position) not in names:
            for task in reader.tasks(parent_id):
                names[parent, reader.place_of(parent_id, task.name)[1]] = task.name
        paths[number] = (f"{above}/{names[parent, position]}#{attempt}", run_id)
    return list(paths.values())


def _audit_run(audit: Audit, reader: RunReader, path: str, run_id: str, effects: list[Effect]) -> None:
    view, tasks, events = reader.run(run_id), reader.tasks(run_id), list(reader.events(run_id))
    audit.events[path], audit.views[path] = events, tasks
    audit.tasks += len(tasks)
    faults = journal_faults(events) + effect_faults(effects, _worked(events, effects), {})
    waiting = Counter((event["task"], event["details"][0]) for event in events if event["event"] == "waiting")
    faults += [f"{task}: opened {count} times" for (task, _number), count in waiting.items() if count > 1]
    audit.faults += [f"{path or 'root'}: {fault}" for fault in faults]
    begun = Counter(effect.task for effect in effects if effect.word == "begin")
    audit.repeats += sum(begun.values()) - len(begun)
    audit.runs[path] = Ended(
        status=view.status,
        failed_step=view.failed_step,
        error=_without_moments(view.error, run_id),
        outputs=_without_moments(view.outputs, run_id),
        results=_without_moments(dict(reader.results(run_id)), run_id),
        tasks={task.name: task.status for task in tasks},
    )


def _worked(events: list[dict[str, Any]], effects: list[Effect]) -> list[dict[str, Any]]:
    """The events of tasks that call an action: the others (groups, kinds) note nothing."""
    silent = {event["task"] for event in events if event["event"] in ("expanded", "waiting")}
    worked = {effect.task for effect in effects}
    worked |= {event["task"] for event in events if event["event"] == "started"}
    worked -= silent
    return [event for event in events if event["task"] in worked]


def _approval_faults(database: SQLiteDatabase, events: list[dict[str, Any]]) -> list[str]:
    said = Counter(event["task"] for event in events if event["event"] == "answered")
    found = [f"{task}: answered {count} times" for task, count in said.items() if count != 1]
    rows = database.query("SELECT position, status, answered_by FROM approval")
    found += [
        f"question {row[0]} is {row[1]} by {row[2]}" for row in rows if row[1:] != ("approved", "alice")
    ]
    if len(rows) != len(said):
        found.append(f"{len(rows)} questions, {len(said)} answers in the journal")
    return found


def _without_moments(value: Any, run_id: str) -> Any:
    """A value without the times of answers and the id of its run."""
    if isinstance(value, Mapping):
        moment = {"at"} if {"approved", "by", "at"} <= value.keys() else set()
        return {key: _without_moments(each, run_id) for key, each in value.items() if key not in moment}
    if isinstance(value, str):
        return value.replace(run_id, "RUN")
    if isinstance(value, Sequence):
        return [_without_moments(each, run_id) for each in value]
    return value


def _pause(engine: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        engine.wait(seconds)
    except subprocess.TimeoutExpired:
        pass
