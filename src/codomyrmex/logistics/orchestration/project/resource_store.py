"""What a state limits itself, and who holds it: the SQL of resources, allocations and waits.

Layer: above storage; holds no state of its own. Every writing function takes the transaction first. What is
used of a resource is always the sum of its live allocations, worked out where it is needed; a row that is
past its `expires_at` is not live, whether somebody has cleared it away or not. `claim` is the only statement
that adds an allocation, and it adds none that does not fit, so the sum never exceeds the capacity whoever
claims: the drain of an engine, a person, an agent.

An allocation comes back in the transaction that records the end of its attempt; when its holder lets go;
when its time is over; and when its engine is found dead, after everything that engine left has been ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from codomyrmex.exceptions import Conflict
from codomyrmex.logistics.orchestration.project.named_resources import NamedResource, OtherWait
from codomyrmex.logistics.orchestration.project.rate_quota import Rate
from codomyrmex.logistics.orchestration.project.resource_request import NamedLimit
from codomyrmex.logistics.storage.database import Database, Transaction

READ = """
SELECT id, name, type, capacity, per_us, burst, tat_us, offline,
    (SELECT coalesce(sum(amount), 0) FROM allocation
     WHERE resource = resource.id AND pool IS NULL AND (expires_at IS NULL OR expires_at > ?1)),
    (SELECT coalesce(sum(amount), 0) FROM allocation
     WHERE resource = resource.id AND pool IS NULL AND (expires_at IS NULL OR expires_at > ?1) AND epoch <> ?2)
FROM resource
"""
POOLS = """
SELECT requester, resource, sum(amount) - (
    SELECT coalesce(sum(taken.amount), 0) FROM allocation AS taken
    WHERE taken.resource = held.resource AND taken.pool = held.requester)
FROM allocation AS held
WHERE run IS NULL AND pool IS NULL AND (expires_at IS NULL OR expires_at > ?) GROUP BY requester, resource
"""
HELD_BY = """
SELECT resource, sum(amount) FROM allocation
WHERE requester = ? AND run IS NULL AND pool IS NULL AND (expires_at IS NULL OR expires_at > ?) GROUP BY resource
"""
LIMITS = "SELECT id, name, type, capacity, per_us, burst FROM resource"
CLAIM = """
INSERT INTO allocation (id, resource, amount, requester, pool, epoch, run, position, attempt, since, expires_at)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11
WHERE EXISTS (SELECT 1 FROM engine WHERE epoch = ?6 AND ended_at IS NULL)
AND ?3 <= (SELECT capacity FROM resource WHERE id = ?2 AND NOT offline) - (
    SELECT coalesce(sum(amount), 0) FROM allocation
    WHERE resource = ?2 AND pool IS NULL AND (expires_at IS NULL OR expires_at > ?10))
"""
CLAIM_FROM_POOL = """
INSERT INTO allocation (id, resource, amount, requester, pool, epoch, run, position, attempt, since, expires_at)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11
WHERE EXISTS (SELECT 1 FROM engine WHERE epoch = ?6 AND ended_at IS NULL)
AND ?3 <= (
    SELECT coalesce(sum(amount), 0) FROM allocation
    WHERE resource = ?2 AND requester = ?5 AND pool IS NULL AND (expires_at IS NULL OR expires_at > ?10)
) - (SELECT coalesce(sum(amount), 0) FROM allocation WHERE resource = ?2 AND pool = ?5)
"""
RAISE_PEAK = """
UPDATE resource SET peak = (
    SELECT coalesce(sum(amount), 0) FROM allocation
    WHERE resource = ?1 AND pool IS NULL AND (expires_at IS NULL OR expires_at > ?2))
WHERE id = ?1 AND peak < (
    SELECT coalesce(sum(amount), 0) FROM allocation
    WHERE resource = ?1 AND pool IS NULL AND (expires_at IS NULL OR expires_at > ?2))
