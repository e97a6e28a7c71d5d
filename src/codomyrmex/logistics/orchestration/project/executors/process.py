"""Attempts in processes of their own: a pool of warm workers.

Layer: executors. A worker runs one attempt at a time and is used again; one that was killed, crashed, runs
old code, or has done 10,000 attempts is not. Workers are alike when interpreter, import roots and the
variables that count at an interpreter's start are the same (`WorkerKind`). Nobody else is touched when a
worker ends.

`run` returns only when nothing of the attempt is left: a worker that answers holds no process of a command
that it ran, and the verdict on one that does not answer is written after its whole tree is gone. Where even
the supervisor was killed, what carries the worker's mark in its environment is killed first.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from codomyrmex.logistics.orchestration.project.executors import process_tree, verdicts
from codomyrmex.logistics.orchestration.project.executors.attempt import (
    Attempt,
    ErrorInfo,
    MustWait,
    Note,
    Outcome,
    OutcomeKind,
)
from codomyrmex.logistics.orchestration.project.executors.worker.values import loads
from codomyrmex.logistics.orchestration.project.executors.worker_process import (
    WorkerGone,
    WorkerKind,
    WorkerProcess,
    start_worker,
)

MAX_ATTEMPTS_PER_WORKER = 10_000
CLOSE_LIMIT_S = 4.0
UNWAITED_BYTES = 48 * 1024
"""Parameters and variables up to this size fit into the buffer of a connection, with their header and room to spare."""
_START_ONLY = ("PYTHONPATH", "PYTHONHASHSEED", "LD_LIBRARY_PATH", "LD_PRELOAD")
_START_ONLY_ENDS = ("_NUM_THREADS", "_MAX_THREADS", "_VISIBLE_DEVICES")
_KINDS = {kind.value: kind for kind in OutcomeKind}
_NOTES = ("progress", "metric", "artifact")
_encode = msgspec.json.Encoder().encode
T = TypeVar("T")


class WorkerStartFailed(RuntimeError):
    """No worker came up in this interpreter; says what it wrote."""


def _directly(work: Callable[[], T]) -> T:
    return work()


class BegunAttempt:
    """An attempt on its way: its worker once it has one. See `attempt.Begun`."""

    __slots__ = (
        "_executor",
        "attempt",
        "cancelled",
        "descriptors",
        "sequence",
        "started_s",
        "started_us",
        "worker",
    )

    def __init__(self, executor: ProcessExecutor, attempt: Attempt) -> None:
        self._executor = executor
        self.attempt = attempt
        self.worker: WorkerProcess | None = None
        self.descriptors: tuple[int, ...] = ()
        self.sequence = 0
        self.cancelled = False
        self.started_us = time.time_ns() // 1000
        self.started_s = time.monotonic()

    def assign(self, worker: WorkerProcess) -> None:
        """This worker is about to run it."""
        self.worker = worker
        self.descriptors = worker.descriptors
        self.sequence = worker.sequence = worker.sequence + 1

    def collect(self) -> Outcome | None:
        """See `ProcessExecutor.collect`."""
        return self._executor.collect(self)

    def complete(self) -> Outcome:
        """See `ProcessExecutor.complete`."""
        return self._executor.complete(self)


class ProcessExecutor:
    """Runs attempts in warm worker processes.

    `spawn` runs a function in the thread that is to start workers and returns its value; `on_note` is told of
    progress, metrics and artifacts. `engine_token` marks every process, so that the next engine can find
    them.
    """

    def __init__(
        self,
        *,
        spool_dir: str,
        engine_token: str,
        max_workers: int,
        python: str | None = None,
        spawn: Callable[[Callable[[], WorkerProcess]], WorkerProcess] = _directly,
        on_note: Note | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._spool_dir = spool_dir
        self._engine_token = engine_token
        self._max_workers = max_workers
        self._python = python or sys.executable
        self._spawn = spawn
        self._on_note = on_note
        self._environment = environment
        self._lock = threading.Lock()
        self._kinds: dict[tuple[Any, ...], WorkerKind] = {}
        self._idle: dict[WorkerKind, list[WorkerProcess]] = {}
        self._idle_count = 0
        self._running: dict[str, BegunAttempt] = {}
        self._retired: list[WorkerProcess] = []
        self._counter = 0
        self._closed = False

    # ------------------------------------------------------------------------------------------- the port

    def run(self, attempt: Attempt) -> Outcome:
        """Runs the attempt on a warm worker, starting one if none is idle; blocks until it has ended."""
        begun = self._running[attempt.token] = BegunAttempt(self, attempt)
        return self.complete(begun)

    def begin(self, attempt: Attempt) -> BegunAttempt | None:
        """Starts the attempt on an idle worker; None when none is, or what is to be sent might not fit.

        Never waits: an idle worker has read everything, so the buffer of its connection is empty.
        """
        size = len(attempt.parameters)
        if attempt.env:
            size += sum(map(len, attempt.env.values()))
        if size > UNWAITED_BYTES:
            return None
        kind = self._kind_of(attempt)
        with self._lock:
            idle = self._idle.get(kind)
            if not idle or idle[-1].python_version is None:
                return None
            self._idle_count -= 1
            worker = idle.pop()
            begun = self._running[attempt.token] = BegunAttempt(self, attempt)
            begun.assign(worker)
        try:
            self._send(begun, worker)
        except BaseException:
            del self._running[attempt.token]
            raise
        return begun

    def collect(self, begun: BegunAttempt) -> Outcome | None:
        """The outcome of an attempt that was begun, if its worker has sent it; None while it goes on.

        Raises `MustWait` when the worker sent a part only, has to be replaced, or ends.
        """
        worker = begun.worker
        while worker is not None:
            answer = worker.receive_ready()
            if answer is None:
                break
            header, body = answer
            if header["kind"] not in _NOTES:
                outcome = self._answered(begun, worker, header, body)
                if outcome is None:
                    break
                del self._running[begun.attempt.token]
                return outcome
            self._note(begun, header)
            if not worker.pending:
                return None
        raise MustWait

    def complete(self, begun: BegunAttempt) -> Outcome:
        """Blocks until the attempt has ended; begins it where that has not been done, again where it must."""
        try:
            while True:
                outcome = self._try(begun)
                if outcome is not None:
                    return outcome
        except (WorkerStartFailed, OSError) as problem:
            name = type(problem).__name__
            error = ErrorInfo(type=name, message=str(problem), mro=(name,))
            return verdicts.ended_now(OutcomeKind.LOST, error, begun.started_us, begun.started_s)
        except WorkerGone as gone:
            return verdicts.outcome_of(gone.verdict, begun.attempt, begun.started_us, begun.started_s)
        finally:
            del self._running[begun.attempt.token]

    def cancel(self, token: str, *, kill: bool = False) -> bool:
        """Ends the attempt's tree: SIGTERM, then SIGKILL after its grace period, or at once with `kill`."""
        begun = self._running.get(token)
        if begun is None:
            return False
        with self._lock:
            begun.cancelled = True
            worker, sequence = begun.worker, begun.sequence
        if worker is not None:
            worker.cancel(sequence, kill=kill)
        return True

    def describe(
        self, actions: Iterable[tuple[str, str]], *, roots: Sequence[str] = (), python: str | None = None
    ) -> list[dict[str, Any]]:
        """Signatures and declarations of actions, read in a worker; nothing is imported here."""
        kind = self._kind(python, tuple(roots))
        request = _encode({"op": "describe", "actions": list(actions)})
        while True:
            worker = self._take(kind)
            worker.send(request)
            try:
                header, body = worker.receive()
            except WorkerGone as gone:
                raise self._died(worker, gone) from None
            if header["kind"] != "stale":
                self._give_back(worker)
                found: list[dict[str, Any]] = loads(body, classes=False)
                return found
            self._retire(worker)

    def prepare(self, count: int, *, roots: Sequence[str] = (), python: str | None = None) -> None:
        """Sees to it that `count` workers of this kind are idle or starting; does not wait for them."""
        kind = self._kind(python, tuple(roots))
        missing = min(count, self._max_workers) - len(self._idle.get(kind, ()))
        for _ in range(missing):
            self._give_back(self._start(kind))

    def close(self) -> None:
        """Ends every worker and what it runs; returns when all of it is gone."""
        with self._lock:
            self._closed = True
            workers = [worker for idle in self._idle.values() for worker in idle]
            self._idle, self._idle_count = {}, 0
            busy = [begun.worker for begun in list(self._running.values()) if begun.worker is not None]
            workers += self._retired
            self._retired = []
        for worker in workers + busy:
            worker.close()
        deadline = time.monotonic() + CLOSE_LIMIT_S
        self._wait_for(workers, deadline)
        while self._running and time.monotonic() < deadline + 1.0:
            time.sleep(0.005)
        with self._lock:  # those that came up, or ended what they ran, meanwhile
            late, self._retired = self._retired, []
        self._wait_for(late, time.monotonic() + CLOSE_LIMIT_S)

    def _wait_for(self, workers: Iterable[WorkerProcess], deadline: float) -> None:
        """Waits for workers that were told to end, and ends them at the deadline (monotonic)."""
        for worker in workers:
            if not worker.wait(max(0.05, deadline - time.monotonic())):
                worker.kill()
                worker.wait(1.0)
                process_tree.kill_marked(process_tree.WORKER_VARIABLE, worker.id)
            self._remove_spool(worker)

    # --------------------------------------------------------------------------------------- one attempt

    def _try(self, begun: BegunAttempt) -> Outcome | None:
        """One go on one worker; None when that worker could not begin it and another has to."""
        worker = begun.worker
        if worker is None:
            attempt = begun.attempt
            worker = self._take(self._kind_of(attempt))
            with self._lock:
                closed = self._closed
                if begun.cancelled and not closed:
                    self._put(worker)
                    return verdicts.cancelled_before_start()
                if not closed:
                    begun.assign(worker)
            if closed:  # it came up while everything was being ended
                self._retire(worker)
                raise WorkerStartFailed("the executor has been closed")
            self._send(begun, worker)
        try:
            header, body = worker.receive()
            while header["kind"] in _NOTES:
                self._note(begun, header)
                header, body = worker.receive()
        except WorkerGone as gone:
            self._after_death(worker, gone, begun)
            begun.worker = None
            return None
        return self._answered(begun, worker, header, body)

    def _send(self, begun: BegunAttempt, worker: WorkerProcess) -> None:
        """Sends the attempt to its worker; raises where it cannot be put in a frame, and nothing was sent."""
        attempt = begun.attempt
        try:
            worker.send(_run_header(attempt, begun.sequence), attempt.parameters)
        except ValueError:
            self._give_back(worker, begun)
            raise

    def _answered(
        self, begun: BegunAttempt, worker: WorkerProcess, header: dict[str, Any], body: bytes
    ) -> Outcome | None:
        """The outcome that a worker sent; None from one that runs old code and has to be replaced."""
        if header["kind"] == "stale":
            with self._lock:
                begun.worker = None
            self._retire(worker)
            return None
        self._give_back(worker, begun)
        return _outcome(header, body)

    def _note(self, begun: BegunAttempt, header: dict[str, Any]) -> None:
        if self._on_note is not None:
            self._on_note(begun.attempt.token, header)

    def _after_death(self, worker: WorkerProcess, gone: WorkerGone, begun: BegunAttempt) -> None:
        """Returns where the attempt had not begun; raises what says how it ended otherwise."""
        if worker.python_version is None and not begun.cancelled:
            raise self._died(worker, gone)
        self._remove_spool(worker)
        verdict = gone.verdict or {"verdict": "killed", "sequence": 0 if gone.unread else worker.sequence}
        died = verdict["verdict"] in ("crashed", "out_of_memory", "killed")
        if died and verdict["sequence"] < worker.sequence:
            return  # it died idle, before it had read this attempt
        raise gone

    def _died(self, worker: WorkerProcess, gone: WorkerGone) -> WorkerStartFailed:
        """What to say of a worker that ended before it could do what it was started for."""
        said = worker.startup_output().splitlines()
        self._remove_spool(worker)
        how = (gone.verdict or {}).get("verdict", f"exit status {worker.exit_status}")
        return WorkerStartFailed(
            f"no worker came up in {worker.kind.python} ({how})" + (f": {said[-1]}" if said else "")
        )

    def _kind_of(self, attempt: Attempt) -> WorkerKind:
        chosen: tuple[tuple[str, str], ...] = ()
        if attempt.env:
            chosen = tuple(sorted(item for item in attempt.env.items() if _counts_at_start(item[0])))
        return self._kind(attempt.python, attempt.roots, chosen)

    def _kind(
        self, python: str | None, roots: tuple[str, ...], environment: tuple[tuple[str, str], ...] = ()
    ) -> WorkerKind:
        """The one object for these."""
        key = (python or self._python, roots, environment)
        found = self._kinds.get(key)
        if found is None:
            made = WorkerKind(python=key[0], roots=roots, environment=environment)
            found = self._kinds.setdefault(key, made)
        return found

    # ------------------------------------------------------------------------------------------- the pool

    def _take(self, kind: WorkerKind) -> WorkerProcess:
        with self._lock:
            idle = self._idle.get(kind)
            if idle:
                self._idle_count -= 1
                return idle.pop()
        return self._start(kind)

    def _start(self, kind: WorkerKind) -> WorkerProcess:
        with self._lock:
            if self._closed:
                raise WorkerStartFailed("the executor has been closed")
            self._counter += 1
            number = self._counter
        self._collect()
        return self._spawn(
            lambda: start_worker(
                kind,
                worker_id=f"w{os.getpid()}-{number}-{time.monotonic_ns() % 1_000_000_007:x}",
                engine_token=self._engine_token,
                spool_dir=self._spool_dir,
                base=os.environ if self._environment is None else self._environment,
            )
        )

    def _give_back(self, worker: WorkerProcess, begun: BegunAttempt | None = None) -> None:
        """The worker is idle again; from here on nobody can end it by cancelling what it ran."""
        worker.attempts += 1
        surplus: WorkerProcess | None = worker
        with self._lock:
            if begun is not None:
                begun.worker = None
            if worker.attempts < MAX_ATTEMPTS_PER_WORKER and not self._closed:
                self._put(worker)
                surplus = self._surplus() if self._idle_count > self._max_workers else None
        if surplus is not None:
            self._retire(surplus)

    def _put(self, worker: WorkerProcess) -> None:
        idle = self._idle.get(worker.kind)
        if idle is None:
            idle = self._idle[worker.kind] = []
        idle.append(worker)
        self._idle_count += 1

    def _surplus(self) -> WorkerProcess:
        """An idle worker too many: the oldest of the kind that was used least recently."""
        kind = min(
            (kind for kind, idle in self._idle.items() if idle),
            key=lambda kind: self._idle[kind][-1].started_at_s,
        )
        self._idle_count -= 1
        return self._idle[kind].pop(0)

    def _retire(self, worker: WorkerProcess) -> None:
        """Lets an idle worker end by itself, without waiting for it."""
        worker.close()
        with self._lock:
            self._retired.append(worker)

    def _collect(self) -> None:
        """Gathers what retired workers leave when they have ended."""
        with self._lock:
            waiting, self._retired = self._retired, []
        left = [worker for worker in waiting if not self._is_gone(worker)]
        with self._lock:
            self._retired += left

    def _is_gone(self, worker: WorkerProcess) -> bool:
        if not worker.wait(0):
            return False
        self._remove_spool(worker)
        return True

    def _remove_spool(self, worker: WorkerProcess) -> None:
        import glob

        for path in glob.glob(glob.escape(worker.spool) + ".*.log"):
            try:
                os.unlink(path)
            except OSError:
                continue  # the supervisor was faster


