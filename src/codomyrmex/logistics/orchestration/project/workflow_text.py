"""JSON and TOML texts of workflow files made into plain trees, and the lines of their keys.

Layer: pure. Every reader (YAML's stands in `workflow_yaml`) gives a tree of dicts, lists and JSON scalars,
or `UnreadableText` with the line. Lines of keys are looked for only when a fault needs them, by reading the
text again, so a good file pays nothing for them. JSON is RFC 8259, but double keys, NaN and half characters
are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

from codomyrmex.exceptions import Fault
from codomyrmex.logistics.orchestration.project.workflow_faults import Path, path_text

MAX_DEPTH = 32
MAX_DOUBLED = 20
MAX_TOML_DOTS_SQUARED = 200_000_000
MAX_VALUES = 2_000_000
_JSON_SKIP = re.compile(r"[ \t\n\r:]*")
_JSON_CONSTANT = re.compile(r"(?<=[\[:,\s])(?:NaN|-?Infinity)(?=[\],}\s])|\d{4300}")
_JSON_WORD = re.compile(r"[^\s,\]}]+")
_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)")
_TOML_HEADER = re.compile(r"^\s*(\[\[?)\s*([\w.\"'-]+)\s*\]\]?\s*(?:#.*)?$")
_TOML_KEY = re.compile(r"^\s*([\w.\"'-]+)\s*=")

Lines = dict[Path, int]


@dataclass(slots=True, kw_only=True)
class Parsed:
    """A tree, and what is wrong with its text although a tree could be made."""

    tree: Any
    faults: list[Fault] = field(default_factory=list)


class UnreadableText(Exception):
    """A text that no tree can be made of; `faults` have their lines."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(str(faults[0]))
        self.faults = faults


def check_depth(tree: Any) -> None:
    """UnreadableText when containers stand more than MAX_DEPTH deep in each other."""
    level = [tree]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for container in level:
            values = container.values() if type(container) is dict else container
            inner += [value for value in values if type(value) is dict or type(value) is list]
        level = inner
        if not level:
            return
    raise UnreadableText([Fault(message=f"this is nested more than {MAX_DEPTH} deep", code="too_deep")])


def read_json(text: str) -> Parsed:
    """The tree of a JSON text."""
    doubled = False

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal doubled
        mapping = dict(pairs)
        if len(mapping) != len(pairs):
            doubled = True
        return mapping

    try:
        tree = json.loads(
            text, object_pairs_hook=collect, parse_constant=_refuse_constant, parse_float=_finite
        )
    except json.JSONDecodeError as error:
        raise UnreadableText([_json_fault(text, error)]) from None
    except RecursionError:
        raise UnreadableText(
            [Fault(message=f"this is nested more than {MAX_DEPTH} deep", code="too_deep")]
        ) from None
    except ValueError as error:
        message = "a number has too many digits" if "digits" in str(error) else str(error)
        match = _JSON_CONSTANT.search(text)
        line = None if match is None else text.count("\n", 0, match.start()) + 1
        raise UnreadableText([Fault(message=message, line=line, code="syntax")]) from None
    if isinstance(tree, (dict, list)):
        check_depth(tree)
    faults = _doubled_keys(text) if doubled else []
    if "\\u" in text and not _is_unicode(tree):
        faults.append(Fault(message="half a character (a lone surrogate) is not text", code="syntax"))
    return Parsed(tree=tree, faults=faults)


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if number - number != 0:
        raise ValueError(f"the number {digits[:40]} is too big")
    return number


