"""Whether a workflow survives its engine being killed: shown by killing it.

Layer: testing. An engine in a process of its own is killed (SIGKILL) at moments chosen at random over the
time that an undisturbed run takes; the next one goes on. What is compared in the end: status, the status of
every task (compensations and handlers too), results and outputs. What is checked on the way: a task that was
recorded as completed stays as it was recorded, so it did not run again; what undoes a step does so once.
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
from codomyrmex.logistics.orchestration.project.workflow_file import load_path
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase
from codomyrmex.testing.finished_run import FinishedRun

Recorded = dict[str, tuple[int, Any]]
"""Attempt and end of each task that is recorded as completed."""


def assert_resumes(
    path: str | os.PathLike[str],
    kills: int = 20,
    *,
    parameters: Mapping[str, Any] | None = None,
    answers: Mapping[str, Any] | None = None,
    seed: int | None = None,
    timeout_s: float = 60.0,
) -> FinishedRun:
    """Kills engines that run the workflow file `path`, `kills` in all, and returns the last run.

    `answers` are the stubs of its approvals and signals, as `run_workflow` takes them, in JSON values.
    A new run begins when one ends before all kills were delivered. Raises AssertionError, with the `seed`
    to try again, where a run ended otherwise than an undisturbed one, or something recorded ran again.
    """
    seed = Random().randrange(1_000_000) if seed is None else seed
    with TemporaryDirectory(prefix="codomyrmex-resumes-") as folder:
        given = (json.dumps(dict(parameters or {})), json.dumps(dict(answers or {})))
        trial = _Trial(Path(path).resolve(), Path(folder), given, timeout_s)
        wanted, lasts_s = trial.run_through("undisturbed")
        chance = Random(seed)
        try:
            return trial.disturb(wanted, kills=kills, within_s=lasts_s, chance=chance)
        except AssertionError as error:
            raise AssertionError(f"{error} (seed={seed})") from error


class _Trial:
    def __init__(self, file: Path, folder: Path, given: tuple[str, str], timeout_s: float) -> None:
        self._file = file
        self._workflow: str = load_path(file).document["name"]
        self._folder = folder
        self._given = given
        self._timeout_s = timeout_s

    def run_through(self, name: str) -> tuple[FinishedRun, float]:
        """One engine, left alone; the run, and how many seconds the engine was at work."""
        with self._engine(name) as engine:
            began_s = time.monotonic()
            _check_code(engine.wait(self._timeout_s))
        return self._read(name), time.monotonic() - began_s

    def disturb(self, wanted: FinishedRun, *, kills: int, within_s: float, chance: Random) -> FinishedRun:
        """Kills until `kills` engines have died at work, then lets the last run end."""
        number, recorded = 1, Recorded()
        while kills:
            name = f"run-{number}"
            self._kill(name, chance.uniform(0.0, within_s))
            run = self._read(name)
            recorded = _not_again(run, recorded)
            if run.view.final:  # it ended too early
                _compare(wanted, run)
                number, recorded = number + 1, Recorded()
            else:
                kills -= 1
        last, _seconds = self.run_through(f"run-{number}")
        _not_again(last, recorded)
        _compare(wanted, last)
        return last

    def _kill(self, name: str, after_s: float) -> None:
        """Starts an engine and kills it `after_s` after it got to work, unless it has ended."""
        with self._engine(name) as engine:
            try:
                _check_code(engine.wait(after_s))
            except subprocess.TimeoutExpired:
                engine.kill()

    @contextmanager
    def _engine(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        state = str(self._folder / name)
        command = [
            sys.executable,
            "-m",
            "codomyrmex.testing.engine_process",
            state,
            str(self._file),
            *self._given,
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as engine:
            try:
                assert engine.stdout is not None
                assert engine.stdout.readline() == b"working\n", "the engine did not get to work"
                yield engine
            finally:
                engine.kill()

    def _read(self, name: str) -> FinishedRun:
        database = SQLiteDatabase.open_existing(self._folder / name / "state.db")
        try:
            reader = RunReader(database, self._folder / name)
            found = reader.runs(limit=1, workflow=self._workflow)[0]  # child runs have other names
            return FinishedRun(reader, found[0].execution_id)
        finally:
            database.close()


def _check_code(code: int) -> None:
    assert code == 0, f"the engine ended with {code}"


def _not_again(run: FinishedRun, before: Recorded) -> Recorded:
    """What is recorded as completed now; all that was before must be, unchanged."""
    now = {
        task.name: (task.attempt, task.ended_at) for task in run.tasks.values() if task.status == "completed"
    }
    changed = [task for task, told in before.items() if now.get(task) != told]
    assert not changed, f"recorded as completed, and run again: {', '.join(changed)}"
    return now


def _compare(wanted: FinishedRun, found: FinishedRun) -> None:
    for what in ("status", "error", "results", "outputs"):
        ours, theirs = _timeless(getattr(found, what)), _timeless(getattr(wanted, what))
        assert ours == theirs, f"{what} differs from an undisturbed run's: {ours!r}, not {theirs!r}"
    assert found.statuses() == wanted.statuses(), "tasks ended otherwise than in an undisturbed run"


def _timeless(value: Any) -> Any:
    """A value without the moments at which approvals were answered."""
    if isinstance(value, Mapping):
        moment = {"at"} if {"approved", "by", "at"} <= value.keys() else set()
        return {key: _timeless(each) for key, each in value.items() if key not in moment}
    return [_timeless(each) for each in value] if isinstance(value, list) else value
