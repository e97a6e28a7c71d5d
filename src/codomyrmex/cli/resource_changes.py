"""`codomyrmex resources add|remove|offline|online`: each is one transaction, seen by engines within a moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.figures import count_text
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.cli.names import complete_resources
from codomyrmex.cli.resource_access import change_state, open_resources, set_machine_offline
from codomyrmex.cli.resource_text import resource_lines
from codomyrmex.cli.resource_words import wanted_resource
from codomyrmex.cli.resources import TYPES
from codomyrmex.clock import SystemClock
from codomyrmex.exceptions import Conflict, ResourceNotFound
from codomyrmex.logistics.orchestration.project import amount_words
from codomyrmex.logistics.orchestration.project.resource_request import DEFAULT_QUOTA
from codomyrmex.logistics.orchestration.project.resource_views import HOST, HolderView, ResourceView

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.resource_register import Holding, StoredResource

_NAMED_HOLDERS = 3
_COMES_BACK = "it comes back when an engine opens here (codomyrmex resume)"


@click.command(cls=Command)
@click.argument("name", metavar="NAME")
@click.option(
    "--type", "kind", type=click.Choice(TYPES), default="custom", show_default=True, help="What it is."
)
@click.option(
    "--capacity",
    metavar="N",
    required=True,
    help="How much there is: 1 for a lock, 4, 0.5; 256MiB of memory.",
)
@click.option("--per", metavar="TIME", help="Of an api_quota: N per this time.  [default: 60s]")
@click.option("--burst", metavar="B", help="Of an api_quota: up to B at once, instead of evenly spaced.")
@click.option("--description", metavar="TEXT", default="", help="A word about it.")
@click.option("--replace", "replacing", is_flag=True, help="Change the one that is there.")
@pass_invocation
def add(
    invocation: Invocation,
    *,
    name: str,
    kind: str,
    capacity: str,
    per: str | None,
    burst: str | None,
    description: str,
    replacing: bool,
) -> None:
    """Add a lock, a semaphore or a quota to this project.

    Steps ask for it by its name: resources: {NAME: 1}. A lock has --capacity 1, a semaphore more. An api_quota
    is taken when a step starts and not given back: N pass per TIME.

    \b
    resources add database --capacity 1
    resources add openai --type api_quota --capacity 60 --per 60s --burst 10
    """
    wanted = wanted_resource(name, kind, capacity=capacity, per=per, burst=burst, description=description)
    workspace = invocation.workspace()
    replaced = _put(invocation, wanted, replacing=replacing)
    reads = open_resources(invocation)
    found = reads.find(name)
    data = found.to_dict() | {"replaced": replaced}
    output = invocation.output
    output.answer(data, resource_lines(output.out, found, [], datetime.now(UTC)))
    output.note(f"{'changed in' if replaced else 'added to'} {workspace.state}", "dim")
    if found.allocated is not None and found.allocated > found.at_once:
        output.warn("more is held than that: who holds it keeps it, and nobody gets any until enough is back")


@click.command(cls=Command)
@click.argument("name", metavar="NAME", shell_complete=complete_resources)
@click.option("--force", is_flag=True, help="Also while it is held or waited for; who waits for it waits on.")
@pass_invocation
def remove(invocation: Invocation, name: str, force: bool) -> None:
    """Remove a resource of this project.

    Refused while somebody holds some of it, or waits for it. Steps that ask for it are refused from then on.
    """
    from codomyrmex.logistics.orchestration.project import resource_register

    reads = open_resources(invocation)
    found = reads.find(name)
    if found.scope == HOST or found.id == DEFAULT_QUOTA:
        offline = invocation.command(reads.workspace, "resources", "offline", found.name)
        raise Conflict(f"{found.name} is always there", hint=f"{offline} takes it out of service")
    holders = reads.holders(found)
    if not force:
        _refuse_in_use(found, holders)
    with change_state(reads.workspace) as tx:
        # Between the look and this moment somebody may have taken some.
        if not force and resource_register.used(tx.execute, found.id, now_us=SystemClock().now_us())[1]:
            raise Conflict(f"{found.name} has just been taken by somebody", hint="try again, or use --force")
        if not resource_register.remove(tx, found.id):
            raise ResourceNotFound(name)
    data = {
        "id": found.id,
        "name": found.name,
        "removed": True,
        "released": [each.to_dict() for each in holders],
    }
    invocation.output.answer(data, [f"removed {found.name}"])
    if holders:
        invocation.output.warn(f"it was held by {_names(holders)}, which go on without it")


@click.command(cls=Command)
@click.argument("name", metavar="NAME", shell_complete=complete_resources)
@pass_invocation
def offline(invocation: Invocation, name: str) -> None:
    """Take a resource out of service: nobody gets any more of it.

    Who holds some keeps it until the end. What the machine has goes offline for all projects on it.
    """
    _set_offline(invocation, name, offline=True)


@click.command(cls=Command)
@click.argument("name", metavar="NAME", shell_complete=complete_resources)
@pass_invocation
def online(invocation: Invocation, name: str) -> None:
    """Put a resource back into service."""
    _set_offline(invocation, name, offline=False)


def _set_offline(invocation: Invocation, name: str, *, offline: bool) -> None:
    from codomyrmex.logistics.orchestration.project import resource_register

    reads = open_resources(invocation)
    found = reads.find(name)
    if found.scope != HOST:
        with change_state(reads.workspace) as tx:
            if not resource_register.set_offline(tx, found.id, offline=offline):
                raise ResourceNotFound(name)
    elif reads.shared:
        set_machine_offline(found.id, offline=offline)
    else:
        raise Conflict(
            "each engine counts the machine by itself here (resources.scope = project)",
            hint=f"set resources.scope = host, or bound what engines use: {_setting_of(found)}",
        )
    now = reads.find(found.id)
    invocation.output.answer(now.to_dict(), [f"{now.name} is {now.status}"])
    if offline and now.holders:
        invocation.output.note(f"held by {_names(reads.holders(now))}, kept until given back")
    elif not offline and now.offline:
        invocation.output.note(f"{now.name} stays offline while {now.description}")


def _setting_of(found: ResourceView) -> str:
    return f"resources.{found.type} in config.toml"


# -- what is there already -----------------------------------------------------------------------


def _put(invocation: Invocation, wanted: StoredResource, *, replacing: bool) -> bool:
    """Writes the row; whether one was there. Raises `Conflict` where that may not be."""
    from codomyrmex.logistics.orchestration.project import resource_register

    workspace = invocation.workspace()
    with change_state(workspace, make=True) as tx:
        there = resource_register.find(tx.execute, wanted.name)
        if there is not None and not replacing:
            show = invocation.command(workspace, "resources", "show", there.name)
            raise Conflict(
                f"there is a resource {there.name!r} already",
                hint=f"{show} shows it; --replace changes it",
                details={"name": there.name},
            )
        if there is not None:
            held = resource_register.holdings(tx.execute, now_us=wanted.created_us, resource=there.id)
            _refuse_change(there, wanted, held)
            wanted = _over(there, wanted)
        resource_register.put(tx, wanted)
    return there is not None


def _over(there: StoredResource, wanted: StoredResource) -> StoredResource:
    """The new row keeps what the line does not speak of."""
    return replace(
        wanted,
        id=there.id,
        name=there.name,
        description=wanted.description or there.description,
        limits=there.limits,
        metadata=there.metadata,
        created_us=there.created_us,
    )


def _refuse_change(there: StoredResource, wanted: StoredResource, held: Sequence[Holding]) -> None:
    """A type does not change under those who hold, nor that of the quota which every state has."""
    if there.type == wanted.type:
        return
    if there.id == DEFAULT_QUOTA:
        raise Conflict(f"{there.name} is an api_quota", hint="add another resource under another name")
    if held:
        holders = [each.requester for each in held]
        raise Conflict(
            f"{there.name} is held by {_listed(holders)}: its type cannot change now",
            hint="wait until it is given back, or cancel who holds it",
            details={"holders": holders},
        )


def _refuse_in_use(found: ResourceView, holders: Sequence[HolderView]) -> None:
    if holders:
        dead = all(each.gone for each in holders)
        raise Conflict(
            f"{found.name} is held by {_names(holders)}{', whose process is gone' if dead else ''}",
            hint=f"{_COMES_BACK}, or use --force"
            if dead
            else "wait until it is given back, cancel who holds it, or use --force",
            details={"holders": [each.to_dict() for each in holders]},
        )
    if found.waiting:
        raise Conflict(
            f"{count_text(found.waiting, 'engine')} with work that waits for {found.name}",
            hint="cancel that work, or use --force: it then waits on",
        )


def _names(holders: Sequence[HolderView]) -> str:
    return _listed([each.holder for each in holders])


def _listed(names: Sequence[str]) -> str:
    return amount_words.listed(list(names[:_NAMED_HOLDERS]), max(0, len(names) - _NAMED_HOLDERS))
