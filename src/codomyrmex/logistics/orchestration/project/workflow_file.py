"""Workflow files: from a text in YAML, JSON or TOML to a checked, canonical document, and back.

Layer: pure, but for `load_path` and `save_path`, which read and write the one file they are given. The way
of a text: limits of size, a plain tree (`workflow_yaml`, `workflow_text`), every fault (`workflow_check`),
the long form (`workflow_document`). Faults that the compiler finds later get their file and line from
`LoadedDocument.place`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from codomyrmex.exceptions import Fault, ValidationError
from codomyrmex.logistics.orchestration.project.amounts import write_size
from codomyrmex.logistics.orchestration.project.workflow_check import check, check_tags
from codomyrmex.logistics.orchestration.project.workflow_document import (
    Document,
    file_form,
    modernise_document,
    normalise,
    pruned,
)
from codomyrmex.logistics.orchestration.project.workflow_faults import Path, path_text
from codomyrmex.logistics.orchestration.project.workflow_text import (
    Lines,
    Parsed,
    UnreadableText,
    json_lines,
    read_json,
    read_toml,
    toml_lines,
)

MAX_BYTES: Mapping[str, int] = {"json": 32 * 2**20, "toml": 32 * 2**20, "yaml": 8 * 2**20}
SUFFIXES: Mapping[str, str] = {".yaml": "yaml", ".yml": "yaml", ".json": "json", ".toml": "toml"}

# What a key of the document may be called in a file.
_WRITTEN: Mapping[str, tuple[str, ...]] = {
    "parameters": ("with",),
    "dependencies": ("needs",),
    "module": ("call", "run"),
    "action": ("call", "run"),
    "timeout_s": ("timeout",),
    "retry": ("max_retries",),
    "delay_s": ("delay",),
    "max_delay_s": ("max_delay",),
    "ttl_s": ("ttl",),
}


@dataclass(slots=True, kw_only=True)
class LoadedDocument:
    """A document and the text it came from, which tells the line of a place when a fault asks for it."""

    document: Document
    file: str | None
    text: str = field(repr=False)
    format: str
    _lines: Lines | None = field(default=None, repr=False)
    _tree: Any = field(default=None, repr=False)

    def locate(self, path: Path) -> int | None:
        """The line of a place of the document.

        `("steps", 3, "run_if")`), or of the nearest thing around it.
        """
        self._read_again()
        assert self._lines is not None
        return nearest_line(self._lines, written_path(path, self._tree))

    def place(self, faults: Iterable[tuple[Path, Fault]]) -> list[Fault]:
        """Faults with file, line and path as the user wrote them (`with`, not `parameters`)."""
        self._read_again()
        lines = self._lines or {}
        placed = []
        for path, fault in faults:
            written = written_path(path, self._tree)
            line = nearest_line(lines, written)
            placed.append(replace(fault, file=self.file, line=line, path=path_text(written, self._tree)))
        return placed

    def _read_again(self) -> None:
        if self._lines is None:
            self._tree = _parse(self.text, self.format).tree
            self._lines = lines_of(self.text, self.format)


def load_path(path: str | os.PathLike[str], *, shown_as: str | None = None) -> LoadedDocument:
    """The checked document of a file; ValidationError lists every fault, OSError when it cannot be read.

    `shown_as` is the name that faults show instead of `path`.
    """
    file = shown_as or os.fspath(path)
    format = format_of(file)
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        data = stream.read(MAX_BYTES[format or "json"] + 1)
    return load_text(data, format=format, file=file, size_bytes=max(size, len(data)))


def load_text(
    text: str | bytes, *, format: str | None = None, file: str | None = None, size_bytes: int | None = None
) -> LoadedDocument:
    """The checked document of a text; without a `format` it is JSON when it begins with {, else YAML."""
    subject = file or "the workflow"
    size = size_bytes if size_bytes is not None else len(text)
    start = text[:64].lstrip()
    format = format or ("json" if start[:1] in ("{", b"{") else "yaml")
    try:
        _check_size(size, format)
        decoded = text if isinstance(text, str) else _decode(text)
        parsed = _parse(decoded, format)
    except UnreadableText as error:
        raise ValidationError([replace(each, file=file) for each in error.faults], subject=subject) from None
    tree = pruned(parsed.tree)
    found = check(tree)
    document: Document = {}
    if not found and not parsed.faults:
        document = normalise(tree)
        if "{{" in decoded and "codomyrmex" not in tree and format == "json":
            modernise_document(document)
        if "$type" in decoded:
            found = check_tags(document)
    if found or parsed.faults:
        lines = lines_of(decoded, format) if found else {}
        faults = [replace(each, file=file) for each in parsed.faults]
        faults += [replace(each, file=file, line=nearest_line(lines, path)) for path, each in found]
        faults.sort(key=lambda each: (each.code == "more", each.line or 0))
        raise ValidationError([_without_place(each) for each in faults], subject=subject)
    return LoadedDocument(document=document, file=file, text=decoded, format=format)


def _without_place(fault: Fault) -> Fault:
    """The number of faults that are not listed has no place."""
    return replace(fault, line=None) if fault.code == "more" else fault


def save_path(document: Document, path: str | os.PathLike[str]) -> None:
    """Write a document as a file that loads to the same document: JSON, or YAML for every other name."""
    text = write_text(document, format_of(os.fspath(path)) or "yaml")
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)


def write_text(document: Document, format: str) -> str:
    """The text of a document in `json` or `yaml`."""
    tree = file_form(document)
    if format == "json":
        import json

        return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"
    if format != "yaml":
        raise ValueError(f"workflows are written as YAML or JSON, not {format}")
    from codomyrmex.logistics.orchestration.project.workflow_yaml import write_yaml

    return write_yaml(tree)


def format_of(file: str) -> str | None:
    """The format that a file's name says, or None."""
    return SUFFIXES.get(os.path.splitext(file)[1].lower())


def lines_of(text: str, format: str) -> Lines:
    """The line of every key and item of a readable text."""
    if format == "json":
        return json_lines(text)
    if format == "toml":
        return toml_lines(text)
    from codomyrmex.logistics.orchestration.project.workflow_yaml import yaml_lines

    return yaml_lines(text)


def nearest_line(lines: Lines, path: Path) -> int | None:
    """The line of a place, or of the nearest thing around it."""
    for length in range(len(path), -1, -1):
        line = lines.get(path[:length])
        if line is not None:
            return line
    return None


def written_path(path: Path, tree: Any) -> Path:
    """The place in the file of a place in its document: keys as the user wrote them."""
    written: list[str | int] = []
    here = tree
    for number, part in enumerate(path):
        key: str | int = part
        if isinstance(here, dict) and part not in here:
            shorter = (each for each in _WRITTEN.get(str(part), ()) if each in here)
            key = next(shorter, "run" if part == "parameters" and "run" in here else part)
        if (
            part == "parameters"
            and isinstance(here, dict)
            and "run" in here
            and "command" in path[number + 1 :]
        ):
            key = "run"
        written.append(key)
        here = _inside(here, key)
        if not isinstance(here, (dict, list)) or key == "run":
            break
    return tuple(written)


def _inside(here: Any, key: str | int) -> Any:
    if isinstance(here, dict):
        return here.get(key)
    is_item = isinstance(here, list) and isinstance(key, int) and key < len(here)
    return here[key] if is_item else None


def _parse(text: str, format: str) -> Parsed:
    if format == "json":
        return read_json(text)
    if format == "toml":
        return read_toml(text)
    from codomyrmex.logistics.orchestration.project.workflow_yaml import read_yaml

    return read_yaml(text)


def _check_size(size_bytes: int, format: str) -> None:
    limit = MAX_BYTES[format]
    if size_bytes > limit:
        message = f"the file has {size_bytes / 2**20:.1f} MiB; {format.upper()} may have {write_size(limit)}"
        advice = "a workflow in JSON may have 32MiB" if format == "yaml" else None
        advice = advice or "let the data be a file that a step reads"
        raise UnreadableText([Fault(message=message, code="too_big", advice=advice)])


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            message = "the file is in UTF-16"
        else:
            message = f"the byte 0x{data[error.start]:02x} is not UTF-8"
        fault = Fault(message=message, line=line, code="encoding", advice="save the file as UTF-8")
        raise UnreadableText([fault]) from None
