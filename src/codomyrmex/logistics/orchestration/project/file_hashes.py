"""The content of files as hashes, each read once as long as nobody touches it.

Layer: shell; above storage. A hash is remembered with what `stat` says of the file (times, size, inode) and
taken again when that differs. A file that changed within the last `RACY_NS` is not remembered: it could change
again without its times showing it (the "racy" problem of git's index).
"""

from __future__ import annotations

import glob
import hashlib
import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from threading import Lock

from codomyrmex.logistics.storage.guard import is_state_path

RACY_NS = 50_000_000
REMEMBERED = 10_000
_CHUNK_BYTES = 1 << 20
Stamp = tuple[int, int, int, int]


class InputMissing(ValueError):
    """A path or pattern that a step's cache names matches no file."""


class FileHashes:
    """Remembers hashes by path; usable from several threads."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Stamp, str]] = {}
        self._lock = Lock()

    def of(self, path: str) -> str:
        """The SHA-256 of a file's content; raises OSError, and `InputMissing` for what is no plain file."""
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise InputMissing(f"{path} is no plain file")
        if is_state_path(path):
            raise InputMissing(f"{path} belongs to the state of codomyrmex")
        stamp = (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)
        known = self._known.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        digest = _hash(path)
        if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > RACY_NS:
            with self._lock:
                if len(self._known) >= REMEMBERED:
                    self._known.clear()
                self._known[path] = (stamp, digest)
        return digest

    def of_all(self, named: Iterable[object], folder: str) -> dict[str, str]:
        """{path: hash} of what paths and patterns mean, sorted; paths are relative to `folder` where below it.

        A folder stands for the files in it. Raises `InputMissing` for what matches nothing, and OSError.
        """
        found: dict[str, str] = {}
        for name in named:
            text = os.fspath(name) if isinstance(name, str | os.PathLike) else None
            if not isinstance(text, str) or not text:
                raise InputMissing(f"{name!r} is no path")
            matches = list(matching(text, folder))
            if not matches:
                raise InputMissing(f"{text!r} matches no file in {folder}")
            for path in matches:
                found[shown(path, folder)] = self.of(path)
        return dict(sorted(found.items()))


def matching(name: str, folder: str) -> Iterator[str]:
    """The files that a path, a folder or a pattern (`**`: any depth) means."""
    path = os.path.normpath(os.path.join(folder, os.path.expanduser(name)))
    if os.path.lexists(path) or not glob.has_magic(name):
        yield from _files_at(path)
        return
    for match in sorted(glob.glob(path, recursive=True)):
        if os.path.isfile(match) and not is_state_path(match):
            yield match


def shown(path: str, folder: str) -> str:
    """A path relative to a folder where it lies below it."""
    prefix = folder.rstrip(os.sep) + os.sep
    return path[len(prefix) :] if path.startswith(prefix) else path


def named_paths(value: object) -> Sequence[object]:
    """What a resolved `inputs` or `outputs` names: lists in it (of `${...}`) count with their elements."""
    if (
        isinstance(value, dict)
        and "value" in value
        and value.get("$type") in ("tuple", "set", "path", "Path")
    ):
        return named_paths(value["value"])
    if isinstance(value, list):
        return [each for part in value for each in named_paths(part)]
    return [value]


def _files_at(path: str) -> Iterator[str]:
    if not os.path.isdir(path):
        if os.path.lexists(path):
            yield path
        return
    for where, folders, files in os.walk(path):
        folders[:] = sorted(each for each in folders if not each.startswith(".") and each != "__pycache__")
        for name in sorted(files):
            if not name.startswith("."):
                yield os.path.join(where, name)


def _hash(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
