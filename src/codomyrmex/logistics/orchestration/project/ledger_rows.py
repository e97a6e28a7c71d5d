"""The rows of the host's ledger: how they are read and changed.

Layer: above storage; every function works in a transaction or a query that its caller began. One statement reads
all that the rule needs, so that it is of one moment. Tables: `storage/ledger_migrations/0001_ledger.sql`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from codomyrmex.logistics.orchestration.project.ledger_shares import Amounts, Host, Wait
from codomyrmex.logistics.storage.database import Database, Row, Transaction

WAIT_LIVES_US = 2_000_000
"""A wait that was not renewed for so long is passed over: its process may have been stopped."""
PATIENT_US = 300_000_000
"""After so long all that a wait is for is kept for it, not only what it is short of."""

ENTER = "INSERT INTO holder (token, pid, state, nudge, since) VALUES (?, ?, ?, ?, ?) RETURNING number"
LEAVE = "DELETE FROM holder WHERE number = ?"
IS_THERE = "SELECT 1 FROM holder WHERE number = ?"
OTHERS = "SELECT number, token FROM holder WHERE number <> ? ORDER BY number"
CHANGED = "UPDATE change SET number = number + 1"
CHANGES = "SELECT number FROM change"

SIGHT = """
SELECT 'held', holder, resource, amount, 0, 0, 0 FROM allotment
UNION ALL
SELECT 'kept', 0, resource, amount, 0, 0, 0 FROM hold_amount JOIN hold ON hold.id = hold_amount.hold
    WHERE expires IS NULL OR expires > :now
UNION ALL
SELECT 'offline', 0, id, 0, 0, 0, 0 FROM resource WHERE offline
UNION ALL
SELECT part, holder, resource, amount, place, since, renewed FROM wait JOIN wait_amount USING (holder)
"""
TAKE = """
INSERT INTO allotment (holder, resource, amount, since) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET amount = amount + excluded.amount
"""
GIVE_ALL = "DELETE FROM allotment WHERE holder = ? AND resource = ? AND amount = ?"
GIVE = "UPDATE allotment SET amount = amount - ? WHERE holder = ? AND resource = ? AND amount > ?"
PEAK = """
INSERT INTO resource (id, peak) VALUES (?, ?) ON CONFLICT DO UPDATE SET peak = max(peak, excluded.peak)
"""
PEAKS = "SELECT id, peak FROM resource WHERE peak > 0"
ALLOTMENTS = """
SELECT holder, pid, state, resource, amount, allotment.since FROM allotment JOIN holder ON number = holder
ORDER BY holder, resource
"""

BEGIN_WAIT = """
INSERT INTO wait (holder, place, since, renewed) SELECT ?, coalesce(max(place), 0) + 1, ?, ? FROM wait
"""
TO_THE_END = "UPDATE wait SET place = (SELECT max(place) FROM wait) + 1 WHERE holder = ?"
RENEW_WAIT = "UPDATE wait SET renewed = ? WHERE holder = ?"
CLEAR_WAIT = "DELETE FROM wait_amount WHERE holder = ?"
ADD_TO_WAIT = "INSERT INTO wait_amount (holder, part, resource, amount) VALUES (?, ?, ?, ?)"
END_WAIT = "DELETE FROM wait WHERE holder = ?"
WAITS = """
SELECT wait.holder, pid, state, wait.since, renewed, resource, amount
FROM wait JOIN holder ON number = wait.holder JOIN wait_amount USING (holder)
WHERE part = 'head' ORDER BY place, resource
"""
WAITING_SOCKETS = "SELECT nudge FROM wait JOIN holder ON number = holder WHERE holder <> ?"
ALL_SOCKETS = "SELECT nudge FROM holder WHERE number <> ?"

HOLD = "INSERT INTO hold (id, holder, requester, since, expires) VALUES (?, ?, ?, ?, ?)"
HOLD_AMOUNT = "INSERT INTO hold_amount (hold, resource, amount) VALUES (?, ?, ?)"
RENEW_HOLD = "UPDATE hold SET expires = ? WHERE id = ? AND (expires IS NULL OR expires > ?)"
RELEASE_HOLD = "DELETE FROM hold WHERE id = ?"
HELD_BY = "SELECT resource, amount FROM hold_amount WHERE hold = ? ORDER BY resource"
EXPIRED = "SELECT count(*) FROM hold WHERE expires <= ?"
EXPIRE = "DELETE FROM hold WHERE expires <= ?"
HOLDS = """
SELECT hold.id, holder, pid, requester, hold.since, expires, resource, amount
FROM hold JOIN holder ON number = holder JOIN hold_amount ON hold = hold.id
WHERE expires IS NULL OR expires > ? ORDER BY hold.since, hold.id, resource
"""
OFFLINE = """
INSERT INTO resource (id, offline) VALUES (?, ?) ON CONFLICT DO UPDATE SET offline = excluded.offline
"""


class AllotmentRow(NamedTuple):
    """What an engine has of one resource."""

    holder: int
    pid: int
    state: str
    resource: str
    amount: int
    since_us: int


class WaitRow(NamedTuple):
    """What an engine's next task lacks; `lives` is False where the wait is passed over."""

    holder: int
    pid: int
    state: str
    amounts: dict[str, int]
    since_us: int
    lives: bool


