"""`run --dry-run`: everything checked, and what would become of each step, without running or writing anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codomyrmex.cli.figures import count_text
from codomyrmex.cli.run_text import mapping_lines
from codomyrmex.cli.terminal import Terminal
from codomyrmex.cli.text_table import Cell, Column, table_lines
from codomyrmex.cli.workflow_search import catalogue_of
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.values import from_tagged
from codomyrmex.logistics.orchestration.project.workflow_preparation import Definition, Prepared, prepare
from codomyrmex.settings import Settings
from codomyrmex.workspace import Workspace

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.run_forecast import Verdict
    from codomyrmex.logistics.orchestration.project.run_reuse import PartialRun
    from codomyrmex.logistics.orchestration.project.run_selection import Part
    from codomyrmex.logistics.orchestration.project.run_state import RunState
    from codomyrmex.logistics.storage.database import Database

MOST_ROWS = 200
MOST_NAMES = 8
_STYLES = {"cached": "green", "reused": "green", "would fail": "red", "unknown": "yellow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What a dry run found out: the plan as data, and one line on what is left out, if anything is."""

    plan: dict[str, Any]
    verdicts: Sequence[Verdict]
    note: str | None


def dry_run(
    workspace: Workspace,
    settings: Settings,
    definition: Definition,
    given: Mapping[str, Any],
    *,
    part: Part,
    force: bool,
) -> DryRun:
    """Judges every step; raises `ValidationError` or `ResourceRefused` with every fault, as the run itself would."""
    prepared = _prepared(workspace, settings, definition, given)
    with _store(workspace) as database:
        _refuse_impossible(workspace, settings, prepared, database)
        return _judged(workspace, settings, definition, prepared, database, (part, force))


def checked(
    workspace: Workspace, settings: Settings, definition: Definition, given: Mapping[str, Any], *, part: Part
) -> str | None:
    """The same faults, before anything is opened for writing; returns one line on what `part` leaves out."""
    prepared = _prepared(workspace, settings, definition, given)
    with _store(workspace) as database:
        _refuse_impossible(workspace, settings, prepared, database)
        if not part:
            return None
        from codomyrmex.logistics.orchestration.project.run_reuse import plan_part

        return plan_part(database, prepared.document, prepared.workflow, part).note()


def _prepared(
    workspace: Workspace, settings: Settings, definition: Definition, given: Mapping[str, Any]
) -> Prepared:
    catalogue = catalogue_of(workspace, settings, definition.file)
    return prepare(definition, given, root=workspace.root, caller_dir=Path.cwd(), catalogue=catalogue)


def _refuse_impossible(
    workspace: Workspace, settings: Settings, prepared: Prepared, database: Database | None
) -> None:
    """What the machine and the state will never have; a state that is still to be made knows its own quota."""
    from codomyrmex.logistics.orchestration.project.impossible_requests import (
        Supply,
        asks_for_gpus,
        asks_for_named,
    )
    from codomyrmex.logistics.orchestration.project.machine_detection import (
        detect_gpus,
        detect_machine,
        overrides_of,
    )
    from codomyrmex.logistics.orchestration.project.resource_store import limits
    from codomyrmex.logistics.orchestration.project.workflow_preparation import refuse_impossible
    from codomyrmex.logistics.storage.sqlite import SQLiteDatabase

    workflows = [prepared.workflow]
    overrides = overrides_of(settings)
    machine = detect_machine(workspace.root, overrides=overrides)
    if asks_for_gpus(workflows):
        machine = replace(machine, gpus=detect_gpus(overrides=overrides))
    named = {}
    if asks_for_named(workflows):
        with closing(SQLiteDatabase.open(":memory:")) if database is None else nullcontext(database) as known:
            named = limits(known)
    refuse_impossible(prepared, {}, Supply(capacities=machine.capacities(), named=named))


@contextmanager
def _store(workspace: Workspace) -> Iterator[Database | None]:
    """The state for reading; None where there is none yet, which reading must not change."""
    if not workspace.exists:
        yield None
        return
    from codomyrmex.logistics.storage.sqlite import SQLiteDatabase

    with closing(SQLiteDatabase.open_existing(workspace.database)) as database:
        yield database


def _judged(
    workspace: Workspace,
    settings: Settings,
    definition: Definition,
    prepared: Prepared,
    database: Database | None,
    asked: tuple[Part, bool],
) -> DryRun:
    from codomyrmex.clock import SystemClock
    from codomyrmex.logistics.orchestration.project.result_files import ResultFiles
    from codomyrmex.logistics.orchestration.project.run_forecast import Forecast
    from codomyrmex.logistics.orchestration.project.run_reuse import known_results, plan_part
    from codomyrmex.logistics.orchestration.project.step_cache import StepCaching

    part, force = asked
    workflow = prepared.workflow
    partial: PartialRun | None = None
    known = {}
    if part:
        partial = plan_part(database, prepared.document, workflow, part)
        workflow = partial.workflow
        known = known_results(database, partial) if database is not None else {}
    results = ResultFiles(workspace.state / "artifacts" / "results")
    caching = StepCaching(
        database=database, results=results, now_us=SystemClock().now_us, python=settings.worker_python
    )
    run = _imagined_run(workspace, definition, prepared, workflow, force=force)
    run.whole_output = results.get
    left_out = frozenset(partial.left_out) if partial is not None else frozenset()
    verdicts = [each for each in Forecast(run, caching, known=known).verdicts() if each.step not in left_out]
    plan = _plan(prepared, workflow, left_out)
    plan["steps"] = [verdict.to_dict() for verdict in verdicts]
    return DryRun(plan=plan, verdicts=verdicts, note=partial.note() if partial is not None else None)


