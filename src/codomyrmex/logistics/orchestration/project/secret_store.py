"""Secrets by name: where they are kept, who may read them, and which place wins.

Layer: the engine's shell; knows nothing of runs. A value is looked for in this order:

    CODOMYRMEX_SECRET_<NAME> > <state>/secrets.json > $XDG_CONFIG_HOME/codomyrmex/secrets.json

Both files are their owner's alone (0600): one that others can read, that somebody else owns or that is a link
is refused, never used. A file is replaced as a whole, synced before it gets its name, by one writer at a time.
Values leave this module by `values` only; no message, listing or `repr` holds one.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from codomyrmex.exceptions import CodomyrmexError, Fault, SettingsError, ValidationError
from codomyrmex.logistics.orchestration.project.secret_names import SECRET_VARIABLES

FILE = "secrets.json"
MAX_BYTES = 64 * 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_PART = ".secrets.part"
_LOCK = ".secrets.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretName:
    """A secret that can be had here; `origin` is `variable`, `state` or `user`, the place that wins."""

    name: str
    origin: str
    updated_at: datetime | None = None


class SecretNotFound(ValidationError):
    """Names that no place has a value for; `names` are all of them, in the order they were asked for."""

    code = "secret_not_found"

    def __init__(self, names: Iterable[str], known: Iterable[str]) -> None:
        self.names = tuple(names)
        there = list(known)
        count = len(self.names)
        super().__init__(
            [_missing(name, there) for name in self.names],
            subject=f"the use of {'a secret' if count == 1 else f'{count} secrets'}",
        )


class SecretFileRefused(SettingsError):
    """A file of secrets that cannot be trusted, or cannot be read; `path` is where it lies."""

    code = "secret_file_refused"

    def __init__(self, path: Path, reason: str, *, hint: str | None = None) -> None:
        self.path = path
        super().__init__(f"{path} {reason}", hint=hint)


class _Entry(msgspec.Struct, frozen=True):
    value: str
    updated_at: datetime

    def __repr__(self) -> str:
        return f"_Entry(updated_at={self.updated_at})"


class _Content(msgspec.Struct, frozen=True):
    secrets: dict[str, _Entry]
    version: int = 1


_decode = msgspec.json.Decoder(_Content).decode
_NOTHING: Mapping[str, _Entry] = {}


class SecretStore:
    """The secrets that hold for one state; without `state_dir` those of the environment and the user."""

    def __init__(self, state_dir: Path | None, *, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._state = None if state_dir is None else SecretFile(state_dir / FILE)
        folder = _user_folder(environ)
        self._user = None if folder is None else SecretFile(folder / FILE)

    def __repr__(self) -> str:
        return f"SecretStore({self._state!r}, {self._user!r})"

    def values(self, names: Iterable[str]) -> dict[str, str]:
        """The value of each name; raises `SecretNotFound` with all that are missing, `SecretFileRefused`."""
        wanted = list(dict.fromkeys(names))
        found: dict[str, str] = {}
        missing: list[str] = []
        for name in wanted:
            value = self._value(name)
            if value is None:
                missing.append(name)
            else:
                found[name] = value
        if missing:
            raise SecretNotFound(missing, [each.name for each in self.names()])
        return found

    def names(self) -> list[SecretName]:
        """What can be had here, in the order of names."""
        found: dict[str, SecretName] = {}
        for origin, file in (("user", self._user), ("state", self._state)):
            for name, entry in (_NOTHING if file is None else file.read()).items():
                found[name] = SecretName(name=name, origin=origin, updated_at=entry.updated_at)
        for variable, value in self._environ.items():
            name = variable.removeprefix(SECRET_VARIABLES)
            if value and name != variable and _NAME.match(name):
                found[name] = SecretName(name=name, origin="variable")
        return sorted(found.values(), key=lambda each: each.name)

    def set(self, name: str, value: str, *, user: bool = False) -> Path:
        """Keeps a value, in the user's own file with `user`; returns the file. Raises `ValidationError`."""
        faults = [*_name_faults(name), *_value_faults(value)]
        if faults:
            raise ValidationError(faults, subject="the secret")
        file = self._user if user else self._state
        if file is None:
            raise CodomyrmexError(
                "there is no folder to keep the secret in",
                hint=f"set the variable {SECRET_VARIABLES}{name}, or HOME for secrets of your own",
            )
        entry = _Entry(value=value, updated_at=datetime.now(UTC).replace(microsecond=0))
        with file.changing() as secrets:
            secrets[name] = entry
        return file.path

    def remove(self, name: str) -> str:
        """Takes a secret out of the state, or of the user's file where only that has it; returns which.

        Raises `SecretNotFound` for a name that neither has.
        """
        for origin, file in (("state", self._state), ("user", self._user)):
            if file is not None and name in file.read():
                with file.changing() as secrets:
                    secrets.pop(name, None)
                return origin
        if self._environ.get(SECRET_VARIABLES + name):
            raise CodomyrmexError(
                f"the secret {name!r} comes from the environment",
                hint=f"unset {SECRET_VARIABLES}{name} removes it",
            )
        raise SecretNotFound([name], [each.name for each in self.names()])

    def _value(self, name: str) -> str | None:
        variable = self._environ.get(SECRET_VARIABLES + name)
        if variable:
            _refuse_variable(name, variable)
            return variable
        for file in (self._state, self._user):
            entry = None if file is None else file.read().get(name)
            if entry is not None:
                return entry.value
        return None


