"""A hint between processes: "look at the intents now".

Layer: the engine's shell. Every engine listens on a datagram socket below `run/`; a client that wrote an
intent sends one byte there. Nothing depends on it: the engine polls the database's version anyway, the
byte only saves the wait. Paths of sockets are limited to some hundred bytes, so a long one is replaced by
a hashed name in the runtime or temporary folder.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from threading import Thread

LONGEST_PATH_BYTES = 100
_STOP = b"."
_NUDGE = b"!"


def socket_path(state_dir: Path, epoch: int) -> Path:
    """Where the engine of this epoch listens."""
    plain = state_dir / "run" / f"engine-{epoch}.sock"
    if len(os.fsencode(plain)) <= LONGEST_PATH_BYTES:
        return plain
    import tempfile

    digest = hashlib.sha256(os.fsencode(plain)).hexdigest()[:24]
    return Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir(), f"codomyrmex-{digest}.sock")


def nudge(state_dir: Path, epoch: int) -> None:
    """Sends the hint; an engine that does not listen will find out by itself."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        try:
            sender.sendto(_NUDGE, os.fspath(socket_path(state_dir, epoch)))
        except OSError:
            return


class NudgeSocket:
    """The listening end; `on_nudge` is called in a thread of its own and must only pass the word on."""

    def __init__(self, state_dir: Path, epoch: int, on_nudge: Callable[[], None]) -> None:
        self._path = socket_path(state_dir, epoch)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(os.fspath(self._path))
        self._on_nudge = on_nudge
        self._thread = Thread(target=self._listen, name="codomyrmex-nudge", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening and removes the socket; idempotent."""
        if self._socket.fileno() < 0:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            try:
                sender.sendto(_STOP, os.fspath(self._path))
            except OSError:
                self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=2)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _listen(self) -> None:
        while True:
            try:
                data = self._socket.recv(16)
            except OSError:
                return
            if data != _NUDGE:
                return
            self._on_nudge()
