"""The folders from which the functions of a workflow made in Python were imported.

Layer: beside `function_check`. A script finds the modules beside it because Python puts its folder on the
path; a worker process, and whoever resumes the run, would not, where that folder is not the root of the
project. So it goes into the run's import roots, after those of the project. What is installed is found anyway.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any


def function_folders(functions: Iterable[Callable[..., Any]]) -> tuple[str, ...]:
    """The folder of each function's script, or the one its module is imported from; in order, each once."""
    each_once = {id(function): function for function in functions}
    found = (_folder(function) for function in each_once.values())
    return tuple(dict.fromkeys(each for each in found if each is not None and not _is_installed(each)))


def _folder(function: Callable[..., Any]) -> str | None:
    name = getattr(function, "__module__", None)
    if not isinstance(name, str):
        return None
    if name == "__main__":  # a script that was run by another program is not what `sys.modules` has
        file = getattr(function, "__globals__", {}).get("__file__")
        depth = 1
    else:
        file = getattr(sys.modules.get(name), "__file__", None)
        is_package = file is not None and os.path.basename(file) == "__init__.py"
        depth = len(name.split(".")) + is_package
    if not isinstance(file, str) or not os.path.isfile(file):
        return None
    folder = os.path.abspath(file)
    for _ in range(depth):
        folder = os.path.dirname(folder)
    return folder


def _is_installed(folder: str) -> bool:
    """Whether it is one that every interpreter of this environment searches."""
    return os.path.basename(folder) in ("site-packages", "dist-packages") or folder == os.path.dirname(
        os.__file__
    )