class SecretFile:
    """One file of secrets, which need not be there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._content: Mapping[str, _Entry] = _NOTHING

    def __repr__(self) -> str:
        return f"SecretFile({str(self.path)!r})"

    def read(self) -> Mapping[str, _Entry]:
        """What is in it; read again only after it was replaced. Raises `SecretFileRefused`."""
        try:
            opened = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return _NOTHING
        except OSError as error:
            if self.path.is_symlink():
                raise SecretFileRefused(
                    self.path, "is a link, and secrets are kept in a file of their own"
                ) from None
            raise SecretFileRefused(self.path, f"cannot be read: {error.strerror}") from error
        try:
            found = os.fstat(opened)
            self._check(found)
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                self._content = self._decoded(_read_all(opened))
                self._seen = seen
        finally:
            os.close(opened)
        return self._content

    @contextmanager
    def changing(self) -> Iterator[dict[str, _Entry]]:
        """What is in it, to be changed inside the block and written at its end; one writer at a time."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(self.path.with_name(_LOCK)):
                secrets = dict(self.read())
                yield secrets
                self._write(msgspec.json.encode(_Content(secrets=secrets)))
        except OSError as error:
            raise CodomyrmexError(f"{self.path} cannot be written: {error.strerror}") from error

    def _write(self, data: bytes) -> None:
        part = self.path.with_name(_PART)
        part.unlink(missing_ok=True)  # left by a writer that was killed: the lock is ours
        opened = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(opened, "wb") as file:
                os.fchmod(file.fileno(), 0o600)  # whatever the umask
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self.path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        _sync_folder(self.path.parent)

    def _check(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise SecretFileRefused(self.path, "is no file")
        if found.st_uid != os.geteuid():
            raise SecretFileRefused(self.path, "belongs to somebody else", hint="make a file of your own")
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise SecretFileRefused(
                self.path,
                f"can be read by others (mode {stat.S_IMODE(found.st_mode):04o})",
                hint=f"chmod 600 {self.path}; if others may have read it, change the secrets too",
            )

    def _decoded(self, data: bytes) -> Mapping[str, _Entry]:
        try:
            return _decode(data).secrets
        except msgspec.DecodeError as error:  # its message names a place, never a value
            raise SecretFileRefused(self.path, f"is no file of secrets: {error}") from None


def _read_all(descriptor: int) -> bytes:
    pieces = []
    while piece := os.read(descriptor, 1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    import fcntl

    opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _user_folder(environ: Mapping[str, str]) -> Path | None:
    base, home = environ.get("XDG_CONFIG_HOME"), environ.get("HOME")
    if base:
        return Path(base, "codomyrmex")
    return Path(home, ".config", "codomyrmex") if home else None


def _missing(name: str, known: list[str]) -> Fault:
    from difflib import get_close_matches

    nearest = get_close_matches(name, known, n=1, cutoff=0.6)
    return Fault(
        code="secret_not_found",
        message=f"no secret {name!r} is set",
        nearest=nearest[0] if nearest else None,
        advice=f"codomyrmex secrets set {name}   (or the variable {SECRET_VARIABLES}{name})",
    )


def _name_faults(name: str) -> Iterator[Fault]:
    if not _NAME.match(name):
        yield Fault(
            message=f"a secret cannot be called {name!r}",
            path="name",
            advice="use letters, digits and `_`, and do not begin with a digit",
        )


def _value_faults(value: str) -> Iterator[Fault]:
    """What is wrong with a value; none of it shows the value."""
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        yield Fault(message="the value is no text in UTF-8", path="value", advice="keep it as base64")
        return
    if size == 0:
        yield Fault(message="the value is empty", path="value")
    if size > MAX_BYTES:
        yield Fault(
            message=f"the value has more than {MAX_BYTES} bytes, the most that a secret may have",
            path="value",
            advice="keep the path of a file that only you can read",
        )
    if "\0" in value:
        yield Fault(message="the value holds a NUL character", path="value", advice="keep it as base64")


def _refuse_variable(name: str, value: str) -> None:
    faults = list(_value_faults(value))
    if faults:
        raise ValidationError(faults, subject=f"the variable {SECRET_VARIABLES}{name}")
