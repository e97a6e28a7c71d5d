"""What is free of everything that attempts ask for, and who has the rest: read from committed rows, no engine needed.

Layer: above the stores, beside the readers. What an engine uses of the machine is the sum of the requests of its
running tasks; what it may use stands in its row (`engine.limits`); what other engines of the host have is in
the ledger of the host. Named resources are the sums of their allocations. One object reads each of these at
most once, so an explanation of a large run costs one look at the rows that run.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from codomyrmex.clock import to_datetime
from codomyrmex.logistics.orchestration.project import rate_quota, resource_store
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.named_resources import NamedResource
from codomyrmex.logistics.orchestration.project.resource_request import CPU, MEMORY, Request
from codomyrmex.logistics.orchestration.project.wait_reasons import (
    NAMED_AT_MOST,
    Holder,
    MaxWorkers,
    OtherEngine,
    OtherEngines,
    QuotaUsed,
    Reason,
    ResourceShort,
)
from codomyrmex.logistics.storage.database import Database, Row

ENGINE = "SELECT epoch, pid, limits, ended_at FROM engine WHERE epoch = ?"
# A step with items is running while they are, and holds nothing itself.
RUNNING = """
SELECT task.epoch, run.number, run.id, run.workflow, run.definition, coalesce(run.root, run.number), task.position,
    task.started_at
FROM run JOIN task ON task.run = run.number
WHERE run.status IN ('pending', 'running', 'paused') AND task.state = 'running'
AND NOT EXISTS (SELECT 1 FROM fan_out WHERE fan_out.run = task.run AND fan_out.step = task.position)
ORDER BY task.started_at, run.number, task.position
"""
FAN_OUTS = "SELECT first, step FROM fan_out WHERE run = ? ORDER BY first"
HOLDERS = """
SELECT allocation.requester, allocation.amount, allocation.since, allocation.epoch, engine.pid, allocation.position,
    run.id, run.workflow, run.definition, run.number
