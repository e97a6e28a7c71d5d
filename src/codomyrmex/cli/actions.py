"""`codomyrmex actions`: what a step can call."""

from __future__ import annotations

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.cli.terminal import Terminal
from codomyrmex.cli.text_table import Cell, Column, Row, table_lines
from codomyrmex.cli.workflow_search import catalogue_of
from codomyrmex.logistics.orchestration.project.actions.description import (
    ActionDescription,
    ParameterDescription,
)


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
    facts = [("from", action.origin.value), ("file", where)]
    facts += [(name, str(value)) for name, value in declared.items() if value is not None]
    lines += [f"  {terminal.paint(name.ljust(9), 'dim')} {text}" for name, text in facts if text]
    if action.parameters:
        columns = [Column("PARAMETER"), Column("TYPE", shrink_to=12), Column("DEFAULT", shrink_to=10)]
        lines += ["", *table_lines(terminal, columns, [_parameter_row(each) for each in action.parameters])]
    if action.accepts_any and action.is_known:
        lines.append("  and any other parameter")
    elif not action.is_known:
        lines += ["", "what it takes is only known when it runs"]
    return lines


def _parameter_row(parameter: ParameterDescription) -> Row:
    default = Cell("(must be given)", "yellow") if parameter.required else parameter.default or ""
    return [parameter.name, parameter.annotation or parameter.json_type or "", default]
