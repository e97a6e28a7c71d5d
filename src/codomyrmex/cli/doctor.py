"""`codomyrmex doctor`: whether runs can work here, and what to do where they cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.health_checks import Check, all_checks
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.cli.terminal import Terminal

_LOOKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "bold red")}


@click.command(cls=Command)
@pass_invocation
def doctor(invocation: Invocation) -> int:
    """Check this machine and this project.

    Ends with 1 when something would keep runs from working, else with 0.
    """
    checks = list(all_checks(invocation.workspace()))
    failed = [check.name for check in checks if check.verdict == "fail"]
    data = {"healthy": not failed, "checks": [asdict(check) for check in checks]}
    output = invocation.output
    lines = check_lines(output.out, checks)
    if not failed:
        output.answer(data, lines)
        return 0
    output.failed(data, lines, code="unhealthy", message=f"not in order: {', '.join(failed)}")
    return 1


def check_lines(terminal: Terminal, checks: Sequence[Check]) -> list[str]:
    """One line for each check, its advice under it."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        sign, style = _LOOKS[check.verdict]
        mark = terminal.paint(sign if terminal.unicode else check.verdict.ljust(4), style)
        lines.append(f"{mark} {check.name.ljust(width)}  {check.found}")
        if check.advice:
            lines.append(f"{' ' * (width + 4)}{check.advice}")
    return lines
