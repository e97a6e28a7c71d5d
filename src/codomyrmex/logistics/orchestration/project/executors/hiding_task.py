"""What an action sees of an attempt in a thread or a coroutine that was given secrets.

Layer: executors. Its log, its printing and its notes are those of the engine's process, so the values are
hidden here, before anything is written or told: in a worker process a redactor stands behind the descriptors
instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codomyrmex.current_task import CurrentTask
from codomyrmex.logistics.orchestration.project.executors.worker.redaction import Redactor

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping


class HidingTask(CurrentTask):
    """A current task from which no secret leaves."""

    __slots__ = ("_hides_log", "_redactor", "_stream")

    def __init__(
        self,
        *,
        secrets: Mapping[str, str],
        note: Callable[[dict[str, Any]], None] | None,
        **fields: Any,
    ) -> None:
        redactor = self._redactor = Redactor(secrets)
        self._stream = redactor.text_stream()
        self._hides_log = False
        told = None if note is None else lambda fields: note(redactor.note(fields))
        super().__init__(secrets=secrets, note=told, **fields)

    @property
    def log(self) -> logging.Logger:
        """The logger of the base; the records are changed, so that handlers further up get no value either."""
        logger = super().log
        if not self._hides_log:
            logger.addFilter(self._hide)
            self._hides_log = True
        return logger

    def write_log(self, text: str) -> bool:
        """What might be the beginning of a value is written with what follows it, at the latest by `close`."""
        return super().write_log(self._stream.feed(text))

    def close(self) -> None:
        rest = self._stream.feed("", final=True)
        if rest:
            super().write_log(rest)
        super().close()

    def _hide(self, record: logging.LogRecord) -> bool:
        import logging

        record.msg, record.args = self._redactor.text(record.getMessage()), None
        if record.exc_info:
            text = logging.Formatter().formatException(record.exc_info)
            record.exc_text, record.exc_info = self._redactor.text(text), None
        if record.stack_info:
            record.stack_info = self._redactor.text(record.stack_info)
        return True
