"""`codomyrmex resources list|show|usage|holders`: what there is, how much is in use, who has it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.cli.names import complete_resources
from codomyrmex.cli.resource_access import ResourceReads, open_resources
from codomyrmex.cli.resource_text import holder_lines, list_lines, resource_lines, usage_lines
from codomyrmex.logistics.orchestration.project.resource_views import HolderView, ResourceView

TYPES = ("cpu", "memory", "gpu", "disk", "network", "api_quota", "custom")


@click.command("list", cls=Command)
@click.option("--type", "kind", type=click.Choice(TYPES), help="Only resources of this type.")
@pass_invocation
def list_resources(invocation: Invocation, kind: str | None) -> None:
    """List what this machine has and what this project limits.

    Of the machine: sys-compute (CPUs), sys-memory, sys-disk, sys-network and GPUs, which steps ask for as
    cpu, memory, disk, network and gpu. Of the project: what `resources add` made, and the quota api-global.
    """
    output = invocation.output
    reads = open_resources(invocation)
    found = [each for each in reads.all() if kind is None or each.type == kind]
    output.answer(_listed(found), list_lines(output.out, found) if found else [])
    if not found:
        output.note(f"no resource of type {kind} here")
    _tell_trouble(invocation, reads)


@click.command(cls=Command)
@click.argument("name", metavar="NAME", shell_complete=complete_resources)
@pass_invocation
def show(invocation: Invocation, name: str) -> None:
    """Show one resource: how much there is, how much is in use, who has it."""
    output = invocation.output
    reads = open_resources(invocation)
    found = reads.find(name)
    holders = reads.holders(found)
    data = found.to_dict() | {"held_by": [each.to_dict() for each in holders]}
    output.answer(data, resource_lines(output.out, found, holders, datetime.now(UTC)))
    _tell_gone(invocation, holders)
    _tell_trouble(invocation, reads)


@click.command(cls=Command)
@click.argument("name", metavar="[NAME]", required=False, shell_complete=complete_resources)
@click.option("--watch", "watching", is_flag=True, help="Again every second, until Ctrl-C.")
@pass_invocation
def usage(invocation: Invocation, name: str | None, watching: bool) -> int:
    """Show how much is in use.

    PEAK is the most that was ever held at once, WAITING the engines that wait for what others hold (which
    tasks wait, and why, says `explain`). Of a quota CAPACITY is what may pass at once. With --watch and --json
    each second is one JSON document on a line.
    """
    reads = open_resources(invocation)
    if watching:
        from codomyrmex.cli.door import INTERRUPTED
        from codomyrmex.cli.resource_watch import watch_usage

        try:
            watch_usage(invocation, lambda: _chosen(reads, name))
        except KeyboardInterrupt:  # its documented end, not a mishap
            return INTERRUPTED
    output = invocation.output
    found = _chosen(reads, name)
    output.answer(_listed(found), usage_lines(output.out, found))
    _tell_trouble(invocation, reads)
    return 0


@click.command(cls=Command)
@click.argument("name", metavar="[NAME]", required=False, shell_complete=complete_resources)
@pass_invocation
def holders(invocation: Invocation, name: str | None) -> None:
    """Show who holds what, and since when.

    What a project limits is held by tasks (RUN/STEP) and by whoever asked for it; what the machine has, by the
    engines of all projects on it.
    """
    output = invocation.output
    reads = open_resources(invocation)
    resource = reads.find(name) if name is not None else None
    found = reads.holders(resource)
    data = {"holders": [each.to_dict() for each in found], "next_cursor": None, "total": len(found)}
    output.answer(data, holder_lines(output.out, found, datetime.now(UTC)) if found else [])
    _tell_gone(invocation, found)
    if not found:
        output.note(f"nobody holds {'anything' if resource is None else f'any of {resource.name}'}")
    _tell_trouble(invocation, reads)


def _tell_gone(invocation: Invocation, holders: Sequence[HolderView]) -> None:
    if any(each.gone for each in holders):
        invocation.output.note(
            "what a process that is gone held comes back when an engine opens: codomyrmex resume", "dim"
        )


def _tell_trouble(invocation: Invocation, reads: ResourceReads) -> None:
    if reads.trouble is not None:
        invocation.output.note(f"what is held of the machine cannot be told: {reads.trouble}")


def _chosen(reads: ResourceReads, name: str | None) -> list[ResourceView]:
    return reads.all() if name is None else [reads.find(name)]


def _listed(found: list[ResourceView]) -> dict[str, object]:
    return {"resources": [each.to_dict() for each in found], "next_cursor": None, "total": len(found)}
