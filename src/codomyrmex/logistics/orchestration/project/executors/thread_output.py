"""What thread and coroutine attempts print, put into their logs.

Layer: executors. A process has descriptors of its own; a thread shares `sys.stdout` with its engine. While
`captured()` is in force, the two standard streams are proxies that look at who writes: inside an attempt the
text goes to the attempt's log, everywhere else to the stream that was there before. The command line uses it,
because its own standard output belongs to results; a program that embeds an engine keeps its streams.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from codomyrmex.current_task import NoCurrentTask, current_task
from codomyrmex.logistics.orchestration.project.executors.worker import redaction


class _Proxy(io.TextIOBase):
    """A stream that writes into the log of the attempt that writes to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            task = current_task()
        except NoCurrentTask:
            return self._stream.write(text)
        return len(text) if task.write_log(text) else self._stream.write(redaction.hide(text))

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self._stream.errors

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def captured() -> Iterator[None]:
    """Inside the block, what attempts in threads print goes to their logs."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Proxy(before[0]), _Proxy(before[1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
