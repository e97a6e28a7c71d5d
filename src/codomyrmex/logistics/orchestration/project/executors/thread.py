"""Attempts in the calling thread: for functions made in Python and for built-ins that do not block.

Layer: executors. The slot's own thread runs the function, so an attempt costs a few microseconds.
Parameters are decoded afresh and the result is encoded, so values mean what they mean in a process. A
thread cannot be ended: `cancel` is a request that the action reads as `current_task().cancelled`.

Unless `importing` is set a module that is not loaded yet is not imported: an engine that serves must not
take the project's code into its own process.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from codomyrmex import current_task as current
from codomyrmex.logistics.orchestration.project import values
from codomyrmex.logistics.orchestration.project.executors.attempt import (
    Attempt,
    ErrorInfo,
    Note,
    Outcome,
    OutcomeKind,
)
from codomyrmex.logistics.orchestration.project.executors.worker import invoke


class NotImportedHere(LookupError):
    """A thread attempt names a module that this process has not loaded and may not import."""

    def __init__(self, module: str, action: str) -> None:
        super().__init__(
            f"{module}:{action} is not loaded in this process; "
            "run it with isolation: process, or pass the function"
        )


class ThreadExecutor:
    """Runs attempts in the threads that call `run`."""

    def __init__(self, *, on_note: Note | None = None, importing: bool = True) -> None:
        self._on_note = on_note
        self._importing = importing
        self._running: dict[str, current.CurrentTask] = {}

    def run(self, attempt: Attempt) -> Outcome:
        """Runs the function here and now."""
        task = make_current_task(attempt, self._on_note)
        self._running[attempt.token] = task
        entered = current.enter(task)
        started_us, started_ns = time.time_ns() // 1000, time.monotonic_ns()
        result = error = None
        try:
            function = attempt.function or find_function(attempt, importing=self._importing)
            value = invoke.call(function, load_parameters(attempt))
            kind, result = OutcomeKind.COMPLETED, values.encode(value)
        except BaseException as problem:  # noqa: BLE001  (the attempt boundary)
            kind, error = ended_by(problem, attempt)
            if kind is OutcomeKind.COMPLETED:
                result = b"null"
        finally:
            current.leave(entered)
            del self._running[attempt.token]
        duration_ns = time.monotonic_ns() - started_ns
        task.close()
        return Outcome(
            kind=kind,
            result=result,
            error=error,
            started_us=started_us,
            ended_us=started_us + duration_ns // 1000,
            duration_s=duration_ns / 1e9,
        )

    def cancel(self, token: str, *, kill: bool = False) -> bool:
        """Asks; a thread cannot be forced, `kill` or not."""
        del kill
        task = self._running.get(token)
        if task is None:
            return False
        task.request_cancel()
        return True

    def close(self) -> None:
        """Asks all that run."""
        for task in list(self._running.values()):
            task.request_cancel()


def make_current_task(attempt: Attempt, on_note: Note | None) -> current.CurrentTask:
    """What `current_task()` answers inside this attempt."""
    return current.CurrentTask(
        run_id=attempt.run_id,
        task=attempt.task,
        task_id=attempt.task_id,
        attempt=attempt.number,
        idempotency_key=attempt.idempotency_key,
        working_dir=attempt.working_dir,
        note=None if on_note is None else lambda note: on_note(attempt.token, note),
        secrets=attempt.secrets,
        checkpoint_dir=attempt.checkpoint_dir,
        artifact_dir=attempt.artifact_dir,
        log_path=attempt.log_path,
    )


def load_parameters(attempt: Attempt) -> dict[str, Any]:
    """The keyword arguments, decoded afresh; secrets put in their places."""
    if attempt.parameters == b"{}":
        return {}
    parameters: dict[str, Any] = values.load(attempt.parameters)
    if attempt.secrets:
        parameters = invoke.with_secrets(parameters, attempt.secrets)
    return parameters


def find_function(attempt: Attempt, *, importing: bool) -> Callable[..., Any]:
    """The function that the attempt names, from the modules of this process."""
    module = sys.modules.get(attempt.module)
    if module is None:
        if not importing:
            raise NotImportedHere(attempt.module, attempt.action)
        import importlib

        module = importlib.import_module(attempt.module)
    target: Any = module
    for part in attempt.action.split("."):
        target = getattr(target, part)
    return target  # type: ignore[no-any-return]


def ended_by(problem: BaseException, attempt: Attempt) -> tuple[OutcomeKind, ErrorInfo | None]:
    """What an exception that left the action means."""
    if isinstance(problem, SystemExit) and problem.code in (None, 0):
        return OutcomeKind.COMPLETED, None
    if isinstance(problem, current.TaskCancelled):
        error = ErrorInfo(type="TaskCancelled", mro=("TaskCancelled",), message="the action gave up")
        return OutcomeKind.CANCELLED, error
    kind, fields = invoke.failure_of(problem, attempt.roots, attempt.function)
    return OutcomeKind(kind), ErrorInfo.from_dict(fields)
