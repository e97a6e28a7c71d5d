"""A workflow as it can be planned: what nobody can know before the run is replaced by what is likely.

Layer: pure. Every step is taken to succeed. A condition that reads a result is taken to hold; a fan-out over a result
gets as many items as it had before, else one; an approval or a signal is taken to come at once, or after the time it
took before; a child run whose parameters come from results is a wait as long as its runs were. Each such choice
is said in a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.expectations import Expectations
from codomyrmex.logistics.orchestration.project.expressions import Reference
from codomyrmex.logistics.orchestration.project.references import Template, compile_template
from codomyrmex.logistics.orchestration.project.run_selection import references_of
from codomyrmex.logistics.orchestration.project.states import StepKind
from codomyrmex.logistics.orchestration.project.waiting_spec import WaitingSpec

MOST_ITEMS = 100_000


ChildTimes = Callable[[str], float]
"""How long a run of a child, by its name, takes at least, where no run of it is known."""


class Assumed(NamedTuple):
    """A workflow that needs no results, and what was taken to be so."""

    workflow: CompiledWorkflow
    sentences: tuple[str, ...]


def assume(workflow: CompiledWorkflow, expectations: Expectations, child_s: ChildTimes) -> Assumed:
    """What stands for a workflow when it is planned; see the module. Time limits of runs are left out."""
    said: list[str] = []
    conditions = {}
    for step, condition in workflow.conditions.items():
        if _known(condition.references):
            conditions[step] = condition
        else:
            said.append(f"the condition of {workflow.names[step]} holds: it reads what earlier steps return")
    fan_outs = {
        step: template if _known(template.references) else _items(workflow, step, expectations, said)
        for step, template in workflow.fan_outs.items()
    }
    waiting = {
        step: _wait(workflow, step, wait, expectations, said, child_s)
        for step, wait in workflow.waiting.items()
    }
    planned = replace(
        workflow,
        conditions=conditions,
        fan_outs=fan_outs,
        waiting=waiting,
        outputs=None,
        concurrency=None,
        timeout_s=None,
    )
    return Assumed(planned, tuple(said))


def _known(references: Iterable[Reference]) -> bool:
    """Whether all that is read is known before the run."""
    return all(reference.root in ("parameters", "run", "env", "item", "index") for reference in references)


def _items(workflow: CompiledWorkflow, step: int, expectations: Expectations, said: list[str]) -> Template:
    name = workflow.names[step]
    count = expectations.items.get((workflow.name, name))
    size = 1 if count is None else max(0, min(MOST_ITEMS, round(count)))
    items = "item" if size == 1 else "items"
    why = "nothing is known of them" if count is None else "as in earlier runs"
    said.append(f"{name} has {size:,} {items}, {why}: they come from what earlier steps return")
    return compile_template([None] * size)


def _wait(
    workflow: CompiledWorkflow,
    step: int,
    wait: WaitingSpec,
    expectations: Expectations,
    said: list[str],
    child_s: ChildTimes,
) -> WaitingSpec:
    name = workflow.names[step]
    if wait.kind is StepKind.SLEEP and (wait.text is None or _known(wait.text.references)):
        return wait
    if wait.kind is StepKind.WORKFLOW and _known(references_of(workflow, step)):
        return wait
    expected = expectations.of_steps(workflow)[step]
    lasts_s = expected.median_s if expected.known else 0.0
    lasts = f"lasts {lasts_s:.3g} s, as before" if expected.known else "takes no time"
    if wait.kind is StepKind.WORKFLOW and not expected.known:
        lasts_s = child_s(wait.child)
        lasts = f"lasts {lasts_s:.3g} s, its longest path"
    what = {
        StepKind.SLEEP: f"the sleep {name} {lasts}: it is worked out from results",
        StepKind.WORKFLOW: f"the run that {name} starts {lasts}: its parameters come from results",
        StepKind.APPROVAL: f"the answer to {name} {lasts}",
        StepKind.SIGNAL: f"the signal for {name} {lasts}",
    }
    said.append(what[wait.kind])
    return WaitingSpec(kind=StepKind.SLEEP, sleep_s=lasts_s)
