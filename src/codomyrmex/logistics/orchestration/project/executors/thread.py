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
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from codomyrmex import current_task as current
from codomyrmex.logistics.orchestration.project import values
from codomyrmex.logistics.orchestration.project.executors.attempt import (
    Attempt,
    ErrorInfo,
    Note,
    Outcome,
    OutcomeKind,
)
from codomyrmex.logistics.orchestration.project.executors.worker import invoke, redaction

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.executors.worker.file_codecs import ValueFiles

CPU_KNOWN_FROM_NS = 1_000_000
"""Of a shorter attempt the CPU time is not asked for, which would cost it more than that is worth."""
PLAIN = frozenset({type(None), bool, int, float, str, list, dict})
"""Types of values that nobody has to wait for."""


class NotImportedHere(LookupError):
    """A thread attempt names a module that this process has not loaded and may not import."""

    def __init__(self, module: str, action: str) -> None:
        super().__init__(
            f"{module}:{action} is not loaded in this process; "
            "run it with isolation: process, or pass the function"
        )


class _Call:
    """One call under way. What `current_task()` answers in it is made when somebody asks."""

    __slots__ = ("_describe", "_on_note", "cancelled", "task")

    def __init__(self, describe: Callable[[], Attempt], on_note: Note | None) -> None:
        self._describe = describe
        self._on_note = on_note
        self.cancelled = False
        self.task: current.CurrentTask | None = None

    def __call__(self) -> current.CurrentTask:
        if self.task is None:
            self.task = make_current_task(self._describe(), self._on_note)
            if self.cancelled:
                self.task.request_cancel()
        return self.task

    def request_cancel(self) -> None:
        self.cancelled = True
        if self.task is not None:
            self.task.request_cancel()


class ThreadExecutor:
    """Runs attempts in the threads that call `run`."""

    def __init__(self, *, on_note: Note | None = None, importing: bool = True) -> None:
        self._on_note = on_note
        self._importing = importing
        self._running: dict[str, _Call] = {}

    def run(self, attempt: Attempt) -> Outcome:
        """Runs the function here and now."""
        return self.call(
            attempt.function, attempt.parameters, attempt.token, lambda: attempt, attempt.secrets
        )

    def call(
        self,
        function: Callable[..., Any] | None,
        parameters: bytes,
        token: str,
        describe: Callable[[], Attempt],
        secrets: Mapping[str, str] | None = None,
    ) -> Outcome:
        """The same for a caller that makes the attempt only when it is asked for: most actions never ask."""
        call = self._running[token] = _Call(describe, self._on_note)
        entered = current.enter(call)
        hiding = redaction.enter(redaction.Redactor(secrets)) if secrets else None
        started_us, started_ns = time.time_ns() // 1000, time.monotonic_ns()
        cpu_ns = time.thread_time_ns()
        result = error = None
        try:
            if function is None:
                function = find_function(describe(), importing=self._importing)
            arguments = load_arguments(parameters, secrets, describe) if parameters != b"{}" else {}
            value = function(**arguments)
            if type(value) not in PLAIN:
                value = invoke.finished(value)
            keep = keep_result if hiding is None else keep_hidden_result
            kind, result = OutcomeKind.COMPLETED, keep(value, describe)
        except BaseException as problem:  # noqa: BLE001  (the attempt boundary)
            kind, error = ended_by(problem, describe())
            if kind is OutcomeKind.COMPLETED:
                result = b"null"
        finally:
            current.leave(entered)
            if hiding is not None:
                redaction.leave(hiding)
            del self._running[token]
        duration_ns = time.monotonic_ns() - started_ns
        if call.task is not None:
            call.task.close()
        return Outcome(
            kind=kind,
            result=result,
            error=error,
            started_us=started_us,
            ended_us=started_us + duration_ns // 1000,
            duration_s=duration_ns / 1e9,
            parameters_bytes=len(parameters),
            cpu_s=(time.thread_time_ns() - cpu_ns) / 1e9 if duration_ns >= CPU_KNOWN_FROM_NS else None,
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
    kind: type[current.CurrentTask] = current.CurrentTask
    if attempt.secrets:
        from codomyrmex.logistics.orchestration.project.executors.hiding_task import HidingTask

        kind = HidingTask
    return kind(
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
    """The keyword arguments of an attempt, decoded afresh; secrets put in their places."""
    if attempt.parameters == b"{}":
        return {}
    return load_arguments(attempt.parameters, attempt.secrets, lambda: attempt)


def load_arguments(
    parameters: bytes, secrets: Mapping[str, str] | None, describe: Callable[[], Attempt]
) -> dict[str, Any]:
    """The same from their bytes; the attempt is asked for only where one of them is in a file."""
    arguments: dict[str, Any]
    if secrets:
        tree = invoke.with_secrets(values.decode_tree(parameters), secrets)
        arguments = values.from_tagged(
            tree, classes=True, open_file=lambda tag: _files_of(describe).read(tag)
        )
    else:
        arguments = values.load(parameters, open_file=lambda tag: _files_of(describe).read(tag))
    return arguments


def keep_result(value: Any, describe: Callable[[], Attempt]) -> bytes:
    """What an action returned, as bytes; the attempt is asked for only where something of it is to be a file."""
    if type(value) in PLAIN and type(value) not in (list, dict):
        return values.encode(value)
    return values.encode(value, keep=lambda found, codec: _files_of(describe).keep(found, codec))


def keep_hidden_result(value: Any, describe: Callable[[], Attempt]) -> bytes:
    """`keep_result` without the secrets of the attempt that runs here."""
    redactor = redaction.active()
    assert redactor is not None
    tree = values.to_tagged(value, keep=lambda found, codec: _files_of(describe).keep(found, codec))
    return values.encode_tree(redactor.tree(tree))


def _files_of(describe: Callable[[], Attempt]) -> ValueFiles:
    files = describe().files
    if files is None:
        raise values.Undecodable("this attempt has no folder for values that are kept as files")
    return files


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
