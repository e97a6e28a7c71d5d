"""Asking at a terminal for the fields of a form that an answer still needs, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from codomyrmex.cli.answer_form import field_text, fields_of, kinds_of, missing_fields, read_value
from codomyrmex.cli.terminal import Terminal, one_line


def ask_missing(terminal: Terminal, form: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """The data with a value for every required field; asks again where one does not fit its field."""
    filled = dict(data)
    fields = fields_of(form)
    for name in missing_fields(form, data):
        filled[name] = _asked(terminal, name, fields.get(name, {}))
    return filled


def _asked(terminal: Terminal, name: str, field: Mapping[str, Any]) -> Any:
    from codomyrmex.logistics.orchestration.project.approvals import form_faults

    while True:
        default = field.get("default")
        text = click.prompt(
            f"  {one_line(field_text(name, field))}",
            default="" if default is None else str(default),
            show_default=default is not None,
            err=True,
        )
        value = _listed(field, text)
        faults = form_faults({"properties": {name: dict(field)}}, {name: value})
        if not faults:
            return value
        for fault in faults:
            terminal.line(f"  {terminal.paint(one_line(fault.message), 'red')}")
        terminal.flush()


def _listed(field: Mapping[str, Any], text: str) -> Any:
    """A line with several entries is a list where the field is one."""
    if "array" in kinds_of(field) and not text.lstrip().startswith("["):
        return read_value(field, [part.strip() for part in text.split(",") if part.strip()])
    return read_value(field, text)
