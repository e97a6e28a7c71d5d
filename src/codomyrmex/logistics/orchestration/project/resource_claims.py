"""What the drain does about resources: reads what is free, writes what is claimed and given back.

Layer: beside the drain, which calls it under its lock. Named resources are claimed in the transaction that
starts an attempt and come back in the one that records its end. Planning uses a photograph (`NamedResources`)
that is taken again when another process has written, when a claim was refused, or while this engine waits.

Where an engine waits for what others hold, a row says so; an engine that gives something back wakes those
whose waits it has seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from codomyrmex.clock import Clock
from codomyrmex.exceptions import StoreError
from codomyrmex.logistics.orchestration.project import resource_register, resource_store
from codomyrmex.logistics.orchestration.project.admission import Admission
from codomyrmex.logistics.orchestration.project.allotments import Allotments
from codomyrmex.logistics.orchestration.project.batch import Batch
from codomyrmex.logistics.orchestration.project.host_ledger import HostLedger
from codomyrmex.logistics.orchestration.project.named_resources import NOTHING
from codomyrmex.logistics.orchestration.project.news import Chunk
from codomyrmex.logistics.orchestration.project.resource_store import ClaimRefused, ClaimRow, task_claim_id
from codomyrmex.logistics.storage.database import Database, Transaction

REFRESH_S = 0.5
KEPT_US = 3_000_000
"""A holding of the machine that is in use has at least so long to go."""


class ResourceClaims:
    """See the module."""

    def __init__(
        self,
        database: Database,
        ledger: HostLedger,
        *,
        clock: Clock,
        epoch: int,
        nudge: Callable[[int], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._epoch = epoch
        self._nudge = nudge
        self._ledger = ledger
        self.allotments = Allotments(ledger, clock=clock)
        self._foreign_version: Any = None
        self._waits: dict[str, tuple[int, int]] = {}
        """The rows that say what this engine waits for, as they were last written."""
        self._waits_s = 0.0
        self._refreshed_s = 0.0
        self._pools_read = False

    def look(self, admission: Admission, now_us: int) -> None:
        """Takes a new photograph where the last one may be out of date; before anything is planned on it."""
        named = admission.named
        if admission.wants_named and (named.stale or named.waiting):
            rows = resource_store.read_named(self._database, now_us=now_us, epoch=self._epoch)
            named.load(rows, resource_store.read_pools(self._database, now_us=now_us))
        if admission.wants_pools:
            self._pools_read = True
            try:
                admission.share.set_pools(self._machine_pools())
            except StoreError as error:  # those of the last time do until it can be asked again
                self.allotments.failed(error)

    def prepare(self, admission: Admission, batch: Batch) -> None:
        """Before anything is admitted: what has to go back to others. Raises `StoreError`."""
        # The first that ask may have come with this very batch.
        named = admission.wants_named and not admission.named.loaded
        pools = admission.wants_pools and not self._pools_read
        if named or pools:
            self.look(admission, batch.now_us)
        self.allotments.review(admission)

    @property
    def may_provide(self) -> bool:
        """False while this engine waits for the machine: the ledger has refused it."""
        return not self.allotments.refused

    def provide(self, admission: Admission) -> bool:
        """After all was admitted that fits: asks for more of the machine; True where there is more now."""
        return self.allotments.provide(admission)

    def _machine_pools(self) -> dict[str, dict[str, int]]:
        pools: dict[str, dict[str, int]] = {}
        for row in self._ledger.holds():
            held = pools.setdefault(row.requester, {})
            for id, amount in row.amounts.items():
                held[id] = held.get(id, 0) + amount
        return pools

    def plan_waits(self, admission: Admission, batch: Batch) -> None:
        """After all was admitted that fits: what this engine waits for that others hold."""
        if admission.wants_pools:
            self._keep_holdings(admission)
        if not admission.wants_named:
            return
        admission.note_waits()
        waiting = {}
        for id, (since_us, amount) in admission.named.waiting.items():
            found = admission.named.find(id)
            if found is not None and found.rate is None and (found.used_by_others or found.waits):
                waiting[id] = (since_us, amount)
        due = bool(waiting) and self._clock.monotonic_s() - self._waits_s > REFRESH_S
        if waiting != self._waits or due:
            batch.waits = waiting

    def write(self, tx: Transaction, batch: Batch) -> None:
        """Gives back and claims; raises `ClaimRefused` where something is not as the photograph says."""
        resource_store.release(tx, batch.releases)
        for id, (old_us, new_us) in batch.quotas.items():
            if not resource_store.take_quota(tx, id, old_us=old_us, new_us=new_us):
                raise ClaimRefused(f"quota {id} was used by somebody else")
        for row in batch.claims:
            resource_register.clear_expired(tx, now_us=batch.now_us, resource=row.resource)
            if not resource_store.claim(tx, row):
                raise ClaimRefused(f"resource {row.resource} was taken by somebody else")
        if batch.waits is not None:
            for id in self._waits.keys() - batch.waits.keys():
                resource_store.end_wait(tx, epoch=self._epoch, resource=id)
            for id, (since_us, amount) in batch.waits.items():
                resource_store.put_wait(
                    tx, epoch=self._epoch, resource=id, amount=amount, since_us=since_us, now_us=batch.now_us
                )
        if batch.claims or batch.releases or batch.quotas:
            batch.foreign_version = tx.execute("PRAGMA data_version")[0][0]

    def committed(self, admission: Admission, batch: Batch) -> None:
        """The transaction has succeeded: what others did since the last photograph is looked at next time."""
        if batch.waits is not None:
            self._waits, self._waits_s = batch.waits, self._clock.monotonic_s()
        if batch.foreign_version is not None and batch.foreign_version != self._foreign_version:
            self._foreign_version = batch.foreign_version
            admission.named.stale = True
        for id in batch.released:
            found = admission.named.find(id)
            for wait in found.waits if found is not None else ():
                self._nudge(wait.epoch)

    def due(self, admission: Admission, *, busy: bool) -> bool:
        """Whether a drain is wanted although there is no news; called every quarter of a second by one thread."""
        now_s = self._clock.monotonic_s()
        if now_s - self._refreshed_s >= REFRESH_S:
            self._refreshed_s = now_s
            self.allotments.refresh()
            self._keep_holdings(admission)
        return bool(admission.named.waiting) or self.allotments.due(admission, busy=busy)

    def _keep_holdings(self, admission: Admission) -> None:
        """What a session holds of the machine does not end by its time while attempts run on it."""
        needed_us = self._clock.now_us() + KEPT_US
        for requester in admission.share.pools_in_use():
            try:
                for hold in self._ledger.holds(requester):
                    if hold.expires_us is not None and hold.expires_us < needed_us:
                        self._ledger.renew_hold(hold.id, needed_us)
            except StoreError as error:
                self.allotments.failed(error)

    # -- what chunks hold --------------------------------------------------------------------------

    def claimed(self, batch: Batch, chunk: Chunk, requester: str) -> None:
        """A chunk was admitted: the rows of its claim."""
        taken = chunk.claim.named
        if taken is NOTHING:
            return
        run, (position, number) = chunk.run, chunk.entries[0]
        for id, before_us, after_us in taken.quotas:
            batch.quotas[id] = (batch.quotas.get(id, (before_us, 0))[0], after_us)
        for pool, amounts in ((None, taken.held), (taken.pool, taken.pooled)):
            for id, amount in amounts:
                chunk.held += (id,)
                batch.claims.append(
                    ClaimRow(
                        id=task_claim_id(run.number, position, number, id),
                        resource=id,
                        amount=amount,
                        requester=requester,
                        pool=pool,
                        epoch=self._epoch,
                        run=run.number,
                        position=position,
                        attempt=number,
                        since_us=batch.now_us,
                    )
                )

    def released(self, batch: Batch, chunk: Chunk, position: int, number: int) -> None:
        """A chunk has ended: its rows go."""
        for id in chunk.held:
            batch.releases.append(task_claim_id(chunk.run.number, position, number, id))
            batch.released.append(id)
