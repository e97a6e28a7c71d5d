"""The built-in actions, written down by hand: what they take, and what of it can be wrong before they run.

Layer: actions. `shell`, `python` and `http` run under a worker and stand with it, `files` in `files.py`. They
are described here as Python text, so that listing and checking them imports none of them; a test holds names,
order and defaults against the real functions. The annotations say what a workflow file may give.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from codomyrmex.logistics.orchestration.project.actions.description import ActionDescription, Origin

UNDER_A_WORKER = frozenset({"shell", "python", "http"})
"""Those that run under a worker only, so that they can be ended with all they started."""

_SHELL = '''
def run(command: list[str | int | float | Path] | str, *, shell: bool = False, cwd: Path | None = None,
        env: dict[str, Any] | None = None, stdin: str | None = None, expect: list[int] = (0,)):
    """Runs a command and returns its exit code and the last 64 KiB of what it wrote."""
'''
_PYTHON = '''
def run(script: Path | None = None, *, code: str | None = None, args: list[Any] = (), cwd: Path | None = None,
        env: dict[str, Any] | None = None, stdin: str | None = None, expect: list[int] = (0,)):
    """Runs a script (a path) or `code` (its text) with arguments; exactly one of the two."""
'''
_HTTP = '''
def request(url: str, *, method: str = 'GET', params: dict[str, Any] | None = None,
            headers: dict[str, str] | None = None, json: Any = None, data: str | bytes | None = None,
            timeout_s: float = 30.0, expect: list[int] | None = None, max_bytes: int = 16777216,
            save_to: Path | None = None):
    """Sends one request; gives `{status, url, headers, text, json}`, or, with `save_to`, where it went."""
'''
_FILES = '''
def copy(source: Path, target: Path, *, overwrite: bool = False):
    """Copies a file or a folder with all in it to exactly the path `target`: `{path, files, size_bytes}`."""
def move(source: Path, target: Path, *, overwrite: bool = False):
    """Renames a file or folder to the exact path `target`; one step, no copy. Raises as `copy` does."""
def remove(path: Path, *, recursive: bool = False, missing_ok: bool = False):
    """Removes a file or a link, with `recursive` a folder and all in it: `{path, removed}` (entries)."""
def glob(pattern: str, *, include_folders: bool = False):
    """The paths below the root that match, sorted: `{files: [...], count}`; `**` stands for any depth."""
def read(path: Path, *, encoding: str | None = 'utf-8', max_bytes: int = 16777216):
    """The content of a file: `{path, content, size_bytes}`; text, or bytes with `encoding: null`."""
def write(path: Path, content: Any, *, encoding: str = 'utf-8', append: bool = False, overwrite: bool = True):
    """Writes text or bytes; folders on the way are made. Gives `{path, size_bytes}` (of what was written)."""
def checksum(path: Path, *, algorithm: str = 'sha256'):
    """The check sum of a file in hexadecimal: `{path, algorithm, checksum, size_bytes}`."""
'''
_TEXTS: Mapping[str, str] = {"shell": _SHELL, "python": _PYTHON, "http": _HTTP, "files": _FILES}
MODULES = tuple(_TEXTS)


@cache
def built_ins() -> Mapping[str, Mapping[str, ActionDescription]]:
    """{module: {action: its description}}."""
    return {module: _read(module, text) for module, text in _TEXTS.items()}


def _read(module: str, text: str) -> dict[str, ActionDescription]:
    from codomyrmex.logistics.orchestration.project.actions.signature import outline_of

    outline = outline_of(text.encode(), module)
    found = {}
    for name in outline.functions:
        signature = outline.signature(name)
        assert signature is not None
        found[name] = ActionDescription(
            module=module,
            action=name,
            origin=Origin.BUILT_IN,
            target=(module, name),
            summary=signature.summary,
            parameters=signature.parameters,
            registered=True,
        )
    return found


def parameter_faults(module: str, parameters: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(parameter, what is wrong, what to do) for what a signature cannot say of a built-in's parameters."""
    if module == "shell":
        yield from _command_faults(parameters)
    elif module == "python":
        given = [name for name in ("script", "code") if parameters.get(name) is not None]
        if len(given) != 1:
            both = "both `script` and `code` are given" if given else "neither `script` nor `code` is given"
            yield (given[-1] if given else ""), both, "give `script` (a path) or `code` (its text)"
    elif module == "http":
        if parameters.get("json") is not None and parameters.get("data") is not None:
            yield "data", "both `json` and `data` are given", "a request has one body: keep one of them"
        url = parameters.get("url")
        if isinstance(url, str) and not _is_open(url) and not url.startswith(("http://", "https://")):
            yield (
                "url",
                f"{url[:80]!r} is neither http nor https",
                "write the whole address, as https://example.org/",
            )


def _command_faults(parameters: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    command, shell = parameters.get("command"), parameters.get("shell", False)
    if isinstance(command, list):
        if not command:
            yield "command", "the command is empty", "write it as a list: `command: [make, test]`"
        elif shell is True:
            yield (
                "shell",
                "a list of arguments needs no shell",
                "leave `shell` out, or give the command as text",
            )
    elif isinstance(command, str):
        if not command.strip():
            yield "command", "the command is empty", "write it as a list: `command: [make, test]`"
        elif shell is False and not _is_one_reference(command):
            advice = "write it as a list, or say `shell: true` to have bash run it"
            yield "command", "a command as one text needs a shell", advice


def _is_open(text: str) -> bool:
    return "${" in text or "{{" in text


def _is_one_reference(text: str) -> bool:
    """A text that may become a list when the reference is resolved."""
    return text.startswith(("${", "{{")) and text.endswith("}")
