"""Files that say how a workflow is to behave: `NAME.test.yaml` beside `NAME.yaml`, or in `tests/workflows/`.

Layer: testing; reads the one file it is given. A file names a workflow and lists cases: what a run is given,
what stands in for its steps, and what is expected of it. The text goes the way of a workflow file (limits,
plain tree, every fault with its line); the schema is `SCHEMA`, JSON Schema 2020-12, written by hand.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from codomyrmex.exceptions import Fault, ValidationError
from codomyrmex.logistics.orchestration.project.workflow_faults import at, nearest, path_text
from codomyrmex.logistics.orchestration.project.workflow_file import format_of, lines_of, nearest_line
from codomyrmex.logistics.orchestration.project.workflow_text import Parsed, UnreadableText, read_json

SUFFIXES = (".test.yaml", ".test.yml", ".test.json")
FOLDERS = ("workflows", "tests/workflows")
MAX_BYTES = 8 * 2**20
STATUSES = ("completed", "failed", "cancelled")
TASK_STATUSES = (*STATUSES, "skipped")

Schema = dict[str, Any]


def _mapping(keys: Schema, message: str, *, required: tuple[str, ...] = (), more: Any = False) -> Schema:
    return {
        "type": "object",
        "properties": keys,
        "required": list(required),
        "additionalProperties": more,
        "errorMessage": message,
    }


def _each(rule: Schema, message: str) -> Schema:
    return _mapping({}, message, more=rule)


_TEXT: Schema = {"type": "string", "minLength": 1, "errorMessage": "text is needed"}
_COUNT: Schema = {"type": "integer", "minimum": 0, "errorMessage": "a whole number from 0 on is needed"}
_ONE: Schema = _mapping(
    {"output": True, "error": _TEXT}, "what an attempt does is `output: VALUE` or `error: TEXT`"
)
_STUB: Schema = _mapping(
    {
        **_ONE["properties"],
        "attempts": {
            "type": "array",
            "items": {**_ONE, "minProperties": 1, "maxProperties": 1},
            "minItems": 1,
            "errorMessage": "attempts are a list of `{output: VALUE}` and `{error: TEXT}`",
        },
        "signal": True,
        "approved": {"type": "boolean", "errorMessage": "true or false is needed"},
        "data": True,
        "by": _TEXT,
        "comment": _TEXT,
    },
    "a stub is a mapping: output, error, attempts, signal or approved",
)
_EXPECT: Schema = _mapping(
    {
        "status": {"enum": list(STATUSES), "errorMessage": "a run ends in one of a few ways"},
        "steps": _each(
            {"enum": list(TASK_STATUSES), "errorMessage": "a step ends in one of a few ways"},
            "steps are a mapping of names to how they end",
        ),
        "outputs": _each(True, "outputs are a mapping"),  # type: ignore[arg-type]
        "results": _each(True, "results are a mapping of steps to what they return"),  # type: ignore[arg-type]
        "order": {"type": "array", "items": _TEXT, "errorMessage": "an order is a list of steps"},
        "attempts": _each(_COUNT, "attempts are a mapping of steps to how many they have"),
        "error": _TEXT,
    },
    "what is expected is a mapping",
)
_CASE: Schema = _mapping(
    {
        "name": _TEXT,
        "parameters": _each(True, "parameters are a mapping"),  # type: ignore[arg-type]
        "stubs": _each(_STUB, "stubs are a mapping of steps to what stands in for them"),
        "until": _TEXT,
        "expect": _EXPECT,
    },
    "a case is a mapping",
    required=("name",),
)
SCHEMA: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Tests of a workflow",
    **_mapping(
        {
            "workflow": _TEXT,
            "cases": {"type": "array", "items": _CASE, "minItems": 1, "errorMessage": "cases are a list"},
        },
        "a file of tests is a mapping",
        required=("cases",),
    ),
}
KINDS_OF_STUB = ("output", "error", "attempts", "signal", "approved")
Placed = tuple[tuple[str | int, ...], Fault]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case, as it is written; `expect` says `status: completed` unless it says otherwise."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    stubs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    until: str | None = None
    expect: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFile:
    """The cases of one file; `workflow` is a path beside the file or a name, None for the file's own name."""

    file: Path
    shown: str
    workflow: str | None
    cases: tuple[Case, ...]


