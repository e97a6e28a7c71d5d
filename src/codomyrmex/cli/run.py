"""`codomyrmex run`: checks a workflow, runs it here, and tells how it went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.cli.names import complete_workflows
from codomyrmex.cli.parameter_options import given_parameters, with_lists
from codomyrmex.settings import Settings
from codomyrmex.workspace import Workspace

_LEVELS = ("process", "barrier", "power")


class Duration(click.ParamType[float]):
    """`90`, `90s`, `10m`, `1h30m`: seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds of a text."""
        from codomyrmex.logistics.orchestration.project.amounts import read_duration_s

        try:
            return read_duration_s(value)
        except ValueError:
            self.fail(f"{value!r} is no duration such as 90s, 10m or 1h30m", param, ctx)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wanted:
    """The options of one `run`."""

    what: str | None
    words: tuple[str, ...]
    params_file: str | None
    max_parallel: int | None
    timeout_s: float | None
    durability: str | None
    dry_run: bool

    @property
    def again(self) -> tuple[str, ...]:
        """The words that ask for the same once more."""
        words = [part for word in self.words for part in ("-p", word)]
        words += ["--params", self.params_file] if self.params_file is not None else []
        return ("run", *([self.what] if self.what is not None else []), *words)


@click.command(cls=Command)
@click.argument("what", metavar="[FILE|NAME]", required=False, shell_complete=complete_workflows)
@click.option(
    "-p", "words", metavar="NAME=VALUE", multiple=True, help="A parameter; also NAME=@FILE, NAME:=JSON."
)
@click.option("--params", "params_file", metavar="FILE", help="Parameters of a JSON, YAML or TOML file.")
@click.option(
    "--max-parallel", type=click.IntRange(min=1), metavar="N", help="At most N of its tasks at once."
)
@click.option("--timeout", "timeout_s", type=Duration(), metavar="T", help="Cancel it after 90s, 10m, 1h30m.")
@click.option("--durability", type=click.Choice(_LEVELS), metavar="LEVEL", help="process, barrier or power.")
@click.option("--dry-run", is_flag=True, help="Check everything and show what would run.")
@pass_invocation
def run(invocation: Invocation, /, **options: Any) -> int:
    """Run a workflow file, or a workflow by its name.

    Left out, it is codomyrmex.yaml of this project. A parameter is read by its declared type; given more
    than once it is a list. Ctrl-C cancels the run, a second one kills it. After a crash or a kill
    `codomyrmex resume` goes on where it was.
    """
    from codomyrmex.cli.workflow_search import default_file, definition_of, named_file, plan_lines, plan_of

    wanted = _Wanted(**options)
    given = given_parameters(wanted.words, wanted.params_file)
    workspace = invocation.workspace(named_file(wanted.what))
    settings = invocation.settings(workspace, {"durability": wanted.durability})
    what = wanted.what or default_file(workspace)
    if given or wanted.dry_run or not workspace.exists:
        # A mistake is found before the first state folder is made.
        definition = definition_of(workspace, settings, what)
        given = with_lists(given, definition.document.get("parameters", {}))
        if wanted.dry_run or not workspace.exists:
            plan = plan_of(workspace, settings, definition, given)
        if wanted.dry_run:
            invocation.output.answer(plan, plan_lines(invocation.output.out, plan))
            return 0
    return _hosted(invocation, workspace, settings, wanted, (what, given))


def _hosted(
    invocation: Invocation,
    workspace: Workspace,
    settings: Settings,
    wanted: _Wanted,
    work: tuple[str, Mapping[str, Any]],
) -> int:
    from codomyrmex.cli.failure_blocks import Next
    from codomyrmex.cli.hosting import open_engine, see_through, tell_outcome
    from codomyrmex.cli.run_news import HostedRun
    from codomyrmex.cli.workflow_search import named_file

    what, given = work
    with open_engine(workspace, settings) as engine:
        source = HostedRun(engine, streams=invocation.verbose > 0)
        execution = engine.workflows.start_workflow(
            what, given, caller_dir=Path.cwd(), max_parallel=wanted.max_parallel
        )
        source.run_id = execution.execution_id
        ended, code = see_through(invocation, engine, source, timeout_s=wanted.timeout_s)
        again = Next(wanted.again, "runs it again", named_file(wanted.what))
        tell_outcome(invocation, workspace, engine.reader, ended, code, again=again)
    return code
