"""`codomyrmex workflows`: the definitions of a project, looked at without running anything."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.figures import count_text, duration_text
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.cli.names import complete_workflows
from codomyrmex.cli.run_text import value_text
from codomyrmex.cli.terminal import Terminal, one_line, shorten
from codomyrmex.cli.text_table import Cell, Column, Row, table_lines
from codomyrmex.cli.workflow_search import (
    default_file,
    definition_of,
    faults_of,
    finder_of,
    named_file,
)
from codomyrmex.logistics.orchestration.project.definition_finder import FoundDefinition
from codomyrmex.logistics.orchestration.project.workflow_preparation import Definition

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.workflow_diagram import Looks

_FACTS = {
    "foreach": "for each {}",
    "run_if": "if {}",
    "trigger_rule": "{}",
    "isolation": "{}",
    "priority": "{} priority",
    "max_parallel": "{} at once",
}


@click.command("list", cls=Command)
@pass_invocation
def list_workflows(invocation: Invocation) -> None:
    """List the workflow files of this project.

    Looks at codomyrmex.yaml (.toml, .json), everything in workflows/, config/workflows/production/*.json
    and what the setting workflows.paths names.
    """
    workspace = invocation.workspace()
    finder = finder_of(workspace, invocation.settings(workspace))
    found = finder.all()
    rows: list[Row] = [
        [each["name"], str(each["steps"] or ""), str(finder.shown(Path(each["file"]))), _about_cell(each)]
        for each in map(_listed, found)
    ]
    data = {"workflows": [_listed(each) for each in found], "next_cursor": None, "total": len(found)}
    columns = [
        Column("WORKFLOW"),
        Column("STEPS", right=True),
        Column("FILE", shrink_to=16),
        Column("ABOUT", shrink_to=12),
    ]
    output = invocation.output
    output.answer(data, table_lines(output.out, columns, rows) if rows else [])
    if not found:
        output.note(f"no workflow files in {workspace.root}; codomyrmex init makes one")


@click.command(cls=Command)
@click.argument("what", metavar="[FILE|NAME]", required=False, shell_complete=complete_workflows)
@pass_invocation
def show(invocation: Invocation, what: str | None) -> None:
    """Show one workflow: its parameters, steps and outputs."""
    definition = _definition(invocation, what)
    document = definition.document
    file = str(definition.file) if definition.file is not None else None
    lines = document_lines(invocation.output.out, document, file)
    invocation.output.answer({"name": document["name"], "file": file, "definition": document}, lines)


@click.command(cls=Command)
@click.argument("names", metavar="[FILE|NAME]...", nargs=-1, shell_complete=complete_workflows)
@pass_invocation
def validate(invocation: Invocation, names: tuple[str, ...]) -> int:
    """Check workflows and list every fault; nothing is run.

    Without a name all workflow files of the project are checked. Ends with 2 when there is a fault.
    """
    output = invocation.output
    checked: dict[str, list[Any]] = {}
    for name in names or _all_files(invocation):
        workspace = invocation.workspace(named_file(name))
        checked[name] = faults_of(workspace, invocation.settings(workspace), name, warn=output.warn)
    rows = [
        {"workflow": name, "faults": [fault.to_dict() for fault in found]} for name, found in checked.items()
    ]
    data = {"workflows": rows, "next_cursor": None, "total": len(rows)}
    lines = [line for name, found in checked.items() for line in fault_lines(output.out, name, found)]
    count = sum(map(len, checked.values()))
    if count:
        message = (
            f"{count_text(count, 'fault')} in {count_text(sum(map(bool, checked.values())), 'workflow')}"
        )
        output.failed(data, lines, code="validation", message=message)
        return 2
    output.answer(data, lines)
    if not checked:
        output.note("no workflow files here; codomyrmex init makes one")
    return 0


@click.command(cls=Command)
@click.argument("what", metavar="[FILE|NAME]", required=False, shell_complete=complete_workflows)
@click.option("--form", type=click.Choice(("mermaid", "dot", "levels")), default="mermaid", show_default=True,
              help="Mermaid (GitHub draws it), Graphviz, or what may run side by side.")  # fmt: skip
@pass_invocation
def graph(invocation: Invocation, what: str | None, form: str) -> None:
    """Draw the graph of a workflow as text."""
    from codomyrmex.logistics.orchestration.project.compiled_workflow import CompileFaults
    from codomyrmex.logistics.orchestration.project.workflow_compiler import compile_workflow
    from codomyrmex.logistics.orchestration.project.workflow_diagram import Looks, dot, mermaid

    definition = _definition(invocation, what)
    try:
        compiled = compile_workflow(definition.document)
    except CompileFaults as faults:
        raise definition.refuse(list(faults.found)) from None
    drawn = compiled.graph
    looks = Looks.of_document(definition.document)
    phases = _levels([[compiled.names[step] for step in level] for level in drawn.levels()], looks)
    levels = phases.pop("steps")
    if form == "levels":
        text = "\n".join(_level_lines("", levels))
        text = "\n".join([text, *(line for key, each in phases.items() for line in _level_lines(key, each))])
    else:
        text = (mermaid if form == "mermaid" else dot)(drawn, looks).rstrip("\n")
    data = {
        "name": definition.document["name"],
        "levels": levels,
        "handlers": phases,
        "compensations": dict(looks.undone),
        "edges": [[compiled.names[first], compiled.names[then]] for first, then in drawn.edges()],
        "text": text,
    }
    invocation.output.answer(data, [text])


@click.command(cls=Command)
@pass_invocation
def schema(invocation: Invocation) -> None:
    """Print the JSON Schema of workflow files, for editors and for agents."""
    import json

    from codomyrmex.logistics.orchestration.project.workflow_schema import schema as workflow_schema

    found = workflow_schema()
    invocation.output.answer(found, [json.dumps(found, indent=2, ensure_ascii=False)])


def _levels(levels: Sequence[Sequence[str]], looks: Looks) -> dict[str, list[list[str]]]:
    """What may run side by side, of the steps and of each list of handlers; compensations run one by one."""
    group_of = {name: key for key, names in looks.groups.items() for name in names}
    undoing = set(looks.undone.values())
    found: dict[str, list[list[str]]] = {"steps": [], **{key: [] for key in looks.groups}}
    for level in levels:
        here: dict[str, list[str]] = {}
        for name in level:
            if name not in undoing:
                here.setdefault(group_of.get(name, "steps"), []).append(name)
        for key, names in here.items():
            found[key].append(names)
    return found


def _level_lines(key: str, levels: Sequence[Sequence[str]]) -> list[str]:
    head = f"{key} " if key else ""
    return [f"{head}{number}  {', '.join(level)}" for number, level in enumerate(levels, 1)]


def document_lines(terminal: Terminal, document: Mapping[str, Any], file: str | None) -> list[str]:
    """A definition for reading."""
    head = terminal.paint(one_line(document["name"]), "bold")
    about = one_line(document.get("description", ""))
    lines = [f"{head}  {about}" if about else head]
    if file is not None:
        lines.append(terminal.paint(f"  {file}", "dim"))
    width = terminal.width or _UNFITTED
    lines += [
        terminal.paint(shorten(f"  {fact}", width, unicode=terminal.unicode), "dim")
        for fact in _run_facts(document)
    ]
    parameters = document.get("parameters", {})
    if parameters:
        columns = [
            Column("PARAMETER"),
            Column("TYPE"),
            Column("DEFAULT", shrink_to=10),
            Column("ABOUT", shrink_to=12),
        ]
        rows: list[Row] = [
            [
                name,
                declared["type"],
                value_text(declared["default"])
                if "default" in declared
                else Cell("(must be given)", "yellow"),
                Cell(declared.get("description", ""), "dim"),
            ]
            for name, declared in parameters.items()
        ]
        lines += ["", *table_lines(terminal, columns, rows)]
    for key, title in _LISTS:
        if document.get(key):
            columns = [
                Column(title),
                Column("ACTION", shrink_to=16),
                Column("NEEDS", shrink_to=10),
                Column("HOW", shrink_to=12),
            ]
            lines += ["", *table_lines(terminal, columns, [_step_row(step) for step in document[key]])]
    if document.get("outputs"):
        lines += ["", terminal.paint("outputs", "bold"), *(f"  {name}" for name in document["outputs"])]
    return lines


def fault_lines(terminal: Terminal, name: str, faults: Sequence[Any]) -> list[str]:
    """A tick, or every fault."""
    if not faults:
        mark = "✓" if terminal.unicode else "ok"
        return [f"{terminal.paint(mark, 'green')} {name}"]
    mark = "✗" if terminal.unicode else "faults in"
    return [f"{terminal.paint(mark, 'bold red')} {name}", *(f"  {fault}" for fault in faults)]


def _listed(found: FoundDefinition) -> dict[str, Any]:
    document = found.loaded.document if found.loaded is not None else {}
    return {
        "name": found.name,
        "file": str(found.file),
        "steps": len(document.get("steps", ())),
        "description": document.get("description", ""),
        "faults": [fault.to_dict() for fault in found.faults],
    }


def _about_cell(listed: Mapping[str, Any]) -> Cell:
    faults = len(listed["faults"])
    return Cell(count_text(faults, "fault"), "red") if faults else Cell(listed["description"], "dim")


_UNFITTED = 1000
_LISTS = (("steps", "STEP"), ("on_failure", "WHEN IT FAILS"), ("finally", "AT THE END"))


def _run_facts(document: Mapping[str, Any]) -> list[str]:
    """What holds for a run as a whole."""
    facts: list[str] = []
    if "timeout_s" in document:
        facts.append(f"at most {duration_text(document['timeout_s'])}")
    if "concurrency" in document:
        policy = document["concurrency"].get("policy", "queue")
        facts.append(f"one at a time of {one_line(document['concurrency']['key'])} ({_POLICIES[policy]})")
    labels = document.get("labels", {})
    if labels:
        facts.append(" ".join(f"{one_line(name)}={one_line(text)}" for name, text in labels.items()))
    return facts


_POLICIES = {
    "queue": "a later one waits",
    "skip": "a later one does not begin",
    "cancel_old": "a later one cancels it",
}
_ITEM_FAILURES = {"stop": "stops at a failed item", "continue": "failed items give null"}


def _step_row(step: Mapping[str, Any]) -> Row:
    facts = [text.format(value_text(step[name])) for name, text in _FACTS.items() if name in step]
    if "timeout_s" in step:
        facts.append(f"at most {duration_text(step['timeout_s'])}")
    if "on_item_failure" in step:
        facts.append(_ITEM_FAILURES[step["on_item_failure"]])
    if "retry" in step:
        facts.append(f"{step['retry']['max_attempts']} tries")
    if "cache" in step:
        facts.append("cached")
    if not step.get("required", True):
        facts.append("may fail")
    facts += _waiting_facts(step)
    if "compensate" in step:
        facts.append(f"undone by {_action_text(step['compensate'])}")
    return [
        step["name"],
        _action_text(step),
        ", ".join(step.get("dependencies", ())),
        Cell(", ".join(facts), "dim"),
    ]


def _action_text(step: Mapping[str, Any]) -> str:
    """What a step does: its action, or what it waits for."""
    if "workflow" in step:
        return f"workflow {step['workflow']}"
    if "approval" in step:
        return f"approval: {step['approval']['message']}"
    if "wait_for" in step:
        return f"signal {step['wait_for']['signal']}"
    if "sleep" in step:
        pause = step["sleep"]
        return f"sleep {pause if isinstance(pause, str) else duration_text(pause)}"
    return f"{step['module']}:{step['action']}"


def _waiting_facts(step: Mapping[str, Any]) -> list[str]:
    """Who answers an approval, and how long it or a signal is waited for."""
    waits = step.get("approval") or step.get("wait_for") or {}
    facts = [f"asks {', '.join(waits['who'])}"] if "who" in waits else []
    if "timeout_s" in waits:
        default = f", then {value_text(waits['default'])}" if "default" in waits else ""
        facts.append(f"waits {duration_text(waits['timeout_s'])}{default}")
    return facts


def _definition(invocation: Invocation, what: str | None) -> Definition:
    workspace = invocation.workspace(named_file(what))
    return definition_of(workspace, invocation.settings(workspace), what or default_file(workspace))


def _all_files(invocation: Invocation) -> list[str]:
    workspace = invocation.workspace()
    found = finder_of(workspace, invocation.settings(workspace)).all()
    return [os.path.relpath(each.file) for each in found]
