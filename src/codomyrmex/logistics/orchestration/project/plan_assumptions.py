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

from codomyrmex.logistics.orchestration.project.amount_words import listed
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.expectations import Expectation, Expectations
from codomyrmex.logistics.orchestration.project.expressions import Reference
from codomyrmex.logistics.orchestration.project.references import Template, compile_template
from codomyrmex.logistics.orchestration.project.run_selection import references_of
from codomyrmex.logistics.orchestration.project.states import StepKind
from codomyrmex.logistics.orchestration.project.waiting_spec import WaitingSpec

MOST_ITEMS = 100_000
SHOWN = 3
"""So many steps are named in a sentence about more."""

ChildTimes = Callable[[str], float]
"""How long a run of a child, by its name, takes at least, where no run of it is known."""


class Assumed(NamedTuple):
    """A workflow that needs no results, and what was taken to be so."""

    workflow: CompiledWorkflow
    sentences: tuple[str, ...]
    guessed: frozenset[int]
    """The steps without a slot of which nobody knows how long they last."""


def assume(workflow: CompiledWorkflow, expectations: Expectations, child_s: ChildTimes) -> Assumed:
    """What stands for a workflow when it is planned; see the module. Time limits of runs are left out.

    `child_s` is asked for the name that a step calls a child by.
    """
    said: list[str] = []
    guessed: set[int] = set()
    expected = _Expected(workflow, expectations, child_s)
    conditions = {
        step: condition for step, condition in workflow.conditions.items() if _known(condition.references)
    }
    said += _conditions([workflow.names[step] for step in workflow.conditions if step not in conditions])
    fan_outs = {
        step: template if _known(template.references) else _items(workflow, step, expectations, said)
        for step, template in workflow.fan_outs.items()
    }
    waiting = {step: _wait(expected, step, wait, said, guessed) for step, wait in workflow.waiting.items()}
    planned = replace(
        workflow,
        conditions=conditions,
        fan_outs=fan_outs,
        waiting=waiting,
        outputs=None,
        concurrency=None,
        timeout_s=None,
    )
    return Assumed(planned, tuple(said), frozenset(guessed))


def _known(references: Iterable[Reference]) -> bool:
    """Whether all that is read is known before the run."""
    return all(reference.root in ("parameters", "run", "env", "item", "index") for reference in references)


def _conditions(names: list[str]) -> list[str]:
    """What is said of the steps whose conditions nobody can judge yet."""
    if not names:
        return []
    shown = listed(names[:SHOWN], max(0, len(names) - SHOWN))
    if len(names) == 1:
        return [f"the condition of {shown} holds: it reads what earlier steps return"]
    return [f"the conditions of {shown} hold: they read what earlier steps return"]


def _items(workflow: CompiledWorkflow, step: int, expectations: Expectations, said: list[str]) -> Template:
    name = workflow.names[step]
    count = expectations.items.get((workflow.name, name))
    size = 1 if count is None else max(0, min(MOST_ITEMS, round(count)))
    items = "item" if size == 1 else "items"
    why = "which is a guess" if count is None else "as before"
    said.append(f"{name} has {size:,} {items}, {why}: how many is a result of earlier steps")
    return compile_template([None] * size)


class _Expected:
    """How long the steps without a slot of one workflow last."""

    def __init__(self, workflow: CompiledWorkflow, expectations: Expectations, child_s: ChildTimes) -> None:
        self.workflow, self.child_s = workflow, child_s
        self._expectations = expectations
        self._steps: list[Expectation] | None = None

    def of(self, step: int) -> Expectation:
        """What was learned of a step, or was said of it."""
        if self._steps is None:
            self._steps = self._expectations.of_steps(self.workflow)
        return self._steps[step]


def _wait(
    expected: _Expected, step: int, wait: WaitingSpec, said: list[str], guessed: set[int]
) -> WaitingSpec:
    workflow = expected.workflow
    name = workflow.names[step]
    if wait.kind is StepKind.SLEEP and (wait.text is None or _known(wait.text.references)):
        return wait
    if wait.kind is StepKind.WORKFLOW and _known(references_of(workflow, step)):
        return replace(wait, timeout_s=None)
    learned = expected.of(step)
    if learned.known:
        lasts_s, lasts = learned.median_s, f"lasts {learned.median_s:.3g} s, as before"
    elif wait.kind is StepKind.WORKFLOW:
        lasts_s = expected.child_s(wait.child)
        lasts = f"lasts {lasts_s:.3g} s, its longest path"
    else:
        lasts_s, lasts = 0.0, "takes no time"
    if not learned.known:
        guessed.add(step)
    what = {
        StepKind.SLEEP: f"the sleep {name} {lasts}: it is worked out from results",
        StepKind.WORKFLOW: f"the run that {name} starts {lasts}: its parameters come from results",
        StepKind.APPROVAL: f"the answer to {name} {lasts}",
        StepKind.SIGNAL: f"the signal for {name} {lasts}",
    }
    said.append(what[wait.kind])
    return WaitingSpec(kind=StepKind.SLEEP, sleep_s=lasts_s)
