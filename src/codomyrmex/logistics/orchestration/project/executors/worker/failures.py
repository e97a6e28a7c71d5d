"""Turning what an action raised into fields that can be kept, matched and shown.

Layer: worker; thread and coroutine executors use it too. The frame shown to a user is the last one of the
project's own code; failing that the last one outside Python's library and installed packages. Texts are
without the secrets of the attempt that runs here.
"""

from __future__ import annotations

import os

from . import redaction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, TracebackType
    from typing import Any, Optional

MAX_TRACEBACK_BYTES = 16384
_OWN_MODULES = ("codomyrmex_worker.", "codomyrmex.")
_HERE = os.path.dirname(os.path.abspath(__file__))
_PACKAGE = _HERE.rpartition(os.sep + "logistics" + os.sep)[0]
_LIBRARY = os.path.dirname(os.path.abspath(os.__file__))


def describe_failure(
    problem: BaseException, roots: Sequence[str] = (), code: Optional[CodeType] = None
) -> dict[str, Any]:
    """The fields of an `ErrorInfo`; `code` is the action's own, named when no frame of the user's was
    reached."""
    kind = type(problem)
    hidden = kind.__module__ in ("builtins", "__main__") or kind.__module__.startswith(_OWN_MODULES)
    prefix = "" if hidden else kind.__module__ + "."
    found: dict[str, Any] = {
        "type": prefix + kind.__qualname__,
        "mro": [base.__name__ for base in kind.__mro__ if base is not object],
        "message": _message(problem),
        "traceback": format_traceback(problem),
    }
    frame = last_user_frame(problem.__traceback__, roots)
    if frame is None and code is not None:
        frame = f"{code.co_filename}:{code.co_firstlineno} {code.co_name}"
    if frame is not None:
        found["frame"] = frame
    for name in ("exit_code", "signal"):
        value = getattr(problem, name, None)
        if type(value) is int:
            found[name] = value
    if isinstance(problem, SystemExit):
        found["message"] = f"the action called sys.exit({problem.code!r})"
        found["exit_code"] = problem.code if type(problem.code) is int else 1
    found["mro"] = [redaction.hide(name) for name in found["mro"]]
    return {
        name: _storable(redaction.hide(value)) if isinstance(value, str) else value
        for name, value in found.items()
    }


def _storable(text: str) -> str:
    """Text without lone surrogates, which file names that are no UTF-8 bring into messages."""
    return text.encode("utf-8", "backslashreplace").decode()


def _message(problem: BaseException) -> str:
    try:
        return str(problem) or type(problem).__name__
    except BaseException as other:
        return f"<its message could not be had: {type(other).__name__}>"


def last_user_frame(trace: Optional[TracebackType], roots: Sequence[str]) -> Optional[str]:
    """`file:line function` of the frame that a user wants to see first."""
    inside = outside = None
    folders = tuple(root.rstrip(os.sep) + os.sep for root in roots)
    while trace is not None:
        code = trace.tb_frame.f_code
        name = code.co_filename
        if not name.startswith((_HERE, "<frozen ")) and "site-packages" not in name:
            place = f"{name}:{trace.tb_lineno} {code.co_name}"
            if folders and name.startswith(folders):
                inside = place
            if not name.startswith((_LIBRARY, _PACKAGE or _HERE)):
                outside = place
        trace = trace.tb_next
    return inside or outside


def format_traceback(problem: BaseException) -> str:
    """The traceback without the executor's own frames, its middle cut out where it is over 16 KiB."""
    import traceback

    trace = problem.__traceback__
    while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    try:
        text = "".join(traceback.format_exception(type(problem), problem, trace))
    except BaseException as other:
        return f"<the traceback could not be had: {type(other).__name__}>"
    text = redaction.hide(text)  # before anything is cut: half a value would not be known
    if len(text) > MAX_TRACEBACK_BYTES:
        half = MAX_TRACEBACK_BYTES // 2 - 20
        text = f"{text[:half]}\n    ... cut ...\n{text[-half:]}"
    return text


def _is_ours(name: str) -> bool:
    return name.startswith((os.path.dirname(_HERE), "<frozen "))
