"""What a shell offers for a word that names a run or a workflow; nothing on any trouble."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from codomyrmex.cli.invocation import invocation_of
from codomyrmex.exceptions import CodomyrmexError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

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