def is_case_file(path: Path) -> bool:
    """Whether a file holds tests of a workflow, by its name."""
    return path.name.endswith(SUFFIXES)


def case_files(root: Path) -> list[Path]:
    """The files of tests of a project, sorted: beside the root's own workflow and in `FOLDERS`."""
    found = {path for path in root.glob("*.test.*") if is_case_file(path)}
    for folder in FOLDERS:
        found |= {path for path in (root / folder).rglob("*.test.*") if is_case_file(path)}
    return sorted(path for path in found if path.is_file())


def read_case_file(path: Path, *, shown_as: str | None = None) -> CaseFile:
    """The checked cases of a file; `ValidationError` lists every fault, OSError when it cannot be read."""
    shown = shown_as or os.fspath(path)
    text = _text_of(path, shown)
    format = format_of(path.name) or "yaml"
    try:
        parsed = _parse(text, format)
    except UnreadableText as error:
        raise ValidationError([replace(each, file=shown) for each in error.faults], subject=shown) from None
    placed = list(_faults(parsed.tree))
    if placed or parsed.faults:
        lines = lines_of(text, format) if placed else {}
        faults = [replace(each, file=shown) for each in parsed.faults]
        faults += [replace(each, file=shown, line=nearest_line(lines, place)) for place, each in placed]
        raise ValidationError(sorted(faults, key=lambda each: each.line or 0), subject=shown)
    cases = tuple(Case(**case) for case in parsed.tree["cases"])
    return CaseFile(file=path, shown=shown, workflow=parsed.tree.get("workflow"), cases=cases)


def _text_of(path: Path, shown: str) -> str:
    data = path.read_bytes()
    if len(data) > MAX_BYTES:
        fault = Fault(message=f"the file has {len(data) / 2**20:.1f} MiB; tests may have 8", file=shown)
        raise ValidationError([fault], subject=shown)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        fault = Fault(message="this is not UTF-8", file=shown, line=line, advice="save the file as UTF-8")
        raise ValidationError([fault], subject=shown) from None


def _parse(text: str, format: str) -> Parsed:
    if format == "json":
        return read_json(text)
    from codomyrmex.logistics.orchestration.project.workflow_yaml import read_yaml

    return read_yaml(text)


@cache
def _validator() -> Any:
    import jsonschema_rs

    return jsonschema_rs.Draft202012Validator(SCHEMA)


def _faults(tree: Any) -> Iterator[Placed]:
    wrong = False
    for error in _validator().iter_errors(tree):
        wrong = True
        yield from _explained(error, tree)
    if wrong:
        return
    names: dict[str, int] = {}
    for number, case in enumerate(tree["cases"]):
        first = names.setdefault(case["name"], number)
        if first != number:
            yield _fault(("cases", number, "name"), tree, f"two cases are called {case['name']!r}")
        for step, stub in case.get("stubs", {}).items():
            said = [kind for kind in KINDS_OF_STUB if kind in stub]
            place = ("cases", number, "stubs", step)
            if len(said) != 1:
                yield _fault(place, tree, "a stub says one thing", allowed=KINDS_OF_STUB)
            elif said != ["approved"] and len(stub) > 1:
                yield _fault(place, tree, "data, by and comment go with `approved`")


def _explained(error: Any, tree: Any) -> Iterator[Placed]:
    place = tuple(error.instance_path)
    keyword = error.kind.name
    rule = at(SCHEMA, error.schema_path[:-1])
    if keyword == "additionalProperties":
        known = tuple(rule["properties"])
        for key in error.kind.unexpected:
            close = nearest(key, known)
            yield _fault((*place, key), tree, f"unknown key {key[:80]!r}", allowed=known, nearest=close)
    elif keyword == "required":
        yield _fault(place, tree, f"`{error.kind.property}` is missing")
    elif keyword == "enum":
        options = tuple(map(str, error.kind.options))
        close = nearest(str(at(tree, place)), options)
        yield _fault(place, tree, rule["errorMessage"], allowed=options, nearest=close)
    else:
        yield _fault(place, tree, rule.get("errorMessage", "this is not allowed here"))


def _fault(
    place: Iterable[str | int],
    tree: Any,
    message: str,
    *,
    allowed: tuple[str, ...] = (),
    nearest: str | None = None,
) -> Placed:
    path = tuple(place)
    return path, Fault(message=message, path=path_text(path, tree), allowed=allowed, nearest=nearest)
