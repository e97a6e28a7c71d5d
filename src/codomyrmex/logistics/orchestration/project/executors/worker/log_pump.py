"""The way of an attempt's output through a redactor, for attempts that have secrets.

Layer: worker. Descriptors 1 and 2 of the runner become a pipe; whatever it starts inherits them. The
supervisor reads the other end, hides the values and writes the rest into the spool:

    runner, its children --- pipe --- supervisor: redactor --- spool file (and so the log)
    runner --- socket: begin (secrets, pipe, spool), end ---> supervisor

The supervisor does it because it outlives all that can write: no crash, kill or loop of the user's code can
keep it from taking the last words out of the pipe, and a thread beside that code could be blocked by it. A
runner waits at the end of its attempt until what is in the pipe has been written, but not for processes that
hold the pipe open: what those write later still goes into the log of their attempt.
"""

from __future__ import annotations

import json
import os
import socket
import struct

from .redaction import Redactor

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select
    from collections.abc import Container, Mapping
    from typing import Optional

    from .redaction import Stream

_LENGTH = struct.Struct(">I")
_CHUNK_BYTES = 65536
_CHUNKS_AT_ONCE = 16
"""So much is copied before the supervisor looks after its other duties; more than a pipe holds by default."""
_OPEN, _OVER = b"o", b"e"
_READABLE = 1  # select.POLLIN


class PumpedOutput:
    """The runner's side: from here to `end` everything that is written passes the redactor."""

    def __init__(self, channel: socket.socket, secrets: Mapping[str, str]) -> None:
        self._channel = channel
        self._spool = os.dup(1)
        reading, writing = os.pipe()
        try:
            body = json.dumps(dict(secrets)).encode()
            socket.send_fds(channel, [_LENGTH.pack(len(body))], [reading, self._spool])
            channel.sendall(body)
            os.dup2(writing, 1)
            os.dup2(writing, 2)
        finally:
            os.close(reading)
            os.close(writing)

    def end(self) -> bool:
        """Gives the spool back; returns once all that was written is in it. False while others still write."""
        os.dup2(self._spool, 1)
        os.dup2(self._spool, 2)
        os.close(self._spool)
        self._channel.sendall(_LENGTH.pack(0))
        return self._channel.recv(1) != _OPEN


class _Flow:
    """One pipe on its way into one spool."""

    __slots__ = ("reading", "spool", "stream")

    def __init__(self, reading: int, spool: int, stream: Stream[bytes]) -> None:
        self.reading = reading
        self.spool = spool
        self.stream = stream

    def copy(self) -> bool:
        """Copies what is there now, up to a few chunks; False at the end of the pipe."""
        for _ in range(_CHUNKS_AT_ONCE):
            try:
                chunk = os.read(self.reading, _CHUNK_BYTES)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            self._write(self.stream.feed(chunk))
        return True

    def close(self) -> None:
        """Writes what was held back and lets go of both ends."""
        self._write(self.stream.feed(b"", final=True))
        os.close(self.reading)
        os.close(self.spool)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self.spool, view) :]
        except OSError:
            return  # the log has no space: that is no fault of the attempt


class LogPump:
    """The supervisor's side; nothing is there to do until an attempt has secrets."""

    def __init__(self) -> None:
        self._near, self.channel = socket.socketpair()
        self._near.setblocking(False)
        self._poller: Optional[select.poll] = None
        self._flows: dict[int, _Flow] = {}
        self._newest: Optional[_Flow] = None
        self._data = b""
        self._received: list[int] = []

    def attach(self, poller: select.poll) -> None:
        """Lets `poller` see what there is to do, now and later; closes the runner's end in this process."""
        self.channel.close()
        self._poller = poller
        poller.register(self._near, _READABLE)

    def handle(self, ready: Container[int]) -> None:
        """Copies from what is ready."""
        if self._near.fileno() in ready:
            self._take_messages()
        for flow in [flow for flow in self._flows.values() if flow.reading in ready]:
            self._copy(flow)

    def work(self) -> None:
        """Copies what is there, without a poller's word for it."""
        self._take_messages()
        for flow in list(self._flows.values()):
            self._copy(flow)

    def finish(self) -> None:
        """Takes what is left in the pipes, once all that wrote into them has ended."""
        self._take_messages()
        for flow in list(self._flows.values()):
            while flow.reading in self._flows and self._copy(flow):
                if not _has_more(flow.reading):
                    self._drop(flow)

    def _copy(self, flow: _Flow) -> bool:
        if flow.copy():
            return True
        self._drop(flow)
        return False

    def _drop(self, flow: _Flow) -> None:
        del self._flows[flow.reading]
        if self._poller is not None:
            self._poller.unregister(flow.reading)
        if self._newest is flow:
            self._newest = None
        flow.close()

    def _take_messages(self) -> None:
        while self._receive():
            while len(self._data) >= _LENGTH.size:
                end = _LENGTH.size + _LENGTH.unpack_from(self._data)[0]
                if len(self._data) < end:
                    break
                body, self._data = self._data[_LENGTH.size : end], self._data[end:]
                if body:
                    self._begin(body)
                else:
                    self._answer()

    def _receive(self) -> bool:
        """Whether anything came."""
        try:
            data, descriptors, _flags, _address = socket.recv_fds(self._near, _CHUNK_BYTES, 2)
        except OSError:
            return False
        self._data += data
        self._received += descriptors
        if not data and self._poller is not None:
            self._poller.unregister(self._near)  # the runner has ended; a closed end is readable for ever
            self._near.close()
        return bool(data)

    def _begin(self, body: bytes) -> None:
        reading, spool = self._received
        self._received = []
        for descriptor in (reading, spool):
            os.set_inheritable(descriptor, False)
        os.set_blocking(reading, False)
        flow = _Flow(reading, spool, Redactor(json.loads(body)).stream())
        self._flows[reading] = self._newest = flow
        if self._poller is not None:
            self._poller.register(reading, _READABLE)

    def _answer(self) -> None:
        """The attempt has ended: all that it wrote is in its pipe, and the pipe is read now."""
        flow = self._newest
        still_open = flow is not None and self._copy(flow)
        self._near.send(_OPEN if still_open else _OVER)


def _has_more(descriptor: int) -> bool:
    import select

    poller = select.poll()
    poller.register(descriptor, _READABLE)
    return any(event & _READABLE for _, event in poller.poll(0))
