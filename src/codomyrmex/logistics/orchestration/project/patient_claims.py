"""Claims of people, tried at once and then waited for.

Layer: above `named_claims` and the host's ledger. One try takes the machine's part from the ledger, then the
named part in one transaction; where that does not fit, the machine's part is given back. Nothing is held
while one waits, so there is no deadlock.

Who waits stands in the line of this process, looks again when something was given back here, when another
process has committed (`Database.version`, a number that costs microseconds), when the instant has come at
which a quota passes or an allocation expires, and now and then because an owner may have died. After a
moment it writes down that it waits, so that other processes leave what it wants to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock

from codomyrmex.exceptions import EngineClosed
from codomyrmex.logistics.orchestration.project import resource_register, resource_store
from codomyrmex.logistics.orchestration.project.machine_holds import MachineHolds
from codomyrmex.logistics.orchestration.project.named_claims import Asker, DoesNotFit, claim_named, refusal
from codomyrmex.logistics.orchestration.project.resource_forms import to_allocation
from codomyrmex.logistics.orchestration.project.resource_owner import Owner, free_the_dead
from codomyrmex.logistics.orchestration.project.resources import ResourceAllocation
from codomyrmex.logistics.orchestration.project.waiting_line import Place, WaitingLine

LOOK_EVERY_S = 0.025
LOOK_FOR_DEAD_EVERY_S = 0.25
SAY_SO_AFTER_S = 0.1
SAY_SO_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody asks for; `refused` are reasons why it can never be had that are known already."""

    requester: str
    machine: Mapping[str, int] = field(default_factory=dict)
    named: Mapping[str, int] = field(default_factory=dict)
    ttl_us: int | None = None
    refused: Sequence[str] = ()

    @property
    def wants(self) -> Mapping[str, int]:
        """Everything, by resource."""
        return {**self.machine, **self.named} if self.machine else self.named


@dataclass(slots=True, eq=False)
class _Wait:
    """One wait: its place, since when, what was short at the last try, what was said to others."""

    wish: Wish
    place: Place
    since_us: int
    since_s: float
    short: tuple[str, ...] = ()
    due_us: int | None = None
    version: int = -1
    said_s: float | None = None
    said: set[str] = field(default_factory=set)


