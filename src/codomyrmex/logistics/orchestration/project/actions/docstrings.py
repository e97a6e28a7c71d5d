"""What a docstring says of each parameter: the styles of Google, NumPy and reST.

Layer: actions; pure. Text that follows none of them says nothing, which is no fault: a description is for
reading and judges nobody.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping

_GOOGLE_HEADS = frozenset({"args", "arguments", "parameters", "params", "keyword args", "keyword arguments"})
_NUMPY_HEADS = frozenset({"parameters", "other parameters", "keyword arguments"})
_GOOGLE_ITEM = re.compile(r"(\*{0,2}\w+)\s*(?:\([^)]*\)|\[[^\]]*\])?\s*:(?:\s+(.*))?$")
_NUMPY_ITEM = re.compile(r"(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?$")
_FIELD = re.compile(
    r":(?:param|parameter|arg|argument|key|keyword)\s+(?:[^:]*\s)?(\*{0,2}\w+)\s*:(?:\s+(.*))?$"
)
MAX_DOC = 100_000


def summary_of(doc: str) -> str:
    """The first line that says something."""
    return next((line.strip() for line in doc[:MAX_DOC].splitlines() if line.strip()), "")


def parameter_texts(doc: str) -> Mapping[str, str]:
    """{parameter: what is said of it, as one line}; empty where nothing is."""
    if ":" not in doc and "---" not in doc:
        return {}
    lines = inspect.cleandoc(doc[:MAX_DOC]).expandtabs().splitlines()
    found: dict[str, list[str]] = {}
    for reader in (_google, _numpy, _fields):
        for name, text in reader(lines):
            found.setdefault(name.lstrip("*"), []).append(text)
        if found:
            break
    return {name: text for name, words in found.items() if (text := " ".join(" ".join(words).split()))}


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _google(lines: list[str]) -> Iterator[tuple[str, str]]:
    """`Args:`, then items indented below it, each `name (type): text`, its text indented further."""
    section: int | None = None
    item: int | None = None
    name = ""
    for line in lines:
        text, indent = line.strip(), _indent(line)
        if section is None:
            if text.endswith(":") and text[:-1].lower() in _GOOGLE_HEADS:
                section, item = indent, None
        elif not text:
            continue
        elif indent <= section:
            section = indent if text.endswith(":") and text[:-1].lower() in _GOOGLE_HEADS else None
            item = None
        elif item is None or indent <= item:
            found = _GOOGLE_ITEM.match(text)
            item, name = indent, found[1] if found else ""
            if found:
                yield name, found[2] or ""
        elif name:
            yield name, text


def _numpy(lines: list[str]) -> Iterator[tuple[str, str]]:
    """`Parameters` underlined, then `name : type`, its text indented below."""
    names: list[str] = []
    inside = False
    for number, line in enumerate(lines):
        text, below = line.strip(), lines[number + 1].strip() if number + 1 < len(lines) else ""
        if len(below) > 2 and set(below) == {"-"}:
            inside, names = text.lower() in _NUMPY_HEADS, []
        elif not inside or not text or set(text) == {"-"}:
            continue
        elif _indent(line) == 0:
            found = _NUMPY_ITEM.match(text)
            names = [each.strip() for each in found[1].split(",")] if found else []
        else:
            yield from ((name, text) for name in names)


def _fields(lines: list[str]) -> Iterator[tuple[str, str]]:
    """`:param [type] name: text`, goes on in lines that are indented further."""
    name, indent = "", 0
    for line in lines:
        text = line.strip()
        found = _FIELD.match(text)
        if found:
            name, indent = found[1], _indent(line)
            yield name, found[2] or ""
        elif not text or _indent(line) <= indent:
            name = ""
        elif name:
            yield name, text
