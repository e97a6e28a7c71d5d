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
