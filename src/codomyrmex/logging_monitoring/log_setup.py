"""Loggers, the JSON formatter, and the redactor.

Layer: logging. One line is one JSON object: `at` (UTC, ISO 8601), `level`, `logger`, `message`, the bound
context, the `extra` fields and the exception. Values of fields whose names say that they are secret, and
exact secret texts given to `redact`, never reach a handler that uses this formatter.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TextIO

from codomyrmex.logging_monitoring.log_context import current_context

_SECRET_NAME = re.compile(r"pass(word|phrase)|secret|token|api_?key|authorization|credential", re.IGNORECASE)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
SHORTEST_SECRET = 6
"""Shorter texts are not looked for: they would blot out half of every log."""
HIDDEN = "***"


def get_logger(name: str) -> logging.Logger:
    """The logger of a module; names outside `codomyrmex` are put below it."""
    return logging.getLogger(name if name.partition(".")[0] == "codomyrmex" else f"codomyrmex.{name}")


class JsonFormatter(logging.Formatter):
    """One record as one line of JSON."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._secrets = [secret for secret in secrets if len(secret) >= SHORTEST_SECRET]

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {"at": at, "level": record.levelname.lower(), "logger": record.name}
        line["message"] = record.getMessage()
        line.update(current_context())
        line.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        hidden = {key: HIDDEN if _SECRET_NAME.search(key) else value for key, value in line.items()}
        return redact(json.dumps(hidden, default=str, ensure_ascii=False), self._secrets)


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` without any of the exact `secrets` in it."""
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, HIDDEN)
    return text


def configure(
    stream: TextIO, *, level: int = logging.WARNING, secrets: Iterable[str] = ()
) -> logging.Handler:
    """Sends our log to `stream` as JSON lines; returns the handler, so that the caller can take it away."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(secrets))
    root = logging.getLogger("codomyrmex")
    root.addHandler(handler)
    root.setLevel(level)
    return handler