FROM allocation LEFT JOIN run ON run.number = allocation.run LEFT JOIN engine ON engine.epoch = allocation.epoch
WHERE allocation.resource = ? AND allocation.pool IS NULL
AND (allocation.expires_at IS NULL OR allocation.expires_at > ?)
ORDER BY allocation.amount DESC, allocation.since LIMIT ?
"""
HOLDER_COUNT = """
SELECT count(*) FROM allocation WHERE resource = ? AND pool IS NULL AND (expires_at IS NULL OR expires_at > ?)
"""
OWN_WAIT = "SELECT since FROM resource_wait WHERE epoch = ? AND resource = ?"
_LIMIT_KEYS = {CPU: "cpu_milli", MEMORY: "memory_bytes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """One engine and what it may use; `capacities` is empty where it has not said."""

    epoch: int
    pid: int
    workers: int | None
    capacities: Mapping[str, int]
    host_dir: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningTask:
    """One attempt under way, of whatever run of the state."""

    epoch: int
    run: int
    run_id: str
    workflow: str
    definition: str
    root: int
    position: int
    since_us: int | None


class ResourceFacts:
    """See the module; `workflow_of` gives a compiled definition by its hash."""

    def __init__(
        self,
        database: Database,
        state_dir: Path | None,
        *,
        workflow_of: Callable[[str], CompiledWorkflow],
        now_us: int,
    ) -> None:
        self._database = database
        self._state_dir = state_dir
        self._workflow_of = workflow_of
        self.now_us = now_us
        """The moment that all of it is about."""
        self._engines: dict[int, EngineFacts | None] = {}
        self._groups: dict[int, list[Row]] = {}
        self._requests: dict[tuple[str, int], Request] = {}

    # -- what runs -------------------------------------------------------------------------------

    @cached_property
    def running(self) -> list[RunningTask]:
        """Every attempt under way, the oldest first."""
        return [
            RunningTask(
                epoch=epoch,
                run=number,
                run_id=id,
                workflow=workflow,
                definition=definition,
                root=root,
                position=position,
                since_us=started,
            )
            for epoch, number, id, workflow, definition, root, position, started in self._database.query(
                RUNNING
            )
        ]

    def engine(self, epoch: int) -> EngineFacts | None:
        """One engine, or None where there is no row of it."""
        if epoch not in self._engines:
            rows = self._database.query(ENGINE, (epoch,))
            self._engines[epoch] = _engine(rows[0]) if rows else None
        return self._engines[epoch]

    def step_of(self, run: int, definition: str, position: int) -> tuple[int, int | None]:
        """The step of a position, and which item of it it is."""
        if position < len(self._workflow_of(definition)):
            return position, None
        if run not in self._groups:
            self._groups[run] = self._database.query(FAN_OUTS, (run,))
        groups = self._groups[run]
        first, step = groups[bisect_right(groups, position, key=lambda row: int(row[0])) - 1]
        return step, position - first

    def name_of(self, run: int, definition: str, position: int) -> str:
        """`name` or `name[i]`."""
        step, item = self.step_of(run, definition, position)
        name = self._workflow_of(definition).names[step]
        return name if item is None else f"{name}[{item}]"

    def request_of(self, task: RunningTask) -> Request:
        """What an attempt claims."""
        step, _ = self.step_of(task.run, task.definition, task.position)
        key = (task.definition, step)
        if key not in self._requests:
            self._requests[key] = self._workflow_of(task.definition).spec(step).request
        return self._requests[key]

    def text_of(self, task: RunningTask, run: int) -> str:
        """How a task is named to whoever asks about `run`."""
        name = self.name_of(task.run, task.definition, task.position)
        return name if task.run == run else f"{task.workflow} {task.run_id}/{name}"

    def workflow(self, definition: str) -> CompiledWorkflow:
        """A definition by its hash."""
        return self._workflow_of(definition)

    # -- what is short ---------------------------------------------------------------------------

    def shortages(self, request: Request, *, epoch: int, run: int) -> list[Reason]:
        """Everything that such a request of a task of `run` waits for at its engine; empty: nothing is known."""
        found: list[Reason] = []
        engine = self.engine(epoch)
        if engine is not None:
            found += self._workers(engine, run)
            for resource, amount in request.machine():
                found += self._machine(engine, resource, amount, run, request)
        asked: dict[str, int] = {}
        for name, amount in request.named:
            asked[name] = asked.get(name, 0) + amount
        for name, amount in asked.items():
            found += self._named(name, amount, epoch=epoch, run=run)
        return found

    def _workers(self, engine: EngineFacts, run: int) -> Iterator[Reason]:
        tasks = [task for task in self.running if task.epoch == engine.epoch]
        if engine.workers is None or len(tasks) < engine.workers:
            return
        named = tuple(self.text_of(task, run) for task in tasks[:NAMED_AT_MOST])
        yield MaxWorkers(
            limit=engine.workers,
            running=len(tasks),
            engine=engine.epoch,
            tasks=named,
            more=len(tasks) - len(named),
        )

    def _machine(
        self, engine: EngineFacts, resource: str, asked: int, run: int, request: Request
    ) -> Iterator[Reason]:
        """What the machine lacks: because of tasks of the same engine, or because of other engines."""
        capacity = engine.capacities.get(resource)
        if capacity is None:
            return
        if resource == CPU and not request.cpu_given:
            asked = min(asked, capacity)
        holders = self._machine_holders(engine.epoch, resource)
        used = min(capacity, sum(amount for amount, _ in holders))
        others, waits_before = self._other_engines(engine, resource)
        free = max(0, capacity - used - sum(each.amount for each in others))
        if holders and asked > capacity - used:
            holders.sort(key=lambda pair: -pair[0])
            yield ResourceShort(
                resource=resource,
                name=resource,
                asked=asked,
                free=free,
                capacity=capacity,
                holders=tuple(
                    self._task_holder(task, amount, run, engine) for amount, task in holders[:NAMED_AT_MOST]
                ),
                more_holders=max(0, len(holders) - NAMED_AT_MOST),
            )
        if others and asked > free:
            others.sort(key=lambda each: -each.amount)
            yield OtherEngines(
                resource=resource,
                asked=asked,
                free=free,
                capacity=capacity,
                engines=tuple(others[:NAMED_AT_MOST]),
                more=max(0, len(others) - NAMED_AT_MOST),
                waits_before=waits_before,
            )

    def _machine_holders(self, epoch: int, resource: str) -> list[tuple[int, RunningTask]]:
        found = []
        for task in self.running:
            if task.epoch == epoch:
                amount = dict(self.request_of(task).machine()).get(resource, 0)
                if amount:
                    found.append((amount, task))
        return found

    def _other_engines(self, engine: EngineFacts, resource: str) -> tuple[list[OtherEngine], int]:
        """Who else has some of it on this host, and how many have waited for it longer."""
        return [], 0

    # -- named resources -------------------------------------------------------------------------

    @cached_property
    def _named_rows(self) -> dict[str, NamedResource]:
        rows = resource_store.read_named(self._database, now_us=self.now_us, epoch=-1)
        return {row.name: row for row in rows} | {row.id: row for row in rows}

    def _named(self, name: str, asked: int, *, epoch: int, run: int) -> Iterator[Reason]:
        row = self._named_rows.get(name)
        if row is None:
            yield ResourceShort(resource=name, name=name, asked=asked, free=0, capacity=0)
        elif row.rate is not None:
            yield from self._quota(row, asked)
        else:
            yield from self._semaphore(row, asked, epoch=epoch, run=run)

    def _quota(self, row: NamedResource, asked: int) -> Iterator[Reason]:
        rate = row.rate
        assert rate is not None, row.id
        passage = rate_quota.claim(rate, asked, tat_us=row.tat_us, now_us=self.now_us)
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
        since_us = own[0][0] if own else self.now_us
        ahead = [wait for wait in row.waits if wait.epoch != epoch and wait.since_us < since_us]
        free = row.capacity - row.used
        if asked <= free - sum(wait.amount for wait in ahead) and not row.offline:
            return
        holders = self._database.query(HOLDERS, (row.id, self.now_us, NAMED_AT_MOST))
        count = self._database.query(HOLDER_COUNT, (row.id, self.now_us))[0][0]
        yield ResourceShort(
            resource=row.id,
            name=row.name,
            asked=asked,
            free=free,
            capacity=row.capacity,
            holders=tuple(self._allocation_holder(holder, run) for holder in holders),
            more_holders=count - len(holders),
            ahead=tuple(
                OtherEngine(
                    engine=wait.epoch,
                    pid=self._pid(wait.epoch),
                    amount=wait.amount,
                    since=to_datetime(wait.since_us),
                )
                for wait in ahead[:NAMED_AT_MOST]
            ),
            offline=row.offline,
        )

    # -- names -----------------------------------------------------------------------------------

    def _task_holder(self, task: RunningTask, amount: int, run: int, engine: EngineFacts) -> Holder:
        return self._holder(
            (task.run, task.run_id, task.workflow, task.definition, task.position),
            run,
            amount=amount,
            since=_instant(task.since_us),
            engine=engine.epoch,
            pid=engine.pid,
        )

    def _allocation_holder(self, row: Row, run: int) -> Holder:
        requester, amount, since, epoch, pid, position, run_id, workflow, definition, number = row
        if run_id is None or position is None:
            return Holder(who=requester, amount=amount, since=_instant(since), engine=epoch, pid=pid)
        place = (number, run_id, workflow, definition, position)
        return self._holder(place, run, amount=amount, since=_instant(since), engine=epoch, pid=pid)

    def _holder(self, place: tuple[int, str, str, str, int], run: int, **facts: Any) -> Holder:
        number, run_id, workflow, definition, position = place
        name = self.name_of(number, definition, position)
        if number == run:
            return Holder(who=name, **facts)
        return Holder(who=f"{run_id}/{name}", workflow=workflow, **facts)

    def _pid(self, epoch: int) -> int | None:
        engine = self.engine(epoch)
        return None if engine is None else engine.pid


def _engine(row: Row) -> EngineFacts:
    epoch, pid, limits, _ended = row
    said = msgspec.json.decode(limits)
    capacities = {id: said[key] for id, key in _LIMIT_KEYS.items() if key in said}
    return EngineFacts(
        epoch=epoch,
        pid=pid,
        workers=said.get("workers"),
        capacities=capacities,
        host_dir=said.get("host_dir") if said.get("scope") == "host" else None,
    )


def _instant(us: int | None) -> datetime | None:
    return None if us is None else to_datetime(us)
