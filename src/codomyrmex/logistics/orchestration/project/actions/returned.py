"""Whether what an action says it returns can be kept, judged by its annotation before anything runs.

Layer: actions; pure. Only what plainly cannot is named: things that live in one process (sockets, locks, open
files, connections), what can be read only once (generators), functions and modules, and plain classes of the
project. This is a warning and no fault: annotations lie, and a codec may be registered for the type.
"""

from __future__ import annotations

import ast

from codomyrmex.logistics.orchestration.project.actions.annotation_trees import (
    arms,
    is_none,
    name_of,
    named,
    parse,
)
from codomyrmex.logistics.orchestration.project.actions.named_types import Lookup

ONE_PROCESS = frozenset(
    {
        *("socket.socket", "ssl.SSLSocket", "ssl.SSLContext", "sqlite3.Connection", "sqlite3.Cursor"),
        *("threading.Lock", "threading.RLock", "threading.Event", "threading.Condition", "threading.Thread"),
        *("threading.Semaphore", "_thread.lock", "_thread.RLock", "queue.Queue", "subprocess.Popen"),
        *("asyncio.Task", "asyncio.Future", "asyncio.Queue", "asyncio.Lock", "concurrent.futures.Future"),
        *("concurrent.futures.ThreadPoolExecutor", "concurrent.futures.ProcessPoolExecutor"),
        *("multiprocessing.Process", "logging.Logger", "http.client.HTTPResponse", "mmap.mmap"),
        *("io.TextIOWrapper", "io.BufferedReader", "io.BufferedWriter", "io.StringIO", "io.BytesIO"),
        *("zipfile.ZipFile", "tarfile.TarFile", "contextvars.ContextVar", "weakref.ref"),
    }
)
_READ_ONCE = frozenset({"Generator", "Iterator", "AsyncGenerator", "AsyncIterator"})
_NO_VALUES = frozenset(
    {"Callable", "ModuleType", "FunctionType", "CodeType", "FrameType", "IO", "TextIO", "BinaryIO"}
)


def why_not_kept(
    returns: str | None, lookup: Lookup, *, is_generator: bool = False
) -> tuple[str, bool] | None:
    """Why a value of an annotation cannot be kept, or None; True with it for a plain class of the project.

    A union is judged by its members but null: one that can be kept is enough.
    """
    if is_generator:
        return "is a generator, which can be read only once: return a list", False
    tree = parse(returns)
    if tree is None:
        return None
    reasons = [_reason(arm, scope) for arm, scope in arms(tree, lookup) if not is_none(arm)]
    found = [reason for reason in reasons if reason is not None]
    return found[0] if found and len(found) == len(reasons) else None


def _reason(node: ast.expr, lookup: Lookup) -> tuple[str, bool] | None:
    plain = node.value if isinstance(node, ast.Subscript) else node
    text, name = ast.unparse(plain), name_of(plain)
    known = named(plain, lookup)
    if known is not None:
        return (f"returns {text}, a class that is no dataclass", True) if known.is_plain else None
    if text in ONE_PROCESS:
        return f"returns {text}, which means nothing outside the process that made it", False
    if name in _READ_ONCE:
        return f"returns {text}, which can be read only once: return a list", False
    if name in _NO_VALUES:
        return f"returns {text}, which is no value that can be kept", False
    return None
