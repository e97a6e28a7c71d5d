"""The process that runs user code: one attempt at a time, in its main thread.

Layer: worker. Forked from the supervisor, it reads `run` frames from the engine and answers each with one
outcome. Before an attempt: changed code is looked for ("stale" is the answer then, nothing is run), and the
environment, the folder and the log are set. After it: what was written is the attempt's log, the environment
is put back. Of an attempt with secrets nothing leaves this process that has not passed a redactor.

Cancel and timeout reach it as SIGTERM. While an attempt runs, `TaskCancelled` is raised in it, so that
`finally` blocks run; code that reads `current_task().cancelled` is left to return by itself. Either way
SIGKILL follows.
"""

from __future__ import annotations

import _thread
import json
import math
import os
import select
import signal
import stat
import sys
import time

from . import (
    file_codecs,
    frames,
    invoke,
    memory,
    offspring,
    page,
    redaction,
    spool,
    stub_package,
    tree,
    usage,
    values,
)
from .log_pump import PumpedOutput
from .modules import ActionNotFound, Modules

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any, NoReturn

    from codomyrmex.current_task import CurrentTask

_decode = json.JSONDecoder().decode
"""`json.loads` without its search for the encoding."""
_handler_of = getattr(signal, "_signal", signal).getsignal
"""`getsignal` without its search for an enum, which takes longer than most no-ops."""


KILL_IS_DECIDED_AFTER = 50
"""So many times `page.SETTLE_S` after an attempt's end a kill that is still announced will not be taken back."""


class _Retire(BaseException):
    """SIGTERM came while nothing ran."""


