"""What a shell offers for a word that names a run, a task, a signal, a workflow or a resource; else nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from codomyrmex.cli.invocation import invocation_of
from codomyrmex.exceptions import CodomyrmexError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from codomyrmex.logistics.orchestration.project.approvals import Approval

_MOST = 50


def complete_runs(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The latest runs that begin so."""
    from click.shell_completion import CompletionItem

    from codomyrmex.cli.state_access import open_reads

    try:
        with open_reads(invocation_of(context)) as (_, reads):
            runs = reads.runs(_MOST, None, None, None)[0]
    except (CodomyrmexError, OSError):
        return []
    return [
        CompletionItem(run.execution_id, help=f"{run.workflow} {run.status}")
        for run in runs
        if run.execution_id.startswith(incomplete)
    ]


def complete_workflows(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Workflow files that begin so, else the names of this project's definitions."""
    from click.shell_completion import CompletionItem

    if "/" in incomplete or "." in incomplete:
        return [CompletionItem(incomplete, type="file")]
    from codomyrmex.cli.workflow_search import finder_of

    try:
        invocation = invocation_of(context)
        workspace = invocation.workspace()
        found = finder_of(workspace, workspace.settings()).all()
    except (CodomyrmexError, OSError):
        return []
    names = [CompletionItem(each.name) for each in found if each.name.startswith(incomplete)]
    return names or [CompletionItem(incomplete, type="file")]


def complete_asking_runs(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The runs with an open approval."""
    return _offered({question.run_id: question.workflow for _, question in _inbox(context)}, incomplete)


def complete_asking_tasks(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The open approvals of the run that stands before."""
    run = str(context.params.get("run") or "")
    asked = {
        task: question.message
        for task, question in _inbox(context)
        if run == "@last" or run == question.workflow or question.run_id.startswith(run)
    }
    return _offered(asked, incomplete)


def complete_tasks(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The steps of the run that stands before."""
    from codomyrmex.cli.state_access import open_reads

    try:
        with open_reads(invocation_of(context)) as (_, reads):
            tasks = reads.tasks(reads.find(str(context.params.get("run") or "@last")))
    except (CodomyrmexError, OSError):
        return []
    return _offered({task.name: task.status for task in tasks if task.index is None}, incomplete)


def complete_signals(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The signals that the run that stands before knows."""
    from codomyrmex.cli.state_access import open_control

    try:
        with open_control(invocation_of(context)) as (_, reader, _control):
            names = reader.signal_names(reader.find(str(context.params.get("run") or "@last")))
    except (CodomyrmexError, OSError):
        return []
    return _offered(dict.fromkeys(sorted(names or ()), ""), incomplete)


def complete_resources(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """What the machine has and what this project limits."""
    from codomyrmex.cli.resource_access import open_resources

    try:
        found = open_resources(invocation_of(context)).all()
    except (CodomyrmexError, OSError):
        return []
    return _offered({each.name: each.type for each in found}, incomplete)


def _inbox(context: click.Context) -> list[tuple[str, Approval]]:
    from codomyrmex.cli.state_access import open_reads

    try:
        with open_reads(invocation_of(context)) as (_, reads):
            return reads.inbox()
    except (CodomyrmexError, OSError):
        return []


def _offered(found: Mapping[str, str], incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    begun = [(name, about) for name, about in found.items() if name.startswith(incomplete)]
    return [CompletionItem(name, help=about or None) for name, about in begun[:_MOST]]
