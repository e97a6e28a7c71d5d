"""Actions that say for themselves what they were given, so that nobody has to believe the engine.

Layer: tests; runs in threads of engines and in workers, so it is standard library only. Whoever has a lock by the
state's word locks a file of its own as well: of a whole GPU and of a mutex exclusively, of a part of a GPU shared
with other parts. A child may be given the same files; the kernel keeps them locked until that is gone too. Finding
one locked is the end of the step. `begin` and `end` with CLOCK_MONOTONIC (one for all processes of a host) go to
one file, each line in one write.
"""

import fcntl
import json
import os
import subprocess
import threading
import time

FOLDER = "ORACLE_DIR"
EFFECTS = "effects.txt"
CHILDREN = {
    "plain": "exec sleep 600",
    "stubborn": "trap '' TERM INT HUP; exec sleep 600",
}


def note(word, name):
    """One line: what, when in nanoseconds, who, in which process and below which."""
    line = json.dumps([word, time.monotonic_ns(), name, os.getpid(), os.getppid()]) + "\n"
    file = os.open(os.path.join(os.environ[FOLDER], EFFECTS), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, line.encode())
    os.close(file)


def _lock(name, how):
    file = os.open(
        os.path.join(os.environ[FOLDER], f"{name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        note("held twice", name)
        raise RuntimeError(f"{name} is held twice") from None
    return file


def _lock_devices(gpu):
    """Of the devices that this process may see; `gpu` is how much of them was asked for."""
    shown = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
    if len(shown) != max(1, int(gpu)):
        note("wrong devices", ",".join(shown))
        raise RuntimeError(f"asked for {gpu} devices, got {shown}")
    how = fcntl.LOCK_EX if gpu >= 1 else fcntl.LOCK_SH
    return [_lock(f"gpu-{each}", how) for each in shown]


def hold(name, locks=(), gpu=0, seconds=0.0, until=None, child=None):
    """Holds what it was given for so long, or until a file is there; says when it began and ended."""
    began_ns = time.monotonic_ns()
    files = [_lock(each, fcntl.LOCK_EX) for each in locks]
    if gpu:
        files += _lock_devices(gpu)
    below = None
    if child:
        below = subprocess.Popen(
            ["sh", "-c", CHILDREN[child]], pass_fds=files, start_new_session=child == "stubborn"
        )
    note("begin", name)
    if seconds:
        threading.Event().wait(seconds)
    while until is not None and not os.path.exists(until):
        time.sleep(0.005)
    if below is not None:
        below.kill()
        below.wait()
    for file in files:
        fcntl.flock(file, fcntl.LOCK_UN)  # also where a child that is just being started shares it
        os.close(file)
    note("end", name)
    return began_ns
