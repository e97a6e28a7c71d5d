"""The words of conditions and of what stands inside `${...}`: tokens, and errors that name a column.

Pure. Two dialects differ in one rule. In a `condition` a dash is a minus; in a `reference`, which is mostly
a path, a name after a dot may hold dashes, so a minus there wants a space before it. The name of a step may
hold dashes in both, because a step is always followed by one of its fields. Columns are 1-based.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Final

from codomyrmex.exceptions import CodomyrmexError

_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r"}
FOREIGN: Final = {
    "&&": "write 'and'",
    "||": "write 'or'",
    "!": "write 'not'",
    "=": "compare with '=='",
    ":": "neither slices, objects with keys nor lambda can be written here",
    "?": "a default is written '?? value'",
    "$": "inside a condition or a ${...} a reference is written without ${...}",
}

_NAME: Final = r"(?P<name>[A-Za-z_][A-Za-z0-9_]*+)"
_NUMBER: Final = r"(?P<number>[0-9]++(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+)(?![A-Za-z0-9_])"
_STRING: Final = r"(?P<string>'(?:[^'\\\n]|\\.)*+'|\"(?:[^\"\\\n]|\\.)*+\")"
_OPERATOR: Final = r"(?P<operator>\?\?|==|!=|<=|>=|//|\*\*|&&|\|\||[<>+\-*/()\[\],{}])"
# A step must be followed by one of its fields, so a dash in its name is never a minus.
_STEP: Final = (
    r"(?<![\w.])steps\.(?P<step>[A-Za-z_][A-Za-z0-9_-]*+)(?=\.(?:output|status|errors?)(?![A-Za-z0-9_]))"
)
_MEMBERS: Final = {
    "condition": r"\.\s*+(?P<member>[A-Za-z_][A-Za-z0-9_]*+)",
    # Inside ${...} a name after a dot may hold dashes: a minus there wants a space before it.
    "reference": r"\.\s*+(?P<member>[A-Za-z_][A-Za-z0-9_]*+(?:-[A-Za-z0-9_]++)*+)",
}


@cache
def _scanner(dialect: str) -> re.Pattern[str]:
    rules = (_STEP, _MEMBERS[dialect], _NAME, _NUMBER, _STRING, _OPERATOR)
    return re.compile(rf"\s*+(?:{'|'.join(rules)})")


class ExpressionError(CodomyrmexError):
    """A condition or a `${...}` that is not well formed; `column` is 1-based in the text that was given.

    `path` is the place of that text inside a tree of parameters.
    """

    exit_code = 2
    code = "expression"

    def __init__(
        self,
        message: str,
        column: int | None = None,
        advice: str | None = None,
        path: tuple[str | int, ...] = (),
    ) -> None:
        super().__init__(message, hint=advice)
        self.column, self.advice, self.path = column, advice, path


@dataclass(slots=True, kw_only=True)
class Token:
    """One word: the rule that read it, what it says, and from where to where it stands (from 0)."""

    rule: str
    text: str
    start: int
    end: int


def tokens(text: str, *, dialect: str) -> list[Token]:
    """The words of a text, closed by one of the rule `end`; raises `ExpressionError`."""
    scanner = _scanner(dialect)
    found, at, end = [], 0, len(text.rstrip())
    while at < end:
        match = scanner.match(text, at, end)
        if match is None:
            raise _unreadable(text, at)
        rule = match.lastgroup or ""
        start = match.start(rule)
        found.append(Token(rule=rule, text=match[rule], start=start, end=match.end()))
        at = match.end()
    found.append(Token(rule="end", text="", start=end, end=end))
    return found


def _unreadable(text: str, at: int) -> ExpressionError:
    while text[at].isspace():
        at += 1
    character = text[at]
    if character in "'\"":
        return ExpressionError(f"the text that begins with {character} never ends", at + 1)
    if character.isdigit():
        return ExpressionError("a number is followed by letters", at + 1, "quote it if it is text")
    if character == ".":
        return ExpressionError(
            "a name must follow the dot", at + 1, "an element is read with [0], a key with ['a key']"
        )
    return ExpressionError(f"{character!r} means nothing here", at + 1, FOREIGN.get(character))


def unquoted(text: str) -> str:
    """What a quoted text says."""
    body = text[1:-1]
    if "\\" not in body:
        return body
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), body, flags=re.DOTALL)


def nearest(name: str, among: Iterable[str]) -> str | None:
    """The valid name that a misspelt one most likely means."""
    import difflib

    found = difflib.get_close_matches(name, list(among), n=1, cutoff=0.6)
    return found[0] if found else None
