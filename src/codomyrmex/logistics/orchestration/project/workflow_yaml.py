"""YAML to a plain tree, safely: from the C parser's events, with the scalars of YAML 1.2's core schema.

Layer: pure. Nothing is composed by the library (its composer recurses in C): depth, anchors, aliases, tags
and double keys are refused as events arrive. Plain scalars follow https://yaml.org/spec/1.2.2/#103-core-
schema, but a number that would not be written back the same (`1.10`, `0755`, `1_000`, `1e3`) stays text, as
do `no`, `12:30` and dates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from codomyrmex.exceptions import Fault
from codomyrmex.logistics.orchestration.project.workflow_faults import Path, path_text
from codomyrmex.logistics.orchestration.project.workflow_text import (
    EMPTY_ADVICE,
    MAX_DEPTH,
    MAX_VALUES,
    Lines,
    Parsed,
    UnreadableText,
)

_WORDS: Mapping[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_MAX_FAULTS = 20
_NO_KEY = object()
_ALIAS_ADVICE = "write the value out, or put what steps share under `defaults:`"
_REFERENCE = re.compile(r"""(?<!["'\w])\$\{[^}"']*\}?""")


def scalar(text: str) -> Any:
    """The value of a plain (unquoted) scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in "-0123456789" and text[-1] in "0123456789" and len(text) <= 400:
        for kind, write in ((int, str), (float, repr)):
            try:
                number = kind(text)
            except ValueError:
                continue
            if write(number) == text:
                return number
    return text


def read_yaml(text: str) -> Parsed:
    """The tree of a text; UnreadableText lists what in it cannot be read."""
    reader = _Reader(text)
    tree = reader.read()
    if any(fault.code == "alias" for fault in reader.faults):
        raise UnreadableText(reader.faults)
    if reader.documents == 0 or (tree is None and not text.strip()):
        raise UnreadableText([Fault(message="the file is empty", code="empty", advice=EMPTY_ADVICE)])
    return Parsed(tree=tree, faults=reader.faults)


def yaml_lines(text: str) -> Lines:
    """The line of every key and item of a text that `read_yaml` could read."""
    reader = _Reader(text, lines={(): 1})
    reader.read()
    assert reader.lines is not None
    return reader.lines


class _Reader:
    """Builds the tree as events arrive.

    `here` is the container that is open, `key` the key in it that waits for its value; `outer` keeps both for
    the containers around it.
    """

    def __init__(self, text: str, *, lines: Lines | None = None) -> None:
        self.text = text
        self.lines = lines
        self.faults: list[Fault] = []
        self.outer: list[tuple[Any, Any]] = []
        self.root: Any = None
        self.here: Any = None
        self.key: Any = _NO_KEY
        self.documents = 0
        self.anchors: set[str] = set()
        self.inner_line = 1
        self.container_lines = [1]

    def read(self) -> Any:
        import yaml

        parser = yaml.CSafeLoader(self.text)
        take = {
            yaml.MappingStartEvent: self._start_mapping,
            yaml.SequenceStartEvent: self._start_sequence,
            yaml.MappingEndEvent: self._end,
            yaml.SequenceEndEvent: self._end,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._start_document,
        }
        scalar_event = yaml.ScalarEvent
        try:
            for _ in range(MAX_VALUES):
                event = parser.get_event()
                if type(event) is scalar_event:
                    self._scalar(event)
                elif event is None or type(event) is yaml.StreamEndEvent:
                    return self.root
                else:
                    handler = take.get(type(event))
                    if handler is not None:
                        handler(event)
            self._stop(
                event, f"the file holds more than {MAX_VALUES:,} values", "let data be files that steps read"
            )
        except yaml.YAMLError as error:
            self.faults.append(self._syntax_fault(error))
            raise UnreadableText(self.faults) from None
        finally:
            parser.dispose()

    def _scalar(self, event: Any) -> None:
        text = event.value
        if event.tag is not None or event.anchor is not None:
            self._refuse_properties(event)
        if type(self.here) is dict and self.key is _NO_KEY:
            self._take_key(text, event)
        else:
            self._put(scalar(text) if event.implicit[0] else text, event)

    def _take_key(self, text: str, event: Any) -> None:
        self.key = text
        if text in self.here:
            self._refuse(
                event, f"the key {text!r} stands here twice", "keep one of them", code="duplicate_key"
            )
        elif text == "<<" and event.implicit[0]:
            self._refuse(event, "merge keys (<<) are not allowed", _ALIAS_ADVICE, code="alias")
        if self.lines is not None:
            self._note_line(self._path(), event)

    def _put(self, value: Any, event: Any) -> None:
        here = self.here
        if type(here) is dict:
            here[self.key] = value
            self.key = _NO_KEY
        elif here is None:
            self.root = value
        else:
            here.append(value)
            if self.lines is not None:
                self._note_line((*self._path(), len(here) - 1), event)

    def _note_line(self, path: Path, event: Any) -> None:
        """Only what does not stand in the line of its container needs a line of its own."""
        assert self.lines is not None
        self.inner_line = event.start_mark.line + 1
        if self.inner_line != self.container_lines[-1]:
            self.lines[path] = self.inner_line

    def _start_mapping(self, event: Any) -> None:
        self._start({}, event)

    def _start_sequence(self, event: Any) -> None:
        self._start([], event)

    def _start(self, container: Any, event: Any) -> None:
        if event.tag is not None or event.anchor is not None:
            self._refuse_properties(event)
        if type(self.here) is dict and self.key is _NO_KEY:
            self._stop(event, "a mapping or a list stands where a key should be", self._key_advice(event))
        if len(self.outer) >= MAX_DEPTH:
            self._stop(event, f"this is nested more than {MAX_DEPTH} deep", None, code="too_deep")
        outer = (self.here, self.key if type(self.here) is not list else len(self.here))
        self._put(container, event)
        self.outer.append(outer)
        self.container_lines.append(self.inner_line)
        self.here = container
        self.key = _NO_KEY

    def _end(self, event: Any) -> None:
        self.here, _ = self.outer.pop()
        self.container_lines.pop()
        self.key = _NO_KEY

    def _alias(self, event: Any) -> None:
        """Told of once for each anchor, where that stands, or here when it stands nowhere."""
        if event.anchor not in self.anchors and self.key != "<<":
            self._refuse(event, f"the alias *{event.anchor} is not allowed", _ALIAS_ADVICE, code="alias")
        self.anchors.add(event.anchor)
        if type(self.here) is dict and self.key is _NO_KEY:
            self.key = f"*{event.anchor}"
        else:
            self._put(None, event)

    def _start_document(self, event: Any) -> None:
        self.documents += 1
        if self.documents > 1:
            self._stop(
                event, "a second document begins here", "a file holds one workflow: take the `---` away"
            )

    def _refuse_properties(self, event: Any) -> None:
        if event.anchor is not None:
            self.anchors.add(event.anchor)
            self._refuse(event, f"the anchor &{event.anchor} is not allowed", _ALIAS_ADVICE, code="alias")
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            advice = "take it away; quote text that begins with !"
            self._refuse(event, f"the tag {tag} is not allowed", advice, code="tag")

    def _refuse(self, event: Any, message: str, advice: str | None, *, code: str = "unreadable") -> None:
        """Note a fault and go on, so that all come at once; a text full of them ends the reading."""
        line = event.start_mark.line + 1
        where = path_text(self._path(), self.root)
        self.faults.append(Fault(message=message, path=where, line=line, code=code, advice=advice))
        if len(self.faults) >= _MAX_FAULTS:
            raise UnreadableText(self.faults)

    def _stop(self, event: Any, message: str, advice: str | None, *, code: str = "unreadable") -> None:
        self._refuse(event, message, advice, code=code)
        raise UnreadableText(self.faults)

    def _path(self) -> Path:
        keys = [key for _, key in self.outer[1:]]
        if self.here is not None and type(self.here) is dict and self.key is not _NO_KEY:
            keys.append(self.key)
        return tuple(keys)

    def _key_advice(self, event: Any) -> str:
        line = "".join(_around(self.text, event.start_mark))
        match = re.search(r"\{\{.*?\}\}", line)
        text = match[0] if match else "{{ name }}"
        if match and "." in text:
            return f'references are written "${{{text.strip("{} ")}}}", in quotes'
        return f'text that begins with {{ or [ must be quoted: "{text}"'

    def _syntax_fault(self, error: Any) -> Fault:
        mark = getattr(error, "problem_mark", None)
        if mark is None:
            return self._character_fault(error)
        problem = str(error.problem)
        context = getattr(error, "context_mark", None)
        near = _around(self.text, mark)
        opened = "".join(near if context is None else _around(self.text, context))
        message, advice, at_context = _explain_syntax(problem, str(error.context or ""), near, opened)
        line = (context if at_context and context is not None else mark).line + 1
        if (
            not any(map(str.strip, near)) and line == mark.line + 1
        ):  # the end of the file says little: name the last line
            line = min(line, self.text.rstrip().count("\n") + 1)
        return Fault(
            message=message, path=path_text(self._path(), self.root), line=line, code="syntax", advice=advice
        )

    def _character_fault(self, error: Any) -> Fault:
        position = int(getattr(error, "position", 0))
        line = self.text.encode()[:position].count(b"\n") + 1
        character = getattr(error, "character", 0)
        shown = f"\\x{character:02x}" if isinstance(character, int) else repr(character)
        advice = "take it away; in double quotes it can be written as an escape"
        return Fault(
            message=f"the character {shown} is not allowed in YAML", line=line, code="syntax", advice=advice
        )


_CLIP = 200


def _around(text: str, mark: Any) -> tuple[str, str]:
    """What stands before and behind a mark in its line, cut where the line is long."""
    start = 0
    for _ in range(mark.line):
        start = text.find("\n", start) + 1
        if start == 0:
            return "", ""
    end = text.find("\n", start)
    end = len(text) if end < 0 else end
    middle = min(start + mark.column, end)
    return text[max(start, middle - _CLIP) : middle], text[middle : min(end, middle + _CLIP)]


def _explain_syntax(
    problem: str, context: str, near: tuple[str, str], opened: str
) -> tuple[str, str | None, bool]:
    """Message, advice, and whether the place is where the broken thing begins, not where it was noticed."""
    before, behind = near
    line = before + behind
    for each in (line, opened):
        reference = _REFERENCE.search(each)
        if reference is not None and "flow" in context:
            text = reference[0] if reference[0].endswith("}") else "${item}"
            return (
                "a reference inside {...} or [...] is not quoted",
                f'quote the reference inside {{...}}: "{text}"',
                each is opened and opened != line,
            )
    if "\t" in line[: len(line) - len(line.lstrip())] or behind[:1] == "\t":
        return "a tab stands where spaces should", "YAML is indented with spaces: replace the tab", False
    if "quoted scalar" in context:
        return "a quote is opened here and not closed", 'a " inside a "..." text is written \\"', True
    if "flow" in context and "expected" in problem:
        bracket = "}" if "mapping" in context else "]"
        return f"a {bracket} or a comma is missing", f"it was opened in: {opened.strip()[:60]}", False
    if "mapping values are not allowed" in problem:
        return "a second `: ` in one line", 'text with ": " in it must be quoted: "like: this"', False
    if "cannot start any token" in problem:
        return f"text cannot begin with {behind[:1]}", f'quote it: "{behind.strip()[:40]}"', False
    if "could not find expected ':'" in problem:
        return "a key without a colon", "write `key: value`, with a space behind the colon", True
    if "expected" in problem and "block" in context:
        advice = "keys of one mapping, and dashes of one list, begin in the same column"
        return "the indentation does not fit what stands above", advice, False
    return f"this is not YAML: {problem}", None, False


def write_yaml(tree: Mapping[str, Any]) -> str:
    """A tree as YAML that `read_yaml` reads back to the same.

    Every key of the workflow and of a step on its line.
    """
    lines: list[str] = []
    for key, value in tree.items():
        if key != "steps":
            lines += _write_pair(key, value, "")
            continue
        lines.append("steps:")
        for step in value:
            pairs = [line for name, each in step.items() for line in _write_pair(name, each, "    ")]
            lines += [f"  - {pairs[0].lstrip()}", *pairs[1:]]
    return "\n".join(lines) + "\n"


def _write_pair(key: str, value: Any, indent: str) -> list[str]:
    if isinstance(value, str) and _BLOCK.fullmatch(value):
        sign = "|" if value.endswith("\n") else "|-"
        return [
            f"{indent}{key}: {sign}",
            *(f"{indent}  {line}" if line else "" for line in value.splitlines()),
        ]
    return [f"{indent}{key}: {_flow(value)}"]


def _flow(value: Any) -> str:
    """A value on one line: plain text where nothing is special in it, else JSON, which is YAML too."""
    import json

    if isinstance(value, str) and _PLAIN.fullmatch(value) and scalar(value) is value:
        return value
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_flow(key)}: {_flow(each)}' for key, each in value.items())}}}"
    text = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./-]+)*")
_BLOCK = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?\n(?:[ -~]*[!-~]\n|\n)*[ -~]*[!-~]\n?)")
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
