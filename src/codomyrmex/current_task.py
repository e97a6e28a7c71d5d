"""What an action sees of the attempt that runs it.

Layer: above logging, below everything that executes; standard library only, Python 3.9 syntax, because the
worker loads this very file into interpreters that do not have this package.

`current_task()` answers inside an attempt, in every isolation, and raises `NoCurrentTask` anywhere else.
`action` attaches what a function declares about itself and returns the function unchanged: it stays callable,
importable and testable as it was.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from typing import Any, TypeVar

    Function = TypeVar("Function", bound=Callable[..., Any])

EFFECTS = ("pure", "idempotent", "unsafe")
ISOLATIONS = ("thread", "process", "async")
PROGRESS_EVERY_S = 0.1


class NoCurrentTask(RuntimeError):
    """`current_task()` was called where no attempt runs."""

    def __init__(self) -> None:
        super().__init__(
            "current_task() answers only inside an action that a workflow or task runs; "
            "call the function through an engine, or pass what it needs as parameters"
        )


class NoSecret(KeyError):
    """A secret that the task was not given."""

    def __init__(self, name: str, given: Iterable[str] = ()) -> None:
        known = ", ".join(sorted(given))
        super().__init__(
            f"no secret {name!r} was given to this task (given: {known})"
            if known
            else f"no secret {name!r} was given to this task; its step gets what it names: "
            f"with: {{key: ${{secrets.{name}}}}}, or env"
        )

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError would show it in quotes


class TaskCancelled(BaseException):
    """Raised in an action's main thread when its task is cancelled or out of time, so that `finally` blocks
    run.

    An action may raise it itself after reading `current_task().cancelled`.
    """


class CurrentTask:
    """The attempt that runs now."""

    __slots__ = (
        "_artifact_dir",
        "_cancelled",
        "_checkpoint_dir",
        "_log",
        "_log_path",
        "_next_progress",
        "_note",
        "_printed",
        "_secrets",
        "attempt",
        "idempotency_key",
        "polls_cancelled",
        "run_id",
        "task",
        "task_id",
        "working_dir",
    )

    def __init__(
        self,
        *,
        run_id: str,
        task: str,
        task_id: str,
        attempt: int,
        idempotency_key: str,
        working_dir: str,
        note: Callable[[dict[str, Any]], None] | None = None,
        secrets: Mapping[str, str] | None = None,
        checkpoint_dir: str | None = None,
        artifact_dir: str | None = None,
        log_path: str | None = None,
    ) -> None:
        self.run_id = run_id
        self.task = task
        self.task_id = task_id
        self.attempt = attempt
        self.idempotency_key = idempotency_key
        self.working_dir = working_dir
        self.polls_cancelled = False
        self._note = note
        self._secrets = secrets
        self._checkpoint_dir = checkpoint_dir
        self._artifact_dir = artifact_dir
        self._log_path = log_path
        self._log: logging.Logger | None = None
        self._printed: Any = None
        self._cancelled = False
        self._next_progress = 0.0

    @property
    def cancelled(self) -> bool:
        """True once somebody asked this task to end.

        An action that reads it is taken to co-operate: in a process it is then left to return by itself
        within the grace period, instead of having `TaskCancelled` raised in it.
        """
        self.polls_cancelled = True
        return self._cancelled

    def request_cancel(self) -> None:
        """Makes `cancelled` true; called by executors."""
        self._cancelled = True

    @property
    def log(self) -> logging.Logger:
        """A logger whose lines (INFO and above) go to this attempt's log."""
        if self._log is None:
            self._log = _attempt_logger(self.task, self._log_path)
        return self._log

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tells how far the work is; calls within 100 ms of the last are dropped, the final one never is."""
        import time

        now = time.monotonic()
        if self._note is not None and (now >= self._next_progress or done == total):
            self._next_progress = now + PROGRESS_EVERY_S
            self._note({"kind": "progress", "done": done, "total": total, "message": message})

    def metric(self, name: str, value: float) -> None:
        """Records one number under a name."""
        if self._note is not None:
            self._note({"kind": "metric", "name": name, "value": value})

    def refund(self, quota: str, amount: float) -> None:
        """Gives back to a quota what this step asked for (`resources: {quota: 2000}`) and did not use."""
        if amount <= 0:
            raise ValueError(f"a refund is more than 0, not {amount!r}")
        if self._note is not None:
            self._note({"kind": "refund", "name": quota, "amount": amount})

    def secret(self, name: str) -> str:
        """The secret that the step was given under this name; raises `NoSecret` saying which there are."""
        secrets = self._secrets or {}
        if name not in secrets:
            raise NoSecret(name, secrets)
        return secrets[name]

    @property
    def checkpoint_dir(self) -> Path:
        """A folder that every attempt of this task sees, made at the first use."""
        from pathlib import Path

        if self._checkpoint_dir is None:
            raise RuntimeError(_no_folder("checkpoints"))
        folder = Path(self._checkpoint_dir)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def save_artifact(self, path: str | Path, name: str | None = None) -> Path:
        """Copies a file to the run's artifacts and returns the copy's path; a copy of the same name is
        replaced."""
        import os
        import shutil
        from pathlib import Path

        if self._artifact_dir is None:
            raise RuntimeError(_no_folder("artifacts"))
        source = Path(self.working_dir) / path
        target = Path(self._artifact_dir) / (name or source.name)
        if target.parent != Path(self._artifact_dir) or target.name in ("", ".", ".."):
            raise ValueError(f"an artifact's name is a plain file name, not {name!r}")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{self.attempt}.part")
        try:
            shutil.copyfile(source, partial)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
        if self._note is not None:
            size = target.stat().st_size
            self._note({"kind": "artifact", "name": target.name, "path": str(target), "size_bytes": size})
        return target

    def write_log(self, text: str) -> bool:
        """Adds text to the log as it is, which is where printing goes; False for an attempt that keeps none."""
        if self._log_path is None:
            return False
        if self._printed is None:
            import os

            os.makedirs(os.path.dirname(self._log_path), exist_ok=True)
            self._printed = open(self._log_path, "a", buffering=1, encoding="utf-8", errors="replace")  # noqa: SIM115
        self._printed.write(text)
        return True

    def close(self) -> None:
        """Lets go of the log; called by executors when the attempt has ended."""
        if self._printed is not None:
            self._printed.close()
        if self._log is not None:
            for handler in self._log.handlers:
                handler.close()


# A task, or what makes it when it is asked for: most actions never ask.
_current: ContextVar[CurrentTask | Callable[[], CurrentTask] | None] = ContextVar(
    "codomyrmex_current_task", default=None
)
_of_process: CurrentTask | None = None


def current_task() -> CurrentTask:
    """The attempt that runs this code; raises `NoCurrentTask` outside one."""
    task = _current.get() or _of_process
    if task is None:
        raise NoCurrentTask
    return task if isinstance(task, CurrentTask) else task()


def enter(task: CurrentTask | Callable[[], CurrentTask]) -> Any:
    """Makes `task`, or what it returns when asked, the current one of this context; for `leave`."""
    return _current.set(task)


def leave(token: Any) -> None:
    """Undoes `enter`."""
    _current.reset(token)


def set_process_task(task: CurrentTask | None) -> None:
    """Makes `task` the current one of every thread of this process; a worker runs one attempt at a time."""
    global _of_process  # noqa: PLW0603
    _of_process = task


def action(
    *,
    effects: str = "idempotent",
    resources: Mapping[str, Any] | None = None,
    timeout_s: float | None = None,
    isolation: str | None = None,
    name: str | None = None,
    version: str | None = None,
) -> Callable[[Function], Function]:
    """Declares what a function does to the world and needs; the function itself is returned unchanged.

    `effects` is one of pure, idempotent, unsafe; `isolation` one of thread, process, async. `version` stands for
    the source of the function in cache keys: results of other versions are not used.
    """
    if effects not in EFFECTS:
        raise ValueError(f"effects={effects!r}: choose one of {', '.join(EFFECTS)}")
    if isolation is not None and isolation not in ISOLATIONS:
        raise ValueError(f"isolation={isolation!r}: choose one of {', '.join(ISOLATIONS)}")
    if timeout_s is not None and not timeout_s > 0:
        raise ValueError(f"timeout_s={timeout_s!r}: give seconds above 0")
    declared = {
        "effects": effects,
        "resources": dict(resources or {}),
        "timeout_s": timeout_s,
        "isolation": isolation,
        "name": name,
        "version": version,
    }

    def declare(function: Function) -> Function:
        function.__codomyrmex_action__ = declared  # type: ignore[attr-defined]
        return function

    return declare


def _no_folder(what: str) -> str:
    return (
        f"this task keeps no {what}: its engine has no folder; open it with state=FOLDER instead of :memory:"
    )


def _attempt_logger(task: str, log_path: str | None) -> logging.Logger:
    """A logger outside the registry: it ends with the attempt and leaves nothing in the process.

    With a path its lines go to that file, made at the first line; without, to standard error, which a worker
    keeps as the attempt's log.
    """
    import logging
    import os

    logger = logging.Logger(f"codomyrmex.task.{task}", logging.INFO)
    handler: logging.Handler
    if log_path is None:
        handler = logging.StreamHandler()
    else:
        os.makedirs(os.path.dirname(log_path), exist_ok=True)
        handler = logging.FileHandler(log_path, delay=True, encoding="utf-8", errors="replace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.parent = logging.getLogger("codomyrmex.task") if log_path is not None else None
    return logger


class _Callable(ModuleType):
    """`from codomyrmex import current_task` finds this module, which bears the name of its function."""

    def __call__(self) -> CurrentTask:
        return current_task()


sys.modules[__name__].__class__ = _Callable
