"""Which Python runs a step's code, and why that one.

Layer: executors. A project's dependencies live in its own environment, so the engine's interpreter is the
last choice, not the first. The evidence is shown by `doctor` and kept with the run.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from codomyrmex.exceptions import SettingsError


@dataclass(frozen=True, kw_only=True, slots=True)
class Interpreter:
    """An absolute path, and what it was chosen by."""

    path: str
    evidence: str


def choose_interpreter(
    python: str | None,
    *,
    root: str,
    configured: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Interpreter:
    """The interpreter for a step.

    In order: `python` of step or workflow, `[worker] python` (`configured`), `$VIRTUAL_ENV`, the root's
    `.venv`, the engine's own. A name without a slash is looked for on PATH; a relative path starts at the
    root; a folder is taken as a virtual environment. Raises `SettingsError` when one that was asked for is
    not there.
    """
    variables = os.environ if environment is None else environment
    for asked, place in ((python, "python of the workflow"), (configured, "setting worker.python")):
        if asked is not None:
            return Interpreter(path=_resolve(asked, root, place, variables), evidence=f"{place}: {asked}")
    active = variables.get("VIRTUAL_ENV")
    if active and (found := _of_environment(active)):
        return Interpreter(path=found, evidence=f"VIRTUAL_ENV is {active}")
    if found := _of_environment(os.path.join(root, ".venv")):
        return Interpreter(path=found, evidence=f"{os.path.join(root, '.venv')} exists")
    return Interpreter(path=sys.executable, evidence="the interpreter that runs codomyrmex")


def _of_environment(folder: str) -> str | None:
    path = os.path.join(folder, "bin", "python")
    return path if os.access(path, os.X_OK) else None


def _resolve(asked: str, root: str, place: str, variables: Mapping[str, str]) -> str:
    expanded = os.path.expanduser(asked)
    if os.sep not in expanded:
        found = shutil.which(expanded, path=variables.get("PATH", os.defpath))
        if found is not None:
            return found
    path = os.path.normpath(os.path.join(root, expanded))
    if os.path.isdir(path):
        path = _of_environment(path) or path
    if os.path.isfile(path) and os.access(path, os.X_OK):
        return path
    raise SettingsError(
        f"{place}: there is no interpreter {asked!r}",
        hint="give a path such as .venv/bin/python, or a name on PATH such as python3.12",
    )