def _imagined_run(
    workspace: Workspace,
    definition: Definition,
    prepared: Prepared,
    workflow: CompiledWorkflow,
    *,
    force: bool,
) -> RunState:
    """The run as it would begin; nobody stores it."""
    import os

    from codomyrmex.logistics.orchestration.project.actions.places import roots
    from codomyrmex.logistics.orchestration.project.run_state import RunOptions, RunState

    options = RunOptions(
        root=str(workspace.root),
        roots=roots(workspace.root, definition.file),
        file=str(definition.file) if definition.file is not None else None,
        force=force,
        environment=dict(os.environ),
    )
    return RunState(
        number=0, id="dry-run", workflow=workflow, parameters=prepared.parameters, options=options
    )


def _plan(prepared: Prepared, workflow: CompiledWorkflow, left_out: frozenset[str]) -> dict[str, Any]:
    """What a run would do: its parameters and its steps, those of one level side by side."""
    from codomyrmex.logistics.orchestration.project.states import RunPhase

    names = workflow.names
    main = {step for step in range(workflow.main_count) if names[step] not in left_out}
    levels = [[names[step] for step in level if step in main] for level in workflow.graph.levels()]
    return {
        "workflow": workflow.name,
        "parameters": from_tagged(prepared.parameters, classes=False),
        "levels": [level for level in levels if level],
        "fan_outs": [names[step] for step in workflow.fan_outs if step in main],
        "handlers": {
            phase.value: [names[step] for step in workflow.phase_steps(phase)]
            for phase in list(RunPhase)[1:]
            if workflow.phase_steps(phase)
        },
        "warnings": list(prepared.warnings),
    }


_WHEN = {
    "compensating": "after a failure or a cancel, the last first, as far as they completed",
    "on_failure": "after a failure",
    "finally": "at the end, however it went",
}


def plan_lines(terminal: Terminal, plan: Mapping[str, Any]) -> list[str]:
    """The plan as text, a line for each level."""
    steps = sum(len(level) for level in plan["levels"])
    lines = [f"{terminal.paint(plan['workflow'], 'bold')}: {count_text(steps, 'step')}, nothing was run"]
    if plan["parameters"]:
        lines += ["", terminal.paint("parameters", "bold"), *mapping_lines(terminal, plan["parameters"])]
    lines += ["", terminal.paint("order", "bold")]
    fan_outs = set(plan["fan_outs"])
    for number, level in enumerate(plan["levels"], 1):
        shown = [f"{name} (for each)" if name in fan_outs else name for name in level[:MOST_NAMES]]
        more = f" and {len(level) - MOST_NAMES:,} more" if len(level) > MOST_NAMES else ""
        lines.append(f"  {number}  {', '.join(shown)}{more}")
    for phase, names in plan.get("handlers", {}).items():
        more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
        lines += ["", terminal.paint(_WHEN[phase], "bold"), f"  {', '.join(names[:MOST_NAMES])}{more}"]
    return lines


def dry_run_lines(terminal: Terminal, found: DryRun, *, why: bool) -> list[str]:
    """The plan, then a table of verdicts where they say more than that everything would run."""
    lines = plan_lines(terminal, found.plan)
    verdicts = found.verdicts
    if not why and all(each.verdict == "would run" and each.item_count is None for each in verdicts):
        return lines
    columns = [Column("STEP", shrink_to=12), Column("VERDICT", shrink_to=16)]
    columns += [Column("WHY", shrink_to=24)] if why else []
    rows = [_row(each, why=why) for each in verdicts[:MOST_ROWS]]
    lines += ["", *table_lines(terminal, columns, rows)]
    if len(verdicts) > MOST_ROWS:
        rest = Counter(each.verdict for each in verdicts[MOST_ROWS:])
        told = ", ".join(f"{count:,} {verdict}" for verdict, count in rest.items())
        lines.append(f"  and {len(verdicts) - MOST_ROWS:,} more: {told} (--json lists all)")
    return lines


def _row(verdict: Verdict, *, why: bool) -> list[Cell | str]:
    row: list[Cell | str] = [verdict.step, Cell(str(verdict), _STYLES.get(verdict.verdict, ""))]
    return [*row, verdict.why or ""] if why else row
