"""What is free of everything that attempts ask for, and who has the rest: read from committed rows, no engine needed.

Layer: above the stores, beside the readers. What an engine uses of the machine is the sum of the requests of its
running tasks; what it may use stands in its row (`engine.limits`); what other engines of the host have is in
the ledger of the host. Named resources are the sums of their allocations. One object reads each of these at
most once, so an explanation of a large run costs one look at the rows that run.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from codomyrmex.clock import to_datetime
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.host_facts import HostFacts
from codomyrmex.logistics.orchestration.project.host_ledger import ledger_directory
from codomyrmex.logistics.orchestration.project.named_facts import NamedFacts
from codomyrmex.logistics.orchestration.project.resource_request import (
    CPU,
    GPU,
    MEMORY,
    Request,
)
from codomyrmex.logistics.orchestration.project.wait_reasons import (
    NAMED_AT_MOST,
    Holder,
    MaxWorkers,
    OtherEngine,
    OtherEngines,
    Reason,
    ResourceShort,
)
from codomyrmex.logistics.storage.database import Database, Row

ENGINE = "SELECT epoch, pid, limits, ended_at FROM engine WHERE epoch = ?"
# A step with items is running while they are, and holds nothing itself.
RUNNING = """
SELECT task.epoch, run.number, run.id, run.workflow, run.definition, coalesce(run.root, run.number), task.position,
    task.started_at, json_extract(run.options, '$.session')
