"""Engines of several projects on one host, and what an outsider sees of them.

`SharedHost` starts them (`host_script.py`) on a host ledger of this test's own, on a machine that the settings
describe, and reads the states and the ledger through connections of its own: nothing here asks an engine.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import oracle_actions
from run_audit import engine_tokens, left_over

from codomyrmex.logistics.orchestration.project.resource_manager import ResourceManager
from codomyrmex.logistics.orchestration.project.resources import Resource, ResourceType
from codomyrmex.logistics.storage.migrations import LEDGER, STATE
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase
from waiting import wait_until

SCRIPT = Path(__file__).with_name("host_script.py")
Steps = Sequence[Mapping[str, Any]]
HELD = """
SELECT (SELECT count(*) FROM allocation JOIN engine USING (epoch) WHERE pid = ?1),
       (SELECT count(*) FROM resource_wait JOIN engine USING (epoch) WHERE pid = ?1)
"""
USED = """
SELECT resource.id, capacity, coalesce(sum(amount), 0) FROM resource LEFT JOIN allocation
ON resource = resource.id AND pool IS NULL WHERE per_us IS NULL GROUP BY resource.id
"""
IN_LEDGER = "SELECT count(*) FROM holder WHERE pid = ?"
ALLOTTED = """
SELECT resource, sum(amount) FROM
(SELECT resource, amount FROM allotment UNION ALL SELECT resource, amount FROM hold_amount) GROUP BY resource
"""
ROWS_OF_STATE = "SELECT (SELECT count(*) FROM allocation), (SELECT count(*) FROM resource_wait)"
ROWS_OF_LEDGER = """
SELECT (SELECT count(*) FROM holder), (SELECT count(*) FROM allotment), (SELECT count(*) FROM hold),
       (SELECT count(*) FROM wait)
"""


@dataclass(frozen=True)
class Effect:
    """One line that an action wrote."""

    word: str
    at_ns: int
    name: str
    pid: int
    parent: int


class Host:
    """One process with an engine or a manager."""

    def __init__(self, process: subprocess.Popen[str], state: Path) -> None:
        self.process = process
        self.state = state
        self.pid = process.pid

    def hear(self) -> Any:
        """The next document that it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"process {self.pid} ended with {self.process.wait()}"
        return json.loads(line)

    def tell(self, **command: Any) -> Any:
        """Gives a command and returns the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self.hear()

    def kill(self) -> float:
        """`kill -9`; returns the instant just before."""
        killed_s = time.monotonic()
        self.process.send_signal(signal.SIGKILL)
        return killed_s

    def leave(self) -> None:
        """Ends in good order."""
        self.process.communicate(timeout=60)
        assert self.process.returncode == 0

    def bury(self) -> None:
        """Collects a process that was killed."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


