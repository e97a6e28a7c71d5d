"""The runs that steps start, on their way into an engine.

Layer: beside the drain. A child is stored in the transaction that lets its step wait, so there is exactly one
for each attempt of a task, whatever dies when. Its end travels back as news.
"""

from __future__ import annotations

from dataclasses import replace

from codomyrmex.logistics.orchestration.project.news import (
    ChildEnded,
    News,
    PauseAsked,
    StopAsked,
)
from codomyrmex.logistics.orchestration.project.run_overlay import ChildStart
from codomyrmex.logistics.orchestration.project.run_plan import RunPlan
from codomyrmex.logistics.orchestration.project.run_scope import RunScope
from codomyrmex.logistics.orchestration.project.run_state import Parent, RunOptions, RunState
from codomyrmex.logistics.orchestration.project.states import RunIntent


class ChildRuns:
    """The live children of one engine, by the task that each stands behind."""

    def __init__(self) -> None:
        self._runs: dict[tuple[int, int], RunState] = {}

    def add(self, run: RunState) -> None:
        """Takes up a child; other runs are passed over."""
        if run.parent is not None:
            self._runs[run.parent.run, run.parent.position] = run

    def remove(self, run: RunState) -> None:
        """Forgets a child that has ended here."""
        if run.parent is not None:
            self._runs.pop((run.parent.run, run.parent.position), None)

    def wishes(self, plan: RunPlan) -> list[News]:
        """What a plan asks of children, as news for them."""
        found: list[News] = []
        for position, intent in plan.child_wishes:
            child = self._runs.get((plan.run.number, position))
            if child is None:
                continue
            if intent.ends:
                found.append(StopAsked(child.number, intent))
            else:
                found.append(PauseAsked(child.number, intent is RunIntent.PAUSE))
        return found


def make_child(parent: RunState, start: ChildStart) -> RunState:
    """The run that a step starts; it gets its number when it is stored."""
    definition = parent.children[start.name]
    above = parent.parent
    options = replace(
        parent.options,
        file=definition.file,
        roots=definition.roots,
        max_parallel=None,
        timeout_s=start.timeout_s,
        concurrency=None,
        labels={},
    )
    run = RunState(
        number=0,
        id=start.id,
        workflow=definition.workflow,
        parameters=start.parameters,
        options=options,
        children=definition.children,
        parent=Parent(
            run=parent.number,
            position=start.position,
            attempt=start.attempt,
            root=parent.number if above is None else above.root,
            root_cap=root_cap(parent),
        ),
    )
    run.options = with_heads(run)
    return run


def root_cap(parent: RunState) -> int | None:
    """How many tasks of the tree below the root of `parent` may run at once."""
    if parent.parent is not None:
        return parent.parent.root_cap
    return parent.options.max_parallel or parent.workflow.max_parallel


def with_heads(run: RunState) -> RunOptions:
    """Its options with the labels and the concurrency key worked out from its parameters."""
    scope = RunScope(run)
    workflow = run.workflow
    key = None if workflow.concurrency is None else str(workflow.concurrency.resolve(scope))
    labels = {} if workflow.labels is None else workflow.labels.resolve(scope)
    return replace(run.options, concurrency=key, labels=labels)


def end_of(run: RunState) -> ChildEnded | None:
    """The news for its parent that a child has ended; None for a run without one."""
    if run.parent is None:
        return None
    outputs, error = run.result if run.result is not None else (None, None)
    return ChildEnded(
        run_number=run.parent.run,
        position=run.parent.position,
        attempt=run.parent.attempt,
        id=run.id,
        status=run.status,
        outputs=outputs,
        error=error,
    )
