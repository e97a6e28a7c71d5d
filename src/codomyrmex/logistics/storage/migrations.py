"""The numbered steps that bring a state's tables up to date, and the mark that says they are ours.

Layer: `logistics.storage`. A step is a file `migrations/NNNN_name.sql`; the number of the last one applied
stands in `PRAGMA user_version`, and `PRAGMA application_id` tells a state of ours from any other database.
Each step is one transaction. Before an existing state is changed a copy of it is made beside it, through
the backup API. A state that is newer than this package is refused, never touched. Other databases of ours
(the ledger of the host) have tables and a mark of their own: each is a `Kind`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import apsw

from codomyrmex.exceptions import StoreCorrupt, StoreTooNew

APPLICATION_ID = 0x434F444F  # "CODO"
_FOLDER = os.path.join(os.path.dirname(__file__), "migrations")
_LEDGER_FOLDER = os.path.join(os.path.dirname(__file__), "ledger_migrations")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a database of ours is for: its mark, the folder of its steps, and how its file is kept.

    `volatile`: nothing in it outlives the processes that use it, so it is never synced. `mode`: of its files.
    """

    application_id: int = APPLICATION_ID
    folder: str = _FOLDER
    volatile: bool = False
    mode: int = 0o600


STATE = Kind()
LEDGER = Kind(application_id=0x434F444C, folder=_LEDGER_FOLDER, volatile=True)  # "CODL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step; `sql` is a script without BEGIN and COMMIT."""

    number: int
    name: str
    path: str

    def sql(self) -> str:
        with open(self.path, encoding="utf-8") as file:
            return file.read()


def known_migrations(folder: str = _FOLDER) -> list[Migration]:
    """All steps that this package knows, in order; their numbers run from 1 without a gap."""
    found = []
    for name in sorted(os.listdir(folder)):
        stem, extension = os.path.splitext(name)
        if extension == ".sql":
            number, _, title = stem.partition("_")
            found.append(Migration(number=int(number), name=title, path=os.path.join(folder, name)))
    if [step.number for step in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"the migrations in {folder} are not numbered 1, 2, 3...")
    return found


def pending_migrations(
    connection: apsw.Connection, path: str, known: Sequence[Migration], kind: Kind = STATE
) -> Sequence[Migration]:
    """The steps that a state still needs; raises `StoreTooNew` or `StoreCorrupt` for what is not ours."""
    mark = _number(connection, "PRAGMA application_id")
    version = _number(connection, "PRAGMA user_version")
    is_empty = not (mark or version or _number(connection, "SELECT count(*) FROM sqlite_schema"))
    if mark != kind.application_id and not is_empty:
        raise StoreCorrupt(
            f"{path} is a database of another program, not a state of codomyrmex",
            hint="name another place with --state",
        )
    if version > len(known):
        raise StoreTooNew(
            f"the state {path} has schema {version}; this codomyrmex knows schemas up to {len(known)}",
            hint="use the newer codomyrmex that wrote it, or name another place with --state",
        )
    return known[version:]


def migrate(connection: apsw.Connection, path: str, known: Sequence[Migration], kind: Kind = STATE) -> int:
    """Applies what is missing and returns how many steps that were; the caller holds the lock."""
    missing = pending_migrations(connection, path, known, kind)
    if missing and missing[0].number > 1:
        copy_state(connection, f"{path}.schema-{missing[0].number - 1}")
    for step in missing:
        _apply(connection, step, kind)
    return len(missing)


def copy_state(connection: apsw.Connection, target: str) -> None:
    """Writes a whole, consistent copy of the database to `target`; only a finished one replaces another."""
    unfinished = f"{target}.part"
    if os.path.lexists(unfinished):
        os.unlink(unfinished)
    os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    copy = apsw.Connection(unfinished, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        with copy.backup("main", connection, "main") as backup:
            while not backup.done:
                backup.step(-1)
        # A copy that is one file can be put back by moving it.
        list(copy.execute("PRAGMA journal_mode=DELETE"))
    finally:
        copy.close()
    os.replace(unfinished, target)


def _apply(connection: apsw.Connection, step: Migration, kind: Kind) -> None:
    try:
        list(connection.execute("BEGIN IMMEDIATE"))
        list(connection.execute(step.sql()))
        list(
            connection.execute(
                f"PRAGMA application_id={kind.application_id}; PRAGMA user_version={step.number}"
            )
        )
        list(connection.execute("COMMIT"))
    except BaseException:
        if connection.in_transaction:
            list(connection.execute("ROLLBACK"))
        raise


def _number(connection: apsw.Connection, sql: str) -> int:
    number: Any = connection.execute(sql).get
    return int(number)
