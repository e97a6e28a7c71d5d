"""What an executor is given, what it gives back, and the port that every executor fills.

Layer: executors; values only, no I/O. An `Attempt` is one try of a task, made by the orchestrator after the
row that says RUNNING has been committed. An `Outcome` is how it ended, told apart so that retry policies
and people can tell a bug from a crash from a timeout. Parameters and results are bytes of tagged JSON (see
`values`).

Invariant: when `Executor.run` returns, nothing of the attempt runs any more, except a thread that outlived
its wait, which no executor can end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.executors.worker.file_codecs import ValueFiles


class OutcomeKind(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"
    """The action returned and its value could be kept."""
    FAILED = "failed"
    """The action raised, could not be found, or a command ended with an exit code that was not expected."""
    TIMED_OUT = "timed_out"
    """It ran past `timeout_s`; its whole process tree has been ended."""
    CANCELLED = "cancelled"
    """Somebody asked; its process tree has been ended, or the action gave up by itself."""
    OUT_OF_MEMORY = "out_of_memory"
    """The action raised MemoryError, or the kernel killed it to get memory back."""
    CRASHED = "crashed"
    """Its process died by a signal or by `os._exit`, without an answer."""
    LOST = "lost"
    """Nobody can say what became of it: the worker could not be started, or died with its supervisor."""
    UNSERIALISABLE = "unserialisable"
    """The action returned something that cannot be kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorInfo:
    """Why an attempt did not complete, as it is kept and shown.

    `type` is the qualified name of the exception; `mro` the short names of its classes, nearest first, which
    retry rules match; `frame` the user's last frame as `file:line function`.
    """

    type: str
    message: str
    mro: tuple[str, ...] = ()
    frame: str | None = None
    traceback: str | None = None
    exit_code: int | None = None
    signal: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields that are set."""
        found: dict[str, Any] = {"type": self.type, "message": self.message}
        if self.mro:
            found["mro"] = list(self.mro)
        for name in ("frame", "traceback", "exit_code", "signal"):
            value = getattr(self, name)
            if value is not None:
                found[name] = value
        return found

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> ErrorInfo:
        """The reverse of `to_dict`; unknown keys are left out."""
        return cls(
            type=found["type"],
            message=found["message"],
            mro=tuple(found.get("mro", ())),
            frame=found.get("frame"),
            traceback=found.get("traceback"),
            exit_code=found.get("exit_code"),
            signal=found.get("signal"),
        )


@dataclass(kw_only=True, slots=True)
class Attempt:
    """One try of a task: all that an executor needs to know.

    `token` is `<engine epoch>.<run id>.<task>.<attempt>` and unique for ever; `task` is the step's name, or
    `name[index]`; `working_dir` is absolute; `roots` are searched for modules first, in order; `parameters`
    is a tagged JSON object. `log_path` None keeps no log; `files` is where values that have a codec are kept.
    """

    token: str
    run_id: str
    task: str
    number: int
    module: str
    action: str
    parameters: bytes
    working_dir: str
    workflow: str = ""
    task_id: str = ""
    epoch: int = 0
    function: Callable[..., Any] | None = None
    isolation: str = "process"
    timeout_s: float | None = None
    grace_s: float = 5.0
    env: Mapping[str, str] = field(default_factory=dict)
    python: str | None = None
    roots: tuple[str, ...] = ()
    log_path: str | None = None
    checkpoint_dir: str | None = None
    artifact_dir: str | None = None
    files: ValueFiles | None = None
    idempotency_key: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Values by name; they reach the worker over its private pipe and nothing else."""
    memory_bytes: int = 0
    """What the attempt's whole tree may use before it is ended as out of memory; 0 is no limit."""
    memory_hard: bool = False
    """True where each process of it is also bound by RLIMIT_AS, so that an allocation fails at once."""
    threads: int = 0
    """How many threads numeric libraries may start, set before the interpreter starts; 0 leaves it alone."""
    gpu_env: Mapping[str, str] | None = None
    """The variables that say which devices it sees; None leaves them alone."""
    clean_env: tuple[str, ...] | None = None
    """The variables that it inherits besides the few that any program needs; None: all of them."""


@dataclass(kw_only=True, slots=True)
class Outcome:
    """How one attempt ended. `started_us` and `ended_us` are UTC microseconds, `duration_s` is monotonic.

    `cache_row` keeps the result for later runs, in the transaction that records it; with `cached` the result
    was found there and nothing ran.
    """

    kind: OutcomeKind
    started_us: int
    ended_us: int
    duration_s: float
    result: bytes | None = None
    error: ErrorInfo | None = None
    cache_row: tuple[Any, ...] | None = None
    cached: bool = False
    parameters_bytes: int = 0
    cpu_s: float | None = None
    """CPU time of all that ran for it; None where that is not known."""
    memory_bytes: int | None = None
    """The most memory it held at a time beyond what its worker had before; what it was held to, or more, where it
    ran out of memory. None where that is not known."""


Note = Callable[[str, Mapping[str, Any]], None]
"""Told (attempt token, note) while an attempt runs; a note has a `kind`: progress, metric, artifact or refund."""


class MustWait(Exception):
    """Only a thread that may wait can bring this attempt to its end: go on with `Begun.complete`."""


class Begun(Protocol):
    """An attempt under way that nobody waits for. Who began it calls `collect` whenever one of `descriptors`
    is readable."""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What becomes readable when there is something to collect."""
        ...

    def collect(self) -> Outcome | None:
        """The outcome if it is there, without waiting; None while the attempt goes on. Raises `MustWait`."""
        ...

    def complete(self) -> Outcome:
        """Waits for the end, whatever it takes; only after `MustWait`."""
        ...


class Executor(Protocol):
    """Runs attempts, one per calling thread."""

    def run(self, attempt: Attempt) -> Outcome:
        """Runs the attempt to its end and says how it ended; never raises for what the action did."""
        ...

    def cancel(self, token: str, *, kill: bool = False) -> bool:
        """Asks a running attempt to end, at once with `kill`; False when no such attempt runs here."""
        ...

    def close(self) -> None:
        """Ends everything that still runs and frees what is held; idempotent."""
        ...


@runtime_checkable
class WarmExecutor(Executor, Protocol):
    """An executor with workers that wait for work, so that one thread can look after many attempts."""

    def begin(self, attempt: Attempt) -> Begun | None:
        """Starts the attempt without waiting; None where that takes a thread that may: use `run` then."""
        ...
