"""`codomyrmex actions`: what a step can call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.cli.terminal import Terminal, one_line
from codomyrmex.cli.text_table import Cell, Column, Row, table_lines
from codomyrmex.cli.workflow_search import catalogue_of
from codomyrmex.logistics.orchestration.project.actions.annotation_trees import bare_text
from codomyrmex.logistics.orchestration.project.actions.description import (
    ActionDescription,
    ParameterDescription,
)
from codomyrmex.logistics.orchestration.project.actions.parameter_schema import type_text

UNLIMITED = 400


@click.command("list", cls=Command)
@pass_invocation
def list_actions(invocation: Invocation) -> None:
    """List the actions that there are to choose from.

    Built-ins, what the project declares with @action, and what the setting actions.modules and installed
    packages offer. Any other function of the project can be called too: call: "module:function".
    """
    workspace = invocation.workspace()
    found = catalogue_of(workspace, invocation.settings(workspace)).list()
    columns = [Column("ACTION"), Column("ABOUT", shrink_to=14), Column("FROM")]
    rows: list[Row] = [[each.name, each.summary, Cell(each.origin.value, "dim")] for each in found]
    data = {"actions": [each.to_dict() for each in found], "next_cursor": None, "total": len(found)}
    invocation.output.answer(data, table_lines(invocation.output.out, columns, rows))


@click.command(cls=Command)
@click.argument("action", metavar="ACTION")
@pass_invocation
def show(invocation: Invocation, action: str) -> None:
    """Show one action: what it takes, what it declares, where it is.

    With --json also the JSON Schema of its parameters.

    ACTION is written as after `call:`: shell.run, mypkg.parse:parse, ./actions.py:count_words.
    """
    from codomyrmex.logistics.orchestration.project.workflow_document import split_call

    workspace = invocation.workspace()
    named = split_call(action)
    if named is None:
        raise click.UsageError(f"{action!r} is no action; write module:function, or shell.run")
    catalogue = catalogue_of(workspace, invocation.settings(workspace))
    found = catalogue.find(*named)
    invocation.output.answer(found.to_dict(), action_lines(invocation.output.out, found))
    for warning in catalogue.warnings:
        invocation.output.warn(warning)


def action_lines(terminal: Terminal, action: ActionDescription) -> list[str]:
    """An action for reading."""
    head = terminal.paint(action.name, "bold")
    lines = [f"{head}  {action.summary}" if action.summary else head]
    where = f"{action.file}:{action.line}" if action.file and action.line else action.file or ""
    declared = {"effects": action.effects, "isolation": action.isolation, "timeout": action.timeout_s}
    facts = [("from", action.origin.value), ("file", where), ("returns", action.returns or "")]
    facts += [(name, str(value)) for name, value in declared.items() if value is not None]
    lines += [f"  {terminal.paint(name.ljust(9), 'dim')} {text}" for name, text in facts if text]
    if action.parameters:
        schema = action.schema
        lines += ["", *_parameter_lines(terminal, action, schema["properties"])]
        for name, record in schema.get("$defs", {}).items():
            lines += ["", *_record_lines(terminal, name, record)]
    if action.accepts_any and action.is_known:
        lines.append("  and any other parameter")
    elif not action.is_known:
        lines += ["", "what it takes is only known when it runs"]
    return lines


def _parameter_lines(
    terminal: Terminal, action: ActionDescription, properties: Mapping[str, Any]
) -> Iterator[str]:
    """The table of parameters; what is said of one follows below it."""
    columns = [Column("PARAMETER"), Column("TYPE", shrink_to=12), Column("DEFAULT", shrink_to=10)]
    rows = [_parameter_row(each, properties.get(each.name, {})) for each in action.parameters]
    head, *lines = table_lines(terminal, columns, rows)
    yield head
    for each, line in zip(action.parameters, lines, strict=True):
        yield line
        said = properties.get(each.name, {}).get("description", "")
        for part in wrap(one_line(said), (terminal.width or UNLIMITED) - 4) if said else ():
            yield f"    {terminal.paint(part, 'dim')}"


def _record_lines(terminal: Terminal, name: str, record: Mapping[str, Any]) -> Iterator[str]:
    """The fields of a record that a parameter takes."""
    said = record.get("description", "")
    yield terminal.paint(name, "bold") + (f"  {one_line(said)}" if said else "")
    rows: list[Row] = [
        [
            f"  {field}",
            type_text(kind),
            Cell("(must be given)", "yellow") if field in record["required"] else "",
        ]
        for field, kind in record["properties"].items()
    ]
    if rows:
        yield from table_lines(terminal, [Column("  FIELD"), Column("TYPE", shrink_to=12), Column("")], rows)


def _parameter_row(parameter: ParameterDescription, schema: Mapping[str, Any]) -> Row:
    default = Cell("(must be given)", "yellow") if parameter.required else parameter.default or ""
    kind = type_text(schema) if "enum" in schema else bare_text(parameter.annotation or "")
    return [parameter.name, kind, default]
