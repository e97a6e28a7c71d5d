"""`files.*`: copying, moving, removing, finding, reading, writing and check-summing files.

Layer: actions; built-in, standard library only, Python 3.9 syntax (a worker may run it too). They run in
threads.

Invariants: every path stays inside the root, which is the attempt's working folder; symbolic links are never
followed, neither on the way nor at the end; `.codomyrmex`, which holds the state, is refused by name and
passed over in searches. Each folder on the way is opened relative to the one before it without following
links, so that a link put there meanwhile cannot lead out. Results are whole or absent: a file appears under
its name when complete.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

SKIPPED_DIRECTORY = ".codomyrmex"
MAX_READ_BYTES = 16 * 1024 * 1024
_CHUNK_BYTES = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class PathRefused(PermissionError):
    """A path that leads out of the root, through a link, or into the state folder."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        super().__init__(f"{path!r} {reason}")


def copy(source: str, target: str, *, overwrite: bool = False) -> dict[str, Any]:
    """Copies a file or a folder with all in it to the exact path `target`; returns `{path, files,
    size_bytes}`.

    Symbolic links inside a folder are copied as links. Raises FileExistsError where `target` exists, unless
    `overwrite`, which replaces a file but never a folder.
    """
    _refuse_inside(source, target)
    with _pair(source, target) as (source_dir, source_name, target_dir, target_name):
        _make_room(target_dir, target_name, target, overwrite, keep=_is_file(source_dir, source_name, source))
        files, size = _copy_entry(source_dir, source_name, target_dir, target_name)
    return {"path": _relative(target), "files": files, "size_bytes": size}


def move(source: str, target: str, *, overwrite: bool = False) -> dict[str, Any]:
    """Renames a file or folder to the exact path `target`; one step, no copy. Raises as `copy` does."""
    _refuse_inside(source, target)
    with _pair(source, target) as (source_dir, source_name, target_dir, target_name):
        _make_room(target_dir, target_name, target, overwrite, keep=_is_file(source_dir, source_name, source))
        os.rename(source_name, target_name, src_dir_fd=source_dir, dst_dir_fd=target_dir)
    return {"path": _relative(target)}


def remove(path: str, *, recursive: bool = False, missing_ok: bool = False) -> dict[str, Any]:
    """Removes a file or a link, with `recursive` a folder and all in it; returns `{path, removed}`
    (entries)."""
    if not _parts(path):
        raise PathRefused(path, "is the root itself")
    try:
        with _parent(path) as (folder, name):
            if recursive:
                _refuse_state(folder, name, path)
            removed = _remove_entry(folder, name, recursive)
    except FileNotFoundError:
        if not missing_ok:
            raise
        removed = 0
    return {"path": _relative(path), "removed": removed}


def glob(pattern: str, *, include_folders: bool = False) -> dict[str, Any]:
    """The paths below the root that match, sorted: `{files: [...], count}`; `**` stands for any depth.

    Names that begin with a dot match only a pattern that does too. Links are listed, never entered.
    """
    parts = _parts(pattern)
    found = sorted(set(_match(parts, include_folders)))
    return {"files": found, "count": len(found)}


def read(path: str, *, encoding: str | None = "utf-8", max_bytes: int = MAX_READ_BYTES) -> dict[str, Any]:
    """The content of a file: `{path, content, size_bytes}`; text, or bytes with `encoding: null`."""
    with _opened(path) as file:
        size = os.fstat(file).st_size
        if size > max_bytes:
            raise ValueError(
                f"{path!r} has {size} bytes, over {max_bytes} (max_bytes); pass its path on instead"
            )
        data = b"".join(_chunks(file))
    return {
        "path": _relative(path),
        "content": data if encoding is None else data.decode(encoding),
        "size_bytes": len(data),
    }


def write(
    path: str, content: Any, *, encoding: str = "utf-8", append: bool = False, overwrite: bool = True
) -> dict[str, Any]:
    """Writes text or bytes; folders on the way are made. Returns `{path, size_bytes}` (of what was written).

    Without `append` the file is replaced in one step. With it the content is added at the end, again at a
    retry.
    """
    data = content if isinstance(content, bytes) else _as_text(content).encode(encoding)
    with _parent(path, make=True) as (folder, name):
        if append:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(name, flags, 0o666, dir_fd=folder)
            try:
                _write_all(descriptor, data)
            finally:
                os.close(descriptor)
        else:
            _make_room(folder, name, path, overwrite, keep=True)
            _write_whole(folder, name, iter((data,)), 0o666)
    return {"path": _relative(path), "size_bytes": len(data)}


