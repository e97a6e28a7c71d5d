"""What a run failed for, what did not run because of it, and what was done about it: worked out of its rows.

Layer: beside the views of tasks. A task is a *root* when it failed by itself and had to succeed; a step whose
items failed is none, its items are. The *cascade* is what a failure kept from running: what depends on it, over
any number of steps, and what `fail_fast`, `on_item_failure: stop` or the time limit of the run stopped.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import codomyrmex
from codomyrmex.clock import to_datetime
from codomyrmex.logistics.orchestration.project.explanations import Cascade, Failed, Failure, Handler, Root
from codomyrmex.logistics.orchestration.project.states import ItemFailure, RunPhase
from codomyrmex.logistics.orchestration.project.task_views import TaskTable
from codomyrmex.logistics.orchestration.project.wait_reasons import NAMED_AT_MOST

_STOPPED = ("fail_fast", "item_failed", "timeout")
"""What stops tasks because of a failure, wherever they stand."""
_FOLLOWS = ("upstream", "trigger_rule")
"""What a failure becomes for those that depend on it; a condition that said no is passed on so too."""
_PHASES = list(RunPhase)
_OWN_CODE = os.path.dirname(os.path.abspath(codomyrmex.__file__)) + os.sep


def read_failure(
    table: TaskTable, error: Mapping[str, Any], *, failed: bool
) -> tuple[Failure | None, frozenset[int]]:
    """Of a run with this `error`, and the steps of its cascade; None where nothing that had to succeed has failed."""
    positions = _roots(table)
    if not positions and not failed:
        return None, frozenset()
    own = error if "step" not in error and not positions else {}
    roots = tuple(_root(table, position) for position in positions[:NAMED_AT_MOST])
    handlers = _handlers(table) if failed else ()
    stopped = error if error.get("type") == "RunTimedOut" else own
    steps = _stopped_steps(table, positions)
    failure = Failure(
        type=str(stopped.get("type") or ""),
        message=str(stopped.get("message") or ""),
        roots=roots,
        more_roots=len(positions) - len(roots),
        cascade=_cascade(table, steps),
        handlers=handlers,
    )
    return failure, frozenset(at for each in steps.values() for at in each)


def failed_of(table: TaskTable, position: int) -> Failed:
    """How a task failed."""
    view = table.view_of(position)
    error = view.error or {}
    return Failed(
        type=str(error.get("type") or ""),
        message=str(error.get("message") or view.reason or ""),
        outcome=str(error.get("kind") or "failed"),
        attempts=view.attempt,
        frame=_frame(error.get("frame")),
        log_path=view.log_path,
        child=view.child,
    )


def _frame(frame: str | None) -> str | None:
    """The line that failed, if it is the user's: a built-in action is our own code, which is nobody's to look at."""
    return None if frame is not None and frame.startswith(_OWN_CODE) else frame


def _roots(table: TaskTable) -> list[int]:
    """The positions of what failed by itself and had to succeed, those of main first, then by when they ended."""
    workflow = table.workflow
    found = []
    for row in table.rows():
        if row[1] != "failed":
            continue
        position = row[0]
        step, item = table.step_of(position)
        spec = workflow.spec(step)
        if not spec.required or (item is not None and spec.on_item_failure is ItemFailure.CONTINUE):
            continue
        if item is None and _items_failed(table, step):
            continue
        found.append((workflow.phase_of(step), row[6] or 0, position))
    return [position for _phase, _ended, position in sorted(found)]


def _items_failed(table: TaskTable, step: int) -> bool:
    group = table.group_of(step) or ()
    rows = (table.row_of(position) for position in group)
    return any(row is not None and row[1] == "failed" for row in rows)


def _root(table: TaskTable, position: int) -> Root:
    row = table.row_of(position)
    step, _item = table.step_of(position)
    ended = row[6] if row is not None else None
    return Root(
        task=table.name_of(position),
        failed=failed_of(table, position),
        at=None if ended is None else to_datetime(ended),
        phase=_PHASES[table.workflow.phase_of(step)].value,
    )


def _stopped_steps(table: TaskTable, roots: list[int]) -> dict[str, list[int]]:
    """The steps that did not run, or were stopped, because of the failure, by why."""
    steps: dict[str, list[int]] = {}
    affected = _affected(table, roots)
    for row in table.rows():
        position, state, reason = row[0], row[1], row[2]
        if position < len(table.workflow) and state in ("cancelled", "skipped"):
            reason = reason or table.stopping
            if reason in _STOPPED or (reason in _FOLLOWS and position in affected):
                steps.setdefault(reason, []).append(position)
    return steps


def _cascade(table: TaskTable, steps: Mapping[str, list[int]]) -> tuple[Cascade, ...]:
    items = _stopped_items(table)
    reasons = [why for why in (*_FOLLOWS, *_STOPPED) if why in steps or items.get(why)]
    return tuple(
        Cascade(
            why=why,
            steps=len(steps.get(why, ())),
            items=items.get(why, 0),
            names=tuple(table.workflow.names[at] for at in sorted(steps.get(why, ()))[:NAMED_AT_MOST]),
        )
        for why in reasons
    )


def _affected(table: TaskTable, roots: list[int]) -> set[int]:
    """The steps that did not run because a root, or what was stopped for it, is above them."""
    graph = table.workflow.graph
    left = [table.step_of(position)[0] for position in roots]
    left += [
        row[0]
        for row in table.rows()
        if row[0] < len(table.workflow) and row[1] == "cancelled" and (row[2] or table.stopping) in _STOPPED
    ]
    found: set[int] = set()
    while left:
        for child in graph.children(left.pop()):
            row = table.row_of(child)
            if child not in found and row is not None and row[1] in ("cancelled", "skipped"):
                found.add(child)
                left.append(child)
    return found


def _stopped_items(table: TaskTable) -> dict[str, int]:
    """Items that never began, or were stopped, by why."""
    counts: dict[str, int] = {}
    for step in table.group_steps():
        group = table.group_of(step) or range(0)
        dropped = table.dropped(step)
        for position in group:
            row = table.row_of(position)
            if row is None:
                why = dropped
            elif row[1] == "cancelled":
                why = row[2] or table.stopping
            else:
                continue
            if why in _STOPPED:
                counts[why] = counts.get(why, 0) + 1
    return counts


def _handlers(table: TaskTable) -> tuple[Handler, ...]:
    """The steps that ran because of the failure."""
    workflow = table.workflow
    found = []
    for phase in (RunPhase.COMPENSATING, RunPhase.ON_FAILURE):
        for step in workflow.phase_steps(phase):
            row = table.row_of(step)
            if row is not None and row[2] != "nothing_to_undo":
                found.append(Handler(task=workflow.names[step], phase=phase.value, status=row[1]))
    return tuple(found)
