"""Where a project is on disk: its root folder and its state folder.

Layer: above `settings`. The root is found by looking upwards, from the workflow file where one is given,
for the first folder that says it is one; the state is `<root>/.codomyrmex` unless another was asked for:

    .codomyrmex/
      .gitignore                       everything in here stays out of version control
      state.db, state.lock             only the engine opens these
      config.toml                      settings of this project
      runs/<run>/<task>.<attempt>.log  what each attempt printed
      artifacts/                       what attempts saved
      run/                             sockets and spool files of live engines

Finding creates nothing; `prepare` does. `$HOME` itself is never taken for a root by looking upwards.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from codomyrmex.exceptions import CodomyrmexError, SettingsError
from codomyrmex.settings import Settings, Value, has_project_section, load_settings

STATE_FOLDER = ".codomyrmex"
WORKFLOW_FILES = ("codomyrmex.yaml", "codomyrmex.toml", "codomyrmex.json")
_IGNORE = "# Made by codomyrmex: state, logs and artifacts do not belong in version control.\n*\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """A root, its state folder, and in one phrase each why they were chosen. Paths are absolute."""

    root: Path
    root_evidence: str
    state: Path
    state_evidence: str

    @property
    def database(self) -> Path:
        """The one file that remembers everything; opened by the engine's own connections only."""
        return self.state / "state.db"

    @property
    def config(self) -> Path:
        """The project's settings."""
        return self.state / "config.toml"

    @property
    def runs(self) -> Path:
        """The folder of attempt logs, one folder for each run."""
        return self.state / "runs"

    @property
    def artifacts(self) -> Path:
        """The folder of what attempts saved."""
        return self.state / "artifacts"

    @property
    def sockets(self) -> Path:
        """The folder of live engines' sockets and spool files."""
        return self.state / "run"

    @property
    def exists(self) -> bool:
        """Whether anything was ever kept here."""
        return self.database.exists()

    def log_path(self, run_id: str, task: str, attempt: int) -> Path:
        """The log of one attempt, whether it exists or not."""
        return self.runs / run_id / f"{task}.{attempt}.log"

    def prepare(self) -> None:
        """Makes the state folder, its owner's alone, and its .gitignore; repeating it does nothing."""
        try:
            self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
            ignore = self.state / ".gitignore"
            if not ignore.exists():
                ignore.write_text(_IGNORE, encoding="utf-8")
        except FileExistsError:
            raise CodomyrmexError(
                f"{self.state} is a file; the state needs a folder there",
                hint="move it away, or choose another folder with --state DIR",
            ) from None
        except OSError as error:
            raise CodomyrmexError(
                f"the state folder {self.state} cannot be made: {error.strerror}",
                hint="choose another folder with --state DIR or CODOMYRMEX_STATE",
            ) from error

    def settings(
        self, flags: Mapping[str, Value] | None = None, environ: Mapping[str, str] | None = None
    ) -> Settings:
        """The settings that hold here; `flags` as in `load_settings`."""
        return load_settings(root=self.root, state=self.state, flags=flags, environ=environ)


def find_workspace(
    *,
    file: Path | str | None = None,
    root: Path | str | None = None,
    state: Path | str | None = None,
    current: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Workspace:
    """Finds root and state; nothing is created.

    `file` is a workflow file to look upwards from. `root` and `state` are what the caller asked for and
    win over CODOMYRMEX_ROOT and CODOMYRMEX_STATE. Raises `SettingsError` when a named root is no folder
    and for a state that this version cannot keep.
    """
    environ = os.environ if environ is None else environ
    current = Path.cwd() if current is None else current
    folder, evidence = _root(file, root, current, environ)
    if state is not None:
        return Workspace(
            root=folder, root_evidence=evidence, state=_state(state, current), state_evidence="asked for"
        )
    named = environ.get("CODOMYRMEX_STATE")
    return Workspace(
        root=folder,
        root_evidence=evidence,
        state=_state(named, current) if named else folder / STATE_FOLDER,
        state_evidence="CODOMYRMEX_STATE" if named else "in the root",
    )


def find_root(start: Path, *, current: Path, home: Path | None) -> tuple[Path, str]:
    """The first folder from `start` upwards that says it is a root and why, else `current`."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if folder != home and (mark := _mark(folder)) is not None:
            return folder, f"has {mark}"
    return current.resolve(), "the current folder"


def _root(
    file: Path | str | None, root: Path | str | None, current: Path, environ: Mapping[str, str]
) -> tuple[Path, str]:
    if root is not None:
        return _folder(root, current, "the root"), "asked for"
    named = environ.get("CODOMYRMEX_ROOT")
    if named:
        return _folder(named, current, "CODOMYRMEX_ROOT"), "CODOMYRMEX_ROOT"
    start = (current / file).parent if file is not None else current
    home = environ.get("HOME")
    return find_root(start, current=current, home=Path(home).resolve() if home else None)


def _folder(path: Path | str, current: Path, what: str) -> Path:
    folder = (current / Path(path).expanduser()).resolve()
    if not folder.is_dir():
        raise SettingsError(f"{what} {str(folder)!r} is not a folder")
    return folder


def _mark(folder: Path) -> str | None:
    if (folder / STATE_FOLDER).is_dir():
        return STATE_FOLDER
    for name in WORKFLOW_FILES:
        if (folder / name).is_file():
            return name
    if has_project_section(folder / "pyproject.toml"):
        return "[tool.codomyrmex] in pyproject.toml"
    return ".git" if (folder / ".git").exists() else None


def _state(state: Path | str, current: Path) -> Path:
    text = str(state)
    if "://" in text:
        scheme = text.partition("://")[0]
        raise SettingsError(
            f"a state at {scheme}:// is not there yet in this version",
            hint="name a folder: --state DIR",
        )
    return (current / Path(text).expanduser()).resolve()
