"""Attempts in processes of their own: a pool of warm workers.

Layer: executors. A worker runs one attempt at a time and is used again, by attempts of the same kind
(`worker_kinds`); `worker_pool` says when it is not, and what takes its place. Nobody else is touched when a
worker ends.

`run` returns only when nothing of the attempt is left: a worker that answers holds no process of a command
that it ran, and the verdict on one that does not answer is written after its whole tree is gone. Where even
the supervisor was killed, what carries the worker's mark in its environment is killed first. An attempt
that saw a device, or left something in its worker that does not belong to the next one (`spent`), has ended
when its worker has.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from codomyrmex.logistics.orchestration.project.executors import verdicts
from codomyrmex.logistics.orchestration.project.executors.attempt import (
    Attempt,
    ErrorInfo,
    MustWait,
    Note,
    Outcome,
    OutcomeKind,
)
from codomyrmex.logistics.orchestration.project.executors.worker.values import loads
from codomyrmex.logistics.orchestration.project.executors.worker_kinds import WorkerKinds
from codomyrmex.logistics.orchestration.project.executors.worker_pool import (
    Later,
    WorkerPool,
    WorkerStartFailed,
)
from codomyrmex.logistics.orchestration.project.executors.worker_process import WorkerGone, WorkerProcess

UNWAITED_BYTES = 48 * 1024
"""Parameters and variables up to this size fit into the buffer of a connection, with their header and room to spare."""
_KINDS = {kind.value: kind for kind in OutcomeKind}
_NOTES = ("progress", "metric", "artifact", "refund")
_encode = msgspec.json.Encoder().encode
T = TypeVar("T")


def _directly(work: Callable[[], T]) -> T:
    return work()


class BegunAttempt:
    """An attempt on its way: its worker once it has one. See `attempt.Begun`."""

    __slots__ = (
        "_executor",
        "attempt",
        "cancelled",
        "descriptors",
        "outcome",
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
        self.outcome: Outcome | None = None
        """What the worker answered, where its end still has to be waited for."""
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

    `spawn` runs a function in the thread that is to start workers and returns its value; `later` has one run
    there soon, without waiting, which keeps spare workers. `on_note` is told of
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
        later: Later | None = None,
        on_note: Note | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._pool = WorkerPool(
            spool_dir=spool_dir,
            engine_token=engine_token,
            max_idle=max_workers,
            spawn=spawn,
            later=later,
            environment=environment,
        )
        self._lock = self._pool.lock
        self._kinds = WorkerKinds(python or sys.executable)
        self._on_note = on_note
        self._running: dict[str, BegunAttempt] = {}

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
        kind = self._kinds.of(attempt)
        with self._lock:
            worker = self._pool.pop_ready(kind)
            if worker is None:
                return None
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
        kind = self._kinds.plain(python, tuple(roots))
        request = _encode({"op": "describe", "actions": list(actions)})
        while True:
            worker = self._pool.take(kind)
            worker.send(request)
            try:
                header, body = worker.receive()
            except WorkerGone as gone:
                raise self._died(worker, gone) from None
            if header["kind"] != "stale":
                self._pool.give(worker)
                found: list[dict[str, Any]] = loads(body, classes=False)
                return found
            self._pool.replace(worker)

    def prepare(self, count: int, *, roots: Sequence[str] = (), python: str | None = None) -> None:
        """Sees to it that `count` workers of this kind are idle or starting; does not wait for them."""
        self._pool.prepare(self._kinds.plain(python, tuple(roots)), count)

    def close(self) -> None:
        """Ends every worker and what it runs; returns when all of it is gone."""
        self._pool.close(self._busy, lambda: bool(self._running))

    def _busy(self) -> list[WorkerProcess]:
        return [begun.worker for begun in list(self._running.values()) if begun.worker is not None]

    # --------------------------------------------------------------------------------------- one attempt

    def _try(self, begun: BegunAttempt) -> Outcome | None:
        """One go on one worker; None when that worker could not begin it and another has to."""
        worker = begun.worker
        if worker is None:
            worker = self._pool.take(self._kinds.of(begun.attempt))
            with self._lock:
                closed = self._pool.closed
                if begun.cancelled and not closed:
                    self._pool.put_back(worker)
                    return verdicts.cancelled_before_start()
                if not closed:
                    begun.assign(worker)
            if closed:  # it came up while everything was being ended
                self._pool.replace(worker)
                raise WorkerStartFailed("the executor has been closed")
            self._send(begun, worker)
        elif begun.outcome is not None:
            self._pool.see_end(worker)
            return begun.outcome
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
            begun.worker = None
            self._pool.give(worker)
            raise

    def _answered(
        self, begun: BegunAttempt, worker: WorkerProcess, header: dict[str, Any], body: bytes
    ) -> Outcome | None:
        """The outcome that a worker sent, its worker being idle again, or on its way out.

        None where the caller has to go on: another worker has to be found, or the end of this one seen.
        """
        if header["kind"] == "stale":
            with self._lock:
                begun.worker = None
            self._pool.replace(worker)
            return None
        outcome = _outcome(header, body)
        outcome.parameters_bytes = len(begun.attempt.parameters)
        if worker.kind.holds_devices or "spent" in header:
            begun.outcome = outcome
            worker.close()
            return None
        # From here on nobody can end the worker by cancelling what it ran.
        begun.worker = None
        if outcome.kind is OutcomeKind.OUT_OF_MEMORY:
            self._pool.replace(worker)
            return verdicts.limited(outcome, begun.attempt)
        self._pool.give(worker)
        return outcome

    def _note(self, begun: BegunAttempt, header: dict[str, Any]) -> None:
        if self._on_note is not None:
            self._on_note(begun.attempt.token, header)

    def _after_death(self, worker: WorkerProcess, gone: WorkerGone, begun: BegunAttempt) -> None:
        """Returns where the attempt had not begun; raises what says how it ended otherwise."""
        if worker.python_version is None and not begun.cancelled:
            raise self._died(worker, gone)
        self._pool.lost(worker)
        verdict = gone.verdict or {"verdict": "killed", "sequence": 0 if gone.unread else worker.sequence}
        died = verdict["verdict"] in ("crashed", "out_of_memory", "killed")
        if died and verdict["sequence"] < worker.sequence:
            return  # it died idle, before it had read this attempt
        raise gone

    def _died(self, worker: WorkerProcess, gone: WorkerGone) -> WorkerStartFailed:
        """What to say of a worker that ended before it could do what it was started for."""
        said = worker.startup_output().splitlines()
        self._pool.lost(worker, came_up=False)
        how = (gone.verdict or {}).get("verdict", f"exit status {worker.exit_status}")
        return WorkerStartFailed(
            f"no worker came up in {worker.kind.python} ({how})" + (f": {said[-1]}" if said else "")
        )


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
    if attempt.memory_bytes:
        header["memory_bytes"] = attempt.memory_bytes
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
        cpu_s=header["cpu_s"],
        memory_bytes=header["memory_bytes"],
    )
