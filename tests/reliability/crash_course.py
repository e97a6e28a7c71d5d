"""Runs a workflow with an engine that is killed again and again, and then to its end.

Each engine is a process of its own, a program that opens `OrchestrationEngine` or the command line, drawn by
lot. The moment of each kill is drawn too: so many results recorded, or so much time after the start (which
also hits the start itself, and the recovery). What dies is the engine, or its workers' supervisors or
runners first and the engine a moment later.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from run_audit import engine_tokens, journal_faults, left_over, opened, started_again

from codomyrmex.exceptions import StoreError
from codomyrmex.logistics.orchestration.project.executors.worker.tree import parents
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase

SCRIPT = Path(__file__).with_name("engine_script.py")
RUN_LIMIT_S = 120.0
START_S = 0.3
"""About how long a process takes until its engine is open."""
FINISHED = "SELECT count(*) FROM task WHERE state = 'completed'"


@dataclass
class Outcome:
    """One run: how it was disturbed, and what the store says of it at the end."""

    kills: int = 0
    early: int = 0
    """Kills before the run was stored."""
    workers: int = 0
    """Kills of supervisors and runners, each of which may cost the attempt of its worker."""
    duration_s: float = 0.0
    """From the start of the run to its end."""
    repeats: int = 0
    tasks: int = 0
    status: str = ""
    outputs: Mapping[str, Any] | None = None
    results: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class CrashCourse:
    """One workflow on one fresh state; `perform` runs it with so many kills."""

    state: Path
    root: Path
    file: Path
    parameters: tuple[str, ...] = ()
    chance: Random
    victims: tuple[str, ...] = ("engine",)
    tasks: int
    """About how many tasks it has, and"""
    duration_s: float
    """about how long it runs undisturbed: where kills are aimed at."""

    def perform(self, kills: int) -> Outcome:
        """Kills so many engines while the run is unfinished (fewer if it ends early), then lets it end."""
        outcome = Outcome()
        struck = True
        for _ in range(kills):
            struck = self._strike(self._start(), outcome)
            if not struck:
                break
            if self._status() == "":
                outcome.early += 1
            elif self._status() in ("pending", "running"):
                outcome.kills += 1
        if struck or self._status() in ("", "pending", "running"):
            self._finish(self._start(), outcome)
        self._read(outcome)
        return outcome

    # -- one engine ------------------------------------------------------------------------------

    def _start(self) -> subprocess.Popen[bytes]:
        verb = "resume" if self._status() else "run"
        if self.chance.random() < 0.5:
            words = [str(SCRIPT), verb, str(self.state), str(self.root), str(self.file), *self.parameters]
        else:
            words = ["-m", "codomyrmex", verb, "--state", str(self.state), "--root", str(self.root), "--json"]
            if verb == "run":
                words += [str(self.file), *(part for given in self.parameters for part in ("-p", given))]
        with self._said.open("w") as output:
            return subprocess.Popen([sys.executable, *words], cwd=self.root, stdout=output, stderr=output)

    @property
    def _said(self) -> Path:
        """What the present engine writes to both streams."""
        return self.state.with_suffix(".out")

    def _strike(self, engine: subprocess.Popen[bytes], outcome: Outcome) -> bool:
        """Waits for the moment and kills; False when the engine was faster."""
        if self.chance.random() < 0.5:
            self._wait_for_results(engine, self.chance.randint(1, max(1, self.tasks - 2)))
        else:
            _pause(engine, self.chance.uniform(0.0, START_S + self.duration_s))
        _pause(engine, self.chance.uniform(0.0, 0.01))
        if engine.poll() is None:
            self._kill(engine, outcome)
        return engine.wait() == -signal.SIGKILL

    def _kill(self, engine: subprocess.Popen[bytes], outcome: Outcome) -> None:
        victim = self.chance.choice(self.victims)
        if victim == "runner" and outcome.kills % 3:
            victim = (
                "supervisor"  # a task whose runner dies twice is given up: it is taken to crash by itself
            )
        if victim != "engine":
            tree = parents()
            level = [pid for pid, parent in tree.items() if parent == engine.pid]
            if victim == "runner":
                level = [pid for pid, parent in tree.items() if parent in level and _is_worker(pid)]
            for pid in level:
                _kill(pid)
            outcome.workers += len(level)
            _pause(engine, self.chance.choice((0.0, 0.0, 0.003, 0.03)))
        _kill(engine.pid)

    def _wait_for_results(self, engine: subprocess.Popen[bytes], target: int) -> None:
        """Until `target` more results are recorded than now, or so many as can be."""
        limit_s = time.monotonic() + RUN_LIMIT_S
        start = self._recorded()
        target = min(start + target, self.tasks - 1)
        while engine.poll() is None and self._recorded() < target and time.monotonic() < limit_s:
            time.sleep(0.005)

    def _finish(self, engine: subprocess.Popen[bytes], outcome: Outcome) -> None:
        try:
            engine.wait(RUN_LIMIT_S)
        except subprocess.TimeoutExpired:
            engine.kill()
            engine.wait()
            outcome.faults.append(f"the last engine did not end in {RUN_LIMIT_S:g} s")
        if engine.returncode != 0:
            outcome.faults.append(
                f"the last engine ended with {engine.returncode}: {self._said.read_text()[-4000:]}"
            )

    # -- what the store says ---------------------------------------------------------------------

    def _query(self, sql: str) -> list[Any]:
        if not (self.state / "state.db").exists():
            return []
        try:
            database = SQLiteDatabase.open_existing(self.state / "state.db")
        except StoreError:
            return []  # killed while it was being made
        try:
            return database.query(sql)
        finally:
            database.close()

    def _recorded(self) -> int:
        rows = self._query(FINISHED)
        return rows[0][0] if rows else 0

    def _status(self) -> str:
        rows = self._query("SELECT status FROM run")
        return rows[0][0] if rows else ""

    def _read(self, outcome: Outcome) -> None:
        with opened(self.state) as (database, reader):
            tokens = engine_tokens(database)
            run = reader.run(reader.find("@last"))
            outcome.status, outcome.outputs, outcome.tasks = run.status, run.outputs, run.tasks.total
            outcome.duration_s = run.duration_s or 0.0
            outcome.results = dict(reader.results(run.execution_id))
            outcome.events = list(reader.events(run.execution_id))
            if len(reader.runs()[0]) != 1:
                outcome.faults.append("the run was stored more than once")
        outcome.faults += journal_faults(outcome.events)
        outcome.faults += [f"left over: {process}" for process in left_over(tokens)]
        outcome.repeats = started_again(outcome.events)
        slots = len(os.sched_getaffinity(0))
        if outcome.repeats > slots * outcome.kills + outcome.workers:
            outcome.faults.append(
                f"{outcome.repeats} attempts repeated on {slots} slots, after {outcome.kills} engine kills "
                f"and {outcome.workers} worker kills"
            )
        if outcome.status != "completed":
            outcome.faults.append(f"the run is {outcome.status}: {run.error}")


def _is_worker(pid: int) -> bool:
    try:
        return b"bootstrap.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _pause(engine: subprocess.Popen[bytes], seconds: float) -> None:
    """Waits, but not longer than the engine lives."""
    try:
        engine.wait(seconds)
    except subprocess.TimeoutExpired:
        pass