def _counts_at_start(name: str) -> bool:
    return name in _START_ONLY or name.endswith(_START_ONLY_ENDS)


def _run_header(attempt: Attempt, sequence: int) -> bytes:
    header: dict[str, Any] = {
        "op": "run",
        "sequence": sequence,
        "token": attempt.token,
        "run_id": attempt.run_id,
        "task": attempt.task,
        "task_id": attempt.task_id,
        "attempt": attempt.number,
        "idempotency_key": attempt.idempotency_key,
        "module": attempt.module,
        "action": attempt.action,
        "env": attempt.env,
        "cwd": attempt.working_dir,
        "timeout_s": attempt.timeout_s,
        "grace_s": attempt.grace_s,
        "log": attempt.log_path,
    }
    if attempt.checkpoint_dir is not None:
        header["checkpoint_dir"] = attempt.checkpoint_dir
    if attempt.artifact_dir is not None:
        header["artifact_dir"] = attempt.artifact_dir
    if attempt.files is not None:
        header["files"] = [attempt.files.folder, attempt.files.scratch]
    if attempt.secrets:
        header["secrets"] = attempt.secrets
    return _encode(header)


def _outcome(header: dict[str, Any], body: bytes) -> Outcome:
    error = header["error"]
    kind = _KINDS[header["kind"]]
    return Outcome(
        kind=kind,
        result=body or b"null" if kind is OutcomeKind.COMPLETED else None,
        error=None if error is None else ErrorInfo.from_dict(error),
        started_us=header["started_us"],
        ended_us=header["ended_us"],
        duration_s=header["duration_s"],
    )
