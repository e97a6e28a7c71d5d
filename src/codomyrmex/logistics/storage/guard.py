"""The one rule of the state files: in a process that has a state open, nothing else opens them.

Layer: `logistics.storage`. SQLite on POSIX keeps its locks by `fcntl`, and the kernel drops *all* locks
that a process has on a file when the process closes *any* handle on it. So a hash, a tar, a copy, or a
second SQLite (the standard library's) in an engine process takes the locks away without a word; the next
one to close thinks itself the last, deletes the log, and commits are lost
(https://sqlite.org/howtocorrupt.html, 2.2; shown in the tests).

Two measures. Whoever walks through folders (scanners, archives, templates) leaves out what `is_state_path`
names. For all else there is an audit hook, installed when the first database opens: it refuses to open,
link, rename, truncate or remove a protected file, by whatever name (links, relative names, `dir_fd`). It is
a net against accidents, not against malice. It watches only while a database is open; hooks cannot be
removed, so it then looks at one empty set and returns. Other processes may read the files: their handles
are their own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock, get_ident
from typing import Any

from codomyrmex.exceptions import StateFileGuarded

SKIPPED_DIRECTORY = ".codomyrmex"

_OPEN_DESCRIPTORS = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"
_Identity = tuple[int, int]


class _Protected:
    """What is protected now. The hook reads without a lock, so each change puts a new set in place."""

    __slots__ = ("changing", "counts", "identities", "names", "permitted")

    def __init__(self) -> None:
        self.changing = Lock()
        self.counts: dict[str, int] = {}
        self.identities: frozenset[_Identity] = frozenset()
        self.names: frozenset[str] = frozenset()
        self.permitted: set[int] = set()

    def look_again(self) -> None:
        self.names = frozenset(os.path.basename(path) for path in self.counts)
        found = (_identity(path) for path in self.counts)
        self.identities = frozenset(identity for identity in found if identity is not None)


_protected = _Protected()


def is_state_path(path: str | os.PathLike[str]) -> bool:
    """Whether whoever walks through folders must leave `path` alone: it is, or lies in, a state's folder."""
    text = os.fspath(path)
    if SKIPPED_DIRECTORY in text.replace(os.sep, "/").split("/"):
        return True
    return os.path.basename(text) in _protected.names and _identity(text) in _protected.identities


def protect(paths: Iterable[str]) -> None:
    """Starts to refuse others access to the files of these absolute paths, whether they exist yet or not."""
    _install()
    with _protected.changing:
        for path in paths:
            _protected.counts[path] = _protected.counts.get(path, 0) + 1
        _protected.look_again()


def refresh() -> None:
    """Looks again which files stand under the protected names; to be called when one was made."""
    with _protected.changing:
        _protected.look_again()


def release(paths: Iterable[str]) -> None:
    """Ends one `protect` of these paths."""
    with _protected.changing:
        for path in paths:
            left = _protected.counts.get(path, 0) - 1
            if left > 0:
                _protected.counts[path] = left
            else:
                _protected.counts.pop(path, None)
        _protected.look_again()


def reset_after_fork() -> None:
    """A child made by fork() protects nothing: none of its handles carries a lock of SQLite's."""
    _protected.changing = Lock()
    _protected.counts.clear()
    _protected.look_again()


@contextmanager
def permitted() -> Iterator[None]:
    """Lets this thread open protected files: for this package's own making of them."""
    me = get_ident()
    _protected.permitted.add(me)
    try:
        yield
    finally:
        _protected.permitted.discard(me)


@cache
def _install() -> None:
    checks: dict[str, Callable[[tuple[Any, ...]], str | None]] = {
        "open": _opened,
        "os.link": _linked,
        "os.remove": _removed,
        "os.rename": _renamed,
        "os.truncate": _truncated,
        "shutil.rmtree": _tree_removed,
        "sqlite3.connect": _connected,
    }
    guarded = _protected

    # All that it touches is bound here: audit events still come when the modules are being torn down.
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        check = checks.get(event)
        if check is None or not guarded.names or get_ident() in guarded.permitted:
            return
        target = check(arguments)
        if target is not None:
            raise _refusal(event, target)

    sys.addaudithook(hook)


