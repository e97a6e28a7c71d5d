"""The threads that work through chunks.

Layer: the engine's shell. A slot runs the attempts of its chunk one after the other, puts each outcome
into the inbox, and drains when the chunk is done or an outcome has been held for `HOLD_S`; the drain hands
it its next chunk, so in a chain of steps no thread ever waits for another. Threads are made when there is
work for them and kept.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread

from codomyrmex.clock import Clock
from codomyrmex.logistics.orchestration.project.drain import Drain
from codomyrmex.logistics.orchestration.project.executors.attempt import Outcome
from codomyrmex.logistics.orchestration.project.news import Arrival, Chunk
from codomyrmex.logistics.orchestration.project.run_state import RunState

HOLD_S = 0.002
"""No attempt begins in a slot that holds an unrecorded outcome older than this."""

RunAttempt = Callable[[RunState, int, int], Outcome]


class Slots:
    """At most `limit` threads; see the module."""

    def __init__(self, drain: Drain, run_attempt: RunAttempt, *, clock: Clock, limit: int) -> None:
        self._drain = drain
        self._run_attempt = run_attempt
        self._monotonic_s = clock.monotonic_s
        self._limit = limit
        self._queue: SimpleQueue[Chunk | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._lock = Lock()
        self._closed = False

    def give(self, chunks: list[Chunk], *, in_flight: int) -> None:
        """Queues chunks; `in_flight` is how many are under way or queued, these included."""
        self._ensure(in_flight)
        for chunk in chunks:
            self._queue.put(chunk)

    def close(self) -> list[Thread]:
        """Ends every thread after its present chunk; returns those that still run."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
        for _ in threads:
            self._queue.put(None)
        return [thread for thread in threads if thread.is_alive()]

    def _ensure(self, wanted: int) -> None:
        with self._lock:
            while len(self._threads) < min(wanted, self._limit) and not self._closed:
                thread = Thread(target=self._serve, name=f"codomyrmex-slot-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self) -> None:
        while (chunk := self._queue.get()) is not None:
            following: Chunk | None = chunk
            while following is not None:
                self._work(following)
                following = self._drain.drain(keep_one=not self._closed)

    def _work(self, chunk: Chunk) -> None:
        run, entries, run_attempt = chunk.run, chunk.entries, self._run_attempt
        held_s = 0.0
        while True:
            try:
                chunk.now_running = entry = entries.popleft()
            except IndexError:
                break
            position, number = entry
            began_s = chunk.begun_s = self._monotonic_s()
            if held_s and began_s - held_s > HOLD_S:
                self._drain.drain()
                held_s = 0.0
            outcome = run_attempt(run, position, number)
            chunk.now_running = None
            self._drain.post(Arrival(chunk, position, number, outcome))
            held_s = held_s or self._monotonic_s()
        chunk.begun_s = 0.0
