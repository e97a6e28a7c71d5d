"""What is short of the resources that a state limits, and who holds the rest: locks, semaphores, quotas.

Layer: above the stores, beside the readers; each resource is read once. A run of a session is served out of what
its session holds, where that holds some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

from codomyrmex.clock import to_datetime
from codomyrmex.logistics.orchestration.project import rate_quota, resource_store
from codomyrmex.logistics.orchestration.project.named_resources import NamedResource
from codomyrmex.logistics.orchestration.project.wait_reasons import (
    NAMED_AT_MOST,
    Holder,
    OtherEngine,
    QuotaUsed,
    Reason,
    ResourceShort,
)
from codomyrmex.logistics.storage.database import Database, Row

HOLDERS = """
SELECT allocation.requester, allocation.amount, allocation.since, allocation.epoch, engine.pid, allocation.position,
    run.number, run.id, run.workflow, run.definition
FROM allocation LEFT JOIN run ON run.number = allocation.run LEFT JOIN engine ON engine.epoch = allocation.epoch
WHERE allocation.resource = ?1 AND allocation.pool IS ?2
AND (allocation.expires_at IS NULL OR allocation.expires_at > ?3)
ORDER BY allocation.amount DESC, allocation.since LIMIT ?4
"""
TOTALS = """
SELECT count(*), coalesce(sum(amount), 0) FROM allocation
WHERE resource = ?1 AND pool IS ?2 AND (expires_at IS NULL OR expires_at > ?3)
"""
HELD_BY_SESSION = """
SELECT coalesce(sum(amount), 0) FROM allocation
WHERE resource = ? AND requester = ? AND run IS NULL AND pool IS NULL AND (expires_at IS NULL OR expires_at > ?)
"""
OWN_WAIT = "SELECT since FROM resource_wait WHERE epoch = ? AND resource = ?"
PID = "SELECT pid FROM engine WHERE epoch = ?"


class NamedFacts:
    """See the module; `holder` names a task that holds something to whoever asks about a run."""

    def __init__(self, database: Database, *, now_us: int, holder: Callable[..., Holder]) -> None:
        self._database = database
        self._now_us = now_us
        self._holder = holder

    def shortage(
        self, name: str, asked: int, *, epoch: int, run: int, session: str | None
    ) -> Iterator[Reason]:
        """Why a task of `run`, of the engine `epoch`, does not get so much of a resource now."""
        row = self._rows.get(name)
        if row is None:
            yield ResourceShort(resource=name, name=name, asked=asked, free=0, capacity=0)
        elif row.rate is not None:
            yield from self._quota(row, asked)
        elif session is not None and (held := self._held(row.id, session)):
            count, taken = self._database.query(TOTALS, (row.id, session, self._now_us))[0]
            if asked > held - taken:
                yield self._short(
                    row, asked, run, free=held - taken, capacity=held, count=count, session=session
                )
        else:
            yield from self._semaphore(row, asked, epoch=epoch, run=run)

    @cached_property
    def _rows(self) -> dict[str, NamedResource]:
        rows = resource_store.read_named(self._database, now_us=self._now_us, epoch=-1)
        return {row.name: row for row in rows} | {row.id: row for row in rows}

    def _held(self, resource: str, session: str) -> int:
        """How much a session holds for its own runs."""
        return int(self._database.query(HELD_BY_SESSION, (resource, session, self._now_us))[0][0])

    def _quota(self, row: NamedResource, asked: int) -> Iterator[Reason]:
        rate = row.rate
        assert rate is not None, row.id
        passage = rate_quota.claim(rate, asked, tat_us=row.tat_us, now_us=self._now_us)
        if passage.tat_us is not None and rate.allows(asked) and not row.offline:
            return
        yield QuotaUsed(
            resource=row.id,
            name=row.name,
            asked=asked,
            capacity=rate.capacity,
            per_s=rate.per_us / 1_000_000,
            retry_at=to_datetime(passage.retry_us) if rate.allows(asked) else None,
            offline=row.offline,
        )

    def _semaphore(self, row: NamedResource, asked: int, *, epoch: int, run: int) -> Iterator[Reason]:
        own = self._database.query(OWN_WAIT, (epoch, row.id))
        since_us = own[0][0] if own else self._now_us
        ahead = [wait for wait in row.waits if wait.epoch != epoch and wait.since_us < since_us]
        free = row.capacity - row.used
        if asked <= free - sum(wait.amount for wait in ahead) and not row.offline:
            return
        count = self._database.query(TOTALS, (row.id, None, self._now_us))[0][0]
        waiting = tuple(
            OtherEngine(
                engine=wait.epoch,
                pid=self._pid(wait.epoch),
                amount=wait.amount,
                since=to_datetime(wait.since_us),
            )
            for wait in ahead[:NAMED_AT_MOST]
        )
        yield self._short(row, asked, run, free=free, capacity=row.capacity, count=count, ahead=waiting)

    def _short(
        self,
        row: NamedResource,
        asked: int,
        run: int,
        *,
        free: int,
        capacity: int,
        count: int,
        ahead: tuple[OtherEngine, ...] = (),
        session: str | None = None,
    ) -> ResourceShort:
        holders = self._database.query(HOLDERS, (row.id, session, self._now_us, NAMED_AT_MOST))
        return ResourceShort(
            resource=row.id,
            name=row.name,
            asked=asked,
            free=free,
            capacity=capacity,
            holders=tuple(self._named(holder, run) for holder in holders),
            more_holders=count - len(holders),
            ahead=ahead,
            offline=row.offline and session is None,
            session=session,
        )

    def _named(self, row: Row, run: int) -> Holder:
        requester, amount, since, epoch, pid, position, number, run_id, workflow, definition = row
        at = to_datetime(since)
        if run_id is None or position is None:
            return Holder(who=requester, amount=amount, since=at, engine=epoch, pid=pid)
        place = (number, run_id, workflow, definition, position)
        return self._holder(place, run, amount=amount, since=at, engine=epoch, pid=pid)

    def _pid(self, epoch: int) -> int | None:
        rows = self._database.query(PID, (epoch,))
        return int(rows[0][0]) if rows else None
