"""Kept results of steps with a cache: the SQL of the table `cache`.

Layer: above storage; holds no state. A row is written in the transaction that records the result it was made
from, so no result is ever found here that no run has; a later row of the same key replaces the earlier one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import msgspec

from codomyrmex.logistics.storage.database import Database, Row, Transaction

INSERT = """
INSERT INTO cache (key, workflow, step, item, run, position, parts, result, check_sum, outputs, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET workflow = excluded.workflow, step = excluded.step, item = excluded.item,
    run = excluded.run, position = excluded.position, parts = excluded.parts, result = excluded.result,
    check_sum = excluded.check_sum, outputs = excluded.outputs, created_at = excluded.created_at
"""
_COLUMNS = """
SELECT run.id, cache.parts, cache.result, cache.check_sum, cache.outputs, cache.created_at
FROM cache LEFT JOIN run ON run.number = cache.run
"""
FIND = f"{_COLUMNS} WHERE cache.key = ?"
LATEST = f"""
{_COLUMNS} WHERE cache.workflow = ? AND cache.step = ? AND cache.item IS ?
ORDER BY cache.created_at DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """One kept result.

    `result` is as a task's row holds it, or None where its check sum is wrong; `run_id` is the run that it was
    made in, None where that is gone; `outputs` are the files that the step wrote, with their hashes.
    """

    run_id: str | None
    result: bytes | None
    created_us: int
    parts: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)


def insert_many(tx: Transaction, rows: Iterable[Row]) -> None:
    """Keeps results: rows in the order of the table's columns."""
    tx.execute_many(INSERT, rows)


def find(database: Database, key: str) -> CacheEntry | None:
    """The result kept under a key."""
    rows = database.query(FIND, (key,))
    return _entry(rows[0]) if rows else None


def latest(database: Database, workflow: str, step: str, item: int | None) -> CacheEntry | None:
    """The newest result of a step, or of one of its items, whatever its key."""
    rows = database.query(LATEST, (workflow, step, item))
    return _entry(rows[0]) if rows else None


def row_of(
    key: str,
    place: tuple[str, str, int | None, int, int],
    parts: Any,
    result: bytes,
    outputs: Any,
    now_us: int,
) -> Row:
    """A row for `insert_many`; `place` is (workflow, step, item, run number, position)."""
    kept = msgspec.json.encode(outputs).decode() if outputs else None
    return (key, *place, msgspec.json.encode(parts).decode(), result, crc32(result), kept, now_us)


def _entry(row: Row) -> CacheEntry:
    run_id, parts, result, check_sum, outputs, created_at = row
    data = None if result is None else bytes(result)
    return CacheEntry(
        run_id=run_id,
        result=data if data is not None and crc32(data) == check_sum else None,
        created_us=created_at,
        parts=msgspec.json.decode(parts),
        outputs=msgspec.json.decode(outputs) if outputs else {},
    )
