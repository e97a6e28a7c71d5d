"""`codomyrmex secrets set|list|remove`: values that steps get and nothing shows.

A value comes from a hidden prompt, a pipe or a file, never from the line: there everybody on the machine can
read it, and the shell's history keeps it.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.figures import instant_text
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.cli.text_table import Column, Row, table_lines
from codomyrmex.exceptions import Fault, NotFound, ValidationError

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.secret_store import SecretName, SecretStore

_ON_THE_LINE = (
    "a secret's value does not belong on the command line, where ps and the shell's history show it\n"
    "  leave it out to be asked for it, pipe it in, or use --from-file FILE"
)
_PLACES = {"variable": "environment", "state": "this project", "user": "your own"}


class NoSuchSecret(NotFound):
    """There is none of this name to remove."""

    code = "secret_not_found"
    noun = "secret"


@click.command("set", cls=Command)
@click.argument("name", metavar="NAME")
@click.argument("value", metavar="[-]", required=False)
@click.option("--user", is_flag=True, help="Keep it for all your projects, not for this one.")
@click.option(
    "--from-file", "source", type=click.File("rb"), metavar="FILE", help="Take the value from FILE."
)
@pass_invocation
def set_secret(
    invocation: Invocation, *, name: str, value: str | None, user: bool, source: IO[bytes] | None
) -> None:
    """Keep the value of a secret, asked for unseen, or read from a pipe or a file.

    A value may have several lines; a line break at its end is taken off. Steps get it as ${secrets.NAME}.
    """
    from codomyrmex.logistics.orchestration.project.secret_names import SECRET_VARIABLES

    if value not in (None, "-") or "=" in name:
        raise click.UsageError(_ON_THE_LINE)
    if value == "-" and source is not None:
        raise click.UsageError("the value comes from `-` or from --from-file, not from both")
    workspace = invocation.workspace()
    store = _store(invocation)
    text = _read(source) if source is not None else _asked(name, piped=value == "-")
    if not user:
        workspace.prepare()
    path = store.set(name, text, user=user)
    invocation.output.answer(
        {"name": name, "origin": "user" if user else "state", "path": str(path)},
        [f"{name} is kept in {path}"],
    )
    _warn(invocation, name, text, SECRET_VARIABLES + name)


@click.command("list", cls=Command)
@pass_invocation
def list_secrets(invocation: Invocation) -> None:
    """List the secrets that steps can use here; never their values."""
    found = _store(invocation).names()
    output = invocation.output
    data = {"secrets": [_document(each) for each in found]}
    now = datetime.now(UTC)
    columns = [Column("NAME", shrink_to=8), Column("FROM"), Column("SET")]
    rows: list[Row] = [
        [each.name, _PLACES[each.origin], instant_text(each.updated_at, now) if each.updated_at else ""]
        for each in found
    ]
    output.answer(data, table_lines(output.out, columns, rows) if rows else [])
    if not found:
        workspace = invocation.workspace()
        output.note(f"no secrets yet: {invocation.command(workspace, 'secrets', 'set', 'NAME')} keeps one")


@click.command("remove", cls=Command)
@click.argument("name", metavar="NAME")
@pass_invocation
def remove_secret(invocation: Invocation, name: str) -> None:
    """Remove a secret of this project, or your own where the project has none of this name."""
    from codomyrmex.logistics.orchestration.project.secret_store import SecretNotFound

    try:
        origin = _store(invocation).remove(name)
    except SecretNotFound as error:
        secrets = invocation.command(invocation.workspace(), "secrets", "list")
        raise NoSuchSecret(
            name, nearest=error.faults[0].nearest, hint=f"{secrets} shows what there is"
        ) from None
    where = "this project's secrets" if origin == "state" else "your own secrets"
    invocation.output.answer({"name": name, "origin": origin}, [f"removed {name} from {where}"])


def _store(invocation: Invocation) -> SecretStore:
    from codomyrmex.logistics.orchestration.project.secret_store import SecretStore

    return SecretStore(invocation.workspace().state, environ=os.environ)


def _asked(name: str, *, piped: bool) -> str:
    if piped or not sys.stdin.isatty():
        return _read(sys.stdin.buffer)
    prompted: str = click.prompt(
        f"Value of {name}", hide_input=True, confirmation_prompt="Once more", err=True
    )
    return prompted


def _read(source: IO[bytes]) -> str:
    from codomyrmex.logistics.orchestration.project.secret_store import MAX_BYTES

    data = source.read(MAX_BYTES + 3)
    try:
        text = data.decode(errors="strict" if len(data) <= MAX_BYTES + 2 else "replace")  # its end is cut off
    except UnicodeDecodeError:
        fault = Fault(message="the value is no text in UTF-8", path="value", advice="keep it as base64")
        raise ValidationError([fault], subject="the secret") from None
    return text.removesuffix("\n").removesuffix("\r")


def _warn(invocation: Invocation, name: str, text: str, variable: str) -> None:
    from codomyrmex.logistics.orchestration.project.executors.worker.secret_forms import SHORTEST

    if len(text) < SHORTEST:
        invocation.output.warn(
            f"{name} has fewer than {SHORTEST} characters: it cannot be hidden in what steps print and return"
        )
    if os.environ.get(variable):
        invocation.output.warn(f"here the variable {variable} wins over it")


def _document(each: SecretName) -> dict[str, str | None]:
    updated_at = None if each.updated_at is None else each.updated_at.isoformat()
    return {"name": each.name, "origin": each.origin, "updated_at": updated_at}
