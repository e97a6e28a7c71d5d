"""Whether a workflow survives its engine being killed: shown by killing it.

Layer: testing. An engine in a process of its own is killed (SIGKILL) at moments chosen at random over the
time that an undisturbed run takes; the next one goes on. What is compared in the end: status, the status of
every task, results and outputs. What is checked on the way: a task that was recorded as completed stays as
it was recorded, so it did not run again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from codomyrmex.logistics.orchestration.project.run_reader import RunReader
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase
from codomyrmex.testing.finished_run import FinishedRun

Recorded = dict[str, tuple[int, Any]]


def assert_resumes(
    path: str | os.PathLike[str],
    kills: int = 20,
    *,
    parameters: Mapping[str, Any] | None = None,
    seed: int | None = None,
    timeout_s: float = 60.0,
) -> FinishedRun:
    """Kills engines that run the workflow file `path`, `kills` in all, and returns the last run.

    A new run begins when one ends before all kills were delivered. Raises AssertionError, with the `seed`
    to try again, where a run ended otherwise than an undisturbed one, or something recorded ran again.
    """
    seed = Random().randrange(1_000_000) if seed is None else seed
    with TemporaryDirectory(prefix="codomyrmex-resumes-") as folder:
        trial = _Trial(Path(path).resolve(), Path(folder), parameters or {}, timeout_s)
        began_s = time.monotonic()
        wanted = trial.run_through("undisturbed")
        lasts_s = time.monotonic() - began_s
        chance = Random(seed)
        try:
            return trial.disturb(wanted, kills=kills, within_s=lasts_s, chance=chance)
        except AssertionError as error:
            raise AssertionError(f"{error} (seed={seed})") from error


class _Trial:
    def __init__(self, file: Path, folder: Path, parameters: Mapping[str, Any], timeout_s: float) -> None:
        self._file = file
        self._folder = folder
        self._parameters = json.dumps(dict(parameters))
        self._timeout_s = timeout_s

    def run_through(self, name: str) -> FinishedRun:
        """One engine, left alone."""
        with self._engine(name) as engine:
            code = engine.wait(self._timeout_s)
        assert code == 0, f"the engine ended with {code}"
        return self._read(name)

    def disturb(self, wanted: FinishedRun, *, kills: int, within_s: float, chance: Random) -> FinishedRun:
        """Kills until `kills` engines have died at work, then lets the last run end."""
        number, recorded = 1, Recorded()
        while kills:
            if self._kill_one(f"run-{number}", chance.uniform(0.0, within_s)):
                kills -= 1
                recorded = self._not_again(f"run-{number}", recorded)
            else:  # it ended too early
                self._compare(wanted, self._read(f"run-{number}"), recorded)
                number, recorded = number + 1, Recorded()
        last = self.run_through(f"run-{number}")
        self._compare(wanted, last, recorded)
        return last

    def _kill_one(self, name: str, after_s: float) -> bool:
        """Starts an engine and kills it `after_s` after it got to work; False when it ended before."""
        with self._engine(name) as engine:
            assert engine.stdout is not None
            assert engine.stdout.readline() == b"working\n", "the engine did not get to work"
            try:
                code = engine.wait(after_s)
            except subprocess.TimeoutExpired:
                engine.kill()
                engine.wait()
                return True
        assert code == 0, f"the engine ended with {code}"
        return False

    @contextmanager
    def _engine(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        state = str(self._folder / name)
        command = [
            sys.executable,
            "-m",
            "codomyrmex.testing.engine_process",
            state,
            str(self._file),
            self._parameters,
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as engine:
            try:
                yield engine
            finally:
                engine.kill()

    def _read(self, name: str) -> FinishedRun:
        database = SQLiteDatabase.open_existing(self._folder / name / "state.db")
        try:
            reader = RunReader(database, self._folder / name)
            return FinishedRun(reader, reader.find("@last"))
        finally:
            database.close()

    def _not_again(self, name: str, before: Recorded) -> Recorded:
        """What is recorded now; it must hold all that was recorded before, unchanged."""
        tasks = self._read(name).tasks.values()
        now = {task.name: (task.attempt, task.ended_at) for task in tasks if task.status == "completed"}
        changed = [task for task, told in before.items() if now.get(task) != told]
        assert not changed, f"recorded as completed, and then not so any more: {', '.join(changed)}"
        return now

    def _compare(self, wanted: FinishedRun, found: FinishedRun, recorded: Recorded) -> None:
        tasks = found.tasks
        changed = [
            name for name, told in recorded.items() if (tasks[name].attempt, tasks[name].ended_at) != told
        ]
        assert not changed, f"recorded as completed, and run again: {', '.join(changed)}"
        for what in ("status", "error", "results", "outputs"):
            assert getattr(found, what) == getattr(wanted, what), (
                f"{what} differs from an undisturbed run's: {getattr(found, what)!r}, not {getattr(wanted, what)!r}"
            )
        assert found.statuses() == wanted.statuses(), "tasks ended otherwise than in an undisturbed run"
