"""The process that watches a runner: it enforces timeouts, ends the whole tree, and tells how it ended.

Layer: worker. It leads a session of its own and is a child subreaper, runs no user code, has one thread,
and sleeps without limit while nothing runs. While an attempt runs it looks every 50 ms: is the deadline
past, has something been written that should be readable as the log already. Where the attempt's memory is
limited, it adds up every 250 ms what the whole tree uses beyond what the idle runner did.

    engine --- control (commands, verdict) --- supervisor --- fork --- runner --- connection (frames) ---
    engine

It ends the tree when told to, at the deadline, over the limit of memory, when the runner dies, and when the
engine is gone (its process descriptor or the control socket says so): SIGTERM to every descendant, SIGKILL
after the grace period, again and again until there is no child left. Only then does it write its verdict and
exit: whoever reads the verdict knows that nothing of the attempt runs any more. If the supervisor itself is
killed, the kernel kills the runner (PR_SET_PDEATHSIG) and the engine finds the rest by its environment.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time

from . import log_pump, memory, page, runner, spool, tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, Optional

TICK_S = 0.05
IDLE_S = 1.0
SHORT_GRACE_S = 0.5
MEMORY_EVERY_S = 0.25
MEMORY_SHARE = 20
"""Adding memory up takes at most one part in so many of the time: it is done less often where it takes long."""
MEMORY_GRACE_S = 0.05
"""Memory goes on being used up meanwhile."""


def main(text: str) -> NoReturn:
    """Sets up the page, forks the runner and watches it; does not return."""
    options = json.loads(text)
    tree.become_subreaper()
    engine = _watch_process(options["engine_pid"])
    control = socket.socket(fileno=options["control"])
    connection = socket.socket(fileno=options["connection"])
    control.set_inheritable(False)
    connection.set_inheritable(False)
    shared = page.SharedPage()
    shared.cells[page.AWAKE] = 1
    wake_read, wake_write = os.pipe()
    pump = log_pump.LogPump()
    runner_pid = os.fork()
    if runner_pid == 0:
        control.close()
        os.close(wake_read)
        if engine is not None:
            os.close(engine)
        if options.get("address_bytes"):
            memory.bind(options["address_bytes"])
        runner.start(connection, shared, wake_write, options, pump.channel)
    connection.close()
    os.close(wake_write)
    watch = Supervisor(
        runner_pid=runner_pid, control=control, shared=shared, spool_base=options["spool"], pump=pump
    )
    watch.serve(wake_read, engine, options["engine_pid"])


def _watch_process(pid: int) -> Optional[int]:
    """A descriptor that becomes readable when the process ends, where the system has such a thing."""
    opener = getattr(os, "pidfd_open", None)
    if opener is None:
        return None
    try:
        return int(opener(pid))
    except OSError:
        return None


class Supervisor:
    """Watches one runner until the end of both."""

    def __init__(
        self,
        *,
        runner_pid: int,
        control: socket.socket,
        shared: page.SharedPage,
        spool_base: str,
        pump: log_pump.LogPump,
    ) -> None:
        self._runner_pid = runner_pid
        self._control = control
        self._page = shared
        self._cells = shared.cells
        self._spool_base = spool_base
        self._runner_status: Optional[int] = None
        self._commands = b""
        self._idle_since = time.monotonic()
        self._oom_kills = _oom_kills()
        self._memory_at_s = 0.0
        """When memory is looked at next."""
        self._found_bytes: Optional[tuple[int, int]] = None
        """The limit that the attempt is over, and what it used."""
        self._poller = select.poll()
        self._pump = pump
        pump.attach(self._poller)

    def serve(self, wake: int, engine: Optional[int], engine_pid: int) -> NoReturn:
        """Watches until there is a reason to end."""
        signals = _catch_signals()
        for descriptor in (self._control.fileno(), wake, signals, engine):
            if descriptor is not None:
                self._poller.register(descriptor, select.POLLIN)
        if os.getppid() != engine_pid:
            self._end("closed", grace_s=0.0)  # the engine died while this process started
        timeout_s: Optional[float] = TICK_S
        while True:
            ready = {found for found, _ in self._poller.poll(None if timeout_s is None else timeout_s * 1000)}
            if wake in ready:
                os.read(wake, 4096)
            if engine is not None and engine in ready:
                self._end("closed", grace_s=self._short_grace_s())
            if signals in ready:
                self._on_signals(os.read(signals, 4096))
            self._pump.handle(ready)
            if self._control.fileno() in ready:
                self._on_command()
            timeout_s = self._tick()

    # ------------------------------------------------------------------------------------------- watching

    def _tick(self) -> Optional[float]:
        """Looks at the attempt that runs; how long to sleep, None without limit."""
        cells = self._cells
        cells[page.AWAKE] = 1
        now = time.monotonic()
        if not cells[page.ACTIVE]:
            if now - self._idle_since < IDLE_S:
                return TICK_S
            cells[page.AWAKE] = 0
            time.sleep(page.SETTLE_S)
            if not cells[page.ACTIVE]:
                return None
            cells[page.AWAKE] = 1
        self._idle_since = now
        deadline_ns = cells[page.DEADLINE_NS]
        left_s = (deadline_ns - time.monotonic_ns()) / 1e9 if deadline_ns else TICK_S
        if left_s <= 0:
            self._end("timed_out", sequence=cells[page.SEQUENCE])
            return TICK_S
        if cells[page.MEMORY_BYTES] and now >= self._memory_at_s:
            self._look_at_memory(now)
        self._link_log()
        return min(TICK_S, left_s)

    def _look_at_memory(self, now: float) -> None:
        """Ends an attempt that uses more than it may."""
        cells = self._cells
        sequence = cells[page.SEQUENCE]  # first: nothing is ended if the next attempt begins meanwhile
        limit, idle = cells[page.MEMORY_BYTES], cells[page.IDLE_BYTES]
        used = memory.used_bytes(os.getpid(), limit + idle) - idle
        self._memory_at_s = now + max(MEMORY_EVERY_S, (time.monotonic() - now) * MEMORY_SHARE)
        if used > limit > 0:
            self._found_bytes = (limit, used)
            self._end("out_of_memory", sequence=sequence, grace_s=MEMORY_GRACE_S)
            self._found_bytes = None

    def _link_log(self) -> None:
        """Makes the log readable under its name while the attempt still runs."""
        cells = self._cells
        sequence = cells[page.SEQUENCE]
        if cells[page.LINKED] == sequence or time.monotonic_ns() - cells[page.STARTED_NS] < TICK_S * 1e9:
            return
        log_path = self._page.log_path()
        current = spool.spool_path(self._spool_base, cells[page.SPOOL])
        try:
            written = bool(log_path) and os.stat(current).st_size > 0
        except OSError:
            return  # the attempt ended and took its spool with it
        if written and cells[page.SEQUENCE] == sequence and spool.link_log(current, log_path):
            cells[page.LINKED] = sequence

    def _on_command(self) -> None:
        """Reads what the engine sends; its closing the socket means that it has gone."""
        command = self._next_command()
        if command is None or command["op"] == "close":
            self._end("closed", grace_s=self._short_grace_s())
        self._end("cancelled", sequence=command["sequence"], grace_s=0.0 if command["kill"] else None)

    def _next_command(self) -> Any:
        while b"\n" not in self._commands:
            try:
                chunk = self._control.recv(4096)
            except ConnectionError:
                return None
            if not chunk:
                return None
            self._commands += chunk
        line, _, self._commands = self._commands.partition(b"\n")
        return json.loads(line)

    def _on_signals(self, numbers: bytes) -> None:
        if signal.SIGTERM in numbers or signal.SIGINT in numbers or signal.SIGHUP in numbers:
            self._end("closed", grace_s=self._short_grace_s())
        self._reap()
        if self._runner_status is not None:
            self._end("crashed", grace_s=self._short_grace_s())

    def _reap(self) -> bool:
        """Collects children that have ended; False once there is none left at all."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._runner_pid:
                self._runner_status = status

    # -------------------------------------------------------------------------------------------- ending

    def _short_grace_s(self) -> float:
        """What a tree gets whose engine or runner is gone."""
        return min(SHORT_GRACE_S, self._cells[page.GRACE_MS] / 1000)

    def _end(self, verdict: str, *, sequence: Optional[int] = None, grace_s: Optional[float] = None) -> None:
        """Ends the tree and exits; returns only if the attempt `sequence` ended by itself meanwhile."""
        cells = self._cells
        if sequence is not None:
            cells[page.KILLING] = sequence
            time.sleep(page.SETTLE_S)
            running = cells[page.ACTIVE] and cells[page.SEQUENCE] == sequence
            if cells[page.SEQUENCE] >= sequence and not running:
                cells[page.KILLING] = 0
                return
        cells[page.KILLING] = max(cells[page.SEQUENCE], sequence or 0)
        was_active, at = bool(cells[page.ACTIVE]), cells[page.SEQUENCE]
        started = time.monotonic()
        self._kill_tree(cells[page.GRACE_MS] / 1000 if grace_s is None else grace_s)
        self._pump.finish()
        if was_active:
            self._link_last_log()
        self._tell(verdict, at, was_active, time.monotonic() - started)
        os._exit(0)

    def _kill_tree(self, grace_s: float) -> None:
        give_up_at = time.monotonic() + grace_s
        if grace_s > 0:
            tree.send_signal(tree.descendants(os.getpid()), signal.SIGTERM)
        pause_s = 0.001
        while self._reap():
            self._pump.work()  # what cleans up may have something to say
            if time.monotonic() >= give_up_at:
                tree.send_signal(tree.descendants(os.getpid()), signal.SIGKILL)
            elif self._told_to_hurry(pause_s):
                give_up_at = 0.0
                continue
            if time.monotonic() >= give_up_at:
                time.sleep(min(pause_s, 0.01))
            pause_s = min(pause_s * 2, 0.05)

    def _told_to_hurry(self, timeout_s: float) -> bool:
        """Waits a moment; True when the engine now wants an immediate end, or is gone."""
        if b"\n" not in self._commands and not select.select([self._control], [], [], timeout_s)[0]:
            return False
        command = self._next_command()
        return bool(command is None or command["op"] == "close" or command["kill"])

    def _link_last_log(self) -> None:
        log_path = self._page.log_path()
        current = spool.spool_path(self._spool_base, self._cells[page.SPOOL])
        try:
            if log_path and os.stat(current).st_size:
                spool.keep_log(current, log_path)
        except OSError:
            pass  # nothing was written, or the folder is gone

    def _tell(self, verdict: str, sequence: int, was_active: bool, took_s: float) -> None:
        status = self._runner_status
        found: dict[str, Any] = {
            "verdict": verdict,
            "sequence": sequence,
            "active": was_active,
            "took_s": took_s,
        }
        if self._found_bytes is not None:
            found["limit_bytes"], found["used_bytes"] = self._found_bytes
        if verdict == "crashed" and status is not None:
            if os.WIFSIGNALED(status):
                found["signal"] = os.WTERMSIG(status)
                if found["signal"] == signal.SIGKILL and _oom_kills() > self._oom_kills:
                    found["verdict"] = "out_of_memory"
            else:
                found["exit_code"] = os.WEXITSTATUS(status)
        for generation in range(max(0, self._cells[page.SPOOL] - 1), self._cells[page.SPOOL] + 2):
            spool.remove(spool.spool_path(self._spool_base, generation))
        try:
            self._control.sendall(json.dumps(found).encode() + b"\n")
        except OSError:
            pass  # the engine is gone; nobody is left to tell


def _catch_signals() -> int:
    """The read end of a pipe that gets one byte for each signal, its number."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _note_only)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    os.kill(os.getpid(), signal.SIGCHLD)  # the runner may have died before this line
    return read


def _note_only(_number: int, _frame: object) -> None:
    """The number is in the pipe; nothing is done here."""


def _oom_kills() -> int:
    """How many processes the kernel has killed for memory since it started (Linux; 0 elsewhere)."""
    if sys.platform.startswith("linux"):
        try:
            with open("/proc/vmstat", "rb") as file:
                for line in file:
                    if line.startswith(b"oom_kill "):
                        return int(line.split()[1])
        except OSError:
            return 0
    return 0
