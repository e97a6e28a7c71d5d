"""Results that are too large for a row, and values that have a codec: files named by their content.

Layer: above storage. A result over `LIMIT_BYTES` is written to `artifacts/results/<sha256>.json`, synced
and renamed into place *before* the row that names it is committed; the row holds a small tagged value in
its stead. Values with a codec are written into the same folder by whoever has them (`values`). A file that no
row names is left over from a crash and harms nothing.

A state in memory keeps large results in its rows, and the files of values in a temporary folder that is
removed when its engine closes.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from codomyrmex.exceptions import StoreCorrupt
from codomyrmex.logistics.orchestration.project.executors.value_files import StateValueFiles

LIMIT_BYTES = 64 * 1024
_MARK = b'{"$type":"result-file"'


def _scratch_name() -> str:
    """A folder that nobody else will have; made when something is put there."""
    from tempfile import gettempdir

    return os.path.join(gettempdir(), f"codomyrmex-{os.getpid()}-{os.urandom(8).hex()}")


class ResultFiles:
    """Keeps large results below a folder, or in their rows where there is no folder."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self.values = StateValueFiles(
            str(folder) if folder is not None else _scratch_name(), scratch=folder is None
        )
        """The files of values that have a codec."""

    def close(self) -> None:
        """Removes the temporary folder of a state in memory; idempotent."""
        if self._folder is None and os.path.isdir(self.values.folder):
            from shutil import rmtree

            rmtree(self.values.folder, ignore_errors=True)

    def put(self, result: bytes) -> bytes:
        """What the row is to hold for `result`: the name of its file, or the result itself if none can be written.

        A full disk loses nothing so: the commit of the row is refused too, and tried again.
        """
        if len(result) <= LIMIT_BYTES or self._folder is None:
            return result
        digest = hashlib.sha256(result).hexdigest()
        path = self._folder / f"{digest}.json"
        try:
            if not path.exists():
                self._write(path, result)
        except OSError:
            return result
        return msgspec.json.encode({"$type": "result-file", "sha256": digest, "bytes": len(result)})

    def get(self, row: bytes | None) -> bytes | None:
        """The result that a row stands for; raises `StoreCorrupt` when its file is gone or changed."""
        if row is None or not row.startswith(_MARK):
            return row
        name = msgspec.json.decode(row)
        if self._folder is None:
            raise StoreCorrupt("a result is in a file, and this state has no folder")
        try:
            data = (self._folder / f"{name['sha256']}.json").read_bytes()
        except OSError as error:
            raise StoreCorrupt(f"the file of a result cannot be read: {error}") from error
        if hashlib.sha256(data).hexdigest() != name["sha256"]:
            raise StoreCorrupt(f"the file of result {name['sha256'][:12]} has been changed")
        return data

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}-{id(data):x}.part")
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
