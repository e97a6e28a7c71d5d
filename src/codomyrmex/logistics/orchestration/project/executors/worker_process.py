"""The engine's end of one worker: starting it, talking to it, seeing it end.

Layer: executors. A worker is a supervisor and a runner (see `worker.supervisor`). Two sockets lead to it: the
connection carries frames to and from the runner, the control socket carries commands to the supervisor and
its verdict back. The control socket's end of file, with or without a verdict, means that both processes are
gone.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec

from codomyrmex.logistics.orchestration.project.executors.process_tree import (
    ENGINE_VARIABLE,
    WORKER_VARIABLE,
    kill_marked,
)
from codomyrmex.logistics.orchestration.project.executors.worker.frames import FrameReader, send_frame
from codomyrmex.logistics.orchestration.project.executors.worker_kinds import WorkerKind, starting_environment

if TYPE_CHECKING:
    import subprocess

START_LIMIT_S = 60.0
END_LIMIT_S = 1.0
_BOOTSTRAP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker", "bootstrap.py")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class WorkerGone(Exception):
    """The worker has ended, and all below it.

    `verdict` is its supervisor's word, None when that was killed too; `unread` says that what was sent last
    never reached the runner.
    """

    def __init__(self, verdict: Mapping[str, Any] | None, *, unread: bool) -> None:
        super().__init__("the worker has ended")
        self.verdict = verdict
        self.unread = unread


class WorkerProcess:
    """One live worker; used by one thread at a time, except `cancel`."""

    __slots__ = (
        "_connection",
        "_control",
        "_poller",
        "_process",
        "_reader",
        "_unsent",
        "attempts",
        "descriptors",
        "first_bytes",
        "id",
        "idle_since_s",
        "kind",
        "measured_at_s",
        "python_version",
        "runner_pid",
        "sequence",
        "spool",
    )

    def __init__(
        self,
        *,
        worker_id: str,
        kind: WorkerKind,
        process: subprocess.Popen[bytes],
        connection: socket.socket,
        control: socket.socket,
        spool: str,
    ) -> None:
        self.id = worker_id
        self.kind = kind
        self.spool = spool
        self.sequence = 0
        self.attempts = 0
        self.python_version: tuple[int, ...] | None = None
        self.runner_pid = 0
        """Known once the runner is up, like `python_version`."""
        self.first_bytes = 0
        """Its resident set after the first attempt; `measured_at_s` is when it was last looked at."""
        self.measured_at_s = 0.0
        self.idle_since_s = time.monotonic()
        self._process = process
        self._connection = connection
        self._control = control
        self.descriptors = (connection.fileno(), control.fileno())
        """What becomes readable when the runner has sent something, or when the worker ends."""
        self._reader = FrameReader(connection)
        self._unsent = False
        self._poller = select.poll()
        self._poller.register(connection, select.POLLIN)
        self._poller.register(control, select.POLLIN)

    @property
    def pid(self) -> int:
        """The supervisor's."""
        return self._process.pid

    def send(self, header: bytes, body: bytes = b"") -> None:
        """Sends one frame; a worker that is gone shows at the next `receive`."""
        try:
            send_frame(self._connection, header, body)
        except OSError:
            self._unsent = True

    def receive(self) -> tuple[dict[str, Any], bytes]:
        """The runner's next frame; raises `WorkerGone` when both processes have ended."""
        while True:
            if not self._reader.pending:
                self._wait()
            frame = self._read()
            header = _decode(frame[0])
            if header["kind"] != "ready":
                return header, frame[1]
            self._is_up(header)

    def receive_ready(self) -> tuple[dict[str, Any], bytes] | None:
        """The runner's next frame if it has arrived as a whole; None otherwise, whatever the reason."""
        frame = self._reader.read_ready()
        return None if frame is None else (_decode(frame[0]), frame[1])

    @property
    def pending(self) -> bool:
        """True when bytes of a further frame have already been read."""
        return self._reader.pending

    def _read(self) -> tuple[bytes, bytes]:
        try:
            frame = self._reader.read()
        except OSError:
            self._unsent = True  # reset: the last frame was never read
            frame = None
        if frame is None:
            raise self._gone()
        return frame

    def _wait(self) -> None:
        """Until the runner has sent something; raises `WorkerGone` at the supervisor's end."""
        limit_ms = None if self.python_version is not None else START_LIMIT_S * 1000
        ready = self._poller.poll(limit_ms)
        if not ready:
            self._process.kill()  # the interpreter hangs before it ever said that it is up
            raise self._gone()
        if ready[0][0] != self._connection.fileno():
            raise self._gone()

    def wait_until_ready(self) -> None:
        """Returns once the runner is up; raises `WorkerGone` when it never comes."""
        if self.python_version is None:
            self._wait()
            self._is_up(_decode(self._read()[0]))

    def look_whether_ready(self) -> bool:
        """True once the runner is up; never waits. Only while nothing has been sent."""
        if self.python_version is None:
            frame = self._reader.read_ready()
            if frame is not None:
                self._is_up(_decode(frame[0]))
        return self.python_version is not None

    def _is_up(self, header: Mapping[str, Any]) -> None:
        self.python_version = tuple(header["python"])
        self.runner_pid = header["pid"]

    def cancel(self, sequence: int, *, kill: bool) -> None:
        """Asks the supervisor to end that attempt; nothing happens when it has ended already."""
        self._command({"op": "cancel", "sequence": sequence, "kill": kill})

    def close(self) -> None:
        """Asks both processes to end; `wait` sees it through."""
        self._command({"op": "close"})

    def _command(self, command: Mapping[str, Any]) -> None:
        try:
            self._control.sendall(_encode(command) + b"\n")
        except OSError:
            return  # it has ended by itself

    def _gone(self) -> WorkerGone:
        """Waits for the supervisor's last word and sees to it that nothing is left."""
        data = b""
        try:
            while chunk := self._control.recv(4096):
                data += chunk
        except OSError:
            data = b""
        self._process.wait()
        verdict = _decode(data) if data.endswith(b"\n") else None
        if verdict is None:
            kill_marked(WORKER_VARIABLE, self.id)
        unread = self._is_unread()
        self._release()
        return WorkerGone(verdict, unread=unread)

    def _is_unread(self) -> bool:
        """Whether the runner ended without having read the last frame: its end was reset then."""
        if self._unsent:
            return True
        self._connection.settimeout(END_LIMIT_S)  # it has been killed; its descriptors close a moment later
        try:
            while self._connection.recv(65536):
                pass
        except ConnectionResetError:
            return True
        except OSError:
            return False
        return False

    def wait(self, timeout_s: float) -> bool:
        """True once the supervisor has ended and been collected, and nothing is left below it."""
        import subprocess

        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        if status != 0:
            kill_marked(WORKER_VARIABLE, self.id)  # it was killed itself and has ended nobody
        self._release()
        return True

    def kill(self) -> None:
        """Kills the supervisor; the kernel takes the runner with it."""
        self._process.kill()

    @property
    def exit_status(self) -> int | None:
        """The supervisor's, as subprocess gives it."""
        return self._process.returncode

    def startup_output(self) -> str:
        """What the interpreter wrote before it was up, at most 4 KiB; for the message of a failed start."""
        try:
            with open(f"{self.spool}.0.log", "rb") as file:
                return file.read(4096).decode("utf-8", "replace").strip()
        except OSError:
            return ""

    def _release(self) -> None:
        self._connection.close()
        self._control.close()


