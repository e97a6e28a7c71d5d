"""A host with some engines, played in virtual time: only the rule is real, there is no file and no clock.

Each engine works through a queue: it gives back what the rule says, starts what fits in its order, and asks for
what the first that does not fit lacks. After every event all engines act until nothing changes any more.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from codomyrmex.logistics.orchestration.project.ledger_shares import Amounts, Host, Wait, fitted
from codomyrmex.logistics.orchestration.project.resource_request import GPU

PATIENCE = 300.0


@dataclass(slots=True)
class Job:
    """A task: what it needs and for how long."""

    need: dict[str, int]
    duration: float
    waited: float = -1.0


@dataclass(slots=True)
class Asked:
    """A wait that is on record."""

    sequence: int
    since: float
    head: dict[str, int]
    want: dict[str, int]
    idle: dict[str, int]


@dataclass(slots=True)
class Engine:
    """What one engine has, and what it has to do."""

    number: int
    queue: deque[Job]
    allotted: dict[str, int] = field(default_factory=dict)
    free: dict[str, int] = field(default_factory=dict)
    wait: Asked | None = None
    done: int = 0
    running: int = 0
    stopped: bool = False
    dead: bool = False
    refusals: int = 0
    gifts: int = 0
    longest_wait: float = 0.0
    started: list[float] = field(default_factory=list)


class World:
    """The host: `run` plays until all queues are empty, or for so many ends of tasks."""

    def __init__(self, capacity: Amounts, queues: Iterable[Iterable[Job]]) -> None:
        self.capacity = dict(capacity)
        self.engines = [Engine(number, deque(queue)) for number, queue in enumerate(queues, 1)]
        self.now = 0.0
        self.ends: list[tuple[float, int, Engine, dict[str, int]]] = []
        self.count = 0
        self.messages = 0

    def host(self) -> Host:
        held = {each.number: dict(each.allotted) for each in self.engines if any(each.allotted.values())}
        waits = [
            Wait(
                holder=each.number,
                sequence=each.wait.sequence,
                head=each.wait.head,
                want=each.wait.want,
                idle=each.wait.idle,
                patient=self.now - each.wait.since < PATIENCE,
            )
            for each in self.engines
            if each.wait is not None and not each.stopped
        ]
        return Host(capacity=self.capacity, held=held, waits=sorted(waits, key=lambda wait: wait.sequence))

    def settle(self) -> None:
        """All act until nothing changes; it must end."""
        for _ in range(200):
            acted = [self.act(each) for each in self.engines if not each.stopped and not each.dead]
            if not any(acted):
                self.check()
                return
        raise AssertionError(f"the engines hand amounts to and fro without end: {self.engines}")

    def act(self, engine: Engine) -> bool:
        changed = False
        gift = self.host().surplus(engine.number, {id: n for id, n in engine.free.items() if n > 0})
        if gift:
            engine.gifts += 1
            changed = True
            if engine.wait is not None:  # who gives waits behind
                self.count += 1
                engine.wait.sequence = self.count
            for id, amount in gift.items():
                engine.allotted[id] -= amount
                engine.free[id] -= amount
                assert engine.free[id] >= 0, (engine, gift)
        while True:
            started = self.start(engine)
            changed = changed or started
            if not engine.queue:
                changed = changed or engine.wait is not None
                engine.wait = None
                if engine.running == 0 and any(engine.free.values()):
                    engine.allotted.clear()
                    engine.free.clear()
                    changed = True
                return changed
            if not self.ask(engine):
                return changed
            changed = True

    def start(self, engine: Engine) -> bool:
        found = False
        while engine.queue and (taken := fitted(engine.free, engine.queue[0].need)) is not None:
            job = engine.queue.popleft()
            for id, amount in taken.items():
                engine.free[id] -= amount
            engine.running += 1
            engine.started.append(self.now)
            self.count += 1
            heapq.heappush(self.ends, (self.now + job.duration, self.count, engine, taken))
            found = True
        return found

    def ask(self, engine: Engine) -> bool:
        head = self.lack(engine, engine.queue[0].need)
        total: dict[str, int] = {}
        for job in engine.queue:
            for id, amount in job.need.items():
                total[id] = total.get(id, 0) + amount
        want = {id: max(head.get(id, 0), n - engine.free.get(id, 0)) for id, n in total.items() if id != GPU}
        want |= {GPU: head[GPU]} if GPU in head else {}
        idle = {id: amount for id, amount in engine.free.items() if amount > 0}
        place = engine.wait.sequence if engine.wait else None
        granted = self.host().grant(engine.number, head, want, idle=idle, sequence=place)
        self.messages += 1
        if not granted:
            engine.refusals += 1
            if engine.wait is None:
                self.count += 1
                engine.wait = Asked(self.count, self.now, head, want, idle)
            else:
                engine.wait.head, engine.wait.want, engine.wait.idle = head, want, idle
            return False
        if engine.wait is not None:
            engine.longest_wait = max(engine.longest_wait, self.now - engine.wait.since)
            engine.wait = None
        for id, amount in granted.items():
            engine.allotted[id] = engine.allotted.get(id, 0) + amount
            engine.free[id] = engine.free.get(id, 0) + amount
        self.check()
        return True

    def lack(self, engine: Engine, need: dict[str, int]) -> dict[str, int]:
        found = {}
        for id, amount in need.items():
            if id == GPU:
                if fitted(engine.free, {id: amount}) is None:
                    found[id] = amount
            elif amount > engine.free.get(id, 0):
                found[id] = amount - engine.free.get(id, 0)
        return found

    def step(self) -> None:
        """On to the next end of a task."""
        self.now, _, engine, taken = heapq.heappop(self.ends)
        if engine.dead:
            return
        engine.running -= 1
        engine.done += 1
        for id, amount in taken.items():
            engine.free[id] = engine.free.get(id, 0) + amount

    def run(self, ends: int | None = None) -> None:
        self.settle()
        while self.ends and (ends is None or ends > 0):
            self.step()
            # What ends at the same instant is seen at once by some and later by others: one by one.
            self.settle()
            if ends is not None:
                ends -= 1
        if ends is None:
            left = [each for each in self.engines if each.queue and not each.dead and not each.stopped]
            assert not left, f"nobody runs, and these wait for ever: {left}"

    def check(self) -> None:
        sums: dict[str, int] = {}
        for each in self.engines:
            for id, amount in each.allotted.items():
                assert amount >= 0, each
                sums[id] = sums.get(id, 0) + amount
        over = {id: amount for id, amount in sums.items() if amount > self.capacity.get(id, 0)}
        assert not over, (over, self.engines)

    def die(self, engine: Engine) -> None:
        """Everything of it is back at once, its tasks included."""
        engine.dead = True
        engine.queue.clear()
        engine.allotted.clear()
        engine.free.clear()
        engine.wait = None
