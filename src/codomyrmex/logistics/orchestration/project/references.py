"""`${...}` in parameters: a tree of them becomes a `Template` that is filled from a `Scope`.

Pure. A text that is one `${...}` and nothing else keeps the type of its value; inside other text the value
is written as text (`expression_functions.as_text`); `$${` is a literal `${`. What is put in is never read
again, so a value that holds `${...}` stays as it is. A missing value is a `ReferenceFault`, unless `??` gives
a default. `${secrets.NAME}`, which may only stand whole, becomes the marker `{"$secret": NAME}` that the
worker alone replaces.
Invariant: a template never changes the tree it was made of; parts without references are shared, so treat
what `resolve` returns as read-only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from codomyrmex.logistics.orchestration.project.expression_functions import MAX_TEXT, EvaluationError, as_text
from codomyrmex.logistics.orchestration.project.expression_syntax import ROOTS, Expression, Reference, parse
from codomyrmex.logistics.orchestration.project.expression_tokens import ExpressionError
from codomyrmex.logistics.orchestration.project.expressions import Evaluate, Scope, folded, generate, reader

MAX_DEPTH: Final = 200
MARKER: Final = "$secret"  # the key of the object that stands for a secret until the worker has it
LEAST_TEXT: Final = 4096

Path = tuple[str | int, ...]
Collection = (dict, list, tuple)


class Template:
    """A compiled tree; immutable, usable from several threads.

    `secrets` are the names of those it needs: a worker must replace no other marker.
    """

    __slots__ = ("_fill", "_tree", "references")

    _fill: Evaluate | None
    _tree: Any
    references: frozenset[Reference]

    def __init__(self, tree: Any, fill: Evaluate | None, references: frozenset[Reference]) -> None:
        self._tree, self._fill, self.references = tree, fill, references

    @property
    def constant(self) -> bool:
        """Whether `resolve` needs no scope; it then returns the same tree each time."""
        return self._fill is None

    @property
    def fixed(self) -> Any:
        """The tree of a constant template, None of any other."""
        return self._tree if self.constant else None

    @property
    def secrets(self) -> frozenset[str]:
        return frozenset(str(each.path[0]) for each in self.references if each.root == "secrets")

    def resolve(self, scope: Scope) -> Any:
        """The tree with every reference replaced; raises `EvaluationError`."""
        fill = self._fill
        return self._tree if fill is None else fill(scope)

    def __repr__(self) -> str:
        return f"Template({self._tree!r})"


_NO_REFERENCES: Final[frozenset[Reference]] = frozenset()


def compile_template(tree: Any, *, faults: list[ExpressionError] | None = None) -> Template:
    """Compile a tree of parameters. Raises `ExpressionError` with the `path` of the text at fault.

    With `faults` every error is appended there instead, and the texts at fault stay as they are.
    """
    if not tree or not _has_marks(tree, MAX_DEPTH):
        return Template(tree, None, _NO_REFERENCES)
    return _Compiler(faults, as_value).template(tree)


def compile_environment(
    variables: Mapping[str, Any], *, faults: list[ExpressionError] | None = None
) -> Template:
    """The same for environment variables, whose values all become text (or the marker of a secret)."""
    tree = dict(variables)
    if all(type(value) is str for value in tree.values()) and not _has_marks(tree, MAX_DEPTH):
        return Template(tree, None, _NO_REFERENCES)
    return _Compiler(faults, as_text).template(tree)


def as_value(value: Any) -> Any:
    """The value of a whole `${...}` as a parameter: as it is, but a computed range is a list."""
    return list(value) if type(value) is range else value


def _has_marks(tree: Any, depth: int) -> bool:
    """Whether any text of a tree has a `${`, or any object a key that is ours."""
    if type(tree) is str:
        return "${" in tree
    if not isinstance(tree, Collection):
        return False
    if depth == 0:
        raise ExpressionError(f"the parameters nest deeper than {MAX_DEPTH} levels")
    if not isinstance(tree, dict):
        return any(_has_marks(value, depth - 1) for value in tree)
    for key, value in tree.items():
        kind = type(value)
        if kind is str:
            if "${" in value:
                return True
        elif value and isinstance(value, Collection) and _has_marks(value, depth - 1):
            return True
        if type(key) is str and ("${" in key or key == MARKER):
            return True
    return False


# A part of a compiled tree: how to fill it (None if it is constant), and its tree, or what is filled over.
_Part = tuple[Evaluate | None, Any]


class _Compiler:
    """Compiles one tree; `whole` turns the value of a text that is one `${...}` into what stands for it."""

    __slots__ = ("faults", "limit", "references", "whole")

    def __init__(self, faults: list[ExpressionError] | None, whole: Callable[[Any], Any]) -> None:
        self.faults, self.whole = faults, whole
        self.references: list[Reference] = []
        self.limit = _TextLimit()

    def template(self, tree: Any) -> Template:
        fill, value = self.tree(tree, ())
        self.limit.share()
        return Template(value, fill, frozenset(self.references) if self.references else _NO_REFERENCES)

    def tree(self, tree: Any, path: Path) -> _Part:
        if type(tree) is str:
            return self.text(tree, path) if "${" in tree else (None, tree)
        if isinstance(tree, Collection) and len(path) >= MAX_DEPTH:
            raise ExpressionError(f"the parameters nest deeper than {MAX_DEPTH} levels", path=path)
        if isinstance(tree, dict):
            return self.mapping(tree, path)
        if isinstance(tree, (list, tuple)):
            return self.sequence(tree, path)
        return None, tree if self.whole is as_value else self.whole(tree)

    def mapping(self, tree: dict[Any, Any], path: Path) -> _Part:
        filled: list[tuple[Any, Evaluate]] = []
        base: dict[Any, Any] = {}
        for key, value in tree.items():
            name = self.key(key, path)
            fill, base[name] = self.tree(value, (*path, key))
            if fill is not None:
                filled.append((name, fill))
        if not filled:
            return None, base
        if len(filled) == len(base):
            return (lambda scope: {name: fill(scope) for name, fill in filled}), base

        def fill_mapping(scope: Scope) -> dict[Any, Any]:
            found = base.copy()
            for name, fill in filled:
                found[name] = fill(scope)
            return found

        return fill_mapping, base

    def key(self, key: Any, path: Path) -> Any:
        if type(key) is not str:
            return key
        if key == MARKER:
            self.fault(ExpressionError(f"the key {key!r} is reserved", None, "write ${secrets.NAME}", path))
        if "${" in key.replace("$${", ""):
            advice = "only values are replaced; build an object with computed keys in a step"
            self.fault(ExpressionError("a key cannot hold a reference", None, advice, (*path, key)))
            return key
        return key.replace("$${", "${")

    def sequence(self, tree: list[Any] | tuple[Any, ...], path: Path) -> _Part:
        filled: list[tuple[int, Evaluate]] = []
        base: list[Any] = []
        for index, element in enumerate(tree):
            fill, value = self.tree(element, (*path, index))
            base.append(value)
            if fill is not None:
                filled.append((index, fill))
        form = tuple if isinstance(tree, tuple) else list
        if not filled:
            return None, form(base)

        def fill_sequence(scope: Scope) -> Any:
            found = base.copy()
            for index, fill in filled:
                found[index] = fill(scope)
            return found if form is list else form(found)

        return fill_sequence, base

    def fault(self, error: ExpressionError) -> None:
        if self.faults is None:
            raise error
        self.faults.append(error)

    def text(self, text: str, path: Path) -> _Part:
        try:
            return self.pieces(split_text(text), text)
        except ExpressionError as error:
            error.path = path
            self.fault(error)
            return None, text

    def pieces(self, pieces: list[Piece], text: str) -> _Part:
        if len(pieces) == 1:
            (piece,) = pieces
            return (None, piece) if isinstance(piece, str) else self.alone(parse_inside(piece), text)
        parts: list[str | Evaluate] = []
        references: list[Reference] = []
        for piece in pieces:
            if isinstance(piece, str):
                parts.append(piece)
                continue
            expression = parse_inside(piece)
            if any(reference.root == "secrets" for reference in expression.references):
                raise _misplaced_secret(piece[1] + 1)
            references.extend(expression.references)
            compute = generate(expression.root, strict=True)
            parts.append(compute if expression.references else as_text(folded(compute)(_NO_SCOPE)))
        if not references:
            return None, "".join(part for part in parts if isinstance(part, str))
        self.references.extend(references)
        self.limit.texts += 1
        return _joined(tuple(parts), self.limit), text

    def alone(self, expression: Expression, text: str) -> _Part:
        """A text that is one `${...}`: a pure look-up passes its value on exactly as it is."""
        root, references = expression.root, expression.references
        self.references.extend(references)
        if any(reference.root == "secrets" for reference in references):
            if root.kind != "reference":
                raise _misplaced_secret(text.index("secrets") + 1)
            return None, {MARKER: references[0].path[0]}
        if root.kind == "reference" and self.whole is as_value:
            return reader(root.value, strict=True, tagged=True), text
        compute, whole = generate(root, strict=True, tagged=True), self.whole
        if not references:
            return None, whole(folded(compute)(_NO_SCOPE))
        return (lambda scope: whole(compute(scope))), text


class _TextLimit:
    """How many characters may be put into one text of a template: together they share `MAX_TEXT`."""

    __slots__ = ("characters", "texts")

    def __init__(self) -> None:
        self.texts, self.characters = 0, MAX_TEXT

    def share(self) -> None:
        self.characters = max(LEAST_TEXT, MAX_TEXT // max(1, self.texts))


# -- one text

Piece = str | tuple[str, int]  # a literal, or the inside of a ${...} and where it begins
_NO_SCOPE: Final[Any] = None


@cache
def _marks() -> re.Pattern[str]:
    """`$${`, or a whole `${...}`: a brace ends it that is neither quoted nor half of an empty object."""
    inside = r"(?:[^{}'\"]|'(?:[^'\\\n]|\\.)*+'|\"(?:[^\"\\\n]|\\.)*+\"|\{\s*+\})*+"
    return re.compile(rf"\$\$\{{|\$\{{(?P<inside>{inside})\}}|(?P<open>\$\{{)")


def split_text(text: str) -> list[Piece]:
    """A text as literals and `${...}` in order. Raises `ExpressionError`."""
    pieces: list[Piece] = []
    literal, at = "", 0
    for match in _marks().finditer(text):
        literal += text[at : match.start()]
        at = match.end()
        if match["open"] is not None:
            raise _unclosed(match.start())
        if match["inside"] is None:
            literal += "${"
            continue
        if literal:
            pieces.append(literal)
            literal = ""
        pieces.append((match["inside"], match.start("inside")))
    literal += text[at:]
    if literal or not pieces:
        pieces.append(literal)
    return pieces


def piece_at(text: str, at: int) -> tuple[tuple[str, int], int]:
    """The `${...}` that begins at a place, and where it ends. Raises `ExpressionError`."""
    match = _marks().match(text, at)
    if match is None or match["inside"] is None:
        raise _unclosed(at)
    return (match["inside"], match.start("inside")), match.end()


def _unclosed(at: int) -> ExpressionError:
    return ExpressionError(
        "'${' is never closed", at + 1, "close it with '}'; a literal '${' is written '$${'"
    )


def parse_inside(piece: tuple[str, int]) -> Expression:
    """The parsed inside of a `${...}`; columns count from the beginning of the text around it."""
    source, offset = piece
    try:
        return parse(source, dialect="reference")
    except ExpressionError as error:
        if error.column is not None:
            error.column += offset
        raise


def _joined(parts: tuple[str | Evaluate, ...], limit: _TextLimit) -> Evaluate:
    def fill(scope: Scope) -> str:
        found: list[str] = []
        left = limit.characters
        for part in parts:
            if isinstance(part, str):
                found.append(part)
                continue
            text = as_text(part(scope))
            left -= len(text)
            if left < 0:
                raise EvaluationError(
                    f"what is put into one text is longer than {limit.characters:,} characters",
                    hint="hand the value over whole, or as a file",
                )
            found.append(text)
        return "".join(found)

    return fill


def _misplaced_secret(column: int) -> ExpressionError:
    return ExpressionError(
        "a secret may only be the whole of a parameter",
        column,
        "pass ${secrets.NAME} alone, as a parameter or in env, and join it inside the step",
    )


# -- old files


@cache
def _old_marks() -> re.Pattern[str]:
    return re.compile(r"\{\{\s*+([A-Za-z_][\w-]*+(?:\.[A-Za-z_][\w-]*+|\[\d++\])*+)\s*+\}\}")


def modernise(text: str) -> str:
    """`{{x.output.y}}` of old files as `${steps.x.output.y}`; `{{x}}` was a parameter."""
    return _old_marks().sub(_modern, text) if "{{" in text else text


def _modern(match: re.Match[str]) -> str:
    head, dot, rest = match[1].partition(".")
    if head in ROOTS and head != "output" and (dot or head in ("item", "index")):
        return f"${{{match[1]}}}"
    if head == "params":
        return f"${{parameters.{rest}}}"
    if not dot:
        return f"${{parameters.{head}}}"
    field = re.match(r"[\w-]+", rest)
    if field is not None and field[0] == "result":
        rest = "output" + rest[len("result") :]
    elif field is None or field[0] not in ("output", "status", "error"):
        rest = f"output.{rest}"
    return f"${{steps.{head}.{rest}}}"
