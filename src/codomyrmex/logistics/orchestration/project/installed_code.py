"""The version of code that does not belong to the project: which distribution a module came with.

Layer: shell beside `action_code`. Answers are remembered: a package that is installed anew while an engine
runs is not loaded anew either.
"""

from __future__ import annotations

import os
import re
import sys
from functools import lru_cache
from typing import Any

from codomyrmex.logistics.orchestration.project.actions import places
from codomyrmex.logistics.orchestration.project.file_hashes import FileHashes


def package_of(module: str, interpreter: str, hashes: FileHashes) -> dict[str, Any]:
    """`{"package": name and version}` of an installed module, or the hash of its file where nothing says."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return {"package": "the standard library"}
    found = _version_of(top, interpreter)
    if found is not None:
        return {"package": found}
    located = places.locate_module(module, sys.path)
    path = located.path if isinstance(located, places.Located) else None
    if path is None:
        return {"package": f"{top}, of no known version"}
    return {"files": {path: hashes.of(path)}}


@lru_cache(maxsize=512)
def _version_of(top: str, interpreter: str) -> str | None:
    """`name version` of the distribution that installs a top-level module for an interpreter."""
    from importlib.metadata import distributions

    wanted = _normal(top)
    for each in distributions(path=_search_path(interpreter)):
        name = each.metadata["Name"] or ""
        if _normal(name) == wanted or top in (each.read_text("top_level.txt") or "").split():
            return f"{name} {each.version}"
    return None


def _search_path(interpreter: str) -> list[str]:
    """Where an interpreter has its packages, as far as its folders tell."""
    if interpreter == sys.executable:
        return sys.path
    libraries = os.path.join(os.path.dirname(os.path.dirname(interpreter)), "lib")
    try:
        names = [name for name in os.listdir(libraries) if name.startswith("python")]
    except OSError:
        return sys.path
    found = [
        os.path.join(libraries, name, kind) for name in names for kind in ("site-packages", "dist-packages")
    ]
    return [folder for folder in found if os.path.isdir(folder)] or sys.path


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