class PatientClaims:
    """See the module. Safe for several threads."""

    def __init__(self, owner: Owner, machine: MachineHolds) -> None:
        self._owner = owner
        self._machine = machine
        self._line = WaitingLine()
        self._closed = False
        self._looked_s = owner.clock.monotonic_s()
        self._looking = Lock()

    def acquire(self, wish: Wish, wait_s: float) -> list[ResourceAllocation] | None:
        """All of it, or None when it was not to be had within `wait_s` seconds.

        Raises `ResourceRefused` for what can never be had.
        """
        if wish.refused and not wish.named:
            raise refusal(list(wish.refused))
        first = self._try(wish, self._line.ahead(wish.wants), self._owner.clock.now_us())
        if isinstance(first, DoesNotFit) and self.free_the_dead():
            first = self._try(wish, self._line.ahead(wish.wants), self._owner.clock.now_us())
        if not isinstance(first, DoesNotFit):
            return first
        return self._acquire_in_line(wish, wait_s) if wait_s > 0 else None

    def released(self) -> None:
        """Something was given back, or there is more of something: who waits here looks again."""
        self._line.wake()
        self._owner.resources_changed()

    def free_the_dead(self, *, at_once: bool = False) -> bool:
        """Frees what dead owners hold; looks at most every 0.25 s. True if there was anything."""
        with self._looking:
            now_s = self._owner.clock.monotonic_s()
            if not at_once and now_s - self._looked_s < LOOK_FOR_DEAD_EVERY_S:
                return False
            self._looked_s = now_s
        owner = self._owner
        found = free_the_dead(owner.database, owner.state_dir, epoch=owner.epoch, now_us=owner.clock.now_us())
        return bool(self._machine.reap()) or found

    def close(self) -> None:
        """Ends every wait with `EngineClosed`."""
        self._closed = True
        self._line.wake()

    # -- one try -----------------------------------------------------------------------------------

    def _try(
        self, wish: Wish, ahead: Mapping[str, int], since_us: int
    ) -> list[ResourceAllocation] | DoesNotFit:
        if wish.refused or not wish.machine:
            return self._try_named(wish, ahead, since_us)  # refuses, with its own reasons too
        short = self._machine.short(wish.machine, ahead)
        if short:
            return DoesNotFit(short)
        taken = self._machine.take(wish.requester, wish.machine, wish.ttl_us)
        if taken is None:
            return DoesNotFit(tuple(wish.machine))
        kept = False
        try:
            named = self._try_named(wish, ahead, since_us) if wish.named else []
            kept = not isinstance(named, DoesNotFit)
        finally:
            if not kept:
                self._machine.give_back(taken)
        if isinstance(named, DoesNotFit):
            return named
        return [*taken, *named]

    def _try_named(
        self, wish: Wish, ahead: Mapping[str, int], since_us: int
    ) -> list[ResourceAllocation] | DoesNotFit:
        owner = self._owner
        try:
            with owner.database.transaction() as tx:
                now_us = owner.clock.now_us()  # in here, so that instants have the order of the commits
                asker = Asker(
                    epoch=owner.epoch,
                    requester=wish.requester,
                    now_us=now_us,
                    since_us=min(since_us, now_us),
                    ttl_us=wish.ttl_us,
                    ahead=ahead,
                )
                held = claim_named(tx, wish.named, asker, list(wish.refused))
        except DoesNotFit as error:
            self._check_alive()
            return error
        owner.resources_changed()
        return [to_allocation(each) for each in held]

    def _check_alive(self) -> None:
        if resource_register.has_ended(self._owner.database.query, self._owner.epoch):
            raise EngineClosed(
                f"owner {self._owner.epoch} was declared dead by another and can hold nothing any more",
                hint="open a new ResourceManager",
            )

    # -- waiting -----------------------------------------------------------------------------------

    def _acquire_in_line(self, wish: Wish, wait_s: float) -> list[ResourceAllocation] | None:
        clock = self._owner.clock
        since_us, since_s = clock.now_us(), clock.monotonic_s()
        wait = _Wait(wish, self._line.join(wish.wants), since_us, since_s)
        try:
            while True:
                found = self._look(wait)
                if found is not None:
                    return found
                if not self._rest(wait, since_s + wait_s):
                    return None
        finally:
            self._line.leave(wait.place)
            self._say_no_more(wait)

    def _look(self, wait: _Wait) -> list[ResourceAllocation] | None:
        """One try in line; notes what to wait for otherwise."""
        database = self._owner.database
        wait.place.look_again()
        wait.version = database.version()
        found = self._try(wait.wish, self._line.ahead(wait.wish.wants, wait.place), wait.since_us)
        if not isinstance(found, DoesNotFit):
            return found
        wait.short = found.short
        now_us = self._owner.clock.now_us()
        expiry_us = resource_register.next_expiry(database.query, found.short, now_us=now_us)
        instants = [each for each in (found.retry_us, expiry_us) if each is not None]
        wait.due_us = min(instants) if instants else None
        return None

    def _rest(self, wait: _Wait, until_s: float) -> bool:
        """Returns True when there is a reason to look again, False when the time is over."""
        clock, database = self._owner.clock, self._owner.database
        while True:
            now_s = clock.monotonic_s()
            if now_s >= until_s:
                return False
            self._say_so(wait, now_s)
            pause_s = min(LOOK_EVERY_S, until_s - now_s)
            if wait.due_us is not None:
                pause_s = min(pause_s, max(0.0, (wait.due_us - clock.now_us()) / 1_000_000))
            woken = wait.place.wait(pause_s)
            if self._closed:
                raise EngineClosed("the resource manager was closed", hint="open a new one")
            due = wait.due_us is not None and clock.now_us() >= wait.due_us
            if woken or due or database.version() != wait.version or self.free_the_dead():
                return True
            if any(id in wait.wish.machine for id in wait.short):
                return True  # the ledger is looked at by the next try

    def _say_so(self, wait: _Wait, now_s: float) -> None:
        """Tells other processes what this one waits for; only who is first in line speaks for it."""
        if self._owner.state_dir is None or now_s - wait.since_s < SAY_SO_AFTER_S:
            return
        if wait.said_s is not None and now_s - wait.said_s < SAY_SO_EVERY_S:
            return
        ahead = self._line.ahead(wait.wish.named, wait.place)
        short = [id for id in wait.short if id in wait.wish.named and id not in ahead]
        wait.said_s = now_s
        if not short:
            return
        wait.said.update(short)
        now_us = self._owner.clock.now_us()
        with self._owner.database.transaction() as tx:
            for id in short:
                resource_store.put_wait(
                    tx,
                    epoch=self._owner.epoch,
                    resource=id,
                    amount=wait.wish.named[id],
                    since_us=wait.since_us,
                    now_us=now_us,
                )

    def _say_no_more(self, wait: _Wait) -> None:
        if not wait.said or self._closed:
            return
        with self._owner.database.transaction() as tx:
            for id in wait.said:
                resource_store.end_wait(tx, epoch=self._owner.epoch, resource=id)
