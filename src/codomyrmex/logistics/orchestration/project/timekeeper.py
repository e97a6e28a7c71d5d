"""One heap of deadlines and one thread that keeps them.

Layer: the engine's shell. Everything of an engine that is due at a time, or that must not run in a
thread that belongs to somebody else, runs here: retry timers, the poll for what other processes wrote,
barriers, checkpoints, lease renewals, draining on behalf of the main thread, and starting workers
(`run_here`: a worker's parent thread has to live as long as the worker).

Calls must be short; one that raises ends nothing else and is reported to `on_error`.

What was set with `call_in` is a *deadline*, what was set with `every` is *routine*. While nothing else goes
on (`idle`) the clock may skip the time to the next deadline; nobody waits for a routine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from threading import Condition, Event, Thread, current_thread
from typing import Any, TypeVar

from codomyrmex.clock import Clock

SKIP_AT_MOST_S = 5.0
"""A clock skips no more at a time, so that what is routine (the lease) is seen to on the way."""

T = TypeVar("T")
Call = Callable[[], object]


class Timekeeper:
    """See the module. `start` begins the thread; `stop` ends it after the call in progress."""

    def __init__(
        self, clock: Clock, *, idle: Callable[[], bool], on_error: Callable[[BaseException], None]
    ) -> None:
        self._clock = clock
        self._idle = idle
        self._on_error = on_error
        self._deadlines: list[tuple[float, int, Call]] = []
        self._routines: list[tuple[float, int, Call]] = []
        self._soon: deque[Call] = deque()
        self._wake = Condition()
        self._sequence = 0
        self._stopping = False
        self._thread = Thread(target=self._keep, name="codomyrmex-timekeeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def call_soon(self, call: Call) -> None:
        """Calls at once, in the timekeeper's thread."""
        with self._wake:
            self._soon.append(call)
            self._wake.notify()

    def call_in(self, delay_s: float, call: Call) -> None:
        """Calls after `delay_s` seconds."""
        self._add(self._deadlines, delay_s, call)

    def every(self, interval_s: float, call: Call) -> None:
        """Calls again and again, `interval_s` after the end of the last call."""

        def again() -> None:
            try:
                call()
            finally:
                self._add(self._routines, interval_s, again)

        self._add(self._routines, interval_s, again)

    def look(self) -> None:
        """Looks again at what is due: somebody has become idle."""
        with self._wake:
            self._wake.notify()

    def run_here(self, call: Callable[[], T]) -> T:
        """Runs `call` in the timekeeper's thread and returns what it returns, or raises what it raises."""
        if current_thread() is self._thread or not self._thread.is_alive():
            return call()
        done = Event()
        box: list[Any] = []

        def run() -> None:
            try:
                box.append((True, call()))
            except BaseException as error:  # noqa: BLE001 - handed to the caller
                box.append((False, error))
            finally:
                done.set()

        self.call_soon(run)
        while not done.wait(0.5):
            if not self._thread.is_alive():
                return call()
        fine, value = box[0]
        if not fine:
            raise value
        return value  # type: ignore[no-any-return]

    def stop(self) -> None:
        """Ends the thread; what is not due yet is dropped. Idempotent."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive() and current_thread() is not self._thread:
            self._thread.join()

    def _add(self, heap: list[tuple[float, int, Call]], delay_s: float, call: Call) -> None:
        at = self._clock.monotonic_s() + max(0.0, delay_s)
        with self._wake:
            self._sequence += 1
            heappush(heap, (at, self._sequence, call))
            if heap[0][1] == self._sequence:
                self._wake.notify()

    def _keep(self) -> None:
        while (call := self._next()) is not None:
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - one call must not end the others
                self._on_error(error)

    def _next(self) -> Call | None:
        with self._wake:
            while True:
                if self._soon:
                    return self._soon.popleft()
                if self._stopping:
                    return None
                now_s = self._clock.monotonic_s()
                for heap in (self._deadlines, self._routines):
                    if heap and heap[0][0] <= now_s:
                        return heappop(heap)[2]
                if self._deadlines and self._idle():
                    left_s = self._deadlines[0][0] - now_s
                    if self._clock.skip(min(left_s, SKIP_AT_MOST_S)):
                        continue
                waits = [heap[0][0] - now_s for heap in (self._deadlines, self._routines) if heap]
                self._wake.wait(min(waits, default=None))