class HoldRow(NamedTuple):
    """What somebody keeps beside the tasks."""

    id: str
    holder: int
    pid: int
    requester: str
    amounts: dict[str, int]
    since_us: int
    expires_us: int | None


@dataclass(slots=True, kw_only=True)
class _Parts:
    holder: int
    since_us: int
    renewed_us: int
    head: dict[str, int] = field(default_factory=dict)
    want: dict[str, int] = field(default_factory=dict)
    idle: dict[str, int] = field(default_factory=dict)


def sight(rows: Iterable[Row], capacity: Amounts, *, me: int, now_us: int) -> Host:
    """What the rows of `SIGHT` mean for one holder; its own wait counts however old it is."""
    held: dict[int, dict[str, int]] = {}
    kept: dict[str, int] = {}
    offline = set()
    waits: dict[int, _Parts] = {}
    for what, holder, resource, amount, place, since_us, renewed_us in rows:
        if what == "held":
            held.setdefault(holder, {})[resource] = amount
        elif what == "kept":
            kept[resource] = kept.get(resource, 0) + amount
        elif what == "offline":
            offline.add(resource)
        else:
            parts = waits.get(place)
            if parts is None:
                parts = waits[place] = _Parts(holder=holder, since_us=since_us, renewed_us=renewed_us)
            getattr(parts, what)[resource] = amount
    living = [
        Wait(
            holder=parts.holder,
            sequence=place,
            head=parts.head,
            want=parts.want,
            idle=parts.idle,
            patient=now_us - parts.since_us < PATIENT_US,
        )
        for place, parts in sorted(waits.items())
        if parts.holder == me or now_us - parts.renewed_us < WAIT_LIVES_US
    ]
    return Host(capacity=capacity, held=held, kept=kept, waits=living, offline=frozenset(offline))


def used(host: Host) -> dict[str, int]:
    """The sum of all that is held, by device."""
    found = dict(host.kept)
    for amounts in host.held.values():
        for id, amount in amounts.items():
            found[id] = found.get(id, 0) + amount
    return found


def take(tx: Transaction, host: Host, holder: int, granted: Amounts, *, now_us: int) -> None:
    """Allots to a holder, and remembers how high the sum has been."""
    tx.execute_many(TAKE, [(holder, id, amount, now_us) for id, amount in granted.items()])
    note_peaks(tx, host, granted)


def note_peaks(tx: Transaction, host: Host, more: Amounts) -> None:
    """Remembers the sum with what is taken now, where it is the highest yet."""
    sums = used(host)
    tx.execute_many(PEAK, [(id, sums.get(id, 0) + amount) for id, amount in more.items()])


def give(tx: Transaction, holder: int, amounts: Amounts) -> None:
    """Takes away from a holder; raises ValueError where it has less."""
    for id, amount in amounts.items():
        if amount == 0:
            continue
        if tx.execute_many(GIVE_ALL, [(holder, id, amount)]) == 1:
            continue
        if amount < 0 or tx.execute_many(GIVE, [(amount, holder, id, amount)]) != 1:
            raise ValueError(f"holder {holder} has no {amount} of {id} to give back")


def wait(
    tx: Transaction, holder: int, mine: Wait | None, parts: Mapping[str, Amounts], *, now_us: int
) -> bool:
    """Puts a wait on record, or renews it; True when others have not seen it like this."""
    if mine is not None:
        tx.execute(RENEW_WAIT, (now_us, holder))
        if all(getattr(mine, part) == _positive(amounts) for part, amounts in parts.items()):
            return False
        tx.execute(CLEAR_WAIT, (holder,))
    else:
        tx.execute(BEGIN_WAIT, (holder, now_us, now_us))
    rows = [(holder, part, id, n) for part, amounts in parts.items() for id, n in _positive(amounts).items()]
    tx.execute_many(ADD_TO_WAIT, rows)
    return True


def _positive(amounts: Amounts) -> dict[str, int]:
    return {id: amount for id, amount in amounts.items() if amount > 0}


def allotments(database: Database) -> list[AllotmentRow]:
    """All allotments, by holder."""
    return [
        AllotmentRow(holder=holder, pid=pid, state=state, resource=resource, amount=amount, since_us=since_us)
        for holder, pid, state, resource, amount, since_us in database.query(ALLOTMENTS)
    ]


def waits(database: Database, *, now_us: int) -> list[WaitRow]:
    """All waits in their order."""
    found: dict[int, WaitRow] = {}
    for holder, pid, state, since_us, renewed_us, resource, amount in database.query(WAITS):
        lives = now_us - renewed_us < WAIT_LIVES_US
        row = WaitRow(holder=holder, pid=pid, state=state, amounts={}, since_us=since_us, lives=lives)
        found.setdefault(holder, row).amounts[resource] = amount
    return list(found.values())


def holds(database: Database, *, now_us: int) -> list[HoldRow]:
    """All holds that have not expired, oldest first."""
    found: dict[str, HoldRow] = {}
    for id, holder, pid, requester, since_us, expires_us, resource, amount in database.query(
        HOLDS, (now_us,)
    ):
        row = HoldRow(
            id=id,
            holder=holder,
            pid=pid,
            requester=requester,
            amounts={},
            since_us=since_us,
            expires_us=expires_us,
        )
        found.setdefault(id, row).amounts[resource] = amount
    return list(found.values())
