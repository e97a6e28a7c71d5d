"""The shapes that the steps of the audit hand to each other.

`audit_parsing` makes one `FileFacts` for each file; every later step reads them and no source. They hold
plain JSON types only, because each crosses a process border and is kept in the store. Rankings are cut per
file already: the longest 25 functions of a library are among the longest 25 of their files.

All modules of this example run on any Python from 3.9 on, whichever the workflow's workers use.
"""

from __future__ import annotations

from typing import Any, TypedDict

KEPT_PER_FILE = 25
"""So many functions a file keeps for each ranking, which bounds what `top` may ask for."""

Findings = dict[str, Any]
"""What an analysis step found: a JSON object whose form its docstring tells."""

Ranked = list[Any]
"""`[qualified name, line, value]`: a list and no object, because there are tens of thousands."""


class ParseError(TypedDict):
    """Why a file could not be parsed; `line` is 0 when the parser names none."""

    kind: str
    line: int
    message: str


class FileFacts(TypedDict):
    """What one file says about itself."""

    path: str
    """Relative to the root, with forward slashes."""
    module: str
    """The dotted name under which it is imported."""
    tests: bool
    """Whether it belongs to a test suite."""
    bytes: int
    lines: int
    error: ParseError | None
    """When set, all that follows is empty."""
    classes: int
    functions: int
    lengths: list[list[int]]
    """`[lines, how many functions]`, ascending."""
    depths: list[list[int]]
    """`[levels of control flow, how many functions]`, ascending."""
    longest: list[Ranked]
    deepest: list[Ranked]
    public: dict[str, int]
    """How many public modules, classes and functions there are, by kind."""
    documented: dict[str, int]
    """How many of those have a docstring, by kind."""
    undocumented: list[Ranked]
    """Public functions without one, the longest first; the value is their length in lines."""
    imports: dict[str, list[str]]
    """By when they happen (`load`, `deferred`, `never`): `module` or `module:name`, sorted."""
