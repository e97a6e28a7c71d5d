"""Outcomes of attempts that could not speak for themselves: killed, crashed, or never begun.

Layer: executors; pure but for the clock. What the supervisor wrote is turned into an `Outcome` whose
message says what happened in words that help.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from codomyrmex.logistics.orchestration.project.executors.attempt import (
    Attempt,
    ErrorInfo,
    Outcome,
    OutcomeKind,
)

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def ended_now(kind: OutcomeKind, error: ErrorInfo | None, started_us: int, started_s: float) -> Outcome:
    """An outcome that began at the given moments (UTC microseconds, monotonic seconds) and ends now."""
    duration_s = time.monotonic() - started_s
    return Outcome(
        kind=kind,
        error=error,
        started_us=started_us,
        ended_us=started_us + int(duration_s * 1e6),
        duration_s=duration_s,
    )


def cancelled_before_start() -> Outcome:
    """Cancelled before anything of it ran."""
    error = ErrorInfo(type="TaskCancelled", mro=("TaskCancelled",), message="cancelled before it began")
    return ended_now(OutcomeKind.CANCELLED, error, time.time_ns() // 1000, time.monotonic())


def outcome_of(
    verdict: Mapping[str, Any] | None, attempt: Attempt, started_us: int, started_s: float
) -> Outcome:
    """The outcome that a supervisor's verdict means; None is a supervisor that was killed itself."""
    if verdict is None:
        error = ErrorInfo(
            type="WorkerCrashed",
            mro=("WorkerCrashed",),
            message="its worker was killed from outside, supervisor and all",
            signal=int(signal.SIGKILL),
        )
        return ended_now(OutcomeKind.LOST, error, started_us, started_s)
    word = verdict["verdict"]
    if word == "timed_out":
        kind, name = OutcomeKind.TIMED_OUT, "TimeoutError"
        message = (
            f"ran past its timeout of {attempt.timeout_s:g} s"
            if attempt.timeout_s
            else "ran past its timeout"
        )
    elif word in ("cancelled", "closed"):
        kind, name = OutcomeKind.CANCELLED, "TaskCancelled"
        message = "cancelled" if word == "cancelled" else "ended with the engine"
    elif word == "out_of_memory":
        kind, name = OutcomeKind.OUT_OF_MEMORY, "OutOfMemory"
        message = _memory_message(verdict)
    else:
        kind, name, message = OutcomeKind.CRASHED, "WorkerCrashed", _crash_message(verdict)
    error = ErrorInfo(
        type=name,
        mro=("TimeoutError", "OSError", "Exception") if name == "TimeoutError" else (name,),
        message=message,
        exit_code=verdict.get("exit_code"),
        signal=verdict.get("signal"),
    )
    outcome = ended_now(kind, error, started_us, started_s)
    outcome.parameters_bytes = len(attempt.parameters)
    if kind is OutcomeKind.OUT_OF_MEMORY:
        outcome.memory_bytes = verdict.get("used_bytes")
    return outcome


def limited(outcome: Outcome, attempt: Attempt) -> Outcome:
    """A failed allocation under a hard limit says which limit that was, and that it needs more than that."""
    if attempt.memory_hard and attempt.memory_bytes and outcome.error is not None:
        outcome.memory_bytes = max(outcome.memory_bytes or 0, attempt.memory_bytes)
        limit = (
            f"it may have {_size(attempt.memory_bytes)} of address space beyond what its worker started with"
        )
        outcome.error = replace(outcome.error, message=f"{outcome.error.message}: {limit}")
    return outcome


def _memory_message(verdict: Mapping[str, Any]) -> str:
    used = verdict.get("used_bytes")
    if used is None:
        return "killed by the kernel, which was out of memory"
    return f"used {_size(used)} of the {_size(verdict['limit_bytes'])} it asked for"


def _size(size_bytes: int) -> str:
    """A size as a person says it: `1.31 GiB`."""
    unit = min((max(size_bytes, 1).bit_length() - 1) // 10, len(_UNITS) - 1)
    return f"{f'{size_bytes / 1024**unit:.2f}'.rstrip('0').rstrip('.')} {_UNITS[unit]}"


def _crash_message(verdict: Mapping[str, Any]) -> str:
    number = verdict.get("signal")
    if number is None:
        return f"its process ended with exit code {verdict.get('exit_code')} without giving a result"
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = "unknown"
    return f"its process died by signal {number} ({name}); the log has what it last wrote"
