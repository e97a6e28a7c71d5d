"""Values kept as files: which codec writes a type, and the files themselves, named by their content.

Layer: worker (standard library only, Python 3.9 syntax; the engine uses it too). A codec is a name, a suffix,
`write(value, path)` and `read(path)`. Built in are numpy arrays (npy), pandas frames (parquet where pyarrow is
installed, else csv where that gives the same frame back) and polars frames (parquet). A library is imported
when a value of it is read, never to find out what a value is.

A user's codec is registered by importing the module that calls `register_codec`. What it wrote names that
module (`home`), so that a process that only reads imports it then; the entry points `codomyrmex.codecs`, each
naming such a module, are loaded when nothing else knows a type or a name.

Invariants: a file is whole and synced under its final name before its tag exists; what is read has the check
sum that the tag says; nothing here runs code that a file holds (numpy's `allow_pickle` is off).
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any, Optional, Union

INLINE_BYTES = 4096
"""A file up to this size stands in its tag, as base64: a name and two syncs would cost more than they hold."""
ENTRY_POINTS = "codomyrmex.codecs"
_CHUNK_BYTES = 1 << 20
_CARRIED = (
    bool,
    int,
    float,
    str,
    list,
    dict,
    tuple,
    set,
    frozenset,
    bytes,
    bytearray,
    memoryview,
    type(None),
)


class CannotWrite(ValueError):
    """A codec gave up on a value."""


class UnknownCodec(LookupError):
    """Nobody registered the codec that a kept file names, or what it needs is not installed."""


class StoreCorrupt(ValueError):
    """A kept file is gone, or is not what was written."""


class Codec:
    """How values of one type become a file and come back."""

    __slots__ = ("home", "name", "read", "suffix", "write")

    def __init__(
        self,
        name: str,
        suffix: str,
        write: Callable[[Any, Path], None],
        read: Callable[[Path], Any],
        home: Optional[str] = None,
    ) -> None:
        self.name = name
        self.suffix = suffix
        self.write = write
        self.read = read
        self.home = home


# ------------------------------------------------------------------------------------------ which codec

_by_type: dict[Union[type, str], Codec] = {}
_by_name: dict[str, Codec] = {}
_known: dict[type, Optional[Codec]] = {}
"""What was found for a type; emptied when another codec comes."""
_asked: list[str] = []
"""Not empty once the entry points have been loaded."""


def register_codec(
    kind: Union[type, str],
    *,
    name: str,
    suffix: str,
    write: Callable[[Any, Path], None],
    read: Callable[[Path], Any],
    home: Optional[str] = None,
) -> None:
    """Keeps values of a type, and of its subclasses, as files that `write` makes and `read` reads.

    `kind` is the class, or its name as `package.module.Class`, which imports nothing. `name` stands in the
    state and must not change; the same module may register it again. `suffix` is that of the file: `.parquet`.
    Call it at the top level of a module that other processes can import. Raises ValueError.
    """
    if home is None:
        home = sys._getframe(1).f_globals.get("__name__")
    if kind in _CARRIED:
        raise ValueError(f"values of {kind!r} are kept as they are and need no codec")
    if not name or not all(char.isalnum() or char in "._-" for char in name):
        raise ValueError(f"name={name!r}: use letters, digits, `.`, `_` and `-`")
    if not _is_suffix(suffix):
        raise ValueError(f"suffix={suffix!r}: write it like '.parquet'")
    other = _by_name.get(name)
    if name in _BUILT_IN or (other is not None and other.home != home):
        whose = "built in" if other is None else f"registered by {other.home}"
        raise ValueError(f"the codec name {name!r} is taken: it is {whose}")
    codec = Codec(name, suffix, write, read, None if home == "__main__" else home)
    _by_type[kind.replace(":", ".") if isinstance(kind, str) else kind] = codec
    _by_name[name] = codec
    _known.clear()


def codec_for(kind: type) -> Optional[Codec]:
    """The codec of a type: the nearest registered class of it, else the one built in for exactly it."""
    try:
        return _known[kind]
    except KeyError:
        if len(_known) > 1000:
            _known.clear()
        found = _known[kind] = _registered(kind) or _built_in(kind)
        return found


def offered_codec_for(kind: type) -> Optional[Codec]:
    """The same after the entry points have been asked; for a type that nothing else can keep."""
    return codec_for(kind) if _load_entry_points() else None


def codec_named(name: str, home: Optional[str] = None) -> Codec:
    """The codec that a tag names; imports `home`, then asks the entry points. Raises `UnknownCodec`."""
    found = _by_name.get(name) or _BUILT_IN.get(name)
    if found is None and home:
        import importlib

        try:
            importlib.import_module(home)
        except ImportError as problem:
            raise UnknownCodec(
                f"the codec {name!r} is registered by {home}, which cannot be imported: {problem}"
            ) from problem
        found = _by_name.get(name)
    if found is None and _load_entry_points():
        found = _by_name.get(name)
    if found is None:
        raise UnknownCodec(
            f"no codec is called {name!r} here; import the module that calls register_codec(name={name!r}), "
            f"or name it as an entry point of the group {ENTRY_POINTS}"
        )
    return found


def _registered(kind: type) -> Optional[Codec]:
    if not _by_type:
        return None
    for base in kind.__mro__:
        found = _by_type.get(base) or _by_type.get(f"{base.__module__}.{base.__qualname__}")
        if found is not None:
            return found
        for name, codec in _by_type.items():
            if isinstance(name, str) and _loaded(name) is base:
                return codec
    return None


def _loaded(name: str) -> Any:
    """What `package.Class` is where its package is loaded: classes are defined elsewhere than they are named."""
    module, _, attribute = name.rpartition(".")
    return getattr(sys.modules.get(module), attribute, None)


def _built_in(kind: type) -> Optional[Codec]:
    package = str(kind.__module__).partition(".")[0]
    if package == "numpy" and kind.__qualname__ in ("ndarray", "memmap"):
        return _BUILT_IN["numpy.npy"]
    if kind.__qualname__ == "DataFrame" and package == "polars":
        return _BUILT_IN["polars.parquet"]
    if kind.__qualname__ == "DataFrame" and package == "pandas":
        import importlib.util

        return _BUILT_IN["pandas.parquet" if importlib.util.find_spec("pyarrow") else "pandas.csv"]
    return None


def _load_entry_points() -> bool:
    """Loads them once; False when there are none, or they have been loaded before."""
    if _asked:
        return False
    import importlib.metadata

    _asked.append("yes")
    found: Any = importlib.metadata.entry_points()
    group = found.select(group=ENTRY_POINTS) if hasattr(found, "select") else found.get(ENTRY_POINTS, ())
    for each in group:
        each.load()
    _known.clear()
    return bool(group)


# ------------------------------------------------------------------------------------------ built in


def _import(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as problem:
        raise UnknownCodec(f"reading this value takes {name}, which is not installed here") from problem


def _write_array(value: Any, path: Path) -> None:
    with open(path, "wb") as file:
        sys.modules["numpy"].save(file, value, allow_pickle=False)


def _read_array(path: Path) -> Any:
    return _import("numpy").load(path, allow_pickle=False)


def _write_parquet(value: Any, path: Path) -> None:
    value.to_parquet(path, engine="pyarrow")


def _read_parquet(path: Path) -> Any:
    pandas = _import("pandas")
    _import("pyarrow")
    return pandas.read_parquet(path, engine="pyarrow")


def _write_csv(value: Any, path: Path) -> None:
    value.to_csv(path, index=False)
    back = _read_csv(path)
    if not (
        list(back.columns) == list(value.columns) and back.index.equals(value.index) and back.equals(value)
    ):
        raise CannotWrite(
            "csv would not give the same frame back (index, types, missing values): install pyarrow"
        )


def _read_csv(path: Path) -> Any:
    return _import("pandas").read_csv(path)


def _write_polars(value: Any, path: Path) -> None:
    value.write_parquet(path)


def _read_polars(path: Path) -> Any:
    return _import("polars").read_parquet(path)


_BUILT_IN = {
    "numpy.npy": Codec("numpy.npy", ".npy", _write_array, _read_array),
    "pandas.parquet": Codec("pandas.parquet", ".parquet", _write_parquet, _read_parquet),
    "pandas.csv": Codec("pandas.csv", ".csv", _write_csv, _read_csv),
    "polars.parquet": Codec("polars.parquet", ".parquet", _write_polars, _read_polars),
}


# ------------------------------------------------------------------------------------------ the files


class ValueFiles:
    """The files of one state: `<folder>/<sha256><suffix>`.

    The folder of a state without one of its own (`scratch`) goes with its engine and stands in the tags.
    """

    __slots__ = ("folder", "scratch")
    corrupt: type[Exception] = StoreCorrupt
    """Raised for a file that is gone or changed."""

    def __init__(self, folder: str, *, scratch: bool = False) -> None:
        self.folder = folder
        self.scratch = scratch

    def keep(self, value: Any, codec: Codec) -> dict[str, Any]:
        """Writes `value` and returns its tag, without `$type`; raises `CannotWrite`, OSError."""
        import pathlib

        part = pathlib.Path(self.folder, f".{os.getpid()}-{id(value):x}-{os.urandom(4).hex()}{codec.suffix}")
        part.parent.mkdir(mode=0o700 if self.scratch else 0o777, parents=True, exist_ok=True)
        try:
            self._write(value, codec, part)
            tag: dict[str, Any] = {"codec": codec.name, "bytes": part.stat().st_size}
            if codec.home is not None:
                tag["home"] = codec.home
            if tag["bytes"] <= INLINE_BYTES:
                return {**tag, "data": _base64(part.read_bytes())}
            tag.update(sha256=_sha256(part, sync=True), suffix=codec.suffix)
            if self.scratch:
                tag["folder"] = self.folder
            os.replace(part, pathlib.Path(self.folder, tag["sha256"] + codec.suffix))
        finally:
            if part.exists():
                part.unlink()
        _sync(self.folder)
        return tag

    def read(self, tag: Mapping[str, Any]) -> Any:
        """The value of a tag; raises what `corrupt` says, or `UnknownCodec`."""
        codec = codec_named(tag["codec"], tag.get("home"))
        if "data" in tag:
            return self._read_inline(tag, codec)
        path = self.path_of(tag)
        try:
            found = _sha256(path, sync=False)
        except OSError as problem:
            raise self.corrupt(f"the file of a kept value cannot be read: {problem}") from problem
        if found != tag["sha256"]:
            raise self.corrupt(
                f"{path} has been changed since it was written; its value cannot be used any more"
            )
        return codec.read(path)

    def path_of(self, tag: Mapping[str, Any]) -> Path:
        """Where the file of a tag lies."""
        import pathlib

        name = tag["sha256"]
        if len(name) != 64 or not name.isalnum() or not _is_suffix(tag["suffix"]):
            raise self.corrupt(f"{name!r} is no name of a kept value")
        return pathlib.Path(tag.get("folder", self.folder), name + tag["suffix"])

    def _write(self, value: Any, codec: Codec, part: Path) -> None:
        try:
            codec.write(value, part)
        except (TypeError, ValueError, NotImplementedError) as problem:
            raise CannotWrite(f"the codec {codec.name} cannot write it: {problem}") from problem
        if not part.is_file():
            raise CannotWrite(f"the codec {codec.name} wrote no file at the path that it was given")

    def _read_inline(self, tag: Mapping[str, Any], codec: Codec) -> Any:
        import binascii
        import pathlib
        import tempfile

        with tempfile.TemporaryDirectory(prefix="codomyrmex-") as folder:
            path = pathlib.Path(folder, "value" + codec.suffix)
            path.write_bytes(binascii.a2b_base64(tag["data"]))
            return codec.read(path)


def _is_suffix(text: str) -> bool:
    return text[:1] == "." and len(text) <= 32 and all(char.isalnum() or char in "._-" for char in text)


def _base64(data: bytes) -> str:
    import binascii

    return binascii.b2a_base64(data, newline=False).decode("ascii")


def _sha256(path: Path, *, sync: bool) -> str:
    import hashlib

    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while True:
            chunk = file.read(_CHUNK_BYTES)
            if not chunk:
                break
            digest.update(chunk)
        if sync:
            os.fsync(file.fileno())
    return digest.hexdigest()


def _sync(folder: str) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