@dataclass
class SharedHost:
    """See the module. `machine` are settings: `cpu`, `gpu`, `memory`."""

    folder: Path
    machine: Mapping[str, str]
    hosts: list[Host] = field(default_factory=list)
    databases: dict[Path, SQLiteDatabase] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.oracle = self.folder / "oracle"
        self.oracle.mkdir()
        shutil.copy(oracle_actions.__file__, self.folder / "oracle_steps.py")  # a name that nothing else has
        self.capacity = {"sys-compute": round(float(self.machine["cpu"]) * 1000)}
        self.capacity |= {f"gpu-{number}": 10_000 for number in range(int(self.machine.get("gpu", "0")))}
        if "memory" in self.machine:
            self.capacity["sys-memory"] = int(self.machine["memory"])

    # -- processes -------------------------------------------------------------------------------

    def open(self, state: str, kind: str = "engine") -> Host:
        """Starts an engine (or a manager) on a state; returns when it is open."""
        host = self.begin(state, kind)
        assert host.hear() == {"pid": host.pid}
        return host

    def begin(self, state: str, kind: str = "engine") -> Host:
        """Starts one and does not wait."""
        settings = {f"CODOMYRMEX_RESOURCES_{name.upper()}": value for name, value in self.machine.items()}
        process = subprocess.Popen(
            [sys.executable, SCRIPT, kind, self.folder / state, self.folder],
            cwd=self.folder,
            env={**os.environ, **settings, oracle_actions.FOLDER: str(self.oracle)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        host = Host(process, self.folder / state)
        self.hosts.append(host)
        return host

    def end(self) -> None:
        """Whatever has happened: none of them lives on."""
        for host in self.hosts:
            host.bury()
        for database in self.databases.values():
            database.close()

    # -- what is written for them ----------------------------------------------------------------

    def workflow(self, name: str, steps: Steps) -> str:
        """Writes a workflow of `hold`s: each step is that of a file with what it holds for `with`."""
        calls = [{"call": "oracle_steps:hold", **step} for step in steps]
        file = self.folder / f"{name}.json"
        file.write_text(json.dumps({"codomyrmex": 1, "name": name, "steps": calls}))
        return str(file)

    def add(self, state: str, *resources: Resource) -> None:
        """Puts named resources into a state that nobody has open."""
        with ResourceManager(state=self.folder / state) as manager:
            for resource in resources:
                manager.add_resource(resource)

    # -- what is seen of them --------------------------------------------------------------------

    def state(self, state: str | Path) -> SQLiteDatabase:
        """A connection of the test's own."""
        return self._database(self.folder / state / "state.db")

    def ledger(self) -> SQLiteDatabase:
        """The same of the host's ledger."""
        return self._database(Path(os.environ["CODOMYRMEX_HOST_DIR"]) / "ledger.db")

    def _database(self, path: Path) -> SQLiteDatabase:
        if path not in self.databases:
            kind = LEDGER if path.name == "ledger.db" else STATE
            self.databases[path] = SQLiteDatabase.open(path, kind=kind)
        return self.databases[path]

    def held_by(self, host: Host, *, ledger_only: bool = False) -> int:
        """How many rows of a process there are: allocations and waits of its state, its holder in the ledger."""
        count = self.ledger().query(IN_LEDGER, (host.pid,))[0][0]
        if not ledger_only:
            count += sum(self.state(host.state).query(HELD, (host.pid,))[0])
        return int(count)

    def overdrawn(self, *states: str) -> list[str]:
        """Everything of which more is held than there is."""
        found = []
        for state in states:
            for id, capacity, used in self.state(state).query(USED):
                if not 0 <= used <= capacity:
                    found.append(f"{used} of {capacity} {id} in {state}")
        for id, used in self.ledger().query(ALLOTTED):
            if not 0 <= used <= self.capacity.get(id, used):
                found.append(f"{used} of {self.capacity[id]} {id}")
        return found

    def token(self, host: Host) -> str:
        """What the processes of an engine carry; "" of one that died before it had one."""
        rows = self.state(host.state).query("SELECT token FROM engine WHERE pid = ?", (host.pid,))
        return str(rows[-1][0]) if rows else ""

    def is_over(self, state: str, run_id: str) -> bool:
        """Whether a run is terminal."""
        rows = self.state(state).query("SELECT status FROM run WHERE id = ?", (run_id,))
        return bool(rows) and rows[0][0] in ("completed", "failed", "cancelled")

    def status(self, state: str, run_id: str) -> str:
        """How a run stands."""
        return str(self.state(state).query("SELECT status FROM run WHERE id = ?", (run_id,))[0][0])

    def effects(self) -> list[Effect]:
        """What the actions wrote, in the order in which they wrote it."""
        file = self.oracle / oracle_actions.EFFECTS
        lines = file.read_text().splitlines() if file.exists() else []
        return [Effect(*json.loads(line)) for line in lines]

    def left(self, *states: str) -> dict[str, Any]:
        """Whatever is left when all have gone: rows by table, processes. Empty when nothing is."""
        found: dict[str, Any] = {}
        for state in states:
            rows = self.state(state).query(ROWS_OF_STATE)[0]
            processes = left_over(engine_tokens(self.state(state)))
            found |= {f"allocations and waits of {state}": rows} if any(rows) else {}
            found |= {f"processes of {state}": processes} if processes else {}
        rows = self.ledger().query(ROWS_OF_LEDGER)[0]
        found |= {"holders, allotments, holds and waits of the host": rows} if any(rows) else {}
        return found


def named(name: str, capacity: float) -> Resource:
    """A lock or a semaphore."""
    return Resource(name, name, ResourceType.CUSTOM, capacity)


def quota(name: str, capacity: float, per_s: float, burst: float | None) -> Resource:
    """Calls of an API."""
    return Resource(name, name, ResourceType.API_QUOTA, capacity, per_s=per_s, burst=burst)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which such a share of them lies; of few values the largest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def settled(host: SharedHost, state: str, run_ids: Sequence[str], timeout_s: float) -> list[str]:
    """Waits until these runs are over; returns how each ended."""
    for run_id in run_ids:
        wait_until(lambda: host.is_over(state, run_id), timeout_s=timeout_s, what=f"the end of {run_id}")  # noqa: B023
    return [host.status(state, run_id) for run_id in run_ids]