def _is_unicode(tree: Any) -> bool:
    try:
        json.dumps(tree, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _json_fault(text: str, error: json.JSONDecodeError) -> Fault:
    before = text[: error.pos].rstrip()
    here = text[error.pos :].lstrip()[:1]
    advice: str | None = None
    message = f"this is not JSON: {error.msg[0].lower()}{error.msg[1:]}"
    line = error.lineno
    if not text.strip():
        return Fault(message="the file is empty", code="empty", advice=EMPTY_ADVICE)
    if before.endswith(",") and here in ("}", "]", ""):
        message, advice = f"a comma stands before {here or 'the end'}", "take the comma away"
        line = before.count("\n") + 1
    elif here == "'":
        message, advice = "text stands in single quotes", "JSON wants double quotes"
    elif here in ("/", "#"):
        message, advice = "JSON has no comments", "take it away, or write the file in YAML"
    elif error.msg.startswith("Expecting ','"):
        message, advice = "a comma or a closing bracket is missing", "look at the end of the line before too"
    elif error.msg.startswith("Expecting property name") and (here.isalpha() or here == "_"):
        message, advice = "a key stands without quotes", 'JSON wants double quotes: {"name": ...}'
    elif error.msg.startswith("Extra data"):
        message, advice = "text follows the end of the workflow", "a file holds one workflow"
    elif not here:
        message, advice = "the text ends too early", "a closing bracket or quote is missing"
    elif error.msg.startswith("Expecting value") and before.endswith(":"):
        message, advice = f"a key has no JSON value: it begins with {here}", _JSON_VALUES
    return Fault(message=message, line=line, code="syntax", advice=advice)


_JSON_VALUES = "a value is a number, true, false, null, or text in double quotes"
EMPTY_ADVICE = "`codomyrmex init` writes a first workflow"


def _doubled_keys(text: str) -> list[Fault]:
    """The keys that stand twice in one object; reads the text slowly, since there is at least one."""
    seen: set[Path] = set()
    faults: list[Fault] = []
    tree = json.loads(text)
    for path, position in _json_positions(text):
        if path in seen:
            line = text.count("\n", 0, position) + 1
            message = f"the key {path[-1]!r} stands here twice"
            where = path_text(path, tree)
            faults.append(
                Fault(message=message, path=where, line=line, code="duplicate_key", advice="keep one of them")
            )
            if len(faults) == MAX_DOUBLED:
                break
        seen.add(path)
    return faults


def json_lines(text: str) -> Lines:
    """The line of every key and item of a text that `read_json` could read."""
    lines: Lines = {(): 1}
    line, last = 1, 0
    for path, position in _json_positions(text):
        line += text.count("\n", last, position)
        last = position
        lines.setdefault(path, line)
    return lines


def _json_positions(text: str) -> Iterator[tuple[Path, int]]:
    """The path and position of every key and item, in the order of a correct text."""
    keys: list[Any] = []  # of each open container: the index, the key, or None where a key comes next
    position = 0
    while True:
        position = _JSON_SKIP.match(text, position).end()  # type: ignore[union-attr]
        if position >= len(text):
            return
        character = text[position]
        if character == ",":
            keys[-1] = keys[-1] + 1 if type(keys[-1]) is int else None
            position += 1
        elif character in "]}":
            keys.pop()
            position += 1
        elif keys and keys[-1] is None:
            keys[-1], end = scanstring(text, position + 1, True)
            yield tuple(keys), position
            position = end
        else:
            if keys and type(keys[-1]) is int:
                yield tuple(keys), position
            if character in "[{":
                keys.append(0 if character == "[" else None)
                position += 1
            elif character == '"':
                position = scanstring(text, position + 1, True)[1]
            else:
                position = _JSON_WORD.match(text, position).end()  # type: ignore[union-attr]


def read_toml(text: str) -> Parsed:
    """The tree of a TOML text; its dates and times become ISO text."""
    import tomllib

    # The library takes time that grows with the square of the parts of a dotted name.
    dots = (line.count(".") for line in text.splitlines())
    if sum(count * count for count in dots if count > 50) > MAX_TOML_DOTS_SQUARED:
        raise UnreadableText([Fault(message="a line has thousands of dots", code="too_big")])

    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UnreadableText([_toml_fault(text, str(error))]) from None
    except RecursionError:
        raise UnreadableText(
            [Fault(message=f"this is nested more than {MAX_DEPTH} deep", code="too_deep")]
        ) from None
    except ValueError as error:
        message = "a number has too many digits" if "digits" in str(error) else f"this is not TOML: {error}"
        raise UnreadableText([Fault(message=message, code="syntax")]) from None
    check_depth(tree)
    return Parsed(tree=_plain(tree))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, float) and value - value != 0:
        return str(value)  # inf and nan are no JSON numbers
    return value


def _toml_fault(text: str, problem: str) -> Fault:
    match = _TOML_PLACE.search(problem)
    at_end = text.rstrip().count("\n") + 1
    line = int(match[1]) if match is not None and match[1] else at_end
    written = text.splitlines()[line - 1].strip() if text.strip() else ""
    said = _TOML_PLACE.sub("", problem)
    message = f"this is not TOML: {said[0].lower()}{said[1:]}"
    advice = None
    if said.startswith(("Cannot overwrite", "Cannot declare", "Cannot mutate")):
        message, advice = "this key or table stands here twice", "keep one of them; steps are [[steps]]"
    elif said.startswith("Invalid value"):
        value = written.partition("=")[2].strip()
        message = f"{value} is not a TOML value" if value else "a key has no value"
        advice = f'put text in quotes: "{value}"' if value and value[0] not in "\"'" else None
    elif said.startswith("Expected '='"):
        advice = 'a key is followed by = and its value: name = "nightly"'
    elif "Unescaped" in said or "Invalid character" in said or "Illegal character" in said:
        advice = "is a quote or a bracket missing?"
    return Fault(message=message, line=line, code="syntax", advice=advice)


def toml_lines(text: str) -> Lines:
    """The lines of tables and of keys that begin a line; inline tables have the line of their key."""
    lines: Lines = {(): 1}
    table: Path = ()
    counts: dict[str, int] = {}
    inside: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if inside is not None:
            if line.count(inside) % 2:
                inside = None
            continue
        header = _TOML_HEADER.match(line)
        if header is not None:
            table = _toml_table(header[2], counts if header[1] == "[[" else None, counts)
            lines.setdefault(table, number)
            continue
        key = _TOML_KEY.match(line)
        if key is not None:
            lines.setdefault((*table, *_toml_parts(key[1])), number)
        inside = next((quote for quote in ('"""', "'''") if line.count(quote) % 2), None)
    return lines


def _toml_table(name: str, arrays: dict[str, int] | None, counts: dict[str, int]) -> Path:
    path: list[str | int] = []
    dotted = ""
    parts = _toml_parts(name)
    for number, part in enumerate(parts):
        path.append(part)
        dotted += f".{part}"
        if arrays is not None and number == len(parts) - 1:
            arrays[dotted] = arrays.get(dotted, -1) + 1
        if dotted in counts:
            path.append(counts[dotted])
    return tuple(path)


def _toml_parts(name: str) -> list[str]:
    return [part.strip("\"'") for part in name.split(".")]
