"""`codomyrmex workflows plan`: when each task of a run would begin and end; nothing is run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.figures import duration_text
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.cli.names import complete_workflows
from codomyrmex.cli.parameter_options import given_parameters, read_file, with_lists
from codomyrmex.cli.run import Duration
from codomyrmex.cli.workflow_search import (
    catalogue_of,
    default_file,
    definition_of,
    definition_on_stdin,
    named_file,
)
from codomyrmex.settings import Settings
from codomyrmex.workspace import Workspace

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.machine import Machine
    from codomyrmex.logistics.orchestration.project.plan_request import PlanRequest, PlanSite, PlanWish
    from codomyrmex.logistics.orchestration.project.workflow_plan import WorkflowPlan
    from codomyrmex.logistics.orchestration.project.workflow_preparation import Definition
    from codomyrmex.logistics.storage.database import Database

_BUDGET_S = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wanted:
    """The options of one `workflows plan`."""

    what: str | None
    words: tuple[str, ...]
    params_file: str | None
    what_if: tuple[str, ...]
    max_parallel: int | None
    durations_file: str | None
    simulations: int | None
    optimise: bool
    budget_s: float | None

    @property
    def follow(self) -> tuple[str, ...]:
        """The words that run the same in the order that was found."""
        words = [part for word in self.words for part in ("-p", word)]
        words += ["--params", self.params_file] if self.params_file is not None else []
        words += ["--max-parallel", str(self.max_parallel)] if self.max_parallel is not None else []
        return ("run", *([self.what] if self.what is not None else []), *words, "--follow-plan")

    @property
    def reads_stdin(self) -> bool:
        """Whether anything but the workflow is to be read there."""
        files = (self.params_file, self.durations_file)
        return "-" in files or any(word.endswith("=@-") for word in self.words)


@click.command("plan", cls=Command)
@click.argument("what", metavar="[FILE|NAME]", required=False, shell_complete=complete_workflows)
@click.option(
    "-p", "words", metavar="NAME=VALUE", multiple=True, help="A parameter; also NAME=@FILE, NAME:=JSON."
)
@click.option("--params", "params_file", metavar="FILE", help="Parameters of a JSON, YAML or TOML file.")
@click.option(
    "--what-if", metavar="NAME=AMOUNT,...", multiple=True,
    help="As if there were so much: cpu=8,gpu=2,memory=64GiB, or of what this project limits.",
)  # fmt: skip
@click.option(
    "--max-parallel", type=click.IntRange(min=1), metavar="N", help="At most N of its tasks at once."
)
@click.option(
    "--durations", "durations_file", metavar="FILE",
    help="How long steps take, {step: seconds}, in place of what was learned.",
)  # fmt: skip
@click.option(
    "--simulations", type=click.IntRange(min=0, max=100_000), metavar="N",
    help="Simulate it so often for the spread of its end; left out, as often as a second allows.",
)  # fmt: skip
@click.option("--optimise", is_flag=True, help="Look for a shorter order, and keep it for run --follow-plan.")
@click.option(
    "--budget", "budget_s", type=Duration(), metavar="T", help="With --optimise: how long to look, 10s."
)
@pass_invocation
def plan(invocation: Invocation, /, **options: Any) -> None:
    """Show when each task of a run would begin and end; nothing is run.

    Also what holds the run up, and how sure its end is. The tasks go through the same admission as in a run,
    in virtual time. How long they take was learned from earlier runs; what never ran is a guess, marked ~.
    Machine and resources are taken for idle. `-v` has a line for each item of a fan-out.
    """
    from codomyrmex.cli.plan_text import plan_lines

    wanted = _Wanted(**options)
    if wanted.budget_s is not None and not wanted.optimise:
        raise click.UsageError("--budget goes with --optimise")
    if wanted.simulations is not None and wanted.optimise:
        raise click.UsageError("--simulations goes without --optimise: that looks at one order only")
    if wanted.what == "-" and wanted.reads_stdin:
        raise click.UsageError("stdin is the workflow already: give parameters and durations another way")
    wish = _wish(wanted)
    given = given_parameters(wanted.words, wanted.params_file)
    workspace = invocation.workspace(named_file(wanted.what))
    settings = invocation.settings(workspace)
    if wanted.what == "-":
        definition = definition_on_stdin()
    else:
        definition = definition_of(workspace, settings, wanted.what or default_file(workspace))
    given = with_lists(given, definition.document.get("parameters", {}))
    from codomyrmex.logistics.orchestration.project.plan_request import request_plan

    with _site(workspace, settings) as site:
        request = request_plan(site, definition, given, wish)
        for text in request.prepared.warnings:
            invocation.output.warn(text)
        found = request.plan(simulations=0 if wanted.optimise else wanted.simulations)
    if wanted.optimise:
        found = _optimised(invocation, workspace, wanted, request, found)
    output = invocation.output
    output.answer(found.to_dict(), plan_lines(output.out, found, verbose=invocation.verbose))


def _optimised(
    invocation: Invocation, workspace: Workspace, wanted: _Wanted, request: PlanRequest, plan: WorkflowPlan
) -> WorkflowPlan:
    """A shorter plan, if there is one, kept for runs that follow it."""
    from codomyrmex.cli.resource_access import change_state
    from codomyrmex.clock import SystemClock

    budget_s = _BUDGET_S if wanted.budget_s is None else wanted.budget_s
    if invocation.output.err.is_tty:
        invocation.output.note(f"looking for a shorter order, for {duration_text(budget_s)} at most")
    found = request.optimise(plan, budget_s=budget_s)
    if wanted.what_if:
        invocation.output.note("not kept for runs to follow: it was made for what is not there (--what-if)")
        return found
    with change_state(workspace, make=True) as tx:
        request.keep(tx, found, now_us=SystemClock().now_us())
    if wanted.what != "-":
        line = invocation.command(workspace, *wanted.follow, file=named_file(wanted.what))
        invocation.output.note(f"kept; {line} begins the tasks in this order")
    return found


def _wish(wanted: _Wanted) -> PlanWish:
    from codomyrmex.logistics.orchestration.project.plan_request import PlanWish

    return PlanWish(
        what_if=read_what_if(wanted.what_if),
        max_parallel=wanted.max_parallel,
        durations=read_durations(wanted.durations_file) if wanted.durations_file is not None else {},
    )


def read_what_if(words: Sequence[str]) -> dict[str, str]:
    """`cpu=8,gpu=2` as amounts by name, unread; raises `click.UsageError` for what is no such pair."""
    found: dict[str, str] = {}
    for pair in (part.strip() for word in words for part in word.split(",")):
        name, equals, amount = (text.strip() for text in pair.partition("="))
        if not (equals and name and amount):
            raise click.UsageError(f"--what-if {pair!r} is not NAME=AMOUNT, such as cpu=8 or memory=64GiB")
        if name in found:
            raise click.UsageError(f"--what-if names {name!r} twice")
        found[name] = amount
    return found


def read_durations(file: str) -> dict[str, float]:
    """{step: seconds} of a JSON, YAML or TOML file; raises `click.UsageError` with the name that has no duration."""
    from codomyrmex.logistics.orchestration.project.amounts import MAX_DURATION_S, read_duration_s

    try:
        told = read_file(file)
    except click.UsageError as error:
        raise click.UsageError(f"--durations {error.message.removeprefix('--params ')}") from None
    found = {}
    for name, value in told.items():
        try:
            seconds = -1.0 if isinstance(value, bool) else read_duration_s(value)
        except (TypeError, ValueError):
            seconds = -1.0
        if not 0 <= seconds <= MAX_DURATION_S:
            raise click.UsageError(f"--durations {file}: {name} is {value!r}, no duration such as 90s or 1.5")
        found[name] = seconds
    return found


@contextmanager
def _site(workspace: Workspace, settings: Settings) -> Iterator[PlanSite]:
    """Where the plan is made; a state that is not there yet is not made."""
    from codomyrmex.logistics.orchestration.project.order_policy import OrderPolicy
    from codomyrmex.logistics.orchestration.project.plan_request import PlanSite

    def find_child(name: str, parent: Definition) -> Definition:
        folder = parent.file.parent if parent.file is not None else workspace.root
        return definition_of(workspace, settings, name, folder)

    with _state(workspace) as database:
        yield PlanSite(
            root=workspace.root,
            caller_dir=Path.cwd(),
            find_child=find_child,
            catalogue=lambda each: catalogue_of(workspace, settings, each.file),
            machine=lambda gpus: _machine(workspace, settings, gpus),
            database=database,
            max_workers=settings.max_workers,
            policy=OrderPolicy.of(settings.order_mode, settings.order_reserve_after_s),
        )


@contextmanager
def _state(workspace: Workspace) -> Iterator[Database | None]:
    if not workspace.exists:
        yield None
        return
    from codomyrmex.logistics.storage.sqlite import SQLiteDatabase

    with closing(SQLiteDatabase.open_existing(workspace.database)) as database:
        yield database


def _machine(workspace: Workspace, settings: Settings, gpus: bool) -> Machine:
    from codomyrmex.logistics.orchestration.project.machine_detection import (
        detect_gpus,
        detect_machine,
        overrides_of,
    )

    overrides = overrides_of(settings)
    machine = detect_machine(workspace.root, overrides=overrides)
    return replace(machine, gpus=detect_gpus(overrides=overrides)) if gpus else machine
