"""Orders that a solver found: the SQL of the table `workflow_plan`.

Layer: above storage; holds no state. A plan belongs to a definition, by its hash, and to the parameters it was made
for, so a workflow that was changed has none until it is planned again. The newest replaces the one before; of all
definitions together the newest `MOST_KEPT` are kept.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from typing import Any

import msgspec

from codomyrmex.exceptions import CodomyrmexError, StoreCorrupt
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.workflow_plan import WorkflowPlan
from codomyrmex.logistics.storage.database import Database, Transaction

MOST_KEPT = 500
LONGEST_KEY = 2000
"""Parameters whose text is longer stand there as their SHA-256."""
INSERT = """
INSERT INTO workflow_plan (definition, parameters, workflow, body, made_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (definition, parameters) DO UPDATE SET body = excluded.body, made_at = excluded.made_at
"""
PRUNE = """
DELETE FROM workflow_plan WHERE made_at < (SELECT made_at FROM workflow_plan ORDER BY made_at DESC LIMIT 1 OFFSET ?)
"""
FIND = "SELECT body FROM workflow_plan WHERE definition = ? AND parameters = ?"
NEAREST = """
SELECT max(CASE WHEN definition = ? AND parameters = ? THEN 2 WHEN definition = ? THEN 1 ELSE 0 END)
FROM workflow_plan WHERE workflow = ?
"""
_WHY = {
    0: "it has changed since it was planned",
    1: "it was planned with other parameters",
    2: "another version of codomyrmex planned it",
}


class PlanMissing(CodomyrmexError):
    """A run shall follow a plan, and there is none for this definition with these parameters."""

    exit_code = 2
    code = "no_plan"

    def __init__(self, workflow: str, why: str, *, command: str | None = None) -> None:
        self.workflow = workflow
        self.why = why
        made = command or f"codomyrmex workflows plan {workflow} --optimise"
        super().__init__(
            f"there is no optimised plan of workflow {workflow!r} to follow: {why}", hint=f"make one: {made}"
        )


def insert(tx: Transaction, plan: WorkflowPlan, *, parameters: Mapping[str, Any], now_us: int) -> None:
    """Keeps a plan in place of an earlier one; `parameters` are those of the run, tagged, with their defaults."""
    body = zlib.compress(msgspec.json.encode(plan), 6)
    tx.execute(INSERT, (plan.definition, key_of(parameters), plan.workflow, body, now_us))
    tx.execute(PRUNE, (MOST_KEPT - 1,))


def find(database: Database, definition: str, parameters: Mapping[str, Any]) -> WorkflowPlan | None:
    """The plan of a definition, by its hash, with these parameters; `StoreCorrupt` when it cannot be read."""
    rows = database.query(FIND, (definition, key_of(parameters)))
    if not rows:
        return None
    try:
        return msgspec.json.decode(zlib.decompress(bytes(rows[0][0])), type=WorkflowPlan)
    except msgspec.ValidationError:
        return None  # another version of this package made it: it has other fields
    except (zlib.error, msgspec.DecodeError) as error:
        raise StoreCorrupt(f"the plan of definition {definition[:12]} cannot be read: {error}") from error


def plan_to_follow(
    database: Database,
    workflow: CompiledWorkflow,
    parameters: Mapping[str, Any],
    *,
    command: str | None = None,
) -> WorkflowPlan:
    """The plan that a run of this follows; raises `PlanMissing`, which says why and names the `command`."""
    found = find(database, workflow.hash, parameters)
    if found is not None:
        return found
    nearest = database.query(NEAREST, (workflow.hash, key_of(parameters), workflow.hash, workflow.name))[0][0]
    raise PlanMissing(workflow.name, _WHY.get(nearest, "it was never optimised"), command=command)


def order_of(plan: WorkflowPlan) -> tuple[str, ...]:
    """The tasks of the run itself as they are to begin: steps and items, no fan-out as a whole, none of child runs."""
    whole = {task.task.rpartition("[")[0] for task in plan.tasks if task.task.endswith("]")}
    return tuple(name for name in plan.order if name not in whole and "/" not in name)


def key_of(parameters: Mapping[str, Any]) -> str:
    """The same for the same parameters, in whatever order they were given."""
    data = msgspec.json.encode(parameters, order="deterministic")
    return data.decode() if len(data) <= LONGEST_KEY else f"sha256:{hashlib.sha256(data).hexdigest()}"
