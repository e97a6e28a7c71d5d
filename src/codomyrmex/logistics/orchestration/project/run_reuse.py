"""Starting a part of a workflow on results of earlier runs.

Layer: above the engine's machinery. The newest run of the same workflow in which a step is COMPLETED gives its
result; its row, and those of its items, are copied in the transaction that stores the new run, so the run
stands on its own from then on: the earlier one may be pruned. The journal says where each came from. The run
is then read back and taken up, as a recovery does.

A result that its run has undone (`compensate`) is not used again. A needed step that the newest run skipped
and that no run completed is skipped here too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from codomyrmex.exceptions import Fault, ValidationError
from codomyrmex.logistics.orchestration.project import definition_store, run_store
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.engine_host import EngineHost
from codomyrmex.logistics.orchestration.project.run_forecast import Known
from codomyrmex.logistics.orchestration.project.run_loader import load_run
from codomyrmex.logistics.orchestration.project.run_orchestrator import LiveRun
from codomyrmex.logistics.orchestration.project.run_selection import Part, Selection, part_of, select
from codomyrmex.logistics.orchestration.project.run_state import RunState
from codomyrmex.logistics.orchestration.project.workflow_compiler import compile_workflow
from codomyrmex.logistics.storage.database import Database, Transaction

RUNS_LOOKED_AT = 1000
NAMES_AT_ONCE = 500
RUNS = "SELECT number, id, definition, compensation FROM run WHERE workflow = ? ORDER BY number DESC LIMIT ?"
STATES = "SELECT position, state FROM task WHERE run = ? AND position IN (SELECT value FROM json_each(?))"
FIND_FAN_OUT = "SELECT first, size FROM fan_out WHERE run = ? AND step = ?"
FIND_ITEMS = "SELECT first, size, items FROM fan_out WHERE run = ? AND step = ?"
COPY_TASKS = """
INSERT INTO task (run, position, state, attempt, epoch, started_at, ended_at, result, check_sum, error)
SELECT ?, position + ?, state, attempt, ?, started_at, ended_at, result, check_sum, error
FROM task WHERE run = ? AND position BETWEEN ? AND ?
"""
COPY_FAN_OUT = """
INSERT INTO fan_out (run, step, first, size, items, check_sum)
SELECT ?, ?, ?, size, items, check_sum FROM fan_out WHERE run = ? AND step = ?
"""
INSERT_EVENTS = "INSERT INTO event (run, sequence, at, epoch, body) VALUES (?, 1, ?, ?, ?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The task of an earlier run that gives a step its result."""

    run: int
    run_id: str
    position: int


@dataclass(slots=True, kw_only=True)
class Earlier:
    """What earlier runs have of some steps, by the step's number: results, and those that were skipped."""

    results: dict[int, Source] = field(default_factory=dict)
    skipped: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialRun:
    """A part of a workflow, worked out: its definition, and what is taken from where, by the step's name."""

    document: Mapping[str, Any]
    workflow: CompiledWorkflow
    sources: Mapping[str, Source]
    left_out: tuple[str, ...]
    lost_outputs: tuple[str, ...]

    def note(self) -> str | None:
        """What is no part of the run, in one line; None where nothing is missing."""
        found = []
        if self.left_out:
            more = f" and {len(self.left_out) - 5} more" if len(self.left_out) > 5 else ""
            found.append(f"no part of this run: {', '.join(self.left_out[:5])}{more}")
        if self.lost_outputs:
            found.append(f"it has no output {', '.join(self.lost_outputs)}")
        return "; ".join(found) or None


def plan_part(
    database: Database | None, document: Mapping[str, Any], workflow: CompiledWorkflow, part: Part
) -> PartialRun:
    """Works out a part; raises `ValidationError` when a step is unknown or a needed result is not there."""
    selection = select(workflow, part)
    earlier = Earlier() if database is None else find_earlier(database, workflow, selection)
    missing = selection.needed - set(earlier.results) - earlier.skipped
    if missing:
        raise _missing(workflow, sorted(missing))
    taken = set(earlier.results)
    skipped = (selection.needed | selection.wanted | selection.mentioned) - taken
    found, lost = part_of(document, workflow, selection, reused=taken, skipped=skipped)
    left_out = sorted(selection.left_out | selection.mentioned | (selection.wanted - taken))
    return PartialRun(
        document=found,
        workflow=compile_workflow(found, functions=workflow.functions),
        sources={workflow.names[step]: source for step, source in earlier.results.items()},
        left_out=tuple(workflow.names[step] for step in left_out),
        lost_outputs=lost,
    )


def start_ready(
    host: EngineHost, run: RunState, document: Mapping[str, Any], *, part: Part, force: bool = False
) -> LiveRun:
    """Stores and begins a run that was made ready as a whole: of it `part`, with `force` without the cache.

    Raises `ValidationError` when a needed result is not there.
    """
    if force:
        run.options = replace(run.options, force=True)
    if not part:
        return host.start(run, document)
    return start_part(host, run, plan_part(host.database, document, run.workflow, part))