"""
RELEASE = "DELETE FROM allocation WHERE id = ?"
RELEASE_ENGINE = "DELETE FROM allocation WHERE epoch = ?"
FORGET_WAITS = "DELETE FROM resource_wait WHERE epoch = ?"
TAKE_QUOTA = "UPDATE resource SET tat_us = ? WHERE id = ? AND tat_us = ? AND NOT offline"
READ_WAITS = (
    "SELECT resource, epoch, amount, since FROM resource_wait WHERE epoch <> ? AND seen_at > ? ORDER BY since"
)
PUT_WAIT = """
INSERT INTO resource_wait (epoch, resource, amount, since, seen_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET amount = excluded.amount, since = excluded.since, seen_at = excluded.seen_at
"""
END_WAIT = "DELETE FROM resource_wait WHERE epoch = ? AND resource = ?"
WAIT_COUNTS_FOR_US = 3_000_000
"""A wait that its engine has not confirmed for so long is passed over: the engine may be stopped."""


class ClaimRefused(Conflict):
    """What an engine believed to be free is not any more; it looks again and plans anew."""

    code = "claim_refused"


class ClaimRow(NamedTuple):
    """One allocation to be made; a task's has run, position and attempt."""

    id: str
    resource: str
    amount: int
    requester: str
    epoch: int
    since_us: int
    pool: str | None = None
    run: int | None = None
    position: int | None = None
    attempt: int | None = None
    expires_us: int | None = None

    @property
    def row(self) -> tuple[Any, ...]:
        """In the order of the table's columns."""
        return (
            self.id, self.resource, self.amount, self.requester, self.pool, self.epoch, self.run, self.position,
            self.attempt, self.since_us, self.expires_us,
        )  # fmt: skip


def task_claim_id(run: int, position: int, attempt: int, resource: str) -> str:
    """The id of what an attempt holds of a resource."""
    return f"{run}.{position}.{attempt}.{resource}"


def read_named(database: Database, *, now_us: int, epoch: int) -> list[NamedResource]:
    """Every named resource as it is now; `epoch` is the engine that asks, whose own share is told apart."""
    waits: dict[str, list[OtherWait]] = {}
    for resource, other, amount, since_us in database.query(READ_WAITS, (epoch, now_us - WAIT_COUNTS_FOR_US)):
        waits.setdefault(resource, []).append(OtherWait(epoch=other, amount=amount, since_us=since_us))
    found = []
    for id, name, type, capacity, per_us, burst, tat_us, offline, used, others in database.query(
        READ, (now_us, epoch)
    ):
        rate = Rate(capacity=capacity, per_us=per_us, burst=burst) if per_us and capacity else None
        found.append(
            NamedResource(
                id=id,
                name=name,
                type=type,
                capacity=capacity,
                rate=rate,
                tat_us=tat_us,
                offline=bool(offline),
                used=used,
                used_by_others=others,
                waits=waits.get(id, []),
            )
        )
    return found


def read_pools(database: Database, *, now_us: int) -> dict[str, dict[str, int]]:
    """{requester: {resource id: what is left of what it holds}} of everybody but tasks."""
    pools: dict[str, dict[str, int]] = {}
    for requester, resource, left in database.query(POOLS, (now_us,)):
        pools.setdefault(requester, {})[resource] = left
    return pools


def held_by(database: Database, requester: str, *, now_us: int) -> dict[str, int]:
    """What somebody holds of named resources, by their ids; what tasks hold is not meant."""
    return dict(database.query(HELD_BY, (requester, now_us)))


def ids(database: Database) -> dict[str, str]:
    """{name: id} of every named resource; an id stands for itself."""
    found = {name: id for id, name, *_ in database.query(LIMITS)}
    return found | {id: id for id in found.values()}


def limits(database: Database) -> dict[str, NamedLimit]:
    """What can be asked for, by id and by name."""
    found = {}
    for id, name, type, capacity, per_us, burst in database.query(LIMITS):
        limit = NamedLimit(type=type, capacity=capacity, burst=burst if per_us else None)
        found[name] = limit
        found[id] = limit
    return found


def claim(tx: Transaction, row: ClaimRow) -> bool:
    """Makes one allocation if it fits and its engine lives; False otherwise, and nothing has changed."""
    statement = CLAIM if row.pool is None else CLAIM_FROM_POOL
    if tx.execute_many(statement, [row.row]) != 1:
        return False
    if row.pool is None:
        tx.execute(RAISE_PEAK, (row.resource, row.since_us))
    return True


def release(tx: Transaction, ids: Iterable[str]) -> int:
    """Ends allocations; returns how many there were. Idempotent."""
    return tx.execute_many(RELEASE, [(id,) for id in ids])


def release_engine(tx: Transaction, *, epoch: int) -> int:
    """Ends everything that an engine holds and waits for."""
    tx.execute(FORGET_WAITS, (epoch,))
    return tx.execute_many(RELEASE_ENGINE, [(epoch,)])


def take_quota(tx: Transaction, id: str, *, old_us: int, new_us: int) -> bool:
    """Moves the instant of a quota on; False when somebody else has moved it since it was read."""
    return tx.execute_many(TAKE_QUOTA, [(new_us, id, old_us)]) == 1


def put_wait(tx: Transaction, *, epoch: int, resource: str, amount: int, since_us: int, now_us: int) -> None:
    """Says, or says again, that an engine waits."""
    tx.execute_many(PUT_WAIT, [(epoch, resource, amount, since_us, now_us)])


def end_wait(tx: Transaction, *, epoch: int, resource: str) -> None:
    """An engine waits for a resource no longer."""
    tx.execute_many(END_WAIT, [(epoch, resource)])
