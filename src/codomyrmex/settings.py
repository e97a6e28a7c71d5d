"""What can be set, and where each value came from.

Layer: just above `clock`. One table names every setting; a value is looked for in this order, and the
first place that has it wins:

    flag > CODOMYRMEX_* variable > .codomyrmex/config.toml > [tool.codomyrmex] in pyproject.toml
         > $XDG_CONFIG_HOME/codomyrmex/config.toml > default

A value that cannot be used is a `SettingsError` that names its place. A key that nothing reads is a
warning, not an error: a file may be shared with a newer version. Reading touches files only when they exist.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codomyrmex.exceptions import SettingsError

_PREFIX = "CODOMYRMEX_"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingKind:
    """One thing that can be set; `name` is its dotted path in a TOML file."""

    name: str
    kind: str  # text | integer | amount | list
    default: str | int | tuple[str, ...] | None
    about: str
    choices: tuple[str, ...] = ()
    pattern: str = ""
    """What the text of an amount has to match; `allowed` says the same in words."""
    allowed: str = ""

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return _PREFIX + self.name.replace(".", "_").upper()


_SIZE = r"\d{1,15}(\.\d{1,12})? ?([KMGT]i?B|B)?"
_SIZE_ALLOWED = "a size, such as 8GiB or 500MB; a bare number is bytes"

KINDS: tuple[SettingKind, ...] = (
    SettingKind(
        name="durability",
        kind="text",
        default="barrier",
        choices=("process", "barrier", "power"),
        about="what a finished task survives: a kill; a power cut, up to the last barrier; any power cut",
    ),
    SettingKind(
        name="max_workers",
        kind="integer",
        default=None,
        about="attempts that one engine runs at once; unset: 4 for each CPU, at least 8, at most 64",
    ),
    SettingKind(
        name="worker.python",
        kind="text",
        default=None,
        about="interpreter of process workers; unset: $VIRTUAL_ENV, the root's .venv, this Python",
    ),
    SettingKind(
        name="worker.memory_limit",
        kind="text",
        default="watch",
        choices=("watch", "hard", "none"),
        about="what holds a step to its memory: a watchdog on its processes; that and RLIMIT_AS; nothing",
    ),
    SettingKind(
        name="resources.scope",
        kind="text",
        default="host",
        choices=("host", "project"),
        about="who shares the machine: the engines of all projects on it; this project's alone",
    ),
    SettingKind(
        name="resources.cpu",
        kind="amount",
        default=None,
        about="CPUs of the machine; unset: what affinity and control groups leave",
        pattern=r"(?=.*[1-9])\d{1,6}(\.\d{1,3})?",
        allowed="a number of CPUs above 0, at most three decimals, such as 4 or 1.5",
    ),
    SettingKind(
        name="resources.memory",
        kind="amount",
        default=None,
        about="memory of the machine; unset: what is built in, or less where a control group says so",
        pattern=r"(?=.*[1-9])" + _SIZE,
        allowed=_SIZE_ALLOWED,
    ),
    SettingKind(
        name="resources.gpu",
        kind="amount",
        default=None,
        about="number of GPUs, free or not; unset: those of NVIDIA's driver on which nobody else computes",
        pattern=r"\d{1,4}",
        allowed="a whole number of devices, such as 2",
    ),
    SettingKind(
        name="resources.disk",
        kind="amount",
        default=None,
        about="disk space of the machine; unset: what is free where the project lies",
        pattern=_SIZE,
        allowed=_SIZE_ALLOWED,
    ),
    SettingKind(
        name="resources.network",
        kind="amount",
        default=None,
        about="bytes per second of the machine's network; unset: what its interfaces say",
        pattern=_SIZE + "(/s)?",
        allowed="a size per second, such as 125MB; a bare number is bytes",
    ),
    SettingKind(
        name="order.mode",
        kind="text",
        default="resource_aware",
        choices=("sequential", "parallel", "priority", "resource_aware"),
        about="in what order ready tasks begin that belong to no session",
    ),
    SettingKind(
        name="order.reserve_after_s",
        kind="integer",
        default=300,
        about="seconds a task waits at most before room is kept for it",
    ),
    SettingKind(
        name="workflows.paths",
        kind="list",
        default=(),
        about="more files and folders to look for workflows in, relative to the root",
    ),
    SettingKind(
        name="actions.modules",
        kind="list",
        default=(),
        about="modules whose functions are found as actions by their bare name",
    ),
)
_BY_NAME = {kind.name: kind for kind in KINDS}
_SECTIONS = frozenset(kind.name.rpartition(".")[0] for kind in KINDS if "." in kind.name)

Value = str | int | tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A value and the place it was found in (`default`, `--durability`, `CODOMYRMEX_...`, a file)."""

    kind: SettingKind
    value: Value
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting with its value; `warnings` are sentences about keys that nothing reads."""

    found: Mapping[str, Setting] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Setting]:
        return (self._setting(kind) for kind in KINDS)

    def setting(self, name: str) -> Setting:
        """One setting by its dotted name; KeyError for a name that there is not."""
        return self._setting(_BY_NAME[name])

    def _setting(self, kind: SettingKind) -> Setting:
        return self.found.get(kind.name) or Setting(kind=kind, value=kind.default, origin="default")

    def _text(self, name: str) -> str | None:
        value = self.setting(name).value
        return value if isinstance(value, str) else None

    def _names(self, name: str) -> tuple[str, ...]:
        value = self.setting(name).value
        return value if isinstance(value, tuple) else ()

    @property
    def durability(self) -> str:
        """`process`, `barrier` or `power`."""
        return self._text("durability") or "barrier"

    @property
    def max_workers(self) -> int | None:
        """Attempts run at once by one engine, or None for the engine's own rule."""
        value = self.setting("max_workers").value
        return value if isinstance(value, int) else None

    @property
    def worker_python(self) -> str | None:
        """The interpreter that `[worker] python` names."""
        return self._text("worker.python")

    @property
    def worker_memory_limit(self) -> str:
        """`watch`, `hard` or `none`."""
        return self._text("worker.memory_limit") or "watch"

    @property
    def order_mode(self) -> str:
        """In what order ready tasks begin."""
        return self._text("order.mode") or "resource_aware"

    @property
    def order_reserve_after_s(self) -> int:
        """How many seconds a task waits before room is kept for it."""
        value = self.setting("order.reserve_after_s").value
        return value if isinstance(value, int) else 300

    @property
    def resources_scope(self) -> str:
        """`host` or `project`."""
        return self._text("resources.scope") or "host"

    @property
    def resources_cpu(self) -> str | None:
        """CPUs of the machine as written: `1.5`. What the texts mean is `overrides_of`'s to say."""
        return self._text("resources.cpu")

    @property
    def resources_memory(self) -> str | None:
        """Memory of the machine as written: `8GiB`."""
        return self._text("resources.memory")

    @property
    def resources_gpu(self) -> str | None:
        """Number of GPUs as written: `2`."""
        return self._text("resources.gpu")

    @property
    def resources_disk(self) -> str | None:
        """Disk space as written: `100GB`."""
        return self._text("resources.disk")

    @property
    def resources_network(self) -> str | None:
        """Bytes per second of the network as written: `125MB`."""
        return self._text("resources.network")

    @property
    def workflow_paths(self) -> tuple[str, ...]:
        """More files and folders with workflows, relative to the root, in the order of search."""
        return self._names("workflows.paths")

    @property
    def action_modules(self) -> tuple[str, ...]:
        """Modules that lend their functions as actions."""
        return self._names("actions.modules")


