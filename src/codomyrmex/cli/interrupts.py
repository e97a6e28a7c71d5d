"""Ctrl-C while a run is hosted: the first asks it to end, the second kills it, a third leaves at once.

A signal handler may come between any two instructions, so it only counts; who follows the run looks at
the count at every refresh. Outside the `with` Ctrl-C is a KeyboardInterrupt as everywhere.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class Interrupts:
    """Counts Ctrl-C while it is entered; in the main thread only, elsewhere it counts nothing."""

    def __init__(self) -> None:
        self.count = 0
        self._before: signal._HANDLER = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 2:
            raise KeyboardInterrupt
