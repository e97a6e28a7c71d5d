"""What others have of the machine, as the ledger of the host says: for whoever explains a wait.

Layer: above the ledger, beside the readers. The ledger is read only where there is one; nothing is made or changed in
it. One that cannot be read is as good as none: everything else is explained all the same.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from codomyrmex.clock import SystemClock, to_datetime
from codomyrmex.exceptions import StoreError
from codomyrmex.logging_monitoring import get_logger
from codomyrmex.logistics.orchestration.project.host_ledger import HostLedger, WaitRow
from codomyrmex.logistics.orchestration.project.ledger_file import ledger_place
from codomyrmex.logistics.orchestration.project.resource_request import GPU
from codomyrmex.logistics.orchestration.project.wait_reasons import OtherEngine

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ledger:
    """Who has what of a host, with the id of the resource, and who waits."""

    held: tuple[tuple[OtherEngine, str], ...] = ()
    waits: tuple[WaitRow, ...] = ()


class HostFacts:
    """See the module; each ledger is read once. `state_dir` tells which engines are of this state."""

    def __init__(self, state_dir: Path | None) -> None:
        self._state_dir = state_dir
        self._ledgers: dict[str, _Ledger] = {}

    def others(self, host_dir: str, pid: int, resource: str) -> list[OtherEngine]:
        """Who has some of a resource (`gpu` for any device) but the engine of this state in the process `pid`."""
        found: dict[tuple[int, str | None], OtherEngine] = {}
        for each, which in self._ledger(host_dir).held:
            if _kind_of(which) == resource and not self._is(each, pid):
                key = (each.engine, each.who)
                had = found.get(key)
                found[key] = each if had is None else replace(had, amount=had.amount + each.amount)
        return list(found.values())

    def held_by(self, host_dir: str, requester: str, resource: str) -> int:
        """What somebody holds beside the engines."""
        held = self._ledger(host_dir).held
        return sum(
            each.amount for each, which in held if each.who == requester and _kind_of(which) == resource
        )

    def share(self, host_dir: str, pid: int, resource: str) -> int:
        """What that engine was allotted of it."""
        held = self._ledger(host_dir).held
        return sum(each.amount for each, which in held if _kind_of(which) == resource and self._is(each, pid))

    def waits_before(self, host_dir: str, pid: int, resource: str, *, now_us: int) -> int:
        """How many others have waited for it longer than that engine."""
        waits = self._ledger(host_dir).waits
        since_us = min((wait.since_us for wait in waits if self._is(wait, pid)), default=now_us)
        return sum(
            wait.lives
            and wait.since_us < since_us
            and not self._is(wait, pid)
            and any(_kind_of(which) == resource for which in wait.amounts)
            for wait in waits
        )

    def _ledger(self, host_dir: str) -> _Ledger:
        if host_dir not in self._ledgers:
            self._ledgers[host_dir] = _read_ledger(Path(host_dir))
        return self._ledgers[host_dir]

    def _is(self, other: OtherEngine | WaitRow, pid: int) -> bool:
        """Whether a row of the ledger is that engine's."""
        if self._state_dir is None or other.state is None or other.pid != pid:
            return False
        return os.path.realpath(other.state) == os.path.realpath(self._state_dir)


def _kind_of(which: str) -> str:
    return GPU if which.startswith(f"{GPU}-") else which


def _read_ledger(directory: Path) -> _Ledger:
    """What a ledger says; nothing where there is none, or none that can be read: the rest is explained all the same."""
    if not ledger_place(directory).path.exists():
        return _Ledger()
    ledger = HostLedger.open(directory, clock=SystemClock(), token="")
    try:
        allotments, holds, waits = ledger.allotments(), ledger.holds(), ledger.waits()
    except StoreError as error:
        logger.warning("the ledger of this host could not be read: %s", error)
        return _Ledger()
    finally:
        ledger.close()
    held = [
        (
            OtherEngine(
                engine=row.holder,
                pid=row.pid,
                state=row.state or None,
                amount=row.amount,
                since=to_datetime(row.since_us),
            ),
            row.resource,
        )
        for row in allotments
    ]
    for hold in holds:
        since = to_datetime(hold.since_us)
        for which, amount in hold.amounts.items():
            who = OtherEngine(
                engine=hold.holder, pid=hold.pid, who=hold.requester, amount=amount, since=since
            )
            held.append((who, which))
    return _Ledger(held=tuple(held), waits=tuple(waits))
