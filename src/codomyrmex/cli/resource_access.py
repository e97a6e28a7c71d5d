"""How the commands reach resources: the machine's from detection and the ledger, the project's from its state.

Reading opens no engine and makes no file: where there is no state, or no ledger, nothing is in use.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from codomyrmex.cli.invocation import Invocation
from codomyrmex.clock import SystemClock
from codomyrmex.logistics.orchestration.project.resource_reader import (
    MachineUse,
    find_resource,
    read_holders,
    read_machine,
    read_resources,
)
from codomyrmex.logistics.orchestration.project.resource_views import HOST, HolderView, ResourceView
from codomyrmex.workspace import Workspace

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.machine import Machine
    from codomyrmex.logistics.storage.database import Database, Transaction


class ResourceReads:
    """What there is and who has it, looked at anew by each call; made by `open_resources`."""

    def __init__(self, workspace: Workspace, machine: Machine, *, shared: bool) -> None:
        self.workspace = workspace
        self.shared = shared
        """Whether the engines of all projects share the machine; else each engine counts by itself."""
        self._machine = machine

    def all(self) -> list[ResourceView]:
        """The machine's, then the project's by name."""
        found = read_machine(self._machine, self._use())
        with _open_state(self.workspace) as database:
            return found + (read_resources(database, now_us=_now_us()) if database is not None else [])

    def find(self, name: str) -> ResourceView:
        """One by its id, its name, or the word that steps use; raises `ResourceNotFound`."""
        return find_resource(self.all(), name)

    def holders(self, resource: ResourceView | None = None) -> list[HolderView]:
        """Who holds some of it, or of anything; the machine's first, then the oldest first."""
        found: list[HolderView] = []
        if resource is None or resource.scope == HOST:
            use = self._use() or MachineUse()
            found += use.of(resource.id) if resource is not None else use.holders
        if resource is None or resource.scope != HOST:
            with _open_state(self.workspace) as database:
                if database is not None:
                    id = resource.id if resource is not None else None
                    found += read_holders(database, now_us=_now_us(), resource_id=id)
        return found

    def _use(self) -> MachineUse | None:
        return MachineUse() if self.shared else None


def open_resources(invocation: Invocation) -> ResourceReads:
    """The resources of this machine and of the project the user stands in."""
    from codomyrmex.logistics.orchestration.project.machine_detection import (
        detect_gpus,
        detect_machine,
        overrides_of,
    )

    workspace = invocation.workspace()
    settings = invocation.settings(workspace)
    overrides = overrides_of(settings)
    machine = detect_machine(workspace.root, overrides=overrides)
    machine = replace(machine, gpus=detect_gpus(overrides=overrides))
    return ResourceReads(workspace, machine, shared=settings.resources_scope == "host")


@contextmanager
def change_state(workspace: Workspace, *, make: bool = False) -> Iterator[Transaction]:
    """One transaction on the project's state; with `make` the state is made if there is none."""
    from codomyrmex.logistics.storage.sqlite import SQLiteDatabase

    if make and not workspace.exists:
        workspace.prepare()
        database: Database = SQLiteDatabase.open(workspace.database)
    else:
        database = SQLiteDatabase.open_existing(workspace.database)
    with closing(database), database.transaction(barrier=True) as tx:
        yield tx


@contextmanager
def _open_state(workspace: Workspace) -> Iterator[Database | None]:
    if not workspace.exists:
        yield None
        return
    from codomyrmex.logistics.storage.sqlite import SQLiteDatabase

    with closing(SQLiteDatabase.open_existing(workspace.database)) as database:
        yield database


def _now_us() -> int:
    return SystemClock().now_us()
