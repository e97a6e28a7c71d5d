"""Finds the files to audit and deals them into batches.

The first step of the workflow. Its output decides how many parse tasks there are, so it is sorted and depends
on nothing but the folder. Left out: installed packages, caches, and fixture folders named `data` inside test
suites, which hold files that are no Python of this version on purpose (lib2to3 keeps Python 2 there).
"""

from __future__ import annotations

import os
import platform
import sysconfig
from pathlib import Path

from audit_facts import Findings
from audit_modules import is_test_folder

SKIPPED_FOLDERS = frozenset({"__pycache__", "site-packages", "dist-packages", "node_modules"})


def list_files(root: str = "", batch_size: int = 3, limit: int = 0) -> Findings:
    """List the Python files below `root` in batches of at most `batch_size`.

    An empty `root` is the standard library of the interpreter that runs this. `limit` takes so many files,
    spread evenly over the sorted list; 0 takes all. Raises NotADirectoryError or ValueError, which name the
    parameter to change.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: it must be at least 1")
    if limit < 0:
        raise ValueError(f"limit is {limit}: it must be 0 (all files) or more")
    standard = Path(sysconfig.get_paths()["stdlib"]).resolve()
    folder = Path(root).expanduser().resolve() if root else standard
    if not folder.is_dir():
        raise NotADirectoryError(
            f"root is {str(folder)!r}, which is no folder: name one that holds Python files"
        )
    found = find_python_files(folder)
    if not found:
        raise ValueError(f"root is {str(folder)!r}, which holds no .py file: name a folder that does")
    paths = spread(found, limit)
    version = f"Python {platform.python_version()}"
    return {
        "about": {
            "root": str(folder),
            "title": f"{version} standard library"
            if folder == standard
            else f"{folder.name}, read by {version}",
            "python": platform.python_version(),
            "implementation": platform.python_implementation(),
            "files_found": len(found),
            "files_audited": len(paths),
        },
        "batches": [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)],
    }


def find_python_files(folder: Path) -> list[str]:
    """Return the paths below `folder` relative to it, sorted; links to folders are not followed."""
    found = []
    for place, folders, names in os.walk(folder):
        here = Path(place).relative_to(folder)
        in_tests = any(is_test_folder(part) for part in here.parts)
        folders[:] = [
            name
            for name in folders
            if name not in SKIPPED_FOLDERS and not name.startswith(".") and not (in_tests and name == "data")
        ]
        found += [
            (here / name).as_posix()
            for name in names
            if name.endswith(".py") and os.path.isfile(os.path.join(place, name))
        ]
    return sorted(found)


def spread(paths: list[str], limit: int) -> list[str]:
    """Take `limit` paths at even distances, or all of them when `limit` is 0 or too large."""
    if limit == 0 or limit >= len(paths):
        return paths
    return [paths[index * len(paths) // limit] for index in range(limit)]
