"""`codomyrmex config show`: every setting, its value, and with --origin the place that decided it."""

from __future__ import annotations

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.cli.text_table import Cell, Column, Row, table_lines
from codomyrmex.settings import Setting, Value


@click.command(cls=Command)
@click.option("--origin", is_flag=True, help="Also show where each value comes from.")
@pass_invocation
def show(invocation: Invocation, origin: bool) -> None:
    """Show the settings that hold here.

    The first place that has a value wins: an option on the line, a CODOMYRMEX_* variable,
    .codomyrmex/config.toml, [tool.codomyrmex] in pyproject.toml, the user's own config.toml, the default.
    """
    workspace = invocation.workspace()
    settings = list(invocation.settings(workspace))
    data = {
        "root": {"value": str(workspace.root), "origin": workspace.root_evidence},
        "state": {"value": str(workspace.state), "origin": workspace.state_evidence},
        "settings": [
            {"name": each.kind.name, "value": each.value, "origin": each.origin, "about": each.kind.about}
            for each in settings
        ],
    }
    rows: list[Row] = [
        ["root", str(workspace.root), workspace.root_evidence],
        ["state", str(workspace.state), workspace.state_evidence],
    ]
    for each in settings:
        rows.append([each.kind.name, _value_cell(each), each.origin])
    columns = [Column("SETTING"), Column("VALUE", shrink_to=20), Column("ORIGIN", shrink_to=16)]
    shown = 3 if origin else 2
    lines = table_lines(invocation.output.out, columns[:shown], [row[:shown] for row in rows])
    invocation.output.answer(data, lines)


def _value_cell(setting: Setting) -> Cell:
    return Cell(_value_text(setting.value), "dim" if setting.origin == "default" else "")


def _value_text(value: Value) -> str:
    if value is None:
        return "(unset)"
    if isinstance(value, tuple):
        return ", ".join(value) or "(none)"
    return str(value)
