"""A child run as its parent starts it: options, limits, labels and key worked out.

Layer: pure. All that can go wrong goes wrong here, while the parent is planned, and fails its step; what is
committed afterwards only writes the run down.

A run below one that has a concurrency key has none: a run that holds a key never waits for another, so no two
trees can wait for each other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from codomyrmex.logistics.orchestration.project.run_scope import RunScope
from codomyrmex.logistics.orchestration.project.run_state import Parent, RunOptions, RunState


def make_child(
    parent: RunState,
    *,
    id: str,
    name: str,
    position: int,
    attempt: int,
    parameters: dict[str, Any],
    timeout_s: float | None,
) -> RunState:
    """The run that a step starts; it gets its number when it is stored. Raises `EvaluationError`."""
    definition = parent.children[name]
    above = parent.parent
    options = replace(
        parent.options,
        file=definition.file,
        roots=definition.roots,
        max_parallel=None,
        timeout_s=timeout_s,
        concurrency=None,
        labels={},
        follow=None,
    )
    run = RunState(
        number=0,
        id=id,
        workflow=definition.workflow,
        parameters=parameters,
        options=options,
        children=definition.children,
        parent=Parent(
            run=parent.number,
            position=position,
            attempt=attempt,
            root=parent.number if above is None else above.root,
            root_cap=root_cap(parent),
            keyed=parent.options.concurrency is not None or (above is not None and above.keyed),
        ),
    )
    run.options = with_heads(run)
    return run


def root_cap(parent: RunState) -> int | None:
    """How many tasks of the whole tree that `parent` belongs to may run at once."""
    if parent.parent is not None:
        return parent.parent.root_cap
    return parent.options.max_parallel or parent.workflow.max_parallel


def with_heads(run: RunState) -> RunOptions:
    """Its options with the labels and the concurrency key worked out; raises `EvaluationError`."""
    scope = RunScope(run)
    workflow = run.workflow
    keyed = run.parent is not None and run.parent.keyed
    key = None if workflow.concurrency is None or keyed else str(workflow.concurrency.resolve(scope))
    labels = {} if workflow.labels is None else workflow.labels.resolve(scope)
    return replace(run.options, concurrency=key, labels=labels)
