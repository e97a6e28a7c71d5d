"""`python.run`: a Python script, or a few lines of code, as a step of its own process.

Layer: worker built-in. It runs in the worker's interpreter and ends as `shell.run` does.
"""

from __future__ import annotations

import sys

from .builtins_shell import run_arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Optional


def run(
    script: Optional[str] = None,
    *,
    code: Optional[str] = None,
    args: Sequence[Any] = (),
    cwd: Optional[str] = None,
    env: Optional[Mapping[str, Any]] = None,
    stdin: Optional[str] = None,
    expect: Sequence[int] = (0,),
) -> dict[str, Any]:
    """Runs a script (a path) or `code` (its text) with arguments; exactly one of the two."""
    if (script is None) == (code is None):
        raise TypeError("give either 'script' (a path) or 'code' (text)")
    what = [str(script)] if code is None else ["-c", code]
    arguments = [sys.executable, *what, *(str(item) for item in args)]
    return run_arguments(arguments, cwd=cwd, env=env, stdin=stdin, expect=expect)
