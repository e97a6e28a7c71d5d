"""Where a state may lie: the resolved path of its file, and the file systems that cannot carry it.

Layer: `logistics.storage`. A log in shared memory and locks that all see need a file system of this
machine; on a network file system SQLite loses data (https://sqlite.org/wal.html, "disadvantages"), so it is
refused.
"""

from __future__ import annotations

import os
import stat

from codomyrmex.exceptions import StoreIOError

_MOUNTS = "/proc/self/mountinfo"
_NETWORK = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "pvfs2",
    "smb3", "smbfs",
    "fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.rclone", "fuse.s3fs", "fuse.sshfs",
})  # fmt: skip


def resolved(path: str | os.PathLike[str]) -> str:
    """The absolute path, its folder's links followed; raises `StoreIOError` if the file itself is a link."""
    folder, name = os.path.split(os.path.abspath(path))
    found = os.path.join(os.path.realpath(folder), name)
    try:
        is_link = stat.S_ISLNK(os.lstat(found).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_link = False
    if is_link:
        raise StoreIOError(
            f"{found} is a symbolic link; a state must be a file of its own",
            hint="name its real place with --state",
        )
    return found


def refuse_network_file_system(path: str) -> None:
    """Raises `StoreIOError` when `path` would lie on a file system that other machines share."""
    kind = file_system(path)
    if kind in _NETWORK:
        raise StoreIOError(
            f"{os.path.dirname(path)} is on a network file system ({kind}), where SQLite's locks do not hold",
            hint="put the state on a local disk with --state DIR or CODOMYRMEX_STATE",
        )


def file_system(path: str, mounts: str = _MOUNTS) -> str | None:
    """The type of the file system that `path` lies on (`ext4`, `nfs4`); None where that cannot be told."""
    try:
        with open(mounts, "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    best, kind = b"", None
    target = os.fsencode(path)
    for line in lines:
        before, _, after = line.partition(b" - ")
        point = _unescaped(before.split(b" ")[4])
        # Of two mounts on one place the later one is seen, hence >=.
        if len(point) >= len(best) and (target == point or target.startswith(point.rstrip(b"/") + b"/")):
            best, kind = point, after.split(b" ", 1)[0]
    return kind.decode() if kind is not None else None


def _unescaped(field: bytes) -> bytes:
    """Mount points are written with octal escapes for space, tab, newline and backslash."""
    for code, character in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        field = field.replace(code, character)
    return field
