"""One process that takes, renews, gives back and forgets resources: `allocations_worker.py STATE SEED GOAL COUNTER`.

Eight threads, each with its own luck, until GOAL allocations were made, by this process or by those before it
that were killed: COUNTER is a file of 8 bytes that outlives it. Prints `ready`, and at the end
`allocations N`. What the lock of the state allows is told apart by a second, independent lock: whoever
holds `mutex` locks a file that the kernel frees, and finding it locked is the end of the test.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from mmap import mmap
from pathlib import Path
from random import Random
from threading import Event, Lock, Thread

from codomyrmex.logistics.orchestration.project.resource_manager import ResourceManager
from codomyrmex.logistics.orchestration.project.resources import ResourceAllocation

THREADS = 8
NAMES = ("mutex", "seats", "parts", "wide")
AMOUNTS = {"mutex": (1,), "seats": (1, 2, 3), "parts": (0.0001, 0.25, 0.5, 1), "wide": (1, 7, 50)}


class Counter:
    """How many allocations were made: eight bytes that another process can read."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap(file.fileno(), 8)
        self._lock = Lock()

    def add(self) -> None:
        with self._lock:
            struct.pack_into("<Q", self._map, 0, self.value + 1)

    @property
    def value(self) -> int:
        return int(struct.unpack_from("<Q", self._map, 0)[0])


class Worker:
    """One thread."""

    def __init__(
        self, manager: ResourceManager, chance: Random, goal: int, counter: Counter, lock: str, failed: Event
    ) -> None:
        self._manager = manager
        self._chance = chance
        self._goal = goal
        self._counter = counter
        self._lock = lock
        self._failed = failed
        self._held: list[tuple[ResourceAllocation, int | None]] = []
        self.name = f"worker-{os.getpid()}-{chance.randrange(10**9)}"

    def run(self) -> None:
        try:
            while self._counter.value < self._goal and not self._failed.is_set():
                self._step()
            for _allocation, file in self._held:
                if file is not None:
                    os.close(file)
            self._manager.deallocate_resources(self.name)
        except BaseException:
            self._failed.set()
            raise

    def _step(self) -> None:
        luck = self._chance.random()
        if luck < 0.5 or not self._held:
            self._take()
        elif luck < 0.9:
            self._give_back()
        elif luck < 0.97:
            self._renew()
        elif luck < 0.98:
            self._take_several()
        elif luck < 0.981:
            self._manager.cleanup_expired_allocations()
        elif luck < 0.99:
            self._forget()

    def _take(self) -> None:
        name = self._chance.choice(NAMES)
        amount = self._chance.choice(AMOUNTS[name])
        wait_s = 0.002 if self._chance.random() < 0.05 else 0.0
        # Who holds the mutex must not lose it by the clock: the second lock does not expire.
        ttl_s = None if name == "mutex" or self._chance.random() < 0.7 else self._chance.uniform(0.001, 0.05)
        found = self._manager.allocate(name, self.name, amount, wait_s, ttl_s)
        if found is not None:
            self._note(found)

    def _take_several(self) -> None:
        wants = {name: self._chance.choice(AMOUNTS[name]) for name in self._chance.sample(NAMES, 2)}
        for found in self._manager.allocate_resources(self.name, wants) or ():
            self._note(found)

    def _note(self, found: ResourceAllocation) -> None:
        self._counter.add()
        file = None
        if found.resource_id == "mutex":
            file = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: held twice
        self._held.append((found, file))

    def _give_back(self) -> None:
        found, file = self._held.pop(self._chance.randrange(len(self._held)))
        if file is not None:
            os.close(file)
        released = self._manager.release(found.allocation_id)
        if found.expires_at is None and not released:
            raise AssertionError(f"{found} was not there any more")
        if self._manager.release(found.allocation_id):
            raise AssertionError(f"{found} was released twice")

    def _renew(self) -> None:
        found, _file = self._chance.choice(self._held)
        if found.expires_at is not None:
            self._manager.renew(found.allocation_id, self._chance.uniform(0.001, 0.05))

    def _forget(self) -> None:
        """As a program does that lost its allocation: nobody will ever release it but the clock."""
        self._held = [(found, file) for found, file in self._held if found.expires_at is None]


def main(state: str, seed: str, goal: str, counter_path: str) -> int:
    chance = Random(int(seed))
    counter = Counter(Path(counter_path))
    with ResourceManager(state=state) as manager:
        failed = Event()
        workers = [
            Worker(manager, Random(chance.random()), int(goal), counter, f"{state}.mutex", failed)
            for _ in range(THREADS)
        ]
        threads = [Thread(target=worker.run) for worker in workers]
        print("ready", flush=True)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(f"allocations {counter.value}", flush=True)
    return 1 if failed.is_set() else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