def checksum(path: str, *, algorithm: str = "sha256") -> dict[str, Any]:
    """The check sum of a file in hexadecimal: `{path, algorithm, checksum, size_bytes}`."""
    import hashlib

    digest = hashlib.new(algorithm)
    size = 0
    with _opened(path) as file:
        for chunk in _chunks(file):
            digest.update(chunk)
            size += len(chunk)
    return {
        "path": _relative(path),
        "algorithm": algorithm,
        "checksum": digest.hexdigest(),
        "size_bytes": size,
    }


# ------------------------------------------------------------------------------------------------- the root


def _root() -> str:
    """The folder that paths start in and stay below: the attempt's, or the process's outside one."""
    from codomyrmex.current_task import NoCurrentTask, current_task

    try:
        return current_task().working_dir
    except NoCurrentTask:
        return os.getcwd()


def _parts(path: str) -> list[str]:
    """The names from the root to `path`; raises `PathRefused` for one that leaves it or names the state
    folder."""
    text = os.fspath(path)
    if "\0" in text:
        raise PathRefused(text, "has a null character")
    if os.path.isabs(text):
        root = os.path.normpath(_root())
        inside = os.path.normpath(text)
        if inside != root and not inside.startswith(root.rstrip(os.sep) + os.sep):
            raise PathRefused(text, f"is outside the root {root}")
        text = os.path.relpath(inside, root)
    parts = [part for part in text.split(os.sep) if part not in ("", ".")]
    if ".." in parts:
        raise PathRefused(text, "has '..', which may lead out of the root")
    if SKIPPED_DIRECTORY in parts:
        raise PathRefused(text, f"is in {SKIPPED_DIRECTORY}, which only codomyrmex itself may touch")
    return parts


def _relative(path: str) -> str:
    return os.sep.join(_parts(path)) or "."


def _refuse_inside(source: str, target: str) -> None:
    one, other = _parts(source), _parts(target)
    if other[: len(one)] == one:
        raise PathRefused(target, f"is {source!r} itself, or inside it")


