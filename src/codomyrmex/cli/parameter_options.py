"""`-p name=value`, `--params FILE`, `--data JSON`: from the words of the command line to values.

`name=text` is read later by the declared type; `name=@file` is the text of a file (`@-`: stdin);
`name:=JSON` is any JSON value; the same name again makes a list. A file of parameters is JSON, YAML or
TOML, and `-p` wins over it. `--data` is one whole value: JSON, or `@file` of JSON.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from codomyrmex.exceptions import ValidationError


def given_parameters(words: Sequence[str], file: str | None) -> dict[str, Any]:
    """All that was given, texts still unread; raises `click.UsageError` for a word that is no parameter."""
    given = read_file(file) if file is not None else {}
    told: dict[str, list[Any]] = {}
    for word in words:
        name, value = read_word(word)
        told.setdefault(name, []).append(value)
    return given | {name: values[0] if len(values) == 1 else values for name, values in told.items()}


def read_word(word: str) -> tuple[str, Any]:
    """One `name=value`."""
    name, equals, text = word.partition("=")
    if not equals or not name.strip(":"):
        raise click.UsageError(f"-p {word!r} is not name=value")
    if name.endswith(":"):
        return name[:-1], _read_json(word, text)
    if text.startswith("@"):
        return name, _read_text(text[1:])
    return name, text


def read_file(file: str) -> dict[str, Any]:
    """The parameters of a file; `-` is stdin and has to be JSON or YAML."""
    text = _read_text(file)
    found = _parsed(file, text)
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise click.UsageError(f"--params {file}: a mapping of names to values is needed")
    return found


def given_data(text: str | None, words: Sequence[str]) -> Any:
    """`--data` (JSON, or @file) or the mapping that `-p` words make; None without either."""
    if text is None:
        return given_parameters(words, None) if words else None
    if words:
        raise click.UsageError("give --data or -p, not both")
    import json

    whole = _read_text(text[1:]) if text.startswith("@") else text
    try:
        return json.loads(whole)
    except (json.JSONDecodeError, RecursionError) as error:
        raise click.UsageError(f"--data: not valid JSON: {error}") from None


def with_lists(given: Mapping[str, Any], declared: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One plain text for a parameter that is declared as a list is a list of one."""
    return {
        name: [value] if _is_single(value, declared.get(name, {})) else value for name, value in given.items()
    }


def _is_single(value: Any, declaration: Mapping[str, Any]) -> bool:
    return declaration.get("type") == "list" and isinstance(value, str) and not value.lstrip().startswith("[")


def _parsed(file: str, text: str) -> Any:
    from dataclasses import replace

    from codomyrmex.logistics.orchestration.project.workflow_file import format_of
    from codomyrmex.logistics.orchestration.project.workflow_text import UnreadableText, read_json, read_toml
    from codomyrmex.logistics.orchestration.project.workflow_yaml import read_yaml

    form = format_of(file) or ("json" if text.lstrip().startswith("{") else "yaml")
    try:
        parsed = {"json": read_json, "toml": read_toml, "yaml": read_yaml}[form](text)
        faults = parsed.faults
    except UnreadableText as error:
        faults = error.faults
    if faults:
        raise ValidationError([replace(fault, file=file) for fault in faults], subject=file)
    return parsed.tree


def _read_json(word: str, text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise click.UsageError(f"-p {word}: not valid JSON: {error}") from None


def _read_text(name: str) -> str:
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return data.decode()
    except OSError as error:
        raise click.UsageError(f"{name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.UsageError(f"{name}: not UTF-8 text") from None
