"""Length-prefixed messages between an engine and a worker.

Layer: worker; both ends use it. A frame is two big-endian 32-bit lengths, a JSON header, and a body of raw
bytes: parameters and results pass through without being parsed again.
"""

from __future__ import annotations

import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

_LENGTHS = struct.Struct(">II")
_CHUNK_BYTES = 65536
MAX_BODY_BYTES = 2**31


class FrameTooLarge(ValueError):
    """A body over 2 GiB; values of that size belong in a file."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        super().__init__(
            f"{size_bytes} bytes are more than a value may have ({MAX_BODY_BYTES}); "
            "write a file and pass its path"
        )


def send_frame(connection: socket.socket, header: bytes, body: bytes = b"") -> None:
    """Writes one frame; raises OSError when the other side is gone."""
    if len(body) > MAX_BODY_BYTES:
        raise FrameTooLarge(len(body))
    lengths = _LENGTHS.pack(len(header), len(body))
    if len(body) <= _CHUNK_BYTES:
        connection.sendall(lengths + header + body)
        return
    connection.sendall(lengths + header)
    connection.sendall(body)


class FrameReader:
    """Reads frames from a blocking stream socket."""

    __slots__ = ("_connection", "_rest")

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""

    @property
    def pending(self) -> bool:
        """True when bytes of a further frame have already been read."""
        return bool(self._rest)

    def read(self) -> Optional[tuple[bytes, bytes]]:
        """The next header and body; None once the other side has closed, also in the middle of a frame."""
        data = self._rest
        while len(data) < _LENGTHS.size:
            chunk = self._connection.recv(_CHUNK_BYTES)
            if not chunk:
                return None
            data += chunk
        header_size, body_size = _LENGTHS.unpack_from(data)
        start = _LENGTHS.size + header_size
        end = start + body_size
        if len(data) < end:
            filled = self._fill(data, end)
            if filled is None:
                return None
            data = filled
        self._rest = data[end:]
        return data[_LENGTHS.size : start], data[start:end]

    def read_ready(self) -> Optional[tuple[bytes, bytes]]:
        """The next frame if it is there as a whole, after at most one `recv`; never waits.

        None otherwise, also at the end; `read` goes on from there.
        """
        data = self._rest
        for attempt in (0, 1):
            if len(data) >= _LENGTHS.size:
                header_size, body_size = _LENGTHS.unpack_from(data)
                start = _LENGTHS.size + header_size
                end = start + body_size
                if len(data) >= end:
                    self._rest = data[end:]
                    return data[_LENGTHS.size : start], data[start:end]
            if not attempt:
                try:
                    data += self._connection.recv(_CHUNK_BYTES, socket.MSG_DONTWAIT)
                except OSError:
                    break
        self._rest = data
        return None

    def _fill(self, data: bytes, size: int) -> Optional[bytes]:
        """`data` and what follows, up to `size` bytes."""
        whole = bytearray(size)
        whole[: len(data)] = data
        view = memoryview(whole)
        done = len(data)
        while done < size:
            count = self._connection.recv_into(view[done:])
            if count == 0:
                return None
            done += count
        return bytes(whole)