def _refusal(event: str, target: str) -> StateFileGuarded:
    return StateFileGuarded(
        f"{event} of {target} was refused: this process runs an engine on that state, and when any other "
        "handle on its files is closed SQLite's locks are gone and commits are lost",
        hint="read the state through codomyrmex (`codomyrmex runs list --json`), or in another process",
    )


# -- one check for each event: the text of the protected path that the arguments lead to, or None


def _opened(arguments: tuple[Any, ...]) -> str | None:
    path, mode = arguments[0], arguments[1]
    found = _hit(path)
    # os.open does not tell the hook its dir_fd; it tells no mode either, by which we know it.
    if found is None and mode is None and isinstance(path, str | bytes) and not os.path.isabs(path):
        found = _hit_from_any_directory(path)
    return found


def _connected(arguments: tuple[Any, ...]) -> str | None:
    database = arguments[0]
    found = _hit(database)
    if found is None and isinstance(database, str | bytes):
        text = os.fsdecode(database)
        if text.startswith("file:"):
            from urllib.parse import unquote, urlsplit

            found = _hit(unquote(urlsplit(text).path))
    return found


def _linked(arguments: tuple[Any, ...]) -> str | None:
    return _hit(arguments[0], dir_fd=arguments[2]) or _hit(arguments[1], dir_fd=arguments[3])


def _removed(arguments: tuple[Any, ...]) -> str | None:
    return _hit(arguments[0], dir_fd=arguments[1], follow=False)


def _renamed(arguments: tuple[Any, ...]) -> str | None:
    source, target, source_fd, target_fd = arguments
    return (
        _hit(source, dir_fd=source_fd, follow=False)
        or _hit(target, dir_fd=target_fd, follow=False)
        or _holds_protected(source, source_fd)
    )


def _truncated(arguments: tuple[Any, ...]) -> str | None:
    if isinstance(arguments[0], int):
        return str(arguments[0]) if _identity(arguments[0]) in _protected.identities else None
    return _hit(arguments[0])


def _tree_removed(arguments: tuple[Any, ...]) -> str | None:
    dir_fd = arguments[1] if len(arguments) > 1 else None
    return _holds_protected(arguments[0], -1 if dir_fd is None else dir_fd)


def _hit(path: object, *, dir_fd: int = -1, follow: bool = True) -> str | None:
    """`path` as text if it leads to a protected file, or to the place where one would be."""
    text = _text(path)
    if text is None:
        return None
    base = dir_fd if dir_fd >= 0 else None
    if _identity(text, dir_fd=base, follow=follow) in _protected.identities:
        return text
    if base is None and os.path.basename(text) in _protected.names:
        folder, name = os.path.split(os.path.abspath(text))
        if os.path.join(os.path.realpath(folder), name) in _protected.counts:
            return text
    return None


def _hit_from_any_directory(path: str | bytes) -> str | None:
    """For a relative name whose folder is not known: is it a protected file seen from any open folder?"""
    try:
        descriptors = [int(name) for name in os.listdir(_OPEN_DESCRIPTORS)]
    except OSError:
        return None
    for descriptor in descriptors:
        if _identity(path, dir_fd=descriptor) in _protected.identities:
            return os.fsdecode(path)
    return None


def _holds_protected(path: object, dir_fd: int) -> str | None:
    """`path` as text if it is a folder with a protected file somewhere below."""
    text = _text(path)
    if text is None:
        return None
    identity = _identity(text, dir_fd=dir_fd if dir_fd >= 0 else None, follow=False)
    if identity is None:
        return None
    for protected in list(_protected.counts):
        above = os.path.dirname(protected)
        while True:
            if _identity(above) == identity:
                return text
            parent = os.path.dirname(above)
            if parent == above:
                break
            above = parent
    return None


def _text(path: object) -> str | None:
    if isinstance(path, int):
        return None
    try:
        return os.fsdecode(path)  # type: ignore[arg-type]  # what is no path raises TypeError
    except (TypeError, ValueError):
        return None


def _identity(path: str | bytes | int, *, dir_fd: int | None = None, follow: bool = True) -> _Identity | None:
    """The file behind a name. A folder is not one: listing it does no harm, and it is never protected."""
    try:
        found = os.stat(path, dir_fd=dir_fd, follow_symlinks=follow)
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino)
