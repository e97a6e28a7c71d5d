"""Files of values on the engine's side, and the public way to say how a type is kept.

Layer: executors. What a codec is and what the files are stands in `worker.file_codecs`, which the workers run
themselves. In a worker process that module has another name; `register_codec` finds the one that is at work,
so a user's module registers its codec with the same line in every process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from codomyrmex.exceptions import StoreCorrupt
from codomyrmex.logistics.orchestration.project.executors.worker import file_codecs

IN_WORKER = "codomyrmex_worker"


class StateValueFiles(file_codecs.ValueFiles):
    """`ValueFiles` whose files that are gone or changed raise the package's own `StoreCorrupt`."""

    __slots__ = ()
    corrupt = StoreCorrupt


def register_codec(
    kind: type | str,
    *,
    name: str,
    suffix: str,
    write: Callable[[Any, Path], None],
    read: Callable[[Path], Any],
) -> None:
    """Keeps values of a type, and of its subclasses, as files that `write(value, path)` makes and `read(path)` reads.

    `kind` is the class, or its name as `package.module.Class`, which imports nothing. `name` stands in the state
    and must not change; the same module may register it again. `suffix` is that of the file: `.parquet`. Call it
    at the top level of a module that other processes can import: a process that reads such a value imports that
    module, unless an entry point of the group `codomyrmex.codecs` names it. Raises ValueError.
    """
    home = sys._getframe(1).f_globals.get("__name__", "__main__")
    registry = file_codecs
    if IN_WORKER in sys.modules:
        import importlib

        registry = importlib.import_module(f"{IN_WORKER}.file_codecs")
    registry.register_codec(kind, name=name, suffix=suffix, write=write, read=read, home=home)
