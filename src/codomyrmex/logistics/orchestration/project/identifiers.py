"""Ids of runs and of tasks submitted alone, made by chance.

Layer: low; how they look stands in `run_ids`.
"""

from __future__ import annotations

import os

from codomyrmex.logistics.orchestration.project.run_ids import id_of


def new_id() -> str:
    """An id that nothing has yet."""
    return id_of(int.from_bytes(os.urandom(8)))
