"""The SQL of the resource manager: resources as they are added and told of, and what people hold of them.

Layer: above storage, beside `resource_store`, whose `claim` is the only statement that adds an allocation.
What attempts of tasks hold (rows with a run) is given out and back by the drain and never touched here.

A holding may be a *pool* that its requester's tasks claim from. When one is given back while tasks still
use some of it, what they use is claimed directly from then on: the sum goes down by what is free again, and
by no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from codomyrmex.logistics.orchestration.project.rate_quota import Rate
from codomyrmex.logistics.orchestration.project.resource_store import WAIT_COUNTS_FOR_US
from codomyrmex.logistics.storage.database import Parameters, Row, Transaction

Ask = Callable[[str, Parameters], Sequence[Row]]
"""`Database.query`, or `Transaction.execute` inside a transaction."""

_COLUMNS = "id, name, type, capacity, per_us, burst, tat_us, offline, peak, description, limits, metadata, created_at"
FIND = f"SELECT {_COLUMNS} FROM resource WHERE id = ?"
FIND_NAME = f"SELECT {_COLUMNS} FROM resource WHERE name = ?"
EVERY = f"SELECT {_COLUMNS} FROM resource ORDER BY id"
KNOWN = "SELECT id, name, type FROM resource"
USED = """
SELECT coalesce(sum(amount), 0), count(*) FROM allocation
WHERE resource = ? AND pool IS NULL AND (expires_at IS NULL OR expires_at > ?)
"""
USED_BY = """
SELECT coalesce(sum(amount), 0) FROM allocation
WHERE requester = ? AND resource = ? AND pool IS NULL AND (expires_at IS NULL OR expires_at > ?)
"""
PUT = """
INSERT INTO resource (id, name, type, capacity, per_us, burst, description, limits, metadata, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, type = excluded.type, capacity = excluded.capacity,
    per_us = excluded.per_us, burst = excluded.burst, description = excluded.description,
    limits = excluded.limits, metadata = excluded.metadata
"""
REMOVE = "DELETE FROM resource WHERE id = ?"
REMOVE_ALLOCATIONS = "DELETE FROM allocation WHERE resource = ?"
REMOVE_WAITS = "DELETE FROM resource_wait WHERE resource = ?"
SET_OFFLINE = "UPDATE resource SET offline = ? WHERE id = ?"
SPEND = "UPDATE resource SET tat_us = ?, peak = max(peak, ?) WHERE id = ?"
RELEASE = "DELETE FROM allocation WHERE id = ? AND run IS NULL RETURNING resource, requester, expires_at"
UNPOOL = """
UPDATE allocation SET pool = NULL WHERE resource = ?1 AND pool = ?2 AND (
    SELECT coalesce(sum(amount), 0) FROM allocation WHERE resource = ?1 AND pool = ?2
) > (
    SELECT coalesce(sum(amount), 0) FROM allocation
    WHERE requester = ?2 AND resource = ?1 AND pool IS NULL AND run IS NULL AND (expires_at IS NULL OR expires_at > ?3))
"""
HELD_IDS = "SELECT id FROM allocation WHERE requester = ? AND run IS NULL"
RENEW = """
UPDATE allocation SET expires_at = ?1 WHERE id = ?2 AND run IS NULL AND (expires_at IS NULL OR expires_at > ?3)
"""
RESOURCE_OF = "SELECT resource FROM allocation WHERE id = ? AND run IS NULL"
EXPIRED = "SELECT id FROM allocation WHERE expires_at <= ? AND run IS NULL"
EXPIRED_OF = (
    "SELECT id FROM allocation WHERE resource = ? AND pool IS NULL AND expires_at <= ? AND run IS NULL"
)
NEXT_EXPIRY = "SELECT min(expires_at) FROM allocation WHERE resource = ? AND pool IS NULL AND expires_at > ?"
ALLOCATIONS = """
SELECT id, resource, requester, amount, since, expires_at FROM allocation
WHERE (?1 IS NULL OR resource = ?1) AND (?2 IS NULL OR requester = ?2) AND pool IS NULL
AND (expires_at IS NULL OR expires_at > ?3) ORDER BY since, id
"""
OWED = """
SELECT coalesce(sum(amount), 0) FROM resource_wait WHERE resource = ? AND epoch <> ? AND since < ? AND seen_at > ?
"""
WAITING = "SELECT DISTINCT epoch FROM resource_wait WHERE resource = ? AND epoch <> ? AND seen_at > ?"
ENDED = "SELECT 1 FROM engine WHERE epoch = ? AND ended_at IS NOT NULL"


@dataclass(frozen=True, slots=True)
class StoredResource:
    """One row; amounts in ten-thousandths of a unit. `limits` has ten-thousandths too, and `max_ttl_us`."""

    id: str
    name: str
    type: str
    capacity: int
    per_us: int | None
    burst: int | None
    tat_us: int
    offline: bool
    peak: int
    description: str
    limits: dict[str, int]
    metadata: dict[str, Any]
    created_us: int

    @property
    def rate(self) -> Rate | None:
        """Of a quota, how often; None for everything else."""
        if self.per_us is None or self.capacity == 0:
            return None
        return Rate(capacity=self.capacity, per_us=self.per_us, burst=self.burst)


@dataclass(frozen=True, slots=True)
class Holding:
    """One live allocation, of a person or of a task."""

    id: str
    resource: str
    requester: str
    amount: int
    since_us: int
    expires_us: int | None


def find(ask: Ask, id_or_name: str) -> StoredResource | None:
    """A resource by its id, else by its name."""
    rows = ask(FIND, (id_or_name,)) or ask(FIND_NAME, (id_or_name,))
    return _stored(rows[0]) if rows else None


def every(ask: Ask) -> list[StoredResource]:
    """All resources of the state, in order of their ids."""
    return [_stored(row) for row in ask(EVERY, ())]


def known(ask: Ask) -> dict[str, tuple[str, str]]:
    """{name or id: (id, type)}; where one has the name that is another's id, the id counts."""
    rows = ask(KNOWN, ())
    return {name: (id, type) for id, name, type in rows} | {id: (id, type) for id, _name, type in rows}


def used(ask: Ask, id: str, *, now_us: int) -> tuple[int, int]:
    """How much of a resource is held, by how many live allocations."""
    held, count = ask(USED, (id, now_us))[0]
    return held, count


def used_by(ask: Ask, requester: str, id: str, *, now_us: int) -> int:
    """How much of a resource one requester holds."""
    return int(ask(USED_BY, (requester, id, now_us))[0][0])


def put(tx: Transaction, resource: StoredResource) -> None:
    """Adds a resource or changes one; what is held, its peak and whether it is offline stay."""
    limits = msgspec.json.encode(resource.limits).decode()
    metadata = msgspec.json.encode(resource.metadata).decode()
    tx.execute(
        PUT,
        (
            resource.id, resource.name, resource.type, resource.capacity, resource.per_us, resource.burst,
            resource.description, limits, metadata, resource.created_us,
        ),
    )  # fmt: skip


def remove(tx: Transaction, id: str) -> bool:
    """Removes a resource with every allocation of it; False if there is none."""
    tx.execute(REMOVE_ALLOCATIONS, (id,))
    tx.execute(REMOVE_WAITS, (id,))
    return tx.execute_many(REMOVE, [(id,)]) == 1


def set_offline(tx: Transaction, id: str, *, offline: bool) -> bool:
    """Takes a resource out of service or back; False if there is none."""
    return tx.execute_many(SET_OFFLINE, [(int(offline), id)]) == 1


def spend(tx: Transaction, id: str, *, tat_us: int, level: int) -> None:
    """Moves a quota on; `level` is what of it is used up then."""
    tx.execute(SPEND, (tat_us, level, id))


def release(tx: Transaction, id: str, *, now_us: int) -> str | None:
    """Gives an allocation back; the resource that has more now, None where nothing was held any more."""
    rows = tx.execute(RELEASE, (id,))
    if not rows:
        return None
    resource, requester, expires_us = rows[0]
    tx.execute(UNPOOL, (resource, requester, now_us))
    return None if expires_us is not None and expires_us <= now_us else str(resource)


def release_requester(tx: Transaction, requester: str, *, now_us: int) -> list[str]:
    """Gives back all that a requester holds; the resources that have more now."""
    found = [release(tx, id, now_us=now_us) for (id,) in tx.execute(HELD_IDS, (requester,))]
    return [resource for resource in found if resource is not None]


def clear_expired(tx: Transaction, *, now_us: int, resource: str | None = None) -> int:
    """Removes the rows of allocations whose time is over, of one resource if given; how many.

    They count as free anyway. But whoever takes what they had removes them first: a clock that is set back
    must not bring them to life again.
    """
    rows = tx.execute(EXPIRED, (now_us,)) if resource is None else tx.execute(EXPIRED_OF, (resource, now_us))
    for (id,) in rows:
        release(tx, id, now_us=now_us)
    return len(rows)


def renew(tx: Transaction, id: str, *, expires_us: int | None, now_us: int) -> bool:
    """Sets the end of a live allocation; False for one that is over."""
    return tx.execute_many(RENEW, [(expires_us, id, now_us)]) == 1


def resource_of(ask: Ask, allocation_id: str) -> str | None:
    """What an allocation is of."""
    rows = ask(RESOURCE_OF, (allocation_id,))
    return str(rows[0][0]) if rows else None


def next_expiry(ask: Ask, ids: Iterable[str], *, now_us: int) -> int | None:
    """When the first allocation of these resources ends by itself."""
    instants = (ask(NEXT_EXPIRY, (id, now_us))[0][0] for id in ids)
    return min((each for each in instants if each is not None), default=None)


def holdings(
    ask: Ask, *, now_us: int, resource: str | None = None, requester: str | None = None
) -> list[Holding]:
    """The live allocations, the oldest first."""
    return [Holding(*row) for row in ask(ALLOCATIONS, (resource, requester, now_us))]


def owed(ask: Ask, id: str, *, epoch: int, since_us: int, now_us: int) -> int:
    """What other engines have waited for since before `since_us`."""
    return int(ask(OWED, (id, epoch, since_us, now_us - WAIT_COUNTS_FOR_US))[0][0])


def waiting(ask: Ask, id: str, *, epoch: int, now_us: int) -> list[int]:
    """The other engines that wait for a resource."""
    return [row[0] for row in ask(WAITING, (id, epoch, now_us - WAIT_COUNTS_FOR_US))]


def has_ended(ask: Ask, epoch: int) -> bool:
    """True when an engine was declared dead, or has closed."""
    return bool(ask(ENDED, (epoch,)))


def _stored(row: Row) -> StoredResource:
    id, name, type, capacity, per_us, burst, tat_us, offline, peak, description, limits, metadata, created = (
        row
    )
    return StoredResource(
        id, name, type, capacity, per_us, burst, tat_us, bool(offline), peak, description,
        _mapping(limits), _mapping(metadata), created,
    )  # fmt: skip


def _mapping(text: str) -> dict[str, Any]:
    if text == "{}":
        return {}
    found: dict[str, Any] = msgspec.json.decode(text)
    return found
