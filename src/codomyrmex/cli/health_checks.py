"""What `doctor` looks at: each check is a function that returns what it found and what to do about it.

A check reads, or writes one file and removes it; none opens the state. `fail` means that runs cannot work
here, `warn` that they work less well.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from codomyrmex.cli.figures import size_text
from codomyrmex.exceptions import SettingsError, StoreIOError
from codomyrmex.settings import Settings
from codomyrmex.workspace import Workspace

PYTHON_LEAST = (3, 11)
WORKER_LEAST = (3, 9)
SQLITE_LEAST = (3, 51, 3)
_DISK_FAIL_BYTES = 64 * 1024**2
_DISK_WARN_BYTES = 1024**3


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One finding: `verdict` is ok, warn or fail; `advice` is what to do when it is not ok."""

    name: str
    verdict: str
    found: str
    advice: str | None = None


def all_checks(workspace: Workspace) -> Iterable[Check]:
    """Every check, from the machine to the project."""
    yield check_platform(sys.platform)
    yield check_python(sys.version_info[:3])
    yield check_sqlite()
    folder = nearest_folder(workspace.state)
    yield check_writable(workspace.state, folder)
    yield check_file_system(workspace.database)
    yield check_disk(folder)
    settings, check = check_settings(workspace)
    yield check
    yield check_machine(workspace, settings)
    yield check_worker(workspace.root, settings.worker_python)


def check_platform(platform: str) -> Check:
    """Linux in full, macOS without the proof that process trees end, Windows not at all."""
    if platform.startswith("linux"):
        return Check(name="system", verdict="ok", found=f"Linux, {os.cpu_count() or 1} CPUs")
    if platform == "darwin":
        advice = "processes that a step starts in a session of their own may outlive it here"
        return Check(name="system", verdict="warn", found="macOS", advice=advice)
    return Check(
        name="system", verdict="fail", found=platform, advice="use Linux, macOS, or WSL 2 on Windows"
    )


def check_python(version: tuple[int, ...]) -> Check:
    """The interpreter of this program."""
    found = f"{'.'.join(map(str, version))} at {sys.executable}"
    if version[:2] >= PYTHON_LEAST:
        return Check(name="Python", verdict="ok", found=found)
    return Check(name="Python", verdict="fail", found=found, advice="Python 3.11 or later is needed")


def check_sqlite() -> Check:
    """The SQLite inside apsw, which is the one that keeps the state; not the standard library's."""
    try:
        import apsw
    except ImportError as error:
        advice = "install codomyrmex again: pip install --force-reinstall codomyrmex"
        return Check(name="SQLite", verdict="fail", found=f"apsw cannot be imported: {error}", advice=advice)
    return sqlite_verdict(apsw.sqlite_lib_version(), apsw.apsw_version())


def sqlite_verdict(sqlite: str, apsw_version: str) -> Check:
    """Whether that SQLite is free of the fault in write-ahead logs that loses commits."""
    found = f"{sqlite}, linked by apsw {apsw_version}"
    if tuple(int(part) for part in sqlite.split(".")[:3]) >= SQLITE_LEAST:
        return Check(name="SQLite", verdict="ok", found=found)
    least = ".".join(map(str, SQLITE_LEAST))
    advice = f"{least} or later is needed: pip install --upgrade apsw"
    return Check(name="SQLite", verdict="fail", found=found, advice=advice)


def check_writable(state: Path, folder: Path) -> Check:
    """Whether the state folder, or the nearest folder above it that exists, takes a file."""
    import tempfile

    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".codomyrmex-doctor-"):
            pass
    except OSError as error:
        found = f"{folder} cannot be written: {error.strerror}"
        return Check(name="state", verdict="fail", found=found, advice="choose another with --state DIR")
    made = "" if state == folder else " (made by the first run)"
    return Check(name="state", verdict="ok", found=f"{state} can be written{made}")


def check_file_system(database: Path) -> Check:
    """Whether the state would lie on a disk of this machine."""
    from codomyrmex.logistics.storage.location import file_system, refuse_network_file_system

    try:
        refuse_network_file_system(str(database))
    except StoreIOError as error:
        return Check(name="file system", verdict="fail", found=error.message, advice=error.hint)
    kind = file_system(str(database))
    return Check(name="file system", verdict="ok", found=f"{kind or 'of unknown type'}, on this machine")


