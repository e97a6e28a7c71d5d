"""Attempts that are coroutines: one event loop, in a thread of its own, for all of them.

Layer: executors. The loop and its thread are made at the first attempt. `run` blocks the slot that called
it, so slots bound how many coroutines run at once. Cancel is `asyncio`'s: `CancelledError` is raised at the
next await.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from codomyrmex import current_task as current
from codomyrmex.logistics.orchestration.project.executors.attempt import (
    Attempt,
    ErrorInfo,
    Note,
    Outcome,
    OutcomeKind,
)
from codomyrmex.logistics.orchestration.project.executors.thread import (
    ended_by,
    find_function,
    keep_hidden_result,
    keep_result,
    load_parameters,
    make_current_task,
)
from codomyrmex.logistics.orchestration.project.executors.worker import redaction

if TYPE_CHECKING:
    import asyncio

CLOSE_LIMIT_S = 5.0


class AsyncExecutor:
    """Runs coroutine functions on one loop."""

    def __init__(self, *, on_note: Note | None = None, importing: bool = True) -> None:
        self._on_note = on_note
        self._importing = importing
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: dict[str, tuple[asyncio.Task[Any], current.CurrentTask]] = {}

    def run(self, attempt: Attempt) -> Outcome:
        """Runs the coroutine on the loop; the calling thread waits."""
        import asyncio

        return asyncio.run_coroutine_threadsafe(self._perform(attempt), self._running_loop()).result()

    def cancel(self, token: str, *, kill: bool = False) -> bool:
        """Cancels the coroutine at its next await."""
        del kill
        entry = self._tasks.get(token)
        if entry is None or self._loop is None:
            return False
        task, seen = entry
        seen.request_cancel()
        self._loop.call_soon_threadsafe(task.cancel)
        return True

    def close(self) -> None:
        """Cancels what runs, stops the loop and ends its thread."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(self._cancel_all, loop)
        thread.join(CLOSE_LIMIT_S)
        if not thread.is_alive():
            loop.close()

    def _cancel_all(self, loop: asyncio.AbstractEventLoop) -> None:
        for task, seen in list(self._tasks.values()):
            seen.request_cancel()
            task.cancel()
        if self._tasks:
            loop.call_later(0.005, self._cancel_all, loop)
        else:
            loop.call_soon(loop.stop)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        import asyncio

        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="codomyrmex-async", daemon=True
                )
                self._thread.start()
            return self._loop

    async def _perform(self, attempt: Attempt) -> Outcome:
        import asyncio

        task = make_current_task(attempt, self._on_note)
        own = asyncio.current_task()
        assert own is not None
        self._tasks[attempt.token] = (own, task)
        current.enter(task)  # the context is this asyncio task's own and ends with it
        if attempt.secrets:
            redaction.enter(redaction.Redactor(attempt.secrets))
        started_us, started_ns = time.time_ns() // 1000, time.monotonic_ns()
        result = error = None
        try:
            function = attempt.function or find_function(attempt, importing=self._importing)
            value = function(**load_parameters(attempt))
            if hasattr(value, "__await__"):
                value = await value
            keep = keep_hidden_result if attempt.secrets else keep_result
            kind, result = OutcomeKind.COMPLETED, keep(value, lambda: attempt)
        except asyncio.CancelledError:
            kind = OutcomeKind.CANCELLED
            error = ErrorInfo(type="CancelledError", mro=("CancelledError",), message="cancelled")
        except BaseException as problem:  # noqa: BLE001  (the attempt boundary)
            kind, error = ended_by(problem, attempt)
            if kind is OutcomeKind.COMPLETED:
                result = b"null"
        finally:
            del self._tasks[attempt.token]
        duration_ns = time.monotonic_ns() - started_ns
        task.close()
        return Outcome(
            kind=kind,
            result=result,
            error=error,
            started_us=started_us,
            ended_us=started_us + duration_ns // 1000,
            duration_s=duration_ns / 1e9,
            parameters_bytes=len(attempt.parameters),
        )
