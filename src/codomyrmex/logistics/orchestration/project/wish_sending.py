"""A client sends a wish: a row in the state, and a nudge for the engine that owns the run.

Layer: above the stores, below the engine; needs no engine of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from codomyrmex.exceptions import RunNotFound
from codomyrmex.logistics.orchestration.project import intent_store
from codomyrmex.logistics.storage.database import Database


def ask_owner(
    database: Database,
    state_dir: Path | None,
    run_id: str,
    kind: str,
    *,
    now_us: int,
    payload: dict[str, Any] | None = None,
    by: str | None = None,
) -> None:
    """Writes what is asked of a run and nudges its owner; it survives both. `by` is the login name if not given."""
    from getpass import getuser

    from codomyrmex.logistics.orchestration.project.nudge import nudge

    rows = database.query("SELECT number, epoch FROM run WHERE id = ?", (run_id,))
    if not rows:
        raise RunNotFound(run_id)
    number, epoch = rows[0]
    with database.transaction(barrier=True) as tx:
        intent_store.ask(tx, run=number, kind=kind, by=by or getuser(), now_us=now_us, payload=payload)
    if state_dir is not None:
        nudge(state_dir, epoch)
