"""`codomyrmex run`: checks a workflow, runs it here, and tells how it went."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.cli.names import complete_workflows
from codomyrmex.cli.parameter_options import given_parameters, with_lists
from codomyrmex.settings import Settings
from codomyrmex.workspace import Workspace

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
    from codomyrmex.logistics.orchestration.project.run_selection import Part
    from codomyrmex.logistics.orchestration.project.workflow_preparation import Definition

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
    only: tuple[str, ...]
    until: tuple[str, ...]
    from_steps: tuple[str, ...]
    force: bool
    follow_plan: bool
    dry_run: bool
    why: bool

    @property
    def again(self) -> tuple[str, ...]:
        """The words that ask for the same once more."""
        words = list(self.subject)
        for option, steps in (("--only", self.only), ("--until", self.until), ("--from", self.from_steps)):
            words += [part for step in steps for part in (option, step)]
        words += ["--force"] if self.force else []
        words += ["--follow-plan"] if self.follow_plan else []
        return ("run", *words)

    @property
    def subject(self) -> tuple[str, ...]:
        """The words that say what is run, with which parameters."""
        words = [] if self.what is None else [self.what]
        words += [part for word in self.words for part in ("-p", word)]
        words += ["--params", self.params_file] if self.params_file is not None else []
        return tuple(words)

    @property
    def part(self) -> Part:
        """The part of the workflow that is asked for."""
        from codomyrmex.logistics.orchestration.project.run_selection import Part

        return Part(only=self.only, until=self.until, from_steps=self.from_steps)

    @property
    def is_special(self) -> bool:
        """Whether something other than the whole, as it is kept, is asked for."""
        return self.is_part or self.force

    @property
    def is_part(self) -> bool:
        """Whether only some of its steps are asked for."""
        return bool(self.only or self.until or self.from_steps)

    @property
    def planning(self) -> str:
        """The command that makes a plan to follow."""
        return shlex.join(("codomyrmex", "workflows", "plan", *self.subject, "--optimise"))

    def check(self) -> None:
        """Raises `click.UsageError` for options that do not go together."""
        if self.why and not self.dry_run:
            raise click.UsageError("--why goes with --dry-run")
        if self.follow_plan and self.is_part:
            raise click.UsageError("--follow-plan goes with a whole workflow: a part of it has no plan")
        if self.follow_plan and self.dry_run:
            raise click.UsageError("--follow-plan goes with a run: see `codomyrmex workflows plan`")
        if self.what == "-" and (self.params_file == "-" or any(word.endswith("=@-") for word in self.words)):
            raise click.UsageError("stdin is the workflow already: give parameters another way")


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
@click.option(
    "--only", metavar="STEP", multiple=True, help="Run this step alone, on results of earlier runs."
)
@click.option("--until", metavar="STEP", multiple=True, help="Run this step and all that it needs.")
@click.option(
    "--from", "from_steps", metavar="STEP", multiple=True, help="Run this step and all that depends on it."
)
@click.option("--force", is_flag=True, help="Run also what the cache has.")
@click.option(
    "--follow-plan", is_flag=True, help="Start its tasks in the order of `workflows plan --optimise`."
)
@click.option("--dry-run", is_flag=True, help="Check everything and show what would run.")
@click.option("--why", is_flag=True, help="With --dry-run: the first thing that has changed for each step.")
@pass_invocation
def run(invocation: Invocation, /, **options: Any) -> int:
    """Run a workflow file, or a workflow by its name.

    Left out, it is codomyrmex.yaml of this project; `-` is a workflow on stdin. A parameter is read by its
    declared type; given more than once it is a list. Ctrl-C cancels the run, a second one kills it. After a
    crash or a kill `codomyrmex resume` goes on where it was.
    """
    from codomyrmex.cli.workflow_search import default_file, definition_of, definition_on_stdin, named_file

    wanted = _Wanted(**options)
    wanted.check()
    given = given_parameters(wanted.words, wanted.params_file)
    workspace = invocation.workspace(named_file(wanted.what))
    settings = invocation.settings(workspace, {"durability": wanted.durability})
    what: str | Definition = wanted.what or default_file(workspace)
    if given or wanted.dry_run or wanted.is_special or what == "-" or not workspace.exists:
        # A mistake is found before the first state folder is made.
        definition = definition_on_stdin() if what == "-" else definition_of(workspace, settings, str(what))
        given = with_lists(given, definition.document.get("parameters", {}))
        if wanted.dry_run or wanted.is_special or not workspace.exists:
            from codomyrmex.cli.dry_run import checked, dry_run, dry_run_lines

            if wanted.dry_run:
                found = dry_run(workspace, settings, definition, given, part=wanted.part, force=wanted.force)
                _tell_note(invocation, found.note)
                lines = dry_run_lines(invocation.output.out, found, why=wanted.why)
                invocation.output.answer(found.plan, lines)
                return 0
            _tell_note(invocation, checked(workspace, settings, definition, given, part=wanted.part))
            if wanted.follow_plan and not workspace.exists:
                from codomyrmex.logistics.orchestration.project.plan_store import PlanMissing

                name = definition.document["name"]
                raise PlanMissing(name, "nothing was ever planned here", command=wanted.planning)
        what = definition if what == "-" or wanted.is_special else what
    return _hosted(invocation, workspace, settings, wanted, (what, given))


def _tell_note(invocation: Invocation, note: str | None) -> None:
    if note is not None:
        invocation.output.note(note)


def _hosted(
    invocation: Invocation,
    workspace: Workspace,
    settings: Settings,
    wanted: _Wanted,
    work: tuple[str | Definition, Mapping[str, Any]],
) -> int:
    from codomyrmex.cli.failure_blocks import Next
    from codomyrmex.cli.hosting import open_engine, see_through, tell_outcome
    from codomyrmex.cli.run_news import HostedRun
    from codomyrmex.cli.workflow_search import named_file

    what, given = work
    with open_engine(workspace, settings) as engine:
        source = HostedRun(engine, streams=invocation.verbose > 0)
        if wanted.follow_plan:
            source.run_id = _start_following(invocation, engine, what, given, wanted)
        elif wanted.is_special:
            source.run_id = _start_part(engine, what, given, wanted)
        else:
            source.run_id = engine.workflows.start_workflow(
                what, given, caller_dir=Path.cwd(), max_parallel=wanted.max_parallel
            ).execution_id
        ended, code = see_through(invocation, engine, source, timeout_s=wanted.timeout_s)
        again = Next(wanted.again, "runs it again", named_file(wanted.what)) if wanted.what != "-" else None
        tell_outcome(invocation, workspace, engine.reader, ended, code, again=again)
    return code


def _start_following(
    invocation: Invocation,
    engine: OrchestrationEngine,
    what: str | Definition,
    given: Mapping[str, Any],
    wanted: _Wanted,
) -> str:
    """Starts a workflow in the order of the plan that was made for it; the run's id."""
    from codomyrmex.cli.figures import duration_text
    from codomyrmex.logistics.orchestration.project.plan_store import order_of, plan_to_follow

    workflows = engine.workflows
    ready = workflows.starter.ready(
        workflows.definition(what), given, caller_dir=Path.cwd(), max_parallel=wanted.max_parallel
    )
    run = ready.run
    plan = plan_to_follow(workflows.host.database, run.workflow, run.parameters, command=wanted.planning)
    run.options = replace(run.options, follow=order_of(plan), force=wanted.force)
    invocation.output.note(f"in the order of its plan, which takes {duration_text(plan.duration_s)}")
    return workflows.starter.begin(ready).state.id


def _start_part(
    engine: OrchestrationEngine, what: str | Definition, given: Mapping[str, Any], wanted: _Wanted
) -> str:
    """Starts a part of a workflow, or all of it without the cache; the run's id."""
    from codomyrmex.logistics.orchestration.project.run_reuse import start_ready

    workflows = engine.workflows
    ready = workflows.starter.ready(
        workflows.definition(what), given, caller_dir=Path.cwd(), max_parallel=wanted.max_parallel
    )
    return start_ready(
        workflows.host, ready.run, ready.document, part=wanted.part, force=wanted.force
    ).state.id
