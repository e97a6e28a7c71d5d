"""One thread for all attempts in warm worker processes.

Layer: the engine's shell, beside `slots`. Workers do the work; what is left for the engine is to start the
next attempt when one has ended. A thread for each worker would only wait for the interpreter's lock, so
one looks after all of them:

    begin what the drain gave ──> poll ──> collect every outcome that is there ──> drain once ──> begin ...

It never waits for anything but news. Whatever takes a wait goes to the threads of `Slots`: there is no warm
worker yet, the worker runs old code or has died, values are too large to be sent or received at once. A
chunk for a worker process holds one attempt, so a worker that is killed takes at most one with it.
"""

from __future__ import annotations

import os
import select
from collections import deque
from threading import Thread

from codomyrmex.clock import Clock
from codomyrmex.logistics.orchestration.project.attempt_runner import AttemptRunner
from codomyrmex.logistics.orchestration.project.drain import Drain
from codomyrmex.logistics.orchestration.project.executors.attempt import Begun, MustWait, Outcome
from codomyrmex.logistics.orchestration.project.news import Arrival, Chunk, Entry
from codomyrmex.logistics.orchestration.project.slots import Slots

_Flight = tuple[Chunk, Entry, Begun]


class ProcessSlots:
    """See the module. The thread begins with the first chunk."""

    def __init__(self, drain: Drain, runner: AttemptRunner, slots: Slots, *, clock: Clock) -> None:
        self._drain = drain
        self._runner = runner
        self._slots = slots
        self._monotonic_s = clock.monotonic_s
        self._given: deque[Chunk] = deque()
        self._flights: dict[int, _Flight] = {}
        """What is under way, by descriptor: each has several."""
        self._poller = select.poll()
        self._watched: set[int] = set()
        self._posted = False
        self._sleeping = False
        self._closed = False
        self._wake = (-1, -1)
        self._thread: Thread | None = None

    def give(self, chunk: Chunk) -> None:
        """Takes a chunk with one attempt; called inside a drain, so by one thread at a time."""
        if self._closed:
            self._slots.give(chunk)
            return
        if self._thread is None and not self._start():
            self._slots.give(chunk)
            return
        self._given.append(chunk)
        if self._sleeping:
            os.write(self._wake[1], b"w")

    def _start(self) -> bool:
        """Begins the thread; False where the system has no room for one more thread or pipe."""
        thread = Thread(target=self._serve, name="codomyrmex-process-slots", daemon=True)
        try:
            self._wake = os.pipe()
            self._poller.register(self._wake[0], select.POLLIN)
            thread.start()
        except (OSError, RuntimeError):
            self._close_pipe()
            return False
        self._thread = thread
        return True

    def _close_pipe(self) -> None:
        for descriptor in self._wake:
            if descriptor >= 0:
                os.close(descriptor)
        self._wake = (-1, -1)

    def close(self) -> list[Thread]:
        """Ends the thread once nothing is under way; returns it while it still runs.

        A call after its end gives back the pipe.
        """
        self._closed = True
        if self._thread is None or not self._thread.is_alive():
            self._close_pipe()
            return []
        os.write(self._wake[1], b"w")
        return [self._thread]

    def _serve(self) -> None:
        while True:
            while self._given:
                self._begin(self._given.popleft())
            if self._closed and not self._flights:
                break
            if not self._posted:
                self._wait_and_collect()
            if self._posted:
                self._posted = False
                self._drain.drain()  # gives the next chunks to this object, in this thread

    def _begin(self, chunk: Chunk) -> None:
        try:
            chunk.now_running = entry = chunk.entries.popleft()
        except IndexError:
            return  # it was taken back
        chunk.begun_s = self._monotonic_s()
        begun = self._runner.begin(chunk.run, *entry, chunk.grant)
        if begun is None:
            chunk.now_running = None
            chunk.entries.append(entry)
            self._slots.give(chunk)
        elif isinstance(begun, Outcome):
            self._post(chunk, entry, begun)
        else:
            flight = (chunk, entry, begun)
            for descriptor in begun.descriptors:
                self._flights[descriptor] = flight
                if descriptor not in self._watched:
                    self._watched.add(descriptor)
                    self._poller.register(descriptor, select.POLLIN)

    def _wait_and_collect(self) -> None:
        self._sleeping = True
        # Looked at after the mark was set, so that nobody's chunk is left lying.
        ready = self._poller.poll(0 if self._given else None)
        self._sleeping = False
        for descriptor, _ in ready:
            flight = self._flights.get(descriptor)
            if flight is not None:
                self._collect(flight)
            elif descriptor == self._wake[0]:
                os.read(descriptor, 4096)
            else:  # a worker that ended while it was idle, or that somebody else uses now
                self._watched.discard(descriptor)
                self._poller.unregister(descriptor)

    def _collect(self, flight: _Flight) -> None:
        chunk, entry, begun = flight
        descriptors = begun.descriptors
        try:
            outcome = self._runner.collect(begun)
        except MustWait:
            self._forget(descriptors)
            self._slots.give_rest(chunk, entry, lambda: self._runner.complete(begun))
            return
        if outcome is not None:
            self._forget(descriptors)
            self._post(chunk, entry, outcome)

    def _forget(self, descriptors: tuple[int, ...]) -> None:
        """The descriptors stay watched: the worker is likely to get the next attempt."""
        for descriptor in descriptors:
            del self._flights[descriptor]

    def _post(self, chunk: Chunk, entry: Entry, outcome: Outcome) -> None:
        chunk.now_running = None
        self._drain.post(Arrival(chunk, *entry, outcome))
        self._posted = True
