"""`codomyrmex runs signal`: tells a run what its steps wait for."""

from __future__ import annotations

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.cli.names import complete_runs, complete_signals
from codomyrmex.cli.parameter_options import given_data
from codomyrmex.cli.state_access import is_delivered, open_control


@click.command("signal", cls=Command)
@click.argument("run", metavar="RUN", shell_complete=complete_runs)
@click.argument("name", metavar="NAME", shell_complete=complete_signals)
@click.option("--data", metavar="JSON|@FILE", help="What goes with it: any JSON value.")
@click.option(
    "-p", "words", metavar="NAME=VALUE", multiple=True, help="A mapping instead; also NAME=@FILE, NAME:=JSON."
)
@pass_invocation
def send_signal(
    invocation: Invocation, run: str, name: str, data: str | None, words: tuple[str, ...]
) -> None:
    """Send a run a signal that its steps wait for.

    It is kept: a step that only waits for NAME later finds it there. Its data are the output of the step.
    """
    given = given_data(data, words)
    with open_control(invocation) as (workspace, reader, control):
        run_id = reader.find(run)
        control.signal(run_id, name, given)
        delivered = is_delivered(reader, run_id)
        document = {"execution_id": run_id, "signal": name, "data": given, "delivered": delivered}
        invocation.output.answer(document, [f"sent {name} to {reader.run(run_id).workflow} {run_id}"])
        if not delivered:
            resume = invocation.command(workspace, "resume", run_id)
            invocation.output.note(f"the signal is recorded; no engine works on the run: {resume} goes on")
