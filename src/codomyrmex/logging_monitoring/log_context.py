"""Which run, task and attempt a log line belongs to.

Layer: logging. The context is a `ContextVar`, so it follows threads only where it is set and coroutines
everywhere; `bound` adds fields for the time of a block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_EMPTY: Mapping[str, object] = {}
_context: ContextVar[Mapping[str, object]] = ContextVar("codomyrmex_log_context", default=_EMPTY)


def current_context() -> Mapping[str, object]:
    """The fields bound here, outermost first."""
    return _context.get()


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Adds `fields` to every log line written inside the block."""
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)
