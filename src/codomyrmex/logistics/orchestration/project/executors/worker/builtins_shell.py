"""`shell.run`: a command as a step.

Layer: worker built-in. The command leads a session of its own. What it writes goes to the attempt's log as it
comes, and the last 64 KiB of each stream into the result. When the command has ended it is over: processes
that it left behind are ended too, and a pipe that one of them still holds is not waited for.
"""

from __future__ import annotations

import os
import select
import signal
import time

from . import redaction, tree, usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence
    from typing import Any, Optional, Union

TAIL_BYTES = 65536
LEFTOVER_GRACE_S = 0.5
_CHUNK_BYTES = 65536


class CommandFailed(RuntimeError):
    """A command ended otherwise than expected, or could not be started."""

    def __init__(self, message: str, exit_code: int, number: Optional[int] = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.signal = number


def run(
    command: Union[Sequence[str], str],
    *,
    shell: bool = False,
    cwd: Optional[str] = None,
    env: Optional[Mapping[str, Any]] = None,
    stdin: Optional[str] = None,
    expect: Sequence[int] = (0,),
) -> dict[str, Any]:
    """Runs a command and returns its exit code and the last 64 KiB of what it wrote.

    `command` is a list; text needs `shell: true` and is run by `bash -euo pipefail -c`. `env` is added to the
    environment. An exit code that is not in `expect` fails the step.
    """
    arguments = _arguments(command, shell)
    return run_arguments(arguments, cwd=cwd, env=env, stdin=stdin, expect=expect)


def _arguments(command: Union[Sequence[str], str], shell: bool) -> list[str]:
    if isinstance(command, str):
        if not shell:
            raise TypeError("command: a text needs 'shell: true'; or give a list of arguments")
        return ["bash", "-euo", "pipefail", "-c", command]
    if shell:
        raise TypeError("command: a list needs no shell; leave out 'shell: true', or give one text")
    if not command:
        raise ValueError("command: the list is empty")
    return [item if isinstance(item, str) else _text(item) for item in command]


def _text(item: Any) -> str:
    if isinstance(item, bool) or not isinstance(item, (int, float, os.PathLike)):
        raise TypeError(f"command: {item!r} is neither text nor a number nor a path")
    return os.fspath(item) if isinstance(item, os.PathLike) else str(item)


def run_arguments(
    arguments: list[str],
    *,
    cwd: Optional[str] = None,
    env: Optional[Mapping[str, Any]] = None,
    stdin: Optional[str] = None,
    expect: Sequence[int] = (0,),
) -> dict[str, Any]:
    """Runs a list of arguments to its end; see `run`."""
    before = set(tree.orphans())
    process = _start(arguments, cwd, env, stdin)
    output = _Output(process)
    try:
        output.pump()
        status = _wait(process)
    except BaseException:
        _end_group(process)
        raise
    finally:
        _end_leftovers(before)
        output.close()
    stdout, stderr = output.tails()
    exit_code = status if status >= 0 else 128 - status
    if exit_code not in expect:
        raise CommandFailed(
            _why(arguments, status, expect, stderr or stdout), exit_code, -status if status < 0 else None
        )
    return {"exit_code": exit_code, "stdout": stdout, "stderr": stderr}


def _start(
    arguments: list[str], cwd: Optional[str], env: Optional[Mapping[str, Any]], stdin: Optional[str]
) -> subprocess.Popen[bytes]:
    import subprocess

    environment = {**os.environ, **{name: str(value) for name, value in (env or {}).items()}}
    source: Any = subprocess.DEVNULL if stdin is None else _as_file(stdin)
    try:
        return subprocess.Popen(
            arguments,
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=environment,
            start_new_session=True,
        )
    except FileNotFoundError as problem:
        if cwd is not None and problem.filename == cwd:
            raise CommandFailed(f"cwd: there is no folder {cwd!r}", 127) from None
        raise CommandFailed(f"command {arguments[0]!r} was not found", 127) from None
    except PermissionError:
        raise CommandFailed(f"command {arguments[0]!r} may not be executed", 126) from None
    finally:
        if stdin is not None:
            source.close()


def _as_file(text: str) -> Any:
    """A file to read from: unlike a pipe it never blocks the one who writes it."""
    import tempfile

    file = tempfile.TemporaryFile()  # noqa: SIM115  (the caller closes it)
    file.write(text.encode("utf-8", "surrogateescape"))
    file.seek(0)
    return file


class _Output:
    """Both pipes of a command, copied to the log and remembered at their ends."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._files = (process.stdout, process.stderr)
        self._targets = {process.stdout.fileno(): 1, process.stderr.fileno(): 2}
        self._kept = {source: bytearray() for source in self._targets}
        redactor = redaction.active()
        self._hiding = {} if redactor is None else {source: redactor.stream() for source in self._targets}
        self._poller = select.poll()
        for source in self._targets:
            os.set_blocking(source, False)
            self._poller.register(source, select.POLLIN)
        opener = getattr(os, "pidfd_open", None)
        self._exit: Optional[int] = None if opener is None else opener(process.pid)
        if self._exit is not None:
            self._poller.register(self._exit, select.POLLIN)

    def pump(self) -> None:
        """Copies until the command has ended, or has closed both streams."""
        opened = set(self._targets)
        while opened:
            ready = [found for found, _ in self._poller.poll(None if self._exit is not None else 20)]
            for source in ready:
                if source in opened and not self._copy(source):
                    opened.discard(source)
                    self._poller.unregister(source)
            ended = self._exit in ready if self._exit is not None else self._process.poll() is not None
            if ended:
                return

    def _copy(self, source: int) -> bool:
        """Copies what is there now, at most a few chunks; False at the end of the stream."""
        for _ in range(16):
            try:
                chunk = os.read(source, _CHUNK_BYTES)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            self._keep(source, chunk)
        return True

    def _keep(self, source: int, chunk: bytes) -> None:
        kept, stream = self._kept[source], self._hiding.get(source)
        kept += chunk if stream is None else stream.feed(chunk)  # hidden before any of it is cut off
        if len(kept) > 2 * TAIL_BYTES:
            del kept[:-TAIL_BYTES]
        view = memoryview(chunk)
        try:
            while view:
                view = view[os.write(self._targets[source], view) :]
        except OSError:
            return  # the log has no space: that is no fault of the command

    def close(self) -> None:
        """Takes what is still in the pipes and closes them."""
        for file in self._files:
            while self._remaining(file.fileno()):
                pass
            file.close()
        if self._exit is not None:
            os.close(self._exit)

    def _remaining(self, source: int) -> bool:
        try:
            chunk = os.read(source, _CHUNK_BYTES)
        except OSError:
            return False
        self._keep(source, chunk)
        return bool(chunk)

    def tails(self) -> tuple[str, str]:
        """The last 64 KiB of standard output and of standard error, without the secrets of this attempt."""
        for source, stream in self._hiding.items():
            self._kept[source] += stream.feed(b"", final=True)
        one, two = (bytes(kept[-TAIL_BYTES:]).decode("utf-8", "replace") for kept in self._kept.values())
        return one, two


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Waits for the end of a command, and keeps what it used for the attempt; its status as `Popen.wait` gives it."""
    if process.returncode is None:
        try:
            _, status, used = os.wait4(process.pid, 0)
        except ChildProcessError:
            return process.wait()  # somebody else has collected it
        process.returncode = os.waitstatus_to_exitcode(status)
        usage.command_ended(used)
    return process.returncode


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a command whose step is being cancelled; the supervisor sees to the rest of the tree."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
    except ProcessLookupError:
        pass


def _end_leftovers(before: set[int]) -> None:
    """Ends what the command left running: SIGTERM, half a second, SIGKILL."""
    left = [pid for pid in tree.orphans() if pid not in before]
    number = signal.SIGTERM
    deadline = time.monotonic() + LEFTOVER_GRACE_S
    while left:
        tree.send_signal(left, number)
        time.sleep(0.002)
        left = [pid for pid in tree.orphans() if pid not in before]
        while left and number == signal.SIGTERM and time.monotonic() < deadline:
            time.sleep(0.01)
            left = [pid for pid in tree.orphans() if pid not in before]
        number = signal.SIGKILL


def _why(arguments: list[str], status: int, expect: Sequence[int], output: str) -> str:
    shown = redaction.hide(
        arguments[-1] if arguments[0] == "bash" and arguments[1:2] == ["-euo"] else " ".join(arguments)
    )
    first = shown.strip().splitlines()[0] if shown.strip() else shown
    if len(first) > 100:
        first = first[:97] + "..."
    if status < 0:
        how = f"was ended by signal {-status}"
    else:
        allowed = ", ".join(str(code) for code in expect)
        how = f"ended with exit code {status}" + ("" if allowed == "0" else f" (expected: {allowed})")
    lines = [line for line in output.splitlines() if line.strip()]
    return f"`{first}` {how}" + (f": {lines[-1].strip()[:300]}" if lines else "")