@contextmanager
def _folder(parts: list[str], path: str, *, make: bool = False) -> Iterator[int]:
    """A descriptor of the folder below the root, opened name by name."""
    descriptor = os.open(_root(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            below = _step(descriptor, part, path, make)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _step(folder: int, part: str, path: str, make: bool) -> int:
    if make:
        try:
            os.mkdir(part, dir_fd=folder)
        except FileExistsError:
            pass
    try:
        return os.open(part, _FOLDER, dir_fd=folder)
    except FileNotFoundError:
        raise FileNotFoundError(2, "no such file or folder", path) from None
    except OSError:
        if stat.S_ISLNK(os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode):
            raise PathRefused(path, f"goes through the symbolic link {part!r}") from None
        raise


@contextmanager
def _parent(path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
    """A descriptor of the folder that `path` is in, and its last name."""
    parts = _parts(path)
    if not parts:
        raise PathRefused(path, "is the root itself")
    with _folder(parts[:-1], path, make=make) as folder:
        yield folder, parts[-1]


@contextmanager
def _pair(source: str, target: str) -> Iterator[tuple[int, str, int, str]]:
    """Folder and last name of both paths; folders on the way to the target are made."""
    with _parent(source) as (source_dir, source_name):
        _entry(source_dir, source_name, source)
        with _parent(target, make=True) as (target_dir, target_name):
            yield source_dir, source_name, target_dir, target_name


@contextmanager
def _opened(path: str) -> Iterator[int]:
    """A descriptor of a regular file."""
    with _parent(path) as (folder, name):
        found = _entry(folder, name, path)
        if stat.S_ISLNK(found.st_mode):
            raise PathRefused(path, "is a symbolic link")
        if not stat.S_ISREG(found.st_mode):
            raise IsADirectoryError(21, "is not a regular file", path)
        descriptor = os.open(name, _FILE, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _entry(folder: int, name: str, path: str) -> os.stat_result:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        raise FileNotFoundError(2, "no such file or folder", path) from None


def _is_file(folder: int, name: str, path: str) -> bool:
    return not stat.S_ISDIR(_entry(folder, name, path).st_mode)


def _make_room(folder: int, name: str, path: str, overwrite: bool, *, keep: bool = False) -> None:
    """Refuses an existing target; with `overwrite` a file or link there is taken away (`keep`: replaced
    later)."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(21, "is a folder; remove it first", path)
    if not overwrite:
        raise FileExistsError(17, "exists already; say overwrite: true", path)
    if not keep:
        os.unlink(name, dir_fd=folder)


# --------------------------------------------------------------------------------------------- the contents


def _chunks(descriptor: int) -> Iterator[bytes]:
    while True:
        chunk = os.read(descriptor, _CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


def _as_text(content: Any) -> str:
    if not isinstance(content, str):
        raise TypeError(f"content is a {type(content).__name__}; give text or bytes")
    return content


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _write_whole(folder: int, name: str, chunks: Iterator[bytes], mode: int) -> int:
    """Writes beside the target and puts it in place; the number of bytes."""
    import threading

    partial = f".{name[:200]}.{os.getpid()}.{threading.get_ident()}.part"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(partial, flags, mode, dir_fd=folder)
    size = 0
    try:
        try:
            for chunk in chunks:
                _write_all(descriptor, chunk)
                size += len(chunk)
        finally:
            os.close(descriptor)
        os.rename(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(partial, dir_fd=folder)
        raise
    return size


def _copy_entry(source_dir: int, source: str, target_dir: int, target: str) -> tuple[int, int]:
    """Copies one entry, a folder with all in it; (files, bytes). The state folder is passed over."""
    found = os.stat(source, dir_fd=source_dir, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(source, dir_fd=source_dir), target, dir_fd=target_dir)
        return 1, 0
    if stat.S_ISREG(found.st_mode):
        descriptor = os.open(source, _FILE, dir_fd=source_dir)
        try:
            return 1, _write_whole(target_dir, target, _chunks(descriptor), stat.S_IMODE(found.st_mode))
        finally:
            os.close(descriptor)
    if not stat.S_ISDIR(found.st_mode):
        return 0, 0  # sockets and pipes have no content to copy
    os.mkdir(target, dir_fd=target_dir)
    one, other = os.open(source, _FOLDER, dir_fd=source_dir), os.open(target, _FOLDER, dir_fd=target_dir)
    try:
        counts = [
            _copy_entry(one, name, other, name) for name in os.listdir(one) if name != SKIPPED_DIRECTORY
        ]
    finally:
        os.close(one)
        os.close(other)
    return sum(files for files, _ in counts), sum(size for _, size in counts)


def _refuse_state(folder: int, name: str, path: str) -> None:
    """Raises before anything is removed when a state folder lies somewhere below."""
    if not stat.S_ISDIR(_entry(folder, name, path).st_mode):
        return
    inside = os.open(name, _FOLDER, dir_fd=folder)
    try:
        for below in os.listdir(inside):
            if below == SKIPPED_DIRECTORY:
                raise PathRefused(
                    path, f"holds a {SKIPPED_DIRECTORY}, which only codomyrmex itself may touch"
                )
            _refuse_state(inside, below, path)
    finally:
        os.close(inside)


def _remove_entry(folder: int, name: str, recursive: bool) -> int:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(name, dir_fd=folder)
        return 1
    if not recursive:
        os.rmdir(name, dir_fd=folder)
        return 1
    inside = os.open(name, _FOLDER, dir_fd=folder)
    try:
        removed = sum(_remove_entry(inside, below, True) for below in os.listdir(inside))
    finally:
        os.close(inside)
    os.rmdir(name, dir_fd=folder)
    return removed + 1


def _match(parts: list[str], include_folders: bool) -> Iterator[str]:
    fixed: list[str] = []
    while len(parts) > len(fixed) + 1 and not any(char in parts[len(fixed)] for char in "*?["):
        fixed.append(parts[len(fixed)])
    try:
        with _folder(fixed, os.sep.join(parts)) as folder:
            yield from _match_below(folder, fixed, parts[len(fixed) :], include_folders)
    except FileNotFoundError:
        return


def _match_below(folder: int, above: list[str], pattern: list[str], include_folders: bool) -> Iterator[str]:
    from fnmatch import fnmatchcase

    if not pattern:
        return
    head, rest = pattern[0], pattern[1:]
    deep = head == "**"
    if deep and rest:
        yield from _match_below(folder, above, rest, include_folders)
    for name in sorted(os.listdir(folder)):
        if name == SKIPPED_DIRECTORY or (name.startswith(".") and not head.startswith(".")):
            continue
        is_folder = stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        fits = deep or fnmatchcase(name, head)
        if fits and not rest and (include_folders or not is_folder):
            yield os.sep.join([*above, name])
        if is_folder and fits and (deep or rest):
            below = os.open(name, _FOLDER, dir_fd=folder)
            try:
                yield from _match_below(below, [*above, name], pattern if deep else rest, include_folders)
            finally:
                os.close(below)
