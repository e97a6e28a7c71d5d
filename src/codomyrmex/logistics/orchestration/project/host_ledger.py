"""The ledger of the host: which engine may use how much of this machine.

Layer: the engine's shell, above storage; the rule is in `ledger_shares`. CPU, memory, disk, network and GPUs
belong to the machine, not to a project, so all engines on it, of any project, take *allotments* from one file and
run their tasks within. A row belongs to its holder, and a holder lives as long as its lock file is locked: the
kernel frees that when the process dies, so no lease has to be renewed and nothing can leak.

    first use   INSERT holder, flock ........... its number
    grow        all that one task lacks, or a wait on record (renewed, else passed over)
    surplus     what others have a right to; `give` hands it over and wakes them
    reap        the lock of another is free: what it left behind is ended FIRST, then its rows go

At every commit the sum of all rows is within the capacity that the taker named. Nothing is synced: after a power cut
all holders are dead. With `directory` None the same code runs on a ledger in memory that nobody else sees.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from codomyrmex.clock import Clock
from codomyrmex.exceptions import CodomyrmexError, EngineClosed, StoreError
from codomyrmex.logging_monitoring import get_logger
from codomyrmex.logistics.orchestration.project import ledger_rows
from codomyrmex.logistics.orchestration.project.engine_store import EngineLock
from codomyrmex.logistics.orchestration.project.ledger_file import (
    LedgerPlace,
    ledger_directory,
    ledger_place,
    open_ledger,
)
from codomyrmex.logistics.orchestration.project.ledger_rows import AllotmentRow, HoldRow, WaitRow
from codomyrmex.logistics.orchestration.project.ledger_shares import Amounts, Host, Wait, fitted, scarce
from codomyrmex.logistics.storage.database import Database, Row, Transaction

__all__ = ["AllotmentRow", "HoldRow", "HostLedger", "WaitRow", "ledger_directory"]

_NUDGE = b"!"

logger = get_logger(__name__)


class HostLedger:
    """See the module. Made by `open`; all methods may be called from any thread, and raise `StoreError`.

    Amounts are whole numbers by resource id; `gpu` in what is asked for is any device, answers name the devices.
    """

    def __init__(
        self,
        place: LedgerPlace | None,
        clock: Clock,
        *,
        token: str,
        state: str,
        nudge: Path | None,
        on_dead: Callable[[str], object],
    ) -> None:
        self.others_wait = False
        """Whether anybody else waited when `grow` or `surplus` last looked."""
        self.scarce: frozenset[str] = frozenset()
        """What there was too little of when `grow` last refused; empty where it is kept for others."""
        self.hopeless = False
        """Whether what `grow` last refused could not be met now even if no engine held anything."""
        self._place = place
        self._clock = clock
        self._token = token
        self._state = state
        self._nudge = nudge
        self._on_dead = on_dead
        self._opening = Lock()
        self._database: Database | None = None
        self._lock: EngineLock | None = None
        self._number = 0
        self._closed = False
        self._own_changes = 0
        self._other_changes = 0
        self._version: int | None = None

    @classmethod
    def open(
        cls,
        directory: Path | None,
        *,
        clock: Clock,
        token: str,
        state: str = "",
        nudge: Path | None = None,
        on_dead: Callable[[str], object] = lambda token: None,
    ) -> HostLedger:
        """The ledger in `directory` (None: of its own, in memory); nothing is touched before it is used.

        `token` marks the processes of this holder: `on_dead` gets that of a dead one, and has to end them before it
        returns. A byte is sent to the socket `nudge` when something changes that this holder waits for, or should
        look at.
        """
        place = ledger_place(Path(os.path.abspath(directory))) if directory is not None else None
        return cls(place, clock, token=token, state=state, nudge=nudge, on_dead=on_dead)

    def check(self) -> None:
        """Raises `StoreError` where this ledger cannot be used; frees what the dead held."""
        self._use()
        self.reap()

    # -- allotments ------------------------------------------------------------------------------

    def changed(self) -> bool:
        """Whether anybody else changed something since this was last asked; False while it was never used."""
        database = self._database
        if database is None or self._closed:
            return False
        version = database.version()
        if version == self._version:
            return False
        self._version = version
        others = int(database.query(ledger_rows.CHANGES)[0][0]) - self._own_changes
        news, self._other_changes = others != self._other_changes, others
        return news

    def grow(
        self,
        head: Amounts,
        want: Amounts,
        *,
        capacity: Amounts,
        idle: Amounts | None = None,
        wait: bool = True,
    ) -> dict[str, int]:
        """Takes what one task lacks (`head`), and of `want` (all its tasks, `head` included) what nobody else needs.

        Returns what was allotted. {} means that the head did not fit: this holder waits from now on, unless `capacity`
        could never hold it, or `wait` is False, where a wait on record stays what it is; `scarce` then says of what
        there was too little. `idle` is the free part of its allotments, of no use until the head is there; without it,
        two that each hold a part of what both need may wait for each other. Of `gpu` the head is all that the task
        needs, and devices in `idle` count towards it.
        """
        idle = idle or {}
        with self._changing() as change:
            host = self._sight(change, capacity)
            mine = next((wait for wait in host.waits if wait.holder == self._number), None)
            place = mine.sequence if mine is not None else None
            granted = host.grant(self._number, head, want, idle=idle, sequence=place)
            if granted:
                ledger_rows.take(change.tx, host, self._number, granted, now_us=self._clock.now_us())
                if mine is not None and wait:
                    change.tx.execute(ledger_rows.END_WAIT, (self._number,))
                    change.wake(ledger_rows.WAITING_SOCKETS)
                change.counts = True
                return granted
            asked = Wait(holder=self._number, sequence=0, head=head, idle=idle)
            self.scarce = frozenset(scarce(host.free(), asked))
            self.hopeless = not host.is_possible(asked)
            if wait and any(head.values()):
                self._wait(change, host, mine, {"head": head, "want": want, "idle": idle})
        return granted

    def surplus(self, free: Amounts, *, capacity: Amounts) -> dict[str, int]:
        """What of `free`, the part of my allotments that no task uses, others have a right to now."""
        if not self._number:
            return {}
        now_us = self._clock.now_us()
        rows = self._use().query(ledger_rows.SIGHT, {"now": now_us})
        host = ledger_rows.sight(rows, capacity, me=self._number, now_us=now_us)
        self._note_waits(host)
        return host.surplus(self._number, free) if self.others_wait else {}

    def give(self, amounts: Amounts) -> list[Path]:
        """Gives back, all or nothing, and wakes who waits; returns their sockets. ValueError if I have less.

        If I wait myself, I do so at the end of the line from now on.
        """
        if not any(amounts.values()):
            return []
        with self._changing() as change:
            ledger_rows.give(change.tx, self._number, amounts)
            change.tx.execute(ledger_rows.TO_THE_END, (self._number,))
            change.wake(ledger_rows.WAITING_SOCKETS)
        return change.sockets

    def mine(self) -> dict[str, int]:
        """What this holder was allotted, by resource id."""
        if not self._number:
            return {}
        rows = ledger_rows.allotments(self._use())
        return {row.resource: row.amount for row in rows if row.holder == self._number}

    def stop_waiting(self) -> None:
        """Ends the wait of this holder; idempotent."""
        if not self._number:
            return
        with self._changing() as change:
            if change.tx.execute_many(ledger_rows.END_WAIT, [(self._number,)]):
                change.wake(ledger_rows.WAITING_SOCKETS)

    def renew_wait(self) -> None:
        """Says that this holder still waits; to be called at least every second while it does."""
        if not self._number:
            return
        with self._use().transaction() as tx:
            tx.execute(ledger_rows.RENEW_WAIT, (self._clock.now_us(), self._number))

    # -- holds -----------------------------------------------------------------------------------

    def hold(
        self, id: str, requester: str, amounts: Amounts, *, capacity: Amounts, expires_us: int | None
    ) -> dict[str, int] | None:
        """Keeps amounts for somebody beside the tasks, all or nothing; None when they are not free now.

        It ends with this holder, at `expires_us`, or when it is released. The same id again gets what it has.
        """
        with self._changing() as change:
            host = self._sight(change, capacity)
            had: dict[str, int] = dict(change.tx.execute(ledger_rows.HELD_BY, (id,)))
            if had:
                return had
            found = fitted(host.free(), amounts)
            if not found:
                return found
            row = (id, self._number, requester, self._clock.now_us(), expires_us)
            change.tx.execute(ledger_rows.HOLD, row)
            change.tx.execute_many(ledger_rows.HOLD_AMOUNT, [(id, *each) for each in found.items()])
            ledger_rows.note_peaks(change.tx, host, found)
            change.counts = True
        return found

    def renew_hold(self, id: str, expires_us: int | None) -> bool:
        """Sets a new end; False when there is no such hold any more. Anybody's may be renewed."""
        with self._changing(enter=False) as change:
            row = (expires_us, id, self._clock.now_us())
            return change.tx.execute_many(ledger_rows.RENEW_HOLD, [row]) == 1

    def release_hold(self, id: str) -> dict[str, int] | None:
        """Ends a hold, anybody's; returns what it had, None when there is none such."""
        with self._changing(enter=False) as change:
            had: dict[str, int] = dict(change.tx.execute(ledger_rows.HELD_BY, (id,)))
            if change.tx.execute_many(ledger_rows.RELEASE_HOLD, [(id,)]) == 0:
                return None
            change.wake(ledger_rows.WAITING_SOCKETS)
        return had

    def holds(self, requester: str | None = None) -> list[HoldRow]:
        """The holds that have not expired, oldest first; of one requester, if given."""
        found = ledger_rows.holds(self._use(), now_us=self._clock.now_us())
        return [row for row in found if requester is None or row.requester == requester]

    # -- the dead --------------------------------------------------------------------------------

    def reap(self) -> int:
        """Ends what dead holders left behind and removes their rows, and expired holds; returns how many rows.

        Harmless to repeat, and for several at once. What `on_dead` raises goes on its way, the rows stay.
        """
        if self._database is None and (self._place is None or not self._place.path.exists()):
            return 0
        database = self._use()
        dead = [row for row in database.query(ledger_rows.OTHERS, (self._number,)) if self._is_dead(row[0])]
        for _, token in dead:
            if token != self._token:
                self._on_dead(token)
        now_us = self._clock.now_us()
        if not dead and not database.query(ledger_rows.EXPIRED, (now_us,))[0][0]:
            return 0
        with self._changing(enter=False) as change:
            gone = change.tx.execute_many(ledger_rows.EXPIRE, [(now_us,)])
            gone += change.tx.execute_many(ledger_rows.LEAVE, [(number,) for number, _ in dead])
            change.wake(ledger_rows.WAITING_SOCKETS)
        for number, _ in dead:
            if self._place is not None:
                self._place.lock_path(number).unlink(missing_ok=True)
        return gone

    def _is_dead(self, number: int) -> bool:
        return self._place is not None and EngineLock.is_free(self._place.lock_path(number))

    # -- looking ---------------------------------------------------------------------------------

    def used(self) -> dict[str, int]:
        """What is held of each resource, by engines and by people."""
        now_us = self._clock.now_us()
        rows = self._use().query(ledger_rows.SIGHT, {"now": now_us})
        return ledger_rows.used(ledger_rows.sight(rows, {}, me=self._number, now_us=now_us))

    def allotments(self) -> list[AllotmentRow]:
        """What engines have, by holder."""
        return ledger_rows.allotments(self._use())

    def waits(self) -> list[WaitRow]:
        """Who waits, in the order in which they are served."""
        return ledger_rows.waits(self._use(), now_us=self._clock.now_us())

    def peaks(self) -> dict[str, int]:
        """The most that was ever held of each resource at once."""
        return dict(self._use().query(ledger_rows.PEAKS))

    def offline(self) -> frozenset[str]:
        """The resources that nobody gets at present."""
        return frozenset(row[0] for row in self._use().query("SELECT id FROM resource WHERE offline"))

    def set_offline(self, resource: str, on: bool) -> None:
        """From now on nobody gets any of it, or again; who holds some keeps it. `resource` is an id, `gpu-0`."""
        with self._changing(enter=False) as change:
            change.tx.execute(ledger_rows.OFFLINE, (resource, int(on)))
            change.wake(ledger_rows.ALL_SOCKETS)

    def close(self) -> None:
        """Gives everything back and leaves; idempotent. Rows that cannot be removed now count as a dead holder's."""
        with self._opening:
            if self._closed:
                return
            self._closed = True
        if self._database is None:
            return
        sockets: list[Path] = []
        try:
            if self._number:
                with self._database.transaction() as tx:
                    tx.execute(ledger_rows.LEAVE, (self._number,))
                    tx.execute(ledger_rows.CHANGED)
                    sockets = _paths(tx.execute(ledger_rows.WAITING_SOCKETS, (self._number,)))
        except CodomyrmexError as error:
            logger.warning("holder %d could not leave the ledger of this host: %s", self._number, error)
        finally:
            if self._lock is not None:
                self._lock.release()
            self._database.close()
        _wake(sockets)

    # -- inside ----------------------------------------------------------------------------------

    def _use(self) -> Database:
        """The database, opened if need be."""
        database = self._database
        if database is None or self._closed:
            with self._opening:
                if self._closed:
                    raise EngineClosed("the ledger of this host has been closed", hint="open it again")
                if self._database is None:
                    self._database = open_ledger(self._place)
                database = self._database
        return database

    def _entered(self) -> Database:
        """The database, with a row and a lock for this holder in it."""
        database = self._use()
        if not self._number:
            with self._opening:
                if self._closed:
                    raise EngineClosed("the ledger of this host has been closed", hint="open it again")
                if not self._number:
                    self._number = self._enter(database)
        return database

    def _enter(self, database: Database) -> int:
        lock = None
        nudge = os.fspath(self._nudge) if self._nudge is not None else None
        try:
            with database.transaction() as tx:
                row = (self._token, os.getpid(), self._state, nudge, self._clock.now_us())
                number = int(tx.execute(ledger_rows.ENTER, row)[0][0])
                if self._place is not None:
                    lock = EngineLock(self._place.lock_path(number), self._place.mode)
        except BlockingIOError as error:
            raise StoreError(
                f"the ledger of this host, {self._place and self._place.path}, was deleted while engines used it",
                hint="end those engines, then try again",
            ) from error
        except BaseException:
            if lock is not None:
                lock.release()  # should the row be there all the same, this holder is seen to be dead
            raise
        self._lock = lock
        return number

    @contextmanager
    def _changing(self, *, enter: bool = True) -> Iterator[_Change]:
        """A transaction of this holder; whom it wakes is woken when it is committed."""
        database = self._entered() if enter else self._use()
        with database.transaction() as tx:
            if enter and not tx.execute(ledger_rows.IS_THERE, (self._number,)):
                raise StoreError(
                    f"holder {self._number} of the ledger of this host was taken for dead: its lock file is gone",
                    hint="start this engine anew; nothing may delete files in the ledger's folder while it runs",
                )
            change = _Change(tx, self._number)
            yield change
            if change.counts:
                tx.execute(ledger_rows.CHANGED)
        self._own_changes += change.counts
        _wake(change.sockets)

    def _sight(self, change: _Change, capacity: Amounts) -> Host:
        """What the ledger says now, without what has expired."""
        now_us = self._clock.now_us()
        change.counts |= change.tx.execute_many(ledger_rows.EXPIRE, [(now_us,)]) > 0
        rows = change.tx.execute(ledger_rows.SIGHT, {"now": now_us})
        host = ledger_rows.sight(rows, capacity, me=self._number, now_us=now_us)
        self._note_waits(host)
        return host

    def _note_waits(self, host: Host) -> None:
        self.others_wait = any(wait.holder != self._number for wait in host.waits)

    def _wait(self, change: _Change, host: Host, mine: Wait | None, parts: Mapping[str, Amounts]) -> None:
        """Puts a refused request on record, where it can be met at all, and wakes who could give."""
        asked = Wait(holder=self._number, sequence=0, head=parts["head"], idle=parts["idle"])
        tx = change.tx
        if not host.is_possible(asked):
            change.counts |= tx.execute_many(ledger_rows.END_WAIT, [(self._number,)]) > 0
            return
        if ledger_rows.wait(tx, self._number, mine, parts, now_us=self._clock.now_us()):
            change.counts = True
            if mine is None:
                change.wake(ledger_rows.ALL_SOCKETS)


class _Change:
    """One transaction on the ledger: what it does, and who has to hear of it."""

    __slots__ = ("_holder", "counts", "sockets", "tx")

    def __init__(self, tx: Transaction, holder: int) -> None:
        self.tx = tx
        self.counts = False
        """Whether others have to look again."""
        self.sockets: list[Path] = []
        self._holder = holder

    def wake(self, sql: str) -> None:
        """Others have to look again, and those whose sockets this statement finds at once."""
        self.counts = True
        self.sockets += _paths(self.tx.execute(sql, (self._holder,)))


def _paths(rows: Iterable[Row]) -> list[Path]:
    return [Path(row[0]) for row in rows if row[0]]


def _wake(sockets: list[Path]) -> None:
    """Sends a byte to each; who does not listen finds out by itself."""
    if not sockets:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        for path in sockets:
            with suppress(OSError):
                sender.sendto(_NUDGE, os.fspath(path))
