"""`codomyrmex init`: a first workflow that runs at once, and the actions that it calls."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.exceptions import Conflict

# What is written, and the file of `first_workflow` that it is a copy of.
_FILES = {"codomyrmex.yaml": "codomyrmex.yaml", "actions.py": "actions.py.j2"}


@click.command(cls=Command)
@click.argument("folder", metavar="[DIR]", default=".")
@pass_invocation
def init(invocation: Invocation, folder: str) -> None:
    """Write a small workflow that runs at once.

    Makes codomyrmex.yaml and actions.py in DIR (the current folder when left out). Nothing that is
    there already is changed.
    """
    target = Path(folder).resolve()
    taken = [name for name in _FILES if (target / name).exists()]
    if taken:
        raise Conflict(
            f"{' and '.join(taken)} {'are' if len(taken) > 1 else 'is'} there already in {target}",
            hint="codomyrmex init DIR writes into another folder",
        )
    target.mkdir(parents=True, exist_ok=True)
    templates = Path(__file__).with_name("first_workflow")
    for name, template in _FILES.items():
        (target / name).write_text((templates / template).read_text(encoding="utf-8"), encoding="utf-8")
    following = [invocation.command(invocation.workspace(target / "codomyrmex.yaml"), "run")]
    if target != invocation.started_in:
        following = [shlex.join(["cd", str(target)]), "codomyrmex run"]
    created = [str(target / name) for name in _FILES]
    paint = invocation.output.out.paint
    lines = [f"wrote {path}" for path in created]
    lines += ["", "next", *(f"  {paint(line, 'bold')}" for line in following)]
    invocation.output.answer({"created": created, "next": following}, lines)