class Runner:
    """The loop of one worker."""

    def __init__(
        self,
        connection: socket.socket,
        shared: page.SharedPage,
        wake: int,
        options: dict[str, Any],
        pump: socket.socket,
    ) -> None:
        self._connection = connection
        self._page = shared
        self._cells = shared.cells
        self._wake = wake
        self._pump = pump
        self._output: PumpedOutput | None = None
        self._redactor: redaction.Redactor | None = None
        self._reader = frames.FrameReader(connection)
        self._sending = _thread.allocate_lock()  # notes may come from the action's own threads
        self._spool_base: str = options["spool"]
        self._generation = 0
        self._modules = Modules(options["roots"])
        self._offspring = offspring.Offspring(os.getppid())
        self._usage = usage.Usage()
        self._current = stub_package.install()
        self._task: CurrentTask | None = None
        self._streams = (sys.stdout, sys.stderr)
        self._environ: dict[bytes, bytes] = getattr(os.environ, "_data")  # noqa: B009  (a plain dict, compared whole)

    def serve(self) -> NoReturn:
        """Runs attempts until the engine closes the connection or the supervisor ends this process."""
        status = 0
        try:
            signal.signal(signal.SIGTERM, self._on_terminate)
            self._prepare_streams()
            self._answer({"kind": "ready", "pid": os.getpid(), "python": list(sys.version_info[:3])})
            # Who sleeps in `recv` is also woken, for nothing, whenever the engine reads an answer.
            incoming = select.poll()
            incoming.register(self._connection, select.POLLIN)
            while True:
                incoming.poll()
                frame = self._reader.read()
                if frame is None:
                    break
                self._handle(_decode(frame[0].decode()), frame[1])
        except (_Retire, self._current.TaskCancelled):
            status = 128 + signal.SIGTERM
        except OSError:
            status = 1  # the engine is gone
        _leave(status)

    def _prepare_streams(self) -> None:
        for stream in self._streams:
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(line_buffering=True, errors="backslashreplace")
        import faulthandler

        faulthandler.enable(2)
        if _is_written(1):
            self._new_spool()  # what the interpreter said while starting belongs to no attempt

    def _on_terminate(self, _number: int, _frame: object) -> None:
        if not self._cells[page.ACTIVE] or self._task is None:
            raise _Retire
        self._task.request_cancel()
        if not self._task.polls_cancelled:
            raise self._current.TaskCancelled

    def _handle(self, header: dict[str, Any], body: bytes) -> None:
        operation = header["op"]
        changed = self._modules.changed()
        if changed is not None:
            self._answer({"kind": "stale", "file": changed})
        elif operation == "run":
            self._run(header, body)
        elif operation == "describe":
            from .describe import describe_actions

            found = describe_actions(self._modules, header["actions"])
            self._modules.remember()
            self._answer({"kind": "described"}, values.dumps(found))

    def _answer(self, header: dict[str, Any], body: bytes = b"") -> None:
        self._send(_json(header), body)

    def _tell(self, note: dict[str, Any]) -> None:
        """Hands on what a task says; a NaN in it must not end the attempt."""
        self._answer({name: _writable(value) for name, value in note.items()})

    def _send(self, header: bytes, body: bytes) -> None:
        with self._sending:
            frames.send_frame(self._connection, header, body)

    # ------------------------------------------------------------------------------------------ one attempt

    def _run(self, header: dict[str, Any], body: bytes) -> None:
        os.environ["CODOMYRMEX_ATTEMPT"] = header["token"]
        before = self._environ.copy()
        cells = self._cells
        self._usage.begin()
        started_us = time.time_ns() // 1000
        started_ns = time.monotonic_ns()
        self._begin(header, started_ns)
        result = b""
        try:
            try:
                kind, fields = "completed", None
                result = self._perform(header, body)
            except _Retire:
                raise
            except self._current.TaskCancelled:
                if cells[page.KILLING] == cells[page.SEQUENCE]:
                    raise  # the supervisor says how this ended
                kind, fields = "cancelled", {"type": "TaskCancelled", "message": "the action gave up"}
            except BaseException as problem:
                kind, fields = self._failure(problem, header)
        finally:
            cells[page.ACTIVE] = 0
        duration_s = (time.monotonic_ns() - started_ns) / 1e9
        cpu_s, memory_bytes = self._usage.end()
        self._wait_while_killed()
        self._finish(header, before)
        ended_us = started_us + int(duration_s * 1e6)
        error = b"null" if fields is None else _json(fields)
        spent = b',"spent":true' if self._is_spent() else b""
        took = (started_us, ended_us, duration_s, cpu_s)
        peak = b"null" if memory_bytes is None else b"%d" % memory_bytes
        self._send(
            b'{"kind":"%b","started_us":%d,"ended_us":%d,"duration_s":%r,"cpu_s":%.6f,"memory_bytes":%b,"error":%b%b}'
            % (kind.encode(), *took, peak, error, spent),
            result,
        )

    def _begin(self, header: dict[str, Any], started_ns: int) -> None:
        """Makes the attempt visible to the supervisor, and wakes it if it sleeps."""
        cells = self._cells
        timeout_s = header.get("timeout_s")
        log_path = header.get("log")
        self._page.set_log_path(os.fsencode(log_path) if log_path else b"")
        cells[page.MEMORY_BYTES], cells[page.IDLE_BYTES] = memory.limit_of(header)
        cells[page.DEADLINE_NS] = 0 if timeout_s is None else started_ns + int(timeout_s * 1e9)
        cells[page.GRACE_MS] = int(header["grace_s"] * 1000)
        cells[page.STARTED_NS] = started_ns
        cells[page.SEQUENCE] = header["sequence"]
        cells[page.ACTIVE] = 1
        if not cells[page.AWAKE]:
            os.write(self._wake, b"w")

    def _perform(self, header: dict[str, Any], body: bytes) -> bytes:
        """Runs the action; its value as bytes."""
        module = sys.modules[stub_package.CURRENT_TASK]
        secrets: dict[str, str] = header.get("secrets") or {}
        redactor = self._hide(secrets) if secrets else None
        self._task = module.CurrentTask(
            run_id=header["run_id"],
            task=header["task"],
            task_id=header["task_id"],
            attempt=header["attempt"],
            idempotency_key=header["idempotency_key"],
            working_dir=header["cwd"],
            note=self._tell if redactor is None else lambda note: self._tell(redactor.note(note)),
            secrets=secrets,
            checkpoint_dir=header.get("checkpoint_dir"),
            artifact_dir=header.get("artifact_dir"),
        )
        module.set_process_task(self._task)
        os.chdir(header["cwd"])
        if header["env"]:
            os.environ.update(invoke.with_secrets(header["env"], secrets) if secrets else header["env"])
        function = self._modules.find(header["module"], header["action"])
        folder, scratch = header.get("files") or (None, False)
        files = None if folder is None else file_codecs.ValueFiles(folder, scratch=scratch)
        parameters = {}
        if body != b"{}":
            parameters = values.loads(
                body,
                open_file=None if files is None else files.read,
                change=None if redactor is None else lambda tree: invoke.with_secrets(tree, secrets),
            )
        try:
            value = invoke.call(function, parameters)
        finally:
            self._offspring.leave_if_forked()
        if value is None:
            return b"null"
        return values.dumps(
            value,
            keep=None if files is None else files.keep,
            change=None if redactor is None else redactor.tree,
        )

    def _hide(self, secrets: dict[str, str]) -> redaction.Redactor:
        """From here on nothing that is written or said shows these secrets; `_finish` ends it."""
        redactor = self._redactor = redaction.Redactor(secrets)
        redaction.enter(redactor)
        self._output = PumpedOutput(self._pump, secrets)
        return redactor

    def _failure(self, problem: BaseException, header: dict[str, Any]) -> tuple[str, Any]:
        if isinstance(problem, SystemExit) and problem.code in (None, 0):
            return "completed", None
        function = None
        if not isinstance(problem, (ImportError, ActionNotFound)):
            try:
                function = self._modules.find(header["module"], header["action"])
            except BaseException:
                function = None  # the module itself raised while it was imported
        return invoke.failure_of(problem, self._modules.roots, function)

    def _wait_while_killed(self) -> None:
        """Holds the result back while the supervisor decides whether the kill still applies (see `page`)."""
        cells = self._cells
        patience = KILL_IS_DECIDED_AFTER
        while cells[page.KILLING] == cells[page.SEQUENCE]:
            if patience == 0:
                raise _Retire  # the kill stands; nothing is left to wait for the grace period for
            patience -= 1
            time.sleep(page.SETTLE_S)

    def _finish(self, header: dict[str, Any], before: dict[bytes, bytes]) -> None:
        if self._task is not None:
            self._task.close()
            self._task = None
        sys.modules[stub_package.CURRENT_TASK].set_process_task(None)
        self._flush()
        others_write = self._redactor is not None and self._show_again()
        if others_write or _is_written(1):
            self._keep_log(header.get("log"))
        if self._environ != before:
            _restore_environment(self._environ, before)
        if _handler_of(signal.SIGTERM) != self._on_terminate:
            signal.signal(signal.SIGTERM, self._on_terminate)
        self._modules.remember()

    def _show_again(self) -> bool:
        """Undoes `_hide`; whether processes that the attempt left behind can still write into its log."""
        self._redactor = None
        redaction.enter(None)
        output, self._output = self._output, None
        return output is not None and not output.end()

    def _is_spent(self) -> bool:
        """Whether the attempt left something behind that the next one must not find: the worker has to go."""
        return self._streams[0].closed or self._streams[1].closed or self._offspring.is_left()

    def _flush(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                pass  # the action closed or replaced it
        if sys.stdout is not self._streams[0] or sys.stderr is not self._streams[1]:
            sys.stdout, sys.stderr = self._streams
            self._streams[0].flush()

    def _keep_log(self, log_path: str | None) -> None:
        current = spool.spool_path(self._spool_base, self._generation)
        if log_path and self._cells[page.LINKED] != self._cells[page.SEQUENCE]:
            spool.keep_log(current, os.fsencode(log_path))
        self._new_spool()

    def _new_spool(self) -> None:
        old = spool.spool_path(self._spool_base, self._generation)
        self._generation += 1
        spool.open_spool(spool.spool_path(self._spool_base, self._generation))
        self._cells[page.SPOOL] = self._generation
        spool.remove(old)


def _json(fields: dict[str, Any]) -> bytes:
    """`default` lets the numbers of other libraries through."""
    return json.dumps(fields, default=float).encode()


def _writable(value: Any) -> Any:
    """A text or number as JSON can have it; None for NaN, for what is infinite, and for everything else."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # without halves of characters
    if value is None or isinstance(value, int):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _is_written(descriptor: int) -> bool:
    """Whether the spool has served: something is in it, or it is none (see `spool.open_spool`)."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return True  # the action closed it; a new spool puts that right
    return found.st_size > 0 or not stat.S_ISREG(found.st_mode)


def _restore_environment(environ: dict[bytes, bytes], before: dict[bytes, bytes]) -> None:
    for name in [name for name in environ if name not in before]:
        del os.environ[os.fsdecode(name)]
    for name, value in before.items():
        if environ.get(name) != value:
            os.environ[os.fsdecode(name)] = os.fsdecode(value)


def start(
    connection: socket.socket,
    shared: page.SharedPage,
    wake: int,
    options: dict[str, Any],
    pump: socket.socket,
) -> NoReturn:
    """The child's side of the fork."""
    supervisor = os.getppid()
    tree.die_with_parent()
    if os.getppid() != supervisor:
        os._exit(1)  # it died between the fork and the line above
    tree.set_supervisor(supervisor)
    Runner(connection, shared, wake, options, pump).serve()


def _leave(status: int) -> NoReturn:
    """Runs what was registered for the exit, then goes without waiting for threads."""
    import atexit

    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
    finally:
        os._exit(status)
