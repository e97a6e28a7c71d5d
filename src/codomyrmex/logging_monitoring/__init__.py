"""Structured logs on the standard library's logging: context, a JSON formatter, redaction.

Layer: below everything that runs work. Loggers live under `codomyrmex`; nothing is configured at import,
so a library user's own logging set-up stands. `configure` is for the command line.
"""

from __future__ import annotations

from codomyrmex.logging_monitoring.log_context import bound, current_context
from codomyrmex.logging_monitoring.log_setup import configure, get_logger

__all__ = ["bound", "configure", "current_context", "get_logger"]
