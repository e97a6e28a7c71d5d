"""Definitions by the hash of their content: what ran can always be read again.

Layer: above storage and the pure modules. A definition is immutable; its canonical JSON is kept
compressed, and a run names the hash it was started with, so editing the file changes no run.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import msgspec

from codomyrmex.exceptions import StoreCorrupt
from codomyrmex.logistics.orchestration.project.compiled_workflow import encode_document
from codomyrmex.logistics.storage.database import Database, Transaction

INSERT = "INSERT INTO definition (hash, name, body, created_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
READ = "SELECT body FROM definition WHERE hash = ?"
REGISTER = """
INSERT INTO registered_workflow (name, hash, updated_at) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, updated_at = excluded.updated_at
"""
REGISTERED = "SELECT hash FROM registered_workflow WHERE name = ?"
REGISTERED_NAMES = "SELECT name FROM registered_workflow ORDER BY name"


def insert(tx: Transaction, document: Mapping[str, Any], *, hash: str, now_us: int) -> None:
    """Keeps a definition; does nothing when its content is there already."""
    body = zlib.compress(encode_document(document), 1)
    tx.execute(INSERT, (hash, document["name"], body, now_us))


def read(database: Database, hash: str) -> dict[str, Any]:
    """The document of a hash; raises `StoreCorrupt` when it is not there or cannot be read."""
    rows = database.query(READ, (hash,))
    if not rows:
        raise StoreCorrupt(f"definition {hash[:12]} is not in the store")
    try:
        document: dict[str, Any] = msgspec.json.decode(zlib.decompress(bytes(rows[0][0])))
    except (zlib.error, msgspec.DecodeError) as error:
        raise StoreCorrupt(f"definition {hash[:12]} cannot be read: {error}") from error
    return document


def register(tx: Transaction, name: str, *, hash: str, now_us: int) -> None:
    """Makes `name` mean the definition `hash` from now on."""
    tx.execute(REGISTER, (name, hash, now_us))


def registered(database: Database, name: str) -> str | None:
    """The hash that a registered name means, or None."""
    rows = database.query(REGISTERED, (name,))
    return rows[0][0] if rows else None


def registered_names(database: Database) -> list[str]:
    """All registered names, sorted."""
    return [row[0] for row in database.query(REGISTERED_NAMES)]