def load_settings(
    *,
    root: Path,
    state: Path | None = None,
    flags: Mapping[str, Value] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Reads every place and lets the first that has a value win.

    `flags` maps a setting's name to what the command line gave; None means not given. Raises
    `SettingsError` for a file that is no TOML and for a value of the wrong type.
    """
    environ = os.environ if environ is None else environ
    found: dict[str, Setting] = {}
    warnings: list[str] = []
    files: list[tuple[str, Mapping[str, Any]]] = []
    for path in (state / "config.toml" if state else None, root / "pyproject.toml", user_config(environ)):
        table = _table_of(path) if path is not None else None
        if table is not None:
            files.append((str(path), table))
    for origin, table in reversed(files):
        found.update(_from_table(table, origin, warnings))
    for kind in KINDS:
        text = environ.get(kind.variable)
        if text:
            found[kind.name] = _setting(kind, _split(kind, text), kind.variable)
        given = (flags or {}).get(kind.name)
        if given is not None:
            flag = "--" + kind.name.replace("_", "-").replace(".", "-")
            found[kind.name] = _setting(kind, given, flag)
    return Settings(found=found, warnings=tuple(warnings))


def user_config(environ: Mapping[str, str]) -> Path | None:
    """The user's own file, whether it exists or not; None where no home folder is known."""
    base = environ.get("XDG_CONFIG_HOME")
    if base and os.path.isabs(base):
        return Path(base, "codomyrmex", "config.toml")
    home = environ.get("HOME")
    return Path(home, ".config", "codomyrmex", "config.toml") if home else None


def has_project_section(pyproject: Path) -> bool:
    """Whether a pyproject.toml has `[tool.codomyrmex]`; cheap when it plainly has not, and never raises."""
    try:
        return _project_section(pyproject.read_bytes(), pyproject) is not None
    except (OSError, SettingsError):
        return False


def _table_of(path: Path) -> Mapping[str, Any] | None:
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    return _project_section(content, path) if path.name == "pyproject.toml" else _parse(content, path)


def _project_section(content: bytes, path: Path) -> Mapping[str, Any] | None:
    # A parse costs milliseconds at every start; most files show without one that we are not in them.
    if b"codomyrmex" not in content:
        return None
    tool = _parse(content, path).get("tool")
    section = tool.get("codomyrmex") if isinstance(tool, dict) else None
    return section if isinstance(section, dict) else None


def _parse(content: bytes, path: Path) -> Mapping[str, Any]:
    import tomllib

    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error


def _from_table(table: Mapping[str, Any], origin: str, warnings: list[str]) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    for name, value in _flatten(table):
        kind = _BY_NAME.get(name)
        if kind is None:
            warnings.append(_unknown(name, origin))
        else:
            found[name] = _setting(kind, value, origin)
    return found


def _flatten(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict) and key in _SECTIONS:
            for inner, inner_value in value.items():
                yield f"{key}.{inner}", inner_value
        else:
            yield key, value


def _unknown(name: str, origin: str) -> str:
    from difflib import get_close_matches

    nearest = get_close_matches(name, _BY_NAME, n=1, cutoff=0.6)
    advice = f"did you mean {nearest[0]!r}?" if nearest else "this version does not read it"
    return f"{origin}: unknown setting {name!r}; {advice}"


def _split(kind: SettingKind, text: str) -> object:
    """A variable's text as the type of the setting."""
    if kind.kind == "list":
        return [part.strip() for part in text.split(",") if part.strip()]
    if kind.kind == "integer":
        try:
            return int(text)
        except ValueError:
            return text
    return text


def _setting(kind: SettingKind, value: object, origin: str) -> Setting:
    return Setting(kind=kind, value=_checked(kind, value, origin), origin=origin)


def _checked(kind: SettingKind, value: object, origin: str) -> Value:
    if kind.kind == "list":
        if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
            return tuple(value)
        raise _refusal(kind, value, origin, 'a list of texts, such as ["one", "two"]')
    if kind.kind == "integer":
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            return value
        raise _refusal(kind, value, origin, "a whole number of at least 1")
    if kind.kind == "amount":
        # TOML has numbers of its own; a variable brings the same as text.
        number = isinstance(value, int | float) and not isinstance(value, bool)
        text = str(value).strip() if number or isinstance(value, str) else ""
        if re.fullmatch(kind.pattern, text, re.ASCII):
            return text
        raise _refusal(kind, value, origin, kind.allowed)
    if isinstance(value, str) and value and (not kind.choices or value in kind.choices):
        return value
    raise _refusal(
        kind, value, origin, ", ".join(kind.choices) if kind.choices else "a text that is not empty"
    )


def _refusal(kind: SettingKind, value: object, origin: str, allowed: str) -> SettingsError:
    return SettingsError(
        f"{origin}: {kind.name} is {value!r}; allowed: {allowed}",
        details={"setting": kind.name, "origin": origin, "got": value},
    )
