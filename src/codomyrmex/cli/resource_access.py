"""How the commands reach resources: the machine's from detection and the ledger, the project's from its state.

Reading opens no engine and makes no file: where there is no state, or no ledger, nothing is in use.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from codomyrmex.cli.invocation import Invocation
from codomyrmex.clock import SystemClock
from codomyrmex.exceptions import StoreError
from codomyrmex.logistics.orchestration.project.resource_reader import (
    MachineUse,
    find_resource,
    read_holders,
    read_machine,
    read_resources,
    read_use,
)
from codomyrmex.logistics.orchestration.project.resource_views import HOST, HolderView, ResourceView
from codomyrmex.workspace import Workspace

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.host_ledger import HostLedger
    from codomyrmex.logistics.orchestration.project.machine import Machine
    from codomyrmex.logistics.storage.database import Database, Transaction


class ResourceReads:
    """What there is and who has it, looked at anew by each call; made by `open_resources`."""

    def __init__(self, workspace: Workspace, machine: Machine, *, shared: bool) -> None:
        self.workspace = workspace
        self.shared = shared
        """Whether the engines of all projects share the machine."""
        self.trouble: str | None = None
        """Why it cannot be told what is held of the machine."""
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
                    found += read_holders(database, self.workspace.state, now_us=_now_us(), resource_id=id)
        return found

    def _use(self) -> MachineUse | None:
        if not self.shared:
            self.trouble = "each engine counts the machine by itself here (resources.scope = project)"
            return None
        from codomyrmex.logistics.orchestration.project.engine_store import EngineLock
        from codomyrmex.logistics.orchestration.project.ledger_file import ledger_place

        place = ledger_place(_ledger_directory())
        if not place.path.exists():
            return MachineUse()
        try:
            with closing(_ledger()) as ledger:
                return read_use(ledger, lambda holder: EngineLock.is_free(place.lock_path(holder)))
        except StoreError as error:
            self.trouble = str(error)
            return None


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


def set_machine_offline(resource_id: str, *, offline: bool) -> None:
    """Takes a resource of the machine out of service for all projects on it, or back."""
    with closing(_ledger()) as ledger:
        ledger.set_offline(resource_id, offline)


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


def _ledger_directory() -> Path:
    from codomyrmex.logistics.orchestration.project.ledger_file import ledger_directory

    return ledger_directory(os.environ)


def _ledger() -> HostLedger:
    """The ledger of this host for one who holds nothing in it."""
    from codomyrmex.logistics.orchestration.project.host_ledger import HostLedger

    return HostLedger.open(_ledger_directory(), clock=SystemClock(), token="")


def _now_us() -> int:
    return SystemClock().now_us()