def start_part(host: EngineHost, run: RunState, partial: PartialRun) -> LiveRun:
    """Stores a run of a part, made ready as a whole one, and begins it.

    Of `run` it takes id, parameters, options and children. It survives this process from then on.
    """
    part = RunState(
        number=0,
        id=run.id,
        workflow=partial.workflow,
        parameters=run.parameters,
        options=run.options,
        children=run.children,
    )
    now_us = host.clock.now_us()
    with host.database.transaction(barrier=True) as tx:
        run_store.check_live(tx, epoch=host.epoch)
        definition_store.insert(tx, partial.document, hash=part.workflow.hash, now_us=now_us)
        part.number = run_store.insert_run(tx, part, epoch=host.epoch, now_us=now_us)
        _copy(tx, part, partial.sources, epoch=host.epoch, now_us=now_us)
    loaded, lost = load_run(
        host.database,
        part.id,
        results=host.results,
        environment=run.options.environment,
        functions=part.workflow.functions,
    )
    return host.orchestrator.adopt(loaded, lost)


def known_results(database: Database, partial: PartialRun) -> dict[str, Known]:
    """The results that a part would take over, by the step's name, for a forecast."""
    found: dict[str, Known] = {}
    for name, source in partial.sources.items():
        fan_out = database.query(FIND_ITEMS, (source.run, source.position))
        if not fan_out:
            result = run_store.read_result(database, source.run, source.position)
            found[name] = Known(run_id=source.run_id, result=result)
            continue
        first, size, items = fan_out[0]
        results = run_store.read_results(database, source.run, first, first + size - 1)
        found[name] = Known(
            run_id=source.run_id,
            items=msgspec.json.decode(bytes(items)),
            results={position - first: data for position, data in results},
        )
    return found


def find_earlier(database: Database, workflow: CompiledWorkflow, selection: Selection) -> Earlier:
    """The newest results of the steps that a selection needs or wants."""
    open_steps = set(selection.needed | selection.wanted)
    found = Earlier()
    positions: dict[str, Mapping[str, tuple[int, Mapping[str, Any]]]] = {}
    for number, run_id, definition, undone in database.query(RUNS, (workflow.name, RUNS_LOOKED_AT)):
        if not open_steps:
            break
        if definition not in positions:
            positions[definition] = _steps_by_name(definition_store.read(database, definition))
        here = _alike(
            workflow, open_steps, positions[definition], compensated=bool(undone and undone != "[]")
        )
        for position, state in _states(database, number, here):
            step = here[position]
            if state == "completed":
                found.results[step] = Source(run=number, run_id=run_id, position=position)
                found.skipped.discard(step)
                open_steps.discard(step)
            elif state == "skipped" and not _left_out(workflow.names[step], positions[definition]):
                found.skipped.add(step)
    return found


def _left_out(name: str, known: Mapping[str, tuple[int, Mapping[str, Any]]]) -> bool:
    """Whether a step was skipped only because an earlier run of a part had no use for it."""
    return known[name][1].get("run_if") == "false"


def _steps_by_name(document: Mapping[str, Any]) -> Mapping[str, tuple[int, Mapping[str, Any]]]:
    return {step["name"]: (position, step) for position, step in enumerate(document["steps"])}


def _alike(
    workflow: CompiledWorkflow,
    steps: Iterable[int],
    known: Mapping[str, tuple[int, Mapping[str, Any]]],
    *,
    compensated: bool,
) -> dict[int, int]:
    """{position in an earlier run: step} of those steps whose results there can be used here."""
    found = {}
    for step in steps:
        position, before = known.get(workflow.names[step], (-1, {}))
        same_form = ("foreach" in before) == (step in workflow.fan_outs)
        if position >= 0 and same_form and not (compensated and "compensate" in before):
            found[position] = step
    return found


def _states(database: Database, run: int, positions: Mapping[int, int]) -> list[tuple[int, str]]:
    wanted = sorted(positions)
    rows: list[tuple[int, str]] = []
    for at in range(0, len(wanted), NAMES_AT_ONCE):
        names = msgspec.json.encode(wanted[at : at + NAMES_AT_ONCE]).decode()
        rows += [(row[0], row[1]) for row in database.query(STATES, (run, names))]
    return rows


def _copy(tx: Transaction, run: RunState, sources: Mapping[str, Source], *, epoch: int, now_us: int) -> None:
    """Copies rows: items first get their places, in the order of the steps."""
    first = len(run.workflow)
    events: list[tuple[object, ...]] = []
    for step, name in enumerate(run.workflow.names[: run.workflow.main_count]):
        source = sources.get(name)
        if source is None:
            continue
        at = source.position
        tx.execute(COPY_TASKS, (run.number, step - at, epoch, source.run, at, at))
        events.append(("reused", step, source.run_id))
        for items_first, size in tx.execute(FIND_FAN_OUT, (source.run, at)):
            tx.execute(COPY_FAN_OUT, (run.number, step, first, source.run, at))
            last = items_first + size - 1
            tx.execute(COPY_TASKS, (run.number, first - items_first, epoch, source.run, items_first, last))
            first += size
    if events:
        body = msgspec.json.encode(events).decode()
        tx.execute(INSERT_EVENTS, (run.number, now_us, epoch, body))


def _missing(workflow: CompiledWorkflow, steps: list[int]) -> ValidationError:
    names = [workflow.names[step] for step in steps]
    faults = [
        Fault(
            message=f"no run of {workflow.name!r} has a result of step {name!r}, which is needed and not run",
            code="no_result",
            got=name,
            advice=f"run it first: add `--until {name}`, or run the whole workflow once",
        )
        for name in names
    ]
    return ValidationError(faults, subject=f"workflow {workflow.name!r}")
