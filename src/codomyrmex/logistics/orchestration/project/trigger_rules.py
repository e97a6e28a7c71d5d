"""What the trigger rule of a step says once all it depends on is terminal.

Layer: pure. Judged from three counts of parents (succeeded, failed or cancelled, skipped), where a failed step
with `required: false` counts as skipped. The whole table stands in docs/concepts/conditions-and-triggers.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codomyrmex.logistics.orchestration.project.run_state import CANCELLED, FAILED, SKIPPED
from codomyrmex.logistics.orchestration.project.states import TriggerRule

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.run_overlay import RunOverlay


def rule_verdict(plan: RunOverlay, step: int) -> tuple[int | None, str]:
    """The state that the rule ends a step in and the reason, or (None, "") where the step may go on."""
    if plan.stopping is not None:
        return CANCELLED, plan.stopping
    run = plan.run
    rule = run.workflow.spec(step).trigger_rule
    failed = plan.failed.get(step, run.failed_parents.get(step, 0))
    skipped = plan.skipped.get(step, run.skipped_parents.get(step, 0))
    if rule is TriggerRule.ALL_SUCCESS:
        if failed:
            return CANCELLED, "upstream"
        return (SKIPPED, "upstream") if skipped else (None, "")
    if rule is TriggerRule.NONE_FAILED:
        return (CANCELLED, "upstream") if failed else (None, "")
    if rule is TriggerRule.ONE_FAILED:
        # A step that need not succeed counts as skipped above, but it has failed all the same.
        parents = run.workflow.graph.parents(step)
        bad = any(plan.state_of(parent) in (FAILED, CANCELLED) for parent in parents)
        return (None, "") if bad else (SKIPPED, "trigger_rule")
    if rule is TriggerRule.ONE_SUCCESS:
        count = len(run.workflow.graph.parents(step))
        return (None, "") if count - failed - skipped > 0 else (SKIPPED, "trigger_rule")
    return None, ""