def start_worker(
    kind: WorkerKind, *, worker_id: str, engine_token: str, spool_dir: str, base: Mapping[str, str]
) -> WorkerProcess:
    """Starts a worker; it may be sent frames at once. Raises OSError when the interpreter cannot be
    started."""
    import subprocess

    connection, runner_end = socket.socketpair()
    control, supervisor_end = socket.socketpair()
    spool = os.path.join(spool_dir, worker_id)
    options = {
        "connection": runner_end.fileno(),
        "control": supervisor_end.fileno(),
        "engine_pid": os.getpid(),
        "spool": spool,
        "roots": kind.roots,
        "address_bytes": kind.address_bytes,
    }
    environment = {
        **starting_environment(kind, base),
        "PYTHONUNBUFFERED": "1",
        ENGINE_VARIABLE: engine_token,
        WORKER_VARIABLE: worker_id,
    }
    try:
        with _first_spool(spool) as output:
            process = subprocess.Popen(
                [kind.python, _BOOTSTRAP, _encode(options).decode()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                pass_fds=(runner_end.fileno(), supervisor_end.fileno()),
                start_new_session=True,
            )
    except BaseException:
        connection.close()
        control.close()
        Path(f"{spool}.0.log").unlink(missing_ok=True)
        raise
    finally:
        runner_end.close()
        supervisor_end.close()
    return WorkerProcess(
        worker_id=worker_id, kind=kind, process=process, connection=connection, control=control, spool=spool
    )


def _first_spool(spool: str) -> IO[bytes]:
    """The file that catches what a worker writes; on a full disk there is none, and what it writes is lost."""
    try:
        os.makedirs(os.path.dirname(spool), mode=0o700, exist_ok=True)
        return open(f"{spool}.0.log", "ab", buffering=0)
    except OSError:
        return open(os.devnull, "ab", buffering=0)
