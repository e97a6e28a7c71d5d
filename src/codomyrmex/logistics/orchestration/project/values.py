"""Values at the engine's border: tagged JSON through msgspec.

Layer: pure. The tags and their meaning stand in `executors.worker.values`, which the workers run
themselves; the trees are the same on both sides. `decode` never imports a class of the user: an enum reads
as its value, a dataclass as the dict of its fields. A thread task, which runs beside the user's classes,
reads with `load`. Values kept as files are written and read by who hands in the way to (`ValueFiles`);
without it, such a value reads as what its tag says of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from codomyrmex.logistics.orchestration.project.executors.worker.values import (
    Undecodable,
    Unserialisable,
    from_tagged,
    to_tagged,
)

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.executors.worker.values import Keep, Open

__all__ = [
    "Undecodable",
    "Unserialisable",
    "decode",
    "decode_tree",
    "encode",
    "encode_tree",
    "from_tagged",
    "load",
    "to_tagged",
]

_encode_tree = msgspec.json.Encoder().encode
_decode_tree = msgspec.json.Decoder().decode


def encode(value: Any, *, root: str = "output", keep: Keep | None = None) -> bytes:
    """`value` as tagged JSON; raises `Unserialisable` naming the place below `root`.

    `keep` writes what is to be a file: `ValueFiles.keep`.
    """
    if value is None:
        return b"null"
    if type(value) is int and -(2**63) <= value < 2**63:
        return b"%d" % value
    return _encode_tree(to_tagged(value, root=root, keep=keep))


def encode_tree(tree: Any) -> bytes:
    """A tree that is tagged already, as `decode_tree` gives it, as tagged JSON."""
    return _encode_tree(tree)


def decode(data: bytes, *, open_file: Open | None = None) -> Any:
    """The value that `data` holds, records as dicts and enums as their values.

    A kept file is read by `open_file`; without it, it is the dict of its codec, size and check sum.
    """
    tree = _decode_tree(data)
    return from_tagged(tree, classes=False, open_file=open_file) if b'"$type"' in data else tree


def decode_tree(data: bytes) -> Any:
    """The JSON tree that `data` holds, tags and all."""
    return _decode_tree(data)


def load(data: bytes, *, open_file: Open | None = None) -> Any:
    """The value that `data` holds, records and enums rebuilt by importing their classes."""
    tree = _decode_tree(data)
    return from_tagged(tree, classes=True, open_file=open_file) if b'"$type"' in data else tree
