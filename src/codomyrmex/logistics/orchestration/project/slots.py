"""The threads that work through chunks.

Layer: the engine's shell. A slot runs the attempts of its chunk one after the other, puts each outcome
into the inbox, and drains when the chunk is done or an outcome has been held for `HOLD_S`; the drain hands
it its next chunk, so in a chain of steps no thread ever waits for another. Threads are made when there is
work for them and kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock, Thread

from codomyrmex.clock import Clock
from codomyrmex.logistics.orchestration.project.drain import Drain
from codomyrmex.logistics.orchestration.project.executors.attempt import Outcome
from codomyrmex.logistics.orchestration.project.news import Arrival, Chunk, Entry
from codomyrmex.logistics.orchestration.project.resource_request import Grant
from codomyrmex.logistics.orchestration.project.run_state import RunState

HOLD_S = 0.002
"""No attempt begins in a slot that holds an unrecorded outcome older than this."""

RunAttempt = Callable[[RunState, int, int, Grant], Outcome]


@dataclass(slots=True)
class _Rest:
    """An attempt under way whose end has to be waited for."""

    chunk: Chunk
    entry: Entry
    complete: Callable[[], Outcome]


class Slots:
    """At most `limit` threads; see the module."""

    def __init__(self, drain: Drain, run_attempt: RunAttempt, *, clock: Clock, limit: int) -> None:
        self._drain = drain
        self._run_attempt = run_attempt
        self._monotonic_s = clock.monotonic_s
        self._limit = limit
        self._queue: SimpleQueue[Chunk | _Rest | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._lock = Lock()
        self._wanted = 0
        """How many threads have something to do, or would have if they were there."""
        self._closed = False

    def give(self, chunk: Chunk) -> None:
        """Queues a chunk."""
        self._put(chunk)

    def give_rest(self, chunk: Chunk, entry: Entry, complete: Callable[[], Outcome]) -> None:
        """Queues the rest of an attempt that has begun elsewhere: `complete` brings it to its end."""
        self._put(_Rest(chunk, entry, complete))

    def close(self) -> list[Thread]:
        """Ends every thread after its present chunk; returns those that still run."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
        for _ in threads:
            self._queue.put(None)
        return [thread for thread in threads if thread.is_alive()]

    def _put(self, what: Chunk | _Rest) -> None:
        with self._lock:
            self._wanted += 1
            if len(self._threads) < min(self._wanted, self._limit) and not self._closed:
                self._add_thread()
        self._queue.put(what)

    def _add_thread(self) -> None:
        thread = Thread(target=self._serve, name=f"codomyrmex-slot-{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no room for one more; those that are there do the work
            if not self._threads:
                raise
            return
        self._threads.append(thread)

    def _serve(self) -> None:
        while (first := self._queue.get()) is not None:
            following: Chunk | _Rest | None = first
            while following is not None:
                if isinstance(following, _Rest):
                    self._finish(following)
                else:
                    self._work(following)
                following = self._drain.drain(keep_one=not self._closed)
            with self._lock:
                self._wanted -= 1

    def _finish(self, rest: _Rest) -> None:
        outcome = rest.complete()
        rest.chunk.now_running = None
        self._drain.post(Arrival(rest.chunk, *rest.entry, outcome))

    def _work(self, chunk: Chunk) -> None:
        run, entries, run_attempt, post = chunk.run, chunk.entries, self._run_attempt, self._drain.post
        held_s, grant = 0.0, chunk.grant
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
            outcome = run_attempt(run, position, number, grant)
            chunk.now_running = None
            post(Arrival(chunk, position, number, outcome))
            held_s = held_s or self._monotonic_s()
        chunk.begun_s = 0.0
