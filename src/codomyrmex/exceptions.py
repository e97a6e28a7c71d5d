"""Every error this package raises on purpose.

Layer: the lowest; imports nothing of ours. The tree:

    CodomyrmexError                  exit 1
    ├── ValidationError              exit 2   a list of faults, found before anything ran
    ├── SettingsError                exit 2   a setting that cannot be read
    ├── NotFound                     exit 5
    │   ├── WorkflowNotFound                  (also a ValueError)
    │   ├── RunNotFound
    │   ├── ResourceNotFound
    │   ├── TaskNotFound
    │   └── ActionNotFound
    ├── Conflict                     exit 6   somebody else holds it, or it changed meanwhile
    │   ├── IllegalTransition                 a move that no table allows
    │   └── NotResumable                      a run that cannot go on, and why
    ├── NotAllowed                   exit 2   not theirs to ask, or to answer
    ├── ResourceRefused              exit 7   can never fit
    ├── RunFailed                    exit 1   carries the execution
    ├── EngineClosed                 exit 1   the engine has been shut down
    ├── EngineForked                 exit 1   used in a child made by fork()
    ├── StateFileGuarded             exit 1   (also a PermissionError)
    └── StoreError                   exit 1   the state file could not be read or written
        ├── StoreBusy                exit 6
        ├── StoreFull
        ├── StoreIOError
        ├── StoreCorrupt
        └── StoreTooNew              exit 6   made by a newer version of this package

Each carries fields, builds its own message, and says in `hint` what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong with an input, found before anything ran.

    `path` names the place inside the input (`steps[2].retry`), `file` and `line` the place in the text.
    """

    message: str
    path: str = ""
    file: str | None = None
    line: int | None = None
    code: str = "invalid"
    got: str | None = None
    allowed: tuple[str, ...] = ()
    nearest: str | None = None
    advice: str | None = None

    @property
    def place(self) -> str:
        """`file:line: path`, as far as known."""
        where = self.file or ""
        if where and self.line is not None:
            where = f"{where}:{self.line}"
        return ": ".join(part for part in (where, self.path) if part)

    def __str__(self) -> str:
        text = f"{self.place}: {self.message}" if self.place else self.message
        if self.nearest is not None:
            text += f"; did you mean {self.nearest!r}?"
        elif self.allowed:
            text += f"; allowed: {', '.join(self.allowed)}"
        if self.advice:
            text += f"\n    {self.advice}"
        return text

    def to_dict(self) -> dict[str, Any]:
        """The fields that are set, for `--json` and for agents."""
        names = ("code", "message", "path", "file", "line", "got", "nearest", "advice")
        found = {name: getattr(self, name) for name in names}
        known = {name: value for name, value in found.items() if value not in (None, "")}
        if self.allowed:
            known["allowed"] = list(self.allowed)
        return known


class CodomyrmexError(Exception):
    """The base of every error raised on purpose; `exit_code` is what the command line ends with."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str | None = None, details: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details


class ValidationError(CodomyrmexError):
    """An input was refused; `faults` lists everything that is wrong with it, in the order of the input."""

    exit_code = 2
    code = "validation"

    def __init__(
        self, faults: Sequence[Fault], *, subject: str = "the input", hint: str | None = None
    ) -> None:
        self.faults = tuple(faults)
        count = len(self.faults)
        head = f"{subject} has {count} fault{'' if count == 1 else 's'}"
        body = "\n".join(f"  {fault}" for fault in self.faults)
        super().__init__(f"{head}:\n{body}", hint=hint, details=[fault.to_dict() for fault in self.faults])


class SettingsError(CodomyrmexError):
    """A setting or an option has a value that cannot be used."""

    exit_code = 2
    code = "settings"


class NotFound(CodomyrmexError):
    """A thing was asked for by a name or an id that nothing has."""

    exit_code = 5
    code = "not_found"
    noun: ClassVar[str] = "thing"

    def __init__(self, name: str, *, nearest: str | None = None, hint: str | None = None) -> None:
        self.name = name
        self.nearest = nearest
        message = f"no {self.noun} {name!r}"
        if nearest is not None:
            message += f"; did you mean {nearest!r}?"
        super().__init__(message, hint=hint, details={"name": name, "nearest": nearest})


class WorkflowNotFound(NotFound, ValueError):
    """No file, definition or registered workflow has this name."""

    code = "workflow_not_found"
    noun = "workflow"


class RunNotFound(NotFound):
    """No run has this id, prefix or workflow name."""

    code = "run_not_found"
    noun = "run"


class ResourceNotFound(NotFound):
    """Neither the machine nor the state has a resource of this name."""

    code = "resource_not_found"
    noun = "resource"


class TaskNotFound(NotFound):
    """No task has this id or name."""

    code = "task_not_found"
    noun = "task"


class ActionNotFound(NotFound):
    """No module and function of this name can be found where actions are looked for."""

    code = "action_not_found"
    noun = "action"


class Conflict(CodomyrmexError):
    """Somebody else holds it, or it changed between the reading and the writing."""

    exit_code = 6
    code = "conflict"


class NotAllowed(CodomyrmexError):
    """Somebody asked for what is not theirs to ask; `hint` says whose it is."""

    code = "not_allowed"
    exit_code = 2


class IllegalTransition(Conflict):
    """A move that the table of legal moves does not have."""

    code = "illegal_transition"

    def __init__(self, noun: str, state: str, event: str) -> None:
        self.noun, self.state, self.event = noun, state, event
        super().__init__(f"a {noun} that is {state} cannot take {event!r}")


class NotResumable(Conflict):
    """A run that cannot go on: its code was never importable, or an action is gone."""

    code = "not_resumable"


class ResourceRefused(CodomyrmexError):
    """A request that no amount of waiting can satisfy."""

    exit_code = 7
    code = "resource_refused"


class RunFailed(CodomyrmexError):
    """A run ended otherwise than COMPLETED; `execution` is the whole of it."""

    code = "run_failed"

    def __init__(self, message: str, execution: Any = None) -> None:
        super().__init__(message)
        self.execution = execution


class EngineClosed(CodomyrmexError):
    """The engine has been shut down; open a new one."""

    code = "engine_closed"


class EngineForked(CodomyrmexError):
    """An engine or a database was used in a child made by fork(); open one there instead."""

    code = "engine_forked"


class StateFileGuarded(CodomyrmexError, PermissionError):
    """Something in an engine process tried to open a state file by itself (see `storage.guard`)."""

    code = "state_file_guarded"


class StoreError(CodomyrmexError):
    """The state could not be read or written.

    `outcome_unknown` is True where a commit failed in a way that leaves open whether it took effect.
    """

    code = "store"

    def __init__(self, message: str, *, hint: str | None = None, outcome_unknown: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.outcome_unknown = outcome_unknown


class StoreBusy(StoreError):
    """The lock on the state was not had in time."""

    exit_code = 6
    code = "store_busy"


class StoreFull(StoreError):
    """The disk, or the quota on it, is full."""

    code = "store_full"


class StoreIOError(StoreError):
    """The operating system refused a read, a write or a sync."""

    code = "store_io"


class StoreCorrupt(StoreError):
    """The file is not a state of ours, or a check sum does not match."""

    code = "store_corrupt"


class StoreTooNew(StoreError):
    """The state was written by a newer version of this package."""

    exit_code = 6
    code = "store_too_new"
