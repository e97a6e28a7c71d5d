"""Why each task of a run waits, or ended as it did, as data.

Layer: beside the views of tasks; reads committed rows alone. What holds a task is looked for from the outside in: its
run (no engine, paused, not begun), what it depends on, what it waits for without a slot, the limits on how many
run at once, and then the resources that it asks for. Tasks with the same reasons are told as one, and no more than
`AT_MOST` are told of at all, so a run of any size is explained in one pass over its rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import Any

import msgspec

from codomyrmex.clock import to_datetime
from codomyrmex.logistics.orchestration.project.amount_words import amount_text
from codomyrmex.logistics.orchestration.project.explanations import Ended, Explanation, Failure
from codomyrmex.logistics.orchestration.project.failure_reading import failed_of, read_failure
from codomyrmex.logistics.orchestration.project.resource_facts import ResourceFacts, RunningTask
from codomyrmex.logistics.orchestration.project.resource_request import MEMORY, Request
from codomyrmex.logistics.orchestration.project.run_holds import RunFacts, RunHolds
from codomyrmex.logistics.orchestration.project.run_views import FINAL_TASK_STATUSES, RunView, clock_text
from codomyrmex.logistics.orchestration.project.states import RunPhase, StepKind
from codomyrmex.logistics.orchestration.project.task_views import TaskTable
from codomyrmex.logistics.orchestration.project.wait_reasons import (
    NAMED_AT_MOST,
    Answer,
    Child,
    Dependencies,
    KeptRoom,
    LaterPhase,
    MaxParallel,
    NoOwner,
    Order,
    PlanTurn,
    Ready,
    Reason,
    Signal,
    Stopping,
    Timer,
    Upstream,
)
from codomyrmex.logistics.orchestration.project.waiting_spec import CHILDREN_AT_ONCE
from codomyrmex.logistics.storage.database import Database

AT_MOST = 200
"""So many explanations are made of one run; each may stand for any number of tasks."""
LAST_ERROR = (
    "SELECT error, outcome FROM attempt WHERE run = ? AND position = ? AND number = ? ORDER BY epoch DESC"
)
RAISES = "SELECT count(*) FROM attempt WHERE run = ? AND position = ? AND outcome = 'out_of_memory'"
WHY_ENDED = {
    "condition": "its run_if said no",
    "upstream": "a step it depends on did not succeed",
    "trigger_rule": "its trigger_rule was not met",
    "cancelled": "the run was cancelled",
    "fail_fast": "another step failed and fail_fast is set",
    "timeout": "the run took longer than its timeout",
    "item_failed": "another item failed and on_item_failure is stop",
    "nothing_to_undo": "its item had not completed, so there is nothing to undo",
    "concurrency": "another run has the same concurrency key",
    "expression": "its condition or its items could not be worked out",
    "cached": "its result was in the cache, so nothing ran",
    "reused": "its result was taken from an earlier run",
}
_PHASES = list(RunPhase)
_DETAILS = re.compile("[:;,]")
"""What stands before it in a sentence says the least that can be said."""


class RunExplainer:
    """See the module; `child` gives the explainer of a run that this one started."""

    def __init__(
        self,
        database: Database,
        table: TaskTable,
        view: RunView,
        resources: ResourceFacts,
        *,
        child: Callable[[str], RunExplainer | None],
    ) -> None:
        self._database = database
        self._table = table
        self.view = view
        self._resources = resources
        self._state = RunHolds(database, view, resources)
        self._child = child
        self._shortages: dict[tuple[int, int, int], list[Reason]] = {}

    # -- answers ---------------------------------------------------------------------------------

    def failure(self) -> Failure | None:
        """What the run failed for; None where it has not."""
        return self._failure[0]

    def task(self, position: int) -> list[Explanation]:
        """One task whatever its state, and of a fan-out the items that have not completed."""
        self._table.read_sources()
        step, item = self._table.step_of(position)
        found = [self._explain(position)]
        if item is None and (group := self._table.group_of(step)) is not None:
            found += self._items(group, step)
        return found

    def open_and_odd(self) -> tuple[list[Explanation], int]:
        """What waits or runs, and what ended otherwise than it should; how many more there are.

        What the failure of the run tells of is left to it.

        What waits for something of its own comes first, then what depends on it, then what has ended.
        """
        ranked: list[list[tuple[object, int]]] = [[], [], []]
        workflow, told_of = self._table.workflow, self._failure[1]
        for step in range(len(workflow)):
            if not self._table.is_there(step):
                continue
            status, reason = self._table.status_of(step, step)
            if (
                status == "completed"
                or step in told_of
                or (status == "failed" and workflow.spec(step).required)
            ):
                continue
            rank = 2 if status in FINAL_TASK_STATUSES else int(reason == "dependencies")
            ranked[rank].append((self._kind_of(step, status, reason), step))
        alike: dict[object, list[int]] = {}
        for key, step in (pair for rank in ranked for pair in rank):
            alike.setdefault(key, []).append(step)
        told = [self._for_all(steps) for _number, steps in zip(range(AT_MOST), alike.values(), strict=False)]
        return told, max(0, len(alike) - AT_MOST)

    def _for_all(self, positions: list[int]) -> Explanation:
        """One explanation for tasks that are alike."""
        others = tuple(self._table.name_of(at) for at in positions[1:NAMED_AT_MOST])
        more = len(positions) - 1 - len(others)
        return replace(self._explain(positions[0]), others=others, more=more)

    def waits(self) -> Iterator[str]:
        """A phrase for each task that waits for something of its own; for whoever waits for this run."""
        now = self._now
        for step in range(len(self._table.workflow)):
            if not self._table.is_there(step):
                continue
            status, reason = self._table.status_of(step, step)
            if status == "running" or (status == "blocked" and reason != "dependencies"):
                yield f"{self._table.name_of(step)} {self._brief(step, now)}"
            elif status == "pending":
                said = self._explain(step)
                yield f"{said.task} {said.reasons[0].sentence(now) if said.reasons else 'is ready'}"

    # -- the run ---------------------------------------------------------------------------------

    # -- the run ---------------------------------------------------------------------------------

    @property
    def _now(self) -> datetime:
        return to_datetime(self._resources.now_us)

    @property
    def _run(self) -> RunFacts:
        return self._state.run

    @property
    def holds(self) -> list[Reason]:
        """What holds the whole run: no engine, a pause, an older run with its concurrency key."""
        return self._state.reasons

    @property
    def headline(self) -> str:
        """What follows `Run k3f9 of 'nightly' is paused`."""
        return self._state.headline

    # -- one task --------------------------------------------------------------------------------

    def _explain(self, position: int) -> Explanation:
        table = self._table
        step, item = table.step_of(position)
        status, reason = table.status_of(position, step)
        row = table.row_of(position)
        attempt = row[3] if row is not None else 0
        note = ""
        reasons: list[Reason]
        if position in self._run.compensation and row is None:
            status, reasons = "blocked", self._turn(position, step)
        elif not table.is_there(step):
            status, reasons = "not wanted so far", [self._later(step)]
        elif status == "running":
            note, reasons = self._runs(position, step, item)
        elif status == "pending":
            reasons = self._pending(position, step)
        elif status == "blocked":
            reasons = self._blocked(position, step, reason)
        elif status == "failed":
            group = table.counts_of(step) if item is None else None
            reasons = [failed_of(table, position)] if group is None or not group.failed else []
            note = (
                f"{group.failed:,} of {group.total:,} items failed"
                if group is not None and group.failed
                else ""
            )
        else:
            note, reasons = self._ended(position, step, status, reason, attempt)
        name = table.name_of(position)
        return Explanation(task=name, status=status, reasons=tuple(reasons), attempt=attempt, note=note)

    def _later(self, step: int) -> LaterPhase:
        phase = _PHASES[self._table.workflow.phase_of(step)].value
        return LaterPhase(phase=phase, now_in=self.view.phase)

    def _runs(self, position: int, step: int, item: int | None) -> tuple[str, list[Reason]]:
        """How far it is, and what its items wait for."""
        table = self._table
        counts = table.counts_of(step) if item is None else None
        owned = [hold for hold in self.holds if isinstance(hold, NoOwner)]
        if counts is None:
            row = table.row_of(position)
            assert row is not None, position
            since = clock_text(to_datetime(row[5]), self._now) if row[5] is not None else "?"
            note = f"attempt {row[3]}, since {since}"
            if table.stopping is not None and not owned:
                isolation = table.workflow.spec(step).isolation.value
                return note, [
                    Stopping(why=WHY_ENDED.get(table.stopping, table.stopping), isolation=isolation)
                ]
            return note, [*owned]
        note = f"{counts.ended:,} of {counts.total:,} items have ended"
        note += f", {counts.running:,} run" if counts.running else ""
        waiting = counts.pending + counts.blocked
        first = next(self._waiting_items(step), None)
        if first is None:
            return note, [*owned]
        return f"{note}, {waiting:,} {'waits' if waiting == 1 else 'wait'}", list(
            self._explain(first).reasons
        )

    def _waiting_items(self, step: int) -> Iterator[int]:
        """The items that wait, those first that wait for something of their own."""
        table = self._table
        later: list[int] = []
        for position in table.group_of(step) or ():
            status, reason = table.status_of(position, step)
            if status == "pending" or (status == "blocked" and reason != "its turn"):
                yield position
            elif status == "blocked" and not later:
                later.append(position)
        yield from later

    def _items(self, group: range, step: int) -> list[Explanation]:
        """The items of a step that have not completed, those with the same reasons as one."""
        alike: dict[object, list[int]] = {}
        for position in group:
            status, reason = self._table.status_of(position, step)
            if status != "completed":
                row = self._table.row_of(position)
                same = row is None or (status in ("cancelled", "skipped") and not row[3])
                alike.setdefault((status, reason) if same else position, []).append(position)
        return [self._for_all(each) for _number, each in zip(range(AT_MOST), alike.values(), strict=False)]

    # -- what waits ------------------------------------------------------------------------------

    def _pending(self, position: int, step: int) -> list[Reason]:
        if self.holds:
            return list(self.holds)
        row = self._table.row_of(position)
        again = row[3] if row is not None else 0
        number = self._table.workflow.spec_of[step]
        capped = self._table.workflow.specs[number].max_parallel is not None
        key = (number, step if capped else -1, position if again else -1)
        found = self._shortages.get(key)
        if found is None:
            found = self._shortages[key] = self._shortage(position, step, again)
        return self._in_order(position, found)

    def _in_order(self, position: int, found: list[Reason]) -> list[Reason]:
        """What its place in the order adds: a plan that its run follows, a task for which room is kept."""
        name = self._table.name_of(position)
        ahead = self._next_in_plan
        if ahead is not None and self._plan_ranks.get(name, -1) > ahead[0]:
            return [PlanTurn(after=ahead[1])]
        engine = self._resources.engine(self._run.epoch)
        kept_for = engine.kept_for if engine is not None else None
        if kept_for is None:
            return found
        mine = (kept_for["run"], kept_for["task"]) == (self.view.execution_id, name)
        reason = KeptRoom(
            run=kept_for["run"],
            workflow=kept_for["workflow"],
            task=kept_for["task"],
            since=to_datetime(kept_for["at"]),
            mine=mine,
        )
        if mine:
            return [*found, reason]
        return [reason] if all(isinstance(each, Ready) for each in found) else found

    @cached_property
    def _next_in_plan(self) -> tuple[int, str] | None:
        """The first task of the plan that its run follows that has not begun, and its place."""
        table = self._table
        for rank, name in enumerate(self._run.options.get("follow") or ()):
            position = table.position_of(name)
            if position is None or table.step_of(position)[0] in table.workflow.waiting:
                continue
            row = table.row_of(position)
            status = table.status_of(position, table.step_of(position)[0])[0]
            if status in ("pending", "blocked") and not (row is not None and row[3]):
                return rank, name
        return None

    @cached_property
    def _plan_ranks(self) -> dict[str, int]:
        return {name: rank for rank, name in enumerate(self._run.options.get("follow") or ())}

    def _shortage(self, position: int, step: int, again: int) -> list[Reason]:
        """Limits on how many run at once, then resources; `Ready` where all of it is there."""
        spec = self._table.workflow.spec(step)
        request = spec.request
        if again and request.memory_bytes and spec.retry.memory > 1:
            request = self._raised(request, position, spec.retry.memory)
        found: list[Reason] = list(self._caps(step))
        run = self._run
        session = run.options.get("session")
        found += self._resources.shortages(request, epoch=run.epoch, run=run.number, session=session)
        if found:
            return found
        asks = [amount_text(id, amount) for id, amount in request.machine()]
        asks += [f"{amount_text(name, amount)} {name}" for name, amount in request.named]
        return [Ready(asks=tuple(asks))]

    def _raised(self, request: Request, position: int, factor: float) -> Request:
        """What is claimed after attempts that ran out of memory."""
        count = self._database.query(RAISES, (self._run.number, position))[0][0]
        mebibytes = -(-round(request.memory_bytes * factor**count) // 2**20)
        engine = self._resources.engine(self._run.epoch)
        most = engine.capacities.get(MEMORY) if engine is not None else None
        wanted = mebibytes * 2**20 if count else request.memory_bytes
        return replace(request, memory_bytes=wanted if most is None else min(wanted, most))

    def _caps(self, step: int) -> Iterator[MaxParallel]:
        """The limits that are reached: of the step, of its run, of the run at the top of its tree."""
        run, workflow = self._run, self._table.workflow
        running = self._resources.running
        mine = [task for task in running if task.run == run.number]
        own = workflow.spec(step).max_parallel
        if own is not None:
            of_step = [task for task in mine if self._resources.step_of(task) == step]
            yield from self._cap("step", own, workflow.names[step], of_step)
        limit = workflow.max_parallel
        if run.above is None:
            limit = run.options.get("max_parallel") or limit
        else:
            options, definition, root_id = run.above
            top = options.get("max_parallel") or self._resources.workflow(definition).max_parallel
            tree = [task for task in running if task.root == run.root]
            if top is not None:
                yield from self._cap("root", top, root_id, tree)
        if limit is not None:
            yield from self._cap("run", limit, self.view.execution_id, mine)

    def _cap(self, scope: str, limit: int, of: str, running: list[RunningTask]) -> Iterator[MaxParallel]:
        if len(running) < limit:
            return
        named = tuple(self._resources.text_of(task, self._run.number) for task in running[:NAMED_AT_MOST])
        yield MaxParallel(scope=scope, limit=limit, of=of, tasks=named, more=len(running) - len(named))

    def _blocked(self, position: int, step: int, reason: str | None) -> list[Reason]:
        if reason == "dependencies":
            return self._dependencies(step)
        if reason == "its turn":
            return self._turn(position, step)
        wait = self._table.wait_of(position)
        if wait is None:
            return list(self.holds) or [Ready()]
        owned = [hold for hold in self.holds if isinstance(hold, NoOwner)]
        name, run = self._table.name_of(position), self.view.execution_id
        if wait.reason == "child":
            return [self._child_wait(wait.what)]
        if wait.reason == "signal":
            return [Signal(run=run, name=wait.what, until=wait.until, recorded_by=wait.recorded_by), *owned]
        if wait.reason == "approval":
            answer = Answer(
                run=run,
                task=name,
                question=wait.what,
                who=wait.who,
                until=wait.until,
                recorded_by=wait.recorded_by,
            )
            return [answer, *owned]
        return [self._timer(position, step, wait.until), *self.holds]

    def _timer(self, position: int, step: int, until: datetime | None) -> Timer:
        if self._table.workflow.spec(step).kind is StepKind.SLEEP:
            return Timer(why="sleep", until=until)
        row = self._table.row_of(position)
        attempt = row[3] if row is not None else 0
        rows = self._database.query(LAST_ERROR, (self._run.number, position, attempt))
        error = msgspec.json.decode(rows[0][0]) if rows and rows[0][0] else {}
        return Timer(why="retry", until=until, attempt=attempt, error=_error_line(error))

    def _child_wait(self, run_id: str) -> Child:
        child = self._child(run_id)
        if child is None:
            return Child(run=run_id, workflow="?", status="not stored yet")
        waits = [phrase for _number, phrase in zip(range(NAMED_AT_MOST), child.waits(), strict=False)]
        if holds := child.holds:
            waits = [holds[0].sentence(self._now)]
        return Child(run=run_id, workflow=child.view.workflow, status=child.view.status, waits=tuple(waits))

    def _turn(self, position: int, step: int) -> list[Reason]:
        """An item that is opened when others have ended, or what is undone after others."""
        workflow, order = self._table.workflow, self._run.compensation
        if position in order or step in workflow.undoes:
            for before in order:
                if before == position:
                    break
                status = self._table.status_of(before, self._table.step_of(before)[0])[0]
                if status not in FINAL_TASK_STATUSES:
                    return [Order(after=self._table.name_of(before))]
            return list(self.holds) or [Ready()]
        if self.holds:
            return list(self.holds)
        spec = workflow.spec(step)
        limit = spec.max_parallel or CHILDREN_AT_ONCE
        at_work = [at for at in self._table.group_of(step) or () if self._is_open_item(at, step)]
        named = tuple(self._table.name_of(at) for at in at_work[:NAMED_AT_MOST])
        name = workflow.names[step]
        return [MaxParallel(scope="step", limit=limit, of=name, tasks=named, more=len(at_work) - len(named))]

    def _is_open_item(self, position: int, step: int) -> bool:
        status, reason = self._table.status_of(position, step)
        return status == "running" or (status == "blocked" and reason not in ("its turn", "dependencies"))

    def _dependencies(self, step: int) -> list[Reason]:
        table = self._table
        if step in table.workflow.undoes:
            return self._turn(step, step)
        open_parents = table.open_parents(step)
        if not open_parents:
            return list(self.holds) or [Ready()]
        # What is at work, or waits for something of its own, says more than what only waits for others.
        open_parents.sort(key=lambda parent: table.status_of(parent, parent)[1] == "dependencies")
        now = self._now
        named = [
            Upstream(
                task=table.name_of(at), status=table.status_of(at, at)[0], waits_for=self._brief(at, now)
            )
            for at in open_parents[:NAMED_AT_MOST]
        ]
        return [Dependencies(steps=tuple(named), more=len(open_parents) - len(named))]

    def _brief(self, step: int, now: datetime) -> str:
        """In a few words how a step stands that has not ended."""
        table = self._table
        status, reason = table.status_of(step, step)
        if status == "running":
            counts = table.counts_of(step)
            return "running" if counts is None else f"{counts.ended:,} of {counts.total:,} items have ended"
        if status == "blocked" and reason == "dependencies":
            parents = table.open_parents(step)
            more = f" and {len(parents) - 1} more" if len(parents) > 1 else ""
            return f"waits for {table.name_of(parents[0])}{more}" if parents else status
        wait = table.wait_of(step) if status == "blocked" else None
        if wait is None:
            first = next(iter(self._pending(step, step)), None) if status == "pending" else None
            return status if first is None else _DETAILS.split(first.sentence(now))[0]
        if wait.reason == "approval":
            return "waits for an answer" if wait.recorded_by is None else "is answered, which is not read yet"
        if wait.reason == "timer":
            sleeps = table.workflow.spec(step).kind is StepKind.SLEEP
            return (
                f"{'sleeps' if sleeps else 'waits for its next attempt'} until {clock_text(wait.until, now)}"
            )
        return f"waits for {wait.text(now)}"

    # -- what has ended --------------------------------------------------------------------------

    def _ended(
        self, position: int, step: int, status: str, reason: str | None, attempt: int
    ) -> tuple[str, list[Reason]]:
        table = self._table
        source = table.source_of(position)
        if status == "completed":
            if source is not None:
                return "", [Ended(why=source, text=WHY_ENDED[source])]
            return (f"in attempt {attempt}" if attempt else ""), []
        why = reason or table.stopping or "cancelled"
        note = f"in attempt {attempt}" if attempt else ""
        text = WHY_ENDED.get(why, why)
        if why == "condition":
            condition = table.workflow.conditions.get(step)
            return note, [Ended(why=why, text=f"{text}: {condition.text}" if condition is not None else text)]
        if why in ("upstream", "trigger_rule"):
            return note, [self._upstream(step, why, text)]
        if why == "cancelled":
            by, at = self._state.asked("cancel", "kill")
            by = by if by is not None or self.view.parent is None else f"run {self.view.parent} above it"
            return note, [Ended(why=why, text=text, by=by, at=at)]
        if why == "concurrency":
            return note, [Ended(why=why, text=self.view.error or text)]
        return note, [Ended(why=why, text=text)]

    def _upstream(self, step: int, why: str, text: str) -> Ended:
        """The steps that kept it from running."""
        table = self._table
        bad = []
        for parent in dict.fromkeys(table.workflow.graph.parents(step)):
            status = table.status_of(parent, parent)[0]
            if status != "completed":
                bad.append(f"{table.name_of(parent)} ({status})")
        named = tuple(bad[:NAMED_AT_MOST])
        more = f" and {len(bad) - len(named)} more" if len(bad) > len(named) else ""
        if why == "trigger_rule":
            rule = table.workflow.spec(step).trigger_rule.value
            text = f"its trigger_rule {rule} was not met"
        else:
            text = "what it depends on did not succeed"
        return Ended(why=why, text=f"{text}: {', '.join(named)}{more}" if named else text, because=named)

    # -- which are alike -------------------------------------------------------------------------

    @cached_property
    def _failure(self) -> tuple[Failure | None, frozenset[int]]:
        return read_failure(self._table, self._run.error, failed=self.view.status == "failed")

    def _kind_of(self, step: int, status: str, reason: str | None) -> object:
        """Tasks of the same kind have the same reasons; a number stands for itself."""
        table = self._table
        if table.group_of(step) is not None:
            return step
        row = table.row_of(step)
        spec = table.workflow.spec_of[step]
        if (
            status == "pending"
            and (row is None or not row[3])
            and table.workflow.specs[spec].max_parallel is None
        ):
            return (status, spec)
        if status == "blocked" and reason == "dependencies":
            return (status, *table.open_parents(step)) if step not in table.workflow.undoes else step
        if status in ("cancelled", "skipped") and reason not in ("condition", "upstream", "trigger_rule"):
            return (status, reason, row is not None and row[3] > 0)
        if status in ("cancelled", "skipped") and reason != "condition":
            return (status, reason, *table.workflow.graph.parents(step))
        return step


def _error_line(error: dict[str, Any]) -> str:
    message = str(error.get("message") or "").strip().splitlines()
    kind = str(error.get("type") or "").rpartition(".")[2]
    return ": ".join(part for part in (kind, message[0] if message else "") if part)
