"""The file that catches what an attempt writes, and how it becomes the attempt's log.

Layer: worker. File descriptors 1 and 2 of the runner are an append-only spool file. It gets the log's name
by a hard link: after 50 ms by the supervisor, so that the log can be followed live, or at the end by the
runner. An attempt that wrote nothing costs one fstat and leaves no file. An attempt that wrote something
takes its spool with it, and the next one gets a new spool, so late output of processes left behind stays in
the right log.
"""

from __future__ import annotations

import os

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


def spool_path(base: str, generation: int) -> str:
    """`base` is the worker's spool name without ending; generations count up from 0."""
    return f"{base}.{generation}.log"


def link_log(spool: str, log_path: bytes) -> bool:
    """Gives the spool the log's name too; False when it cannot (other file system, or it is there)."""
    try:
        os.link(spool, log_path)
    except FileNotFoundError:
        try:
            os.makedirs(os.path.dirname(log_path), exist_ok=True)
            os.link(spool, log_path)
        except OSError:
            return False
    except OSError:
        return False
    return True


def keep_log(spool: str, log_path: bytes) -> None:
    """The spool's content is the log from now on: by link, or where links are not possible by copy."""
    try:
        written = os.stat(spool).st_size > 0
    except OSError:
        return
    if not written or link_log(spool, log_path) or _same_file(spool, log_path):
        return
    import shutil

    try:
        shutil.copyfile(spool, log_path)
    except OSError as problem:
        os.write(2, f"the log {os.fsdecode(log_path)} could not be written: {problem}\n".encode())


def _same_file(one: str, other: bytes) -> bool:
    try:
        return os.path.samestat(os.stat(one), os.stat(other))
    except OSError:
        return False


def open_spool(path: str) -> None:
    """Makes a new file of this name descriptors 1 and 2; where none can be made, what is written is lost."""
    try:
        opened = os.open(path, _FLAGS, 0o600)
    except OSError:  # the disk is full, or the folder is gone: no reason to lose an attempt
        opened = os.open(os.devnull, os.O_WRONLY)
    os.dup2(opened, 1)
    os.dup2(opened, 2)
    os.close(opened)


def remove(path: str) -> None:
    """Takes the name away; the content stays where it has another."""
    try:
        os.unlink(path)
    except OSError:
        pass