def check_disk(folder: Path) -> Check:
    """What is free where the state lies."""
    import shutil

    return disk_verdict(shutil.disk_usage(folder).free)


def disk_verdict(free_bytes: int) -> Check:
    """Whether that is enough to go on with."""
    found = f"{size_text(free_bytes)} free"
    if free_bytes >= _DISK_WARN_BYTES:
        return Check(name="disk", verdict="ok", found=found)
    verdict = "warn" if free_bytes >= _DISK_FAIL_BYTES else "fail"
    advice = "a full disk stops runs until there is room again; nothing recorded is lost"
    return Check(name="disk", verdict=verdict, found=found, advice=advice)


def check_settings(workspace: Workspace) -> tuple[Settings, Check]:
    """The settings that hold here, or the defaults, and whether they could be read."""
    try:
        settings = workspace.settings()
    except SettingsError as error:
        return Settings(), Check(name="settings", verdict="fail", found=error.message, advice=error.hint)
    if settings.warnings:
        return settings, Check(name="settings", verdict="warn", found="; ".join(settings.warnings))
    places = {setting.origin for setting in settings if setting.origin != "default"}
    return settings, Check(name="settings", verdict="ok", found=", ".join(sorted(places)) or "all default")


def check_machine(workspace: Workspace, settings: Settings) -> Check:
    """What tasks can have of this machine, and whether the engines of all projects can agree on it."""
    from codomyrmex.logistics.orchestration.project.ledger_file import (
        VARIABLE,
        ledger_directory,
        ledger_place,
    )
    from codomyrmex.logistics.orchestration.project.machine_detection import detect_machine, overrides_of

    machine = detect_machine(workspace.root, overrides=overrides_of(settings))
    found = f"{machine.cpu_milli / 1000:g} CPUs, {size_text(machine.memory_bytes)} for tasks"
    if settings.resources_scope == "project":
        return Check(name="machine", verdict="ok", found=f"{found} of this project alone")
    ledger = ledger_place(ledger_directory(os.environ)).path
    is_file = ledger.parent.exists() and not ledger.parent.is_dir()
    written = check_writable(ledger.parent, nearest_folder(ledger.parent))
    if written.verdict == "ok" and not is_file:
        return Check(name="machine", verdict="ok", found=f"{found}, shared with other projects by {ledger}")
    trouble = f"{ledger.parent} is no folder" if is_file else written.found
    advice = f"name a folder on a local disk with {VARIABLE}, or set resources.scope = project"
    return Check(name="machine", verdict="fail", found=f"no ledger of it: {trouble}", advice=advice)


def check_worker(root: Path, configured: str | None) -> Check:
    """The interpreter that steps run in, by what it was chosen, and whether it is new enough to start one."""
    import subprocess

    from codomyrmex.logistics.orchestration.project.executors.interpreter import choose_interpreter

    name = "worker"
    try:
        chosen = choose_interpreter(None, root=str(root), configured=configured)
    except SettingsError as error:
        return Check(name=name, verdict="fail", found=error.message, advice=error.hint)
    script = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
    try:
        told = subprocess.run(
            [chosen.path, "-I", "-c", script], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        advice = "name another one: [worker] python in .codomyrmex/config.toml"
        return Check(name=name, verdict="fail", found=f"{chosen.path} does not start: {error}", advice=advice)
    return worker_verdict(chosen.path, told.stdout.strip(), chosen.evidence)


def worker_verdict(path: str, version: str, evidence: str) -> Check:
    """Whether workers can run in a Python of that version."""
    found = f"Python {version} at {path} ({evidence})"
    if tuple(int(part) for part in version.split(".")[:2]) >= WORKER_LEAST:
        return Check(name="worker", verdict="ok", found=found)
    advice = f"Python {'.'.join(map(str, WORKER_LEAST))} or later is needed in workers"
    return Check(name="worker", verdict="fail", found=found, advice=advice)


def nearest_folder(path: Path) -> Path:
    """The folder itself, or the first above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