FROM run JOIN task ON task.run = run.number
WHERE run.status IN ('pending', 'running', 'paused') AND task.state = 'running'
AND NOT EXISTS (SELECT 1 FROM fan_out WHERE fan_out.run = task.run AND fan_out.step = task.position)
ORDER BY task.started_at, run.number, task.position
"""
FAN_OUTS = "SELECT first, step, size FROM fan_out WHERE run = ? AND size > 0 ORDER BY first"
_LIMIT_KEYS = {CPU: "cpu_milli", MEMORY: "memory_bytes"}
"""Under which words an engine says how much of the machine it may have at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """One engine and what it may use; `capacities` is empty where it has not said."""

    epoch: int
    pid: int
    workers: int | None
    capacities: Mapping[str, int]
    host_dir: str | None
    kept_for: Mapping[str, Any] | None = None
    """The task for which it keeps room: run, workflow, task, and since when (`at`, microseconds) it waits."""


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
    session: str | None
    """Out of whose holding it is served."""


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
        self._host = HostFacts(state_dir)
        self._named = NamedFacts(database, now_us=now_us, holder=self.holder)
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
                session=session,
            )
            for epoch, number, id, workflow, definition, root, position, started, session in self._database.query(
                RUNNING
            )
        ]

    def engine(self, epoch: int) -> EngineFacts | None:
        """One engine, or None where there is no row of it."""
        if epoch not in self._engines:
            rows = self._database.query(ENGINE, (epoch,))
            self._engines[epoch] = _engine(rows[0]) if rows else None
        return self._engines[epoch]

    def step_of(self, task: RunningTask) -> int:
        """The step that an attempt is of."""
        return self._place(task.run, task.definition, task.position)[0]

    def name_of(self, run: int, definition: str, position: int) -> str:
        """`name` or `name[i]`."""
        step, item = self._place(run, definition, position)
        name = self._workflow_of(definition).names[step]
        return name if item is None else f"{name}[{item}]"

    def _place(self, run: int, definition: str, position: int) -> tuple[int, int | None]:
        """The step of a position, and which item of it it is."""
        if position < len(self._workflow_of(definition)):
            return position, None
        groups = self._groups.get(run, [])
        if not groups or position >= groups[-1][0] + groups[-1][2]:  # of a fan-out that has begun meanwhile
            groups = self._groups[run] = self._database.query(FAN_OUTS, (run,))
        first, step, _size = groups[bisect_right(groups, position, key=lambda row: int(row[0])) - 1]
        return step, position - first

    def request_of(self, task: RunningTask) -> Request:
        """What an attempt claims."""
        step = self.step_of(task)
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

    def shortages(
        self, request: Request, *, epoch: int, run: int, session: str | None = None
    ) -> list[Reason]:
        """Everything that such a request of a task of `run` waits for at its engine; empty: nothing is known."""
        found: list[Reason] = []
        engine = self.engine(epoch)
        if engine is not None:
            found += self._workers(engine, run)
            for resource, amount in request.machine():
                held = self._pooled(engine, session, resource)
                if held:
                    found += self._pool(engine, resource, amount, run, session, held)
                else:
                    found += self._machine(engine, resource, amount, run, request)
        asked: dict[str, int] = {}
        for name, amount in request.named:
            asked[name] = asked.get(name, 0) + amount
        for name, amount in asked.items():
            found += self._named.shortage(name, amount, epoch=epoch, run=run, session=session)
        return found

    def _workers(self, engine: EngineFacts, run: int) -> Iterator[Reason]:
        tasks = [task for task in self.running if task.epoch == engine.epoch]
        if engine.workers is None or len(tasks) < engine.workers:
            return
        named = tuple(self.text_of(task, run) for task in tasks[:NAMED_AT_MOST])
        running = min(len(tasks), engine.workers)  # very short tasks may be begun ahead, several for a worker
        yield MaxWorkers(
            limit=engine.workers,
            running=running,
            engine=engine.epoch,
            tasks=named[:running],
            more=max(0, running - len(named)),
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
        holders = self._machine_holders(engine, resource)
        used = min(capacity, sum(amount for amount, _ in holders))
        others, waits_before = self._others(engine, resource)
        free = max(0, capacity - used - sum(each.amount for each in others))
        if holders and asked > capacity - used:
            named, more = self._largest(holders, run, engine)
            yield ResourceShort(
                resource=resource,
                name=resource,
                asked=asked,
                free=free,
                capacity=capacity,
                holders=named,
                more_holders=more,
            )
        own_free = (
            free
            if engine.host_dir is None
            else self._host.share(engine.host_dir, engine.pid, resource) - used
        )
        if (others and asked > free) or (waits_before and asked > own_free):
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

    def _machine_holders(self, engine: EngineFacts, resource: str) -> list[tuple[int, RunningTask]]:
        """The attempts of an engine that have some of it, without those that a session serves, and how much."""
        return [
            (amount, task)
            for task in self.running
            if task.epoch == engine.epoch
            and (amount := dict(self.request_of(task).machine()).get(resource, 0))
            and not self._pooled(engine, task.session, resource)
        ]

    def _largest(
        self, holders: list[tuple[int, RunningTask]], run: int, engine: EngineFacts
    ) -> tuple[tuple[Holder, ...], int]:
        """Those that have most of it, and how many more there are."""
        holders.sort(key=lambda pair: -pair[0])
        named = tuple(
            self._task_holder(task, amount, run, engine) for amount, task in holders[:NAMED_AT_MOST]
        )
        return named, len(holders) - len(named)

    # -- what a session holds --------------------------------------------------------------------

    def _pooled(self, engine: EngineFacts, session: str | None, resource: str) -> int:
        """How much of the machine a session holds for its own runs."""
        if session is None or engine.host_dir is None:
            return 0
        return self._host.held_by(engine.host_dir, session, resource)

    def _pool(
        self, engine: EngineFacts, resource: str, asked: int, run: int, session: str | None, held: int
    ) -> Iterator[Reason]:
        """What is short of the holding of a session: its own attempts have the rest."""
        holders = [
            (amount, task)
            for task in self.running
            if task.session == session and (amount := dict(self.request_of(task).machine()).get(resource, 0))
        ]
        free = max(0, held - sum(amount for amount, _ in holders))
        if asked > free:
            named, more = self._largest(holders, run, engine)
            yield ResourceShort(
                resource=resource,
                name=resource,
                asked=asked,
                free=free,
                capacity=held,
                holders=named,
                more_holders=more,
                session=session,
            )

    def _others(self, engine: EngineFacts, resource: str) -> tuple[list[OtherEngine], int]:
        """Who else has some of it on this host, and how many have waited for it longer."""
        if engine.host_dir is None:
            return [], 0
        others = self._host.others(engine.host_dir, engine.pid, resource)
        return others, self._host.waits_before(engine.host_dir, engine.pid, resource, now_us=self.now_us)

    # -- names -----------------------------------------------------------------------------------

    def _task_holder(self, task: RunningTask, amount: int, run: int, engine: EngineFacts) -> Holder:
        return self.holder(
            (task.run, task.run_id, task.workflow, task.definition, task.position),
            run,
            amount=amount,
            since=_instant(task.since_us),
            engine=engine.epoch,
            pid=engine.pid,
        )

    def holder(self, place: tuple[int, str, str, str, int], run: int, **facts: Any) -> Holder:
        """A task that holds something, by the number, id, workflow and definition of its run and its position."""
        number, run_id, workflow, definition, position = place
        name = self.name_of(number, definition, position)
        if number == run:
            return Holder(who=name, **facts)
        return Holder(who=f"{run_id}/{name}", workflow=workflow, **facts)


def _engine(row: Row) -> EngineFacts:
    epoch, pid, limits, _ended = row
    said = msgspec.json.decode(limits)
    capacities = {id: said[key] for id, key in _LIMIT_KEYS.items() if key in said}
    for id, amount in said.get("capacities", {}).items():
        kind = GPU if id.startswith(f"{GPU}-") else id
        capacities[kind] = amount + (capacities.get(GPU, 0) if kind == GPU else 0)
    host_dir = None
    if said.get("scope") == "host":
        host_dir = str(said.get("host_dir") or ledger_directory(os.environ))
    return EngineFacts(
        epoch=epoch,
        pid=pid,
        workers=said.get("workers"),
        capacities=capacities,
        host_dir=host_dir,
        kept_for=said.get("kept_for"),
    )


def _instant(us: int | None) -> datetime | None:
    return None if us is None else to_datetime(us)
