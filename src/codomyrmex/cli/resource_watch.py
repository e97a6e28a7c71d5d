"""`codomyrmex resources usage --watch`: the same table again every second, until Ctrl-C."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from codomyrmex.cli.invocation import Invocation
from codomyrmex.cli.resource_text import usage_lines
from codomyrmex.cli.terminal import Terminal
from codomyrmex.logistics.orchestration.project.resource_views import ResourceView

EVERY_S = 1.0


def watch_usage(
    invocation: Invocation,
    look: Callable[[], Sequence[ResourceView]],
    *,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Shows what `look` gives until KeyboardInterrupt: on a terminal in place, else only what has changed."""
    output = invocation.output
    screen = _Screen(output.out)
    while True:
        found = look()
        if output.json:
            now = datetime.now(UTC).isoformat()
            output.record({"event": "usage", "at": now, "resources": [each.to_dict() for each in found]})
        else:
            screen.show(usage_lines(output.out, found))
        wait(EVERY_S)


class _Screen:
    """The last lines shown, which the next ones replace where the stream is a terminal."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._moves = terminal.is_tty and os.environ.get("TERM", "dumb") != "dumb"
        self._shown: list[str] = []

    def show(self, lines: list[str]) -> None:
        """Shows the lines; nothing where they are the same as before."""
        if lines == self._shown:
            return
        if self._moves:
            # More than the screen has could not be replaced: what has scrolled away stays.
            lines = lines[: max(2, shutil.get_terminal_size().lines - 1)]
            if self._shown:
                self._terminal.stream.write(f"\x1b[{len(self._shown)}F\x1b[J")
        elif self._shown:
            self._terminal.line()
        for line in lines:
            self._terminal.line(line)
        self._terminal.flush()
        self._shown = lines
