"""`codomyrmex completion SHELL`: the script that lets a shell complete commands, options and names."""

from __future__ import annotations

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.door import COMPLETION_VARIABLE, PROGRAM
from codomyrmex.cli.invocation import Invocation, pass_invocation

_INSTALL = {
    "bash": 'add to ~/.bashrc:   eval "$(codomyrmex completion bash)"',
    "zsh": 'add to ~/.zshrc:   eval "$(codomyrmex completion zsh)"',
    "fish": "codomyrmex completion fish > ~/.config/fish/completions/codomyrmex.fish",
}


@click.command(cls=Command)
@click.argument("shell", metavar="SHELL", type=click.Choice(tuple(_INSTALL)))
@pass_invocation
def completion(invocation: Invocation, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash   add to ~/.bashrc:   eval "$(codomyrmex completion bash)"
    zsh    add to ~/.zshrc:    eval "$(codomyrmex completion zsh)"
    fish   codomyrmex completion fish > ~/.config/fish/completions/codomyrmex.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None  # click knows all three
    text = found.source_template % {
        "complete_func": f"_{PROGRAM}_completion",
        "complete_var": COMPLETION_VARIABLE,
        "prog_name": PROGRAM,
    }
    output = invocation.output
    output.answer({"shell": shell, "script": text}, [text.rstrip("\n")])
    if output.out.is_tty:
        output.note(_INSTALL[shell], "dim")
