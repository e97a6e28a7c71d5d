"""Warnings of an engine in this process, told between the lines of the report instead of across them."""

from __future__ import annotations

import logging
from collections import deque
from types import TracebackType
from typing import Self

_LOGGER = "codomyrmex"
_MOST = 1000


class EngineWarnings(logging.Handler):
    """While it is entered, keeps what our loggers say at WARNING and above; `take` hands it over."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._kept: deque[str] = deque(maxlen=_MOST)

    def __enter__(self) -> Self:
        logging.getLogger(_LOGGER).addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger(_LOGGER).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps one record; called on whatever thread logs."""
        self._kept.append(record.getMessage())

    def take(self) -> list[str]:
        """What came since the last call, oldest first; the same text in a row only once."""
        taken: list[str] = []
        while self._kept:
            text = self._kept.popleft()
            if not taken or taken[-1] != text:
                taken.append(text)
        return taken
