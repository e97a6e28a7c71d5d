"""The workers of an executor that run nothing at the moment, and how workers come and go.

Layer: executors. A worker goes after 10,000 attempts, when its runner has grown (see `GROWTH_BYTES`), when it
was killed or crashed, when an allocation failed in it, when it runs old code, when the attempt left processes
behind, and after work on a device, whose memory is free only when the process is gone.

In place of one that went, a *spare* is started in the background, so that the next attempt finds a worker
that is up: at most one of a kind, only while no other of the kind is idle, and only for a kind whose workers
have begun two attempts or more, so that what ran once costs one process. An attempt that comes before its
spare has begun to start takes its place. The kinds used last keep their idle workers; of others they are let
go after a minute, when a worker is given back: nothing here has a thread or a timer of its own.

`lock` guards what is idle and whether the pool is closed; whoever takes a worker to run something notes that
under the same lock, so that `close` sees every worker exactly once.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from codomyrmex.logistics.orchestration.project.executors import process_tree
from codomyrmex.logistics.orchestration.project.executors.worker.memory import resident_bytes
from codomyrmex.logistics.orchestration.project.executors.worker_kinds import KINDS_AT_MOST, WorkerKind
from codomyrmex.logistics.orchestration.project.executors.worker_process import WorkerProcess, start_worker

MAX_ATTEMPTS_PER_WORKER = 10_000
GROWTH_BYTES = 256 * 1024 * 1024
"""A runner that holds so much more than after its first attempt, and twice as much, is not used again."""
MEASURE_EVERY_S = 0.25
KINDS_KEPT = 3
KEPT_S = 60.0
"""Idle workers of all but the `KINDS_KEPT` kinds used last go after this."""
SWEEP_EVERY_S = 5.0
ATTEMPTS_BEFORE_SPARE = 2
CLOSE_LIMIT_S = 4.0

Spawn = Callable[[Callable[[], WorkerProcess]], WorkerProcess]
Later = Callable[[Callable[[], object]], object]


class WorkerStartFailed(RuntimeError):
    """No worker came up in this interpreter; says what it wrote."""


class WorkerPool:
    """See the module. `later` calls something soon in the thread that starts workers; None keeps no spares."""

    def __init__(
        self,
        *,
        spool_dir: str,
        engine_token: str,
        max_idle: int,
        spawn: Spawn,
        later: Later | None,
        environment: Mapping[str, str] | None,
    ) -> None:
        self._spool_dir = spool_dir
        self._engine_token = engine_token
        self._max_idle = max_idle
        self._spawn = spawn
        self._later = later
        self._environment = environment
        self.lock = threading.Lock()
        self.closed = False
        self.started = 0
        """How many workers have been started."""
        self._idle: dict[WorkerKind, list[WorkerProcess]] = {}
        self._idle_count = 0
        self._retired: list[WorkerProcess] = []
        self._begun: dict[WorkerKind, int] = {}
        """How many attempts the workers that went had begun, by kind."""
        self._wanted: set[WorkerKind] = set()
        """Kinds whose spare has not begun to start."""
        self._starting = 0
        self._sweep_at_s = 0.0

    # --------------------------------------------------------------------------------- taking and giving

    def pop_ready(self, kind: WorkerKind) -> WorkerProcess | None:
        """An idle worker that is up, without waiting; call it with the lock."""
        idle = self._idle.get(kind)
        if not idle or not (idle[-1].python_version or idle[-1].look_whether_ready()):
            return None
        self._idle_count -= 1
        return idle.pop()

    def take(self, kind: WorkerKind) -> WorkerProcess:
        """An idle worker, or a new one; it may be sent frames at once.

        Raises OSError where it cannot be started, `WorkerStartFailed` when the pool is closed.
        """
        with self.lock:
            found = self._pop(kind)
            self._wanted.discard(kind)
        return self._spawn(lambda: self._take_or_start(kind)) if found is None else found

    def give(self, worker: WorkerProcess) -> None:
        """The worker has ended an attempt and is idle."""
        worker.attempts += 1
        worker.idle_since_s = now_s = time.monotonic()
        fit = worker.attempts < MAX_ATTEMPTS_PER_WORKER
        if now_s - worker.measured_at_s > MEASURE_EVERY_S:
            fit = not self._has_grown(worker, now_s) and fit
        with self.lock:
            if fit := fit and not self.closed:
                self._push(worker)
        if not fit:
            self.replace(worker)
        elif now_s >= self._sweep_at_s or self._idle_count > self._max_idle:
            self._sweep(now_s)

    def put_back(self, worker: WorkerProcess) -> None:
        """The worker was not used after all; call it with the lock."""
        self._push(worker)

    def prepare(self, kind: WorkerKind, count: int) -> None:
        """Sees to it that so many workers of this kind are idle or starting; does not wait for them."""
        for _ in range(min(count, self._max_idle) - len(self._idle.get(kind, ()))):
            self._add(self._spawn(lambda: self._start(kind)))

    def replace(self, worker: WorkerProcess) -> None:
        """Lets an idle worker end by itself, without waiting for it; a spare takes its place."""
        self._retire(worker)
        self._want_spare(worker)

    def see_end(self, worker: WorkerProcess) -> None:
        """Waits for a worker that was told to end until nothing of it is left; a spare takes its place."""
        self._wait_for([worker], time.monotonic() + CLOSE_LIMIT_S)
        self._want_spare(worker)

    def lost(self, worker: WorkerProcess, *, came_up: bool = True) -> None:
        """The worker has ended by itself, or was ended; a spare takes the place of one that had come up."""
        self._remove_spool(worker)
        if came_up:
            self._want_spare(worker)

    def close(self, busy: Callable[[], list[WorkerProcess]], is_busy: Callable[[], bool]) -> None:
        """Ends every worker and what it runs; returns when all of it is gone.

        `busy` tells, with the lock held, which workers run something; `is_busy` whether somebody still waits.
        """
        with self.lock:
            self.closed = True
            idle = [worker for workers in self._idle.values() for worker in workers] + self._retired
            self._idle, self._idle_count, self._retired = {}, 0, []
            running = busy()
        for worker in idle + running:
            worker.close()
        deadline = time.monotonic() + CLOSE_LIMIT_S
        self._wait_for(idle, deadline)
        while (self._starting or is_busy()) and time.monotonic() < deadline + 1.0:
            time.sleep(0.005)
        with self.lock:  # those that came up, or ended what they ran, meanwhile
            late, self._retired = self._retired, []
        self._wait_for(late, time.monotonic() + CLOSE_LIMIT_S)

    # ------------------------------------------------------------------------------------------ inside

    def _pop(self, kind: WorkerKind) -> WorkerProcess | None:
        idle = self._idle.get(kind)
        if not idle:
            return None
        self._idle_count -= 1
        return idle.pop()

    def _push(self, worker: WorkerProcess) -> None:
        idle = self._idle.get(worker.kind)
        if idle is None:
            idle = self._idle[worker.kind] = []
        idle.append(worker)
        self._idle_count += 1

    def _add(self, worker: WorkerProcess) -> None:
        """A new worker is idle: below those that are up, which are taken first."""
        with self.lock:
            if not self.closed:
                self._idle.setdefault(worker.kind, []).insert(0, worker)
                self._idle_count += 1
                return
        self._retire(worker)

    def _take_or_start(self, kind: WorkerKind) -> WorkerProcess:
        with self.lock:  # a spare may have come while this call was waiting for its turn
            found = self._pop(kind)
        return self._start(kind) if found is None else found

    def _start(self, kind: WorkerKind) -> WorkerProcess:
        with self.lock:
            if self.closed:
                raise WorkerStartFailed("the executor has been closed")
            self.started += 1
            number = self.started
        self._collect()
        return start_worker(
            kind,
            worker_id=f"w{os.getpid()}-{number}-{time.monotonic_ns() % 1_000_000_007:x}",
            engine_token=self._engine_token,
            spool_dir=self._spool_dir,
            base=os.environ if self._environment is None else self._environment,
        )

    def _want_spare(self, worker: WorkerProcess) -> None:
        """Has a worker of the same kind started if it is likely to be of use."""
        kind = worker.kind
        if self._later is None:
            return
        with self.lock:
            if len(self._begun) > KINDS_AT_MOST:
                self._begun.clear()
            begun = self._begun[kind] = self._begun.get(kind, 0) + worker.sequence
            if not self._lacks(kind) or begun < ATTEMPTS_BEFORE_SPARE or kind in self._wanted:
                return
            self._wanted.add(kind)
        self._later(lambda: self._start_spare(kind))

    def _lacks(self, kind: WorkerKind) -> bool:
        return not self.closed and not self._idle.get(kind) and self._idle_count < self._max_idle

    def _start_spare(self, kind: WorkerKind) -> None:
        with self.lock:
            wanted = kind in self._wanted and self._lacks(kind)
            self._wanted.discard(kind)
            self._starting += wanted
        if not wanted:
            return
        try:
            self._add(self._start(kind))
        except (OSError, WorkerStartFailed):
            return  # the next attempt tries again, and says what is wrong
        finally:
            with self.lock:
                self._starting -= 1

    def _has_grown(self, worker: WorkerProcess, now_s: float) -> bool:
        worker.measured_at_s = now_s
        size = resident_bytes(worker.runner_pid)
        if not worker.first_bytes:
            worker.first_bytes = size
        return size > max(2 * worker.first_bytes, worker.first_bytes + GROWTH_BYTES)

    def _sweep(self, now_s: float) -> None:
        """Lets idle workers go that are too many or too old, and gathers what others left."""
        with self.lock:
            self._sweep_at_s = now_s + SWEEP_EVERY_S
            kinds = sorted((kind for kind, idle in self._idle.items() if idle), key=self._used_at_s)
            old = [kind for kind in kinds[:-KINDS_KEPT] if now_s - self._used_at_s(kind) > KEPT_S]
            gone = [worker for kind in old for worker in self._idle.pop(kind)]
            self._idle_count -= len(gone)
            while self._idle_count > self._max_idle:
                kind = min((kind for kind, idle in self._idle.items() if idle), key=self._used_at_s)
                gone.append(self._idle[kind].pop(0))
                self._idle_count -= 1
            for kind in [kind for kind, idle in self._idle.items() if not idle]:
                del self._idle[kind]
        for worker in gone:
            self._retire(worker)
        self._collect()

    def _used_at_s(self, kind: WorkerKind) -> float:
        return max(worker.idle_since_s for worker in self._idle[kind])

    def _retire(self, worker: WorkerProcess) -> None:
        worker.close()
        with self.lock:
            self._retired.append(worker)

    def _collect(self) -> None:
        """Gathers what retired workers leave when they have ended."""
        with self.lock:
            waiting, self._retired = self._retired, []
        left = [worker for worker in waiting if not self._is_gone(worker)]
        with self.lock:
            self._retired += left

    def _is_gone(self, worker: WorkerProcess) -> bool:
        if not worker.wait(0):
            return False
        self._remove_spool(worker)
        return True

    def _wait_for(self, workers: Iterable[WorkerProcess], deadline: float) -> None:
        """Waits for workers that were told to end, and ends them at the deadline (monotonic)."""
        for worker in workers:
            if not worker.wait(max(0.05, deadline - time.monotonic())):
                worker.kill()
                worker.wait(1.0)
                process_tree.kill_marked(process_tree.WORKER_VARIABLE, worker.id)
            self._remove_spool(worker)

    def _remove_spool(self, worker: WorkerProcess) -> None:
        import glob

        for path in glob.glob(glob.escape(worker.spool) + ".*.log"):
            try:
                os.unlink(path)
            except OSError:
                continue  # the supervisor was faster
