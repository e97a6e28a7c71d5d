"""What is known of a run beside its view, and what holds the whole of it.

Layer: beside the views of tasks; reads committed rows alone. A run is held when its engine is dead, while it has
not begun (an older run has its concurrency key), and while it is paused.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import msgspec

from codomyrmex.clock import to_datetime
from codomyrmex.logistics.orchestration.project.resource_facts import ResourceFacts
from codomyrmex.logistics.orchestration.project.run_views import RunView, clock_text
from codomyrmex.logistics.orchestration.project.states import RunIntent
from codomyrmex.logistics.orchestration.project.wait_reasons import (
    ConcurrencyKey,
    Gate,
    NoOwner,
    Paused,
    Reason,
)
from codomyrmex.logistics.storage.database import Database

RUN = """
SELECT run.number, run.epoch, run.options, coalesce(run.root, run.number), run.paused_at, run.concurrency,
    run.compensation, run.error, root.options, root.definition, root.id
FROM run LEFT JOIN run AS root ON root.number = run.root WHERE run.id = ?
"""
OLDER = """
SELECT id, workflow, status, coalesce(started_at, created_at), intent, count(*) OVER () FROM run
WHERE concurrency = ? AND number < ? AND status IN ('pending', 'running', 'paused')
AND coalesce(root, number) <> ? ORDER BY number LIMIT 1
"""
ASKED = "SELECT by, at FROM intent WHERE run = ? AND kind IN ({kinds}) ORDER BY sequence DESC LIMIT 1"
INTENTS = "SELECT at, body FROM event WHERE run = ? AND body LIKE '%\"intent\"%' ORDER BY sequence"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What is known of a run beside its view."""

    number: int
    epoch: int
    options: dict[str, Any]
    root: int
    paused_us: int | None
    concurrency: str | None
    compensation: list[int]
    error: dict[str, Any]
    above: tuple[dict[str, Any], str, str] | None
    """Options, definition and id of the run at the top of its tree, where that is another one."""


class RunHolds:
    """See the module."""

    def __init__(self, database: Database, view: RunView, resources: ResourceFacts) -> None:
        self.view = view
        self._database = database
        self._resources = resources

    @cached_property
    def run(self) -> RunFacts:
        """Read once."""
        number, epoch, options, root, paused, key, undo, error, above, definition, root_id = (
            self._database.query(RUN, (self.view.execution_id,))[0]
        )
        return RunFacts(
            number=number,
            epoch=epoch,
            options=msgspec.json.decode(options),
            root=root,
            paused_us=paused,
            concurrency=key,
            compensation=msgspec.json.decode(undo) if undo else [],
            error=msgspec.json.decode(error) if error else {},
            above=(msgspec.json.decode(above), definition, root_id) if above is not None else None,
        )

    @cached_property
    def reasons(self) -> list[Reason]:
        """What holds the whole run; empty where nothing does."""
        view, run = self.view, self.run
        found: list[Reason] = []
        if view.final:
            return found
        if view.owner == "nobody":
            engine = self._resources.engine(run.epoch)
            pid = engine.pid if engine is not None else None
            found.append(NoOwner(run=view.execution_id, engine=run.epoch, pid=pid))
        if view.status == "pending" and (not found or run.concurrency is not None):
            found.append(self._gate())
        if view.intent == RunIntent.PAUSE.value:
            by, at = self.asked("pause")
            since = to_datetime(run.paused_us) if run.paused_us is not None else at
            found.append(Paused(run=view.execution_id, since=since, by=by))
        return found

    @property
    def headline(self) -> str:
        """What follows `Run k3f9 of 'nightly' is paused`: why it stands so, or to whom it belongs."""
        view, now = self.view, to_datetime(self._resources.now_us)
        if view.error and view.failed_step is None:
            return f": {view.error}"
        if view.status == "cancelled":
            by, at = self.asked("cancel", "kill")
            return f"{f' by {by}' if by else ''}{f' at {clock_text(at, now)}' if at is not None else ''}"
        said = [self._hold_text(hold, now) for hold in self.reasons]
        if not said and view.owner is not None:
            said.append(f"; it belongs to {view.owner}")
        if view.intent in ("cancel", "kill") and not view.final:
            by, at = self.asked(view.intent)
            asker = f" by {by}" if by else ""
            said.append(f"; it was asked to end ({view.intent}){asker} at {clock_text(at, now)}")
        return "".join(said)

    def _hold_text(self, hold: Reason, now: datetime) -> str:
        if isinstance(hold, Paused):
            asked, resume = hold.asked_text(now), f"codomyrmex resume {hold.run} goes on"
            if self.view.status == "paused":
                return f"{asked}; {resume}"
            return f"; it was asked to pause{asked}, and what runs ends first; {resume}"
        sentence = hold.sentence(now)
        return f"; it {sentence}" if isinstance(hold, ConcurrencyKey) else f"; {sentence}"

    def _gate(self) -> Reason:
        run = self.run
        older = (
            self._database.query(OLDER, (run.concurrency, run.number, run.root)) if run.concurrency else []
        )
        if not older:
            return Gate()
        id, workflow, status, since, intent, count = older[0]
        return ConcurrencyKey(
            key=str(run.concurrency),
            run=id,
            workflow=workflow,
            status=status,
            since=to_datetime(since),
            cancelling=intent in ("cancel", "kill"),
            more=count - 1,
        )

    def asked(self, *kinds: str) -> tuple[str | None, datetime | None]:
        """Who asked that of the run and when, as far as it is on record."""
        sql = ASKED.format(kinds=", ".join("?" * len(kinds)))
        rows = self._database.query(sql, (self.run.number, *kinds))
        if rows:
            return rows[0][0], to_datetime(rows[0][1])
        at = None
        for instant, body in self._database.query(INTENTS, (self.run.number,)):
            if any(event[0] == "intent" and event[2] in kinds for event in msgspec.json.decode(body)):
                at = to_datetime(instant)
        return None, at
