"""The program on a terminal of its own: what a person sees of it."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios


def on_a_terminal(*words: str, columns: int = 80) -> tuple[int, str]:
    """Runs the program on a terminal so many columns wide; its exit code and all that it wrote there."""
    child, terminal = pty.fork()
    if child == 0:  # pragma: no cover - the other process
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        # Not what the C library takes for the environment: readline has written a width of its own there.
        environment = {**os.environ, "TERM": "xterm"}
        os.execve(sys.executable, [sys.executable, "-m", "codomyrmex", *words], environment)
    written = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        written += part
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), written.decode()
