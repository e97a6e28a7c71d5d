"""The expressions of GitHub Actions: read into a tree, and folded as far as their values are known.

Layer: pure. What an import can know (the matrix, constants, the name of the job) is computed here, with the
comparisons of the original: texts are equal whatever their case, null, false and '' are false. What only a
run can know stays in the tree.
Source: https://docs.github.com/actions/reference/workflows-and-actions/expressions
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

MAX_SOURCE = 21_000
MAX_DEPTH = 50
STATUS_FUNCTIONS = frozenset({"success", "failure", "always", "cancelled"})
_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?(?:0x[0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?))"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_-]*)|(?P<sign>&&|\|\||==|!=|<=|>=|[!<>()\[\].,*]))"
)
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}


class UnreadableExpression(Exception):
    """A text that is no expression of GitHub Actions."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A node: `constant` (value), `context` (value: its path), `call` (value: its name), `index`, `not`, or an
    operator in `kind`; `source` is how it was written."""

    kind: str
    value: Any = None
    operands: tuple[Expression, ...] = ()
    source: str = ""

    @property
    def known(self) -> bool:
        return self.kind == "constant"


Known = Callable[[tuple[str, ...]], Expression | None]


def constant(value: Any) -> Expression:
    """A node that is a value."""
    return Expression("constant", value)


def parse(source: str) -> Expression:
    """The tree of what stands between `${{` and `}}`."""
    if len(source) > MAX_SOURCE:
        raise UnreadableExpression("it is too long")
    parser = _Parser(source)
    found = parser.binary(0)
    if parser.sign:
        raise UnreadableExpression(f"{parser.sign!r} is not expected")
    return found


_LEVELS = (("||",), ("&&",), ("==", "!="), ("<", "<=", ">", ">="))


class _Parser:
    def __init__(self, source: str) -> None:
        self.source, self.at, self.depth = source, 0, 0
        self.start, self.kind, self.sign = 0, "", ""
        self.next()

    def next(self) -> None:
        """On to the next token; `sign` is empty at the end."""
        self.before = self.at
        match = _TOKEN.match(self.source, self.at)
        if match is None:
            if self.source[self.at :].strip():
                raise UnreadableExpression(f"{self.source[self.at :].strip()[:20]!r} is not expected")
            self.kind, self.sign, self.start = "", "", len(self.source)
            return
        self.kind = str(match.lastgroup)
        self.sign, self.start, self.at = match[self.kind], match.start(self.kind), match.end()

    def take(self, sign: str) -> None:
        if self.sign != sign:
            raise UnreadableExpression(f"{sign!r} is missing")
        self.next()

    def binary(self, level: int) -> Expression:
        self.depth += 1
        if self.depth > MAX_DEPTH * len(_LEVELS):
            raise UnreadableExpression("it is nested too deep")
        start = self.start
        left = self.unary() if level == len(_LEVELS) else self.binary(level + 1)
        while level < len(_LEVELS) and self.kind == "sign" and self.sign in _LEVELS[level]:
            operator = self.sign
            self.next()
            right = self.binary(level + 1)
            left = Expression(operator, None, (left, right), self.source[start : self.before].strip())
        self.depth -= 1
        return left

    def unary(self) -> Expression:
        start, count = self.start, 0
        while self.sign == "!" and self.kind == "sign":
            count += 1
            self.next()
        found = self.postfix()
        for _ in range(count):
            found = Expression("not", None, (found,), self.source[start : self.before].strip())
        return found

    def postfix(self) -> Expression:
        start, found = self.start, self.primary()
        while self.kind == "sign" and self.sign in (".", "["):
            dot = self.sign == "."
            self.next()
            if dot:
                if self.kind != "name" and self.sign != "*":
                    raise UnreadableExpression("a name is missing behind the dot")
                key = constant(self.sign)
                self.next()
            else:
                key = self.binary(0)
                self.take("]")
            source = self.source[start : self.before].strip()
            if found.kind == "context" and key.known and isinstance(key.value, str) and key.value != "*":
                found = Expression("context", (*found.value, key.value), (), source)
            else:
                found = Expression("index", None, (found, key), source)
        return found

    def primary(self) -> Expression:
        kind, sign, start = self.kind, self.sign, self.start
        self.next()
        if kind == "text":
            return constant(sign[1:-1].replace("''", "'"))
        if kind == "number":
            return constant(int(sign, 0) if re.fullmatch(r"-?\d+|-?0x\w+", sign) and not re.match(
                r"-?0\d", sign) else float(sign))  # fmt: skip
        if kind == "sign" and sign == "(":
            found = self.binary(0)
            self.take(")")
            return found
        if kind != "name":
            raise UnreadableExpression(f"{sign!r} is not expected" if sign else "it ends too early")
        if self.sign == "(":
            return self.call(sign.lower(), start)
        word = sign.lower()
        return constant(_WORDS[word]) if word in _WORDS else Expression("context", (word,), (), sign)

    def call(self, name: str, start: int) -> Expression:
        self.next()
        arguments = []
        while self.sign != ")":
            arguments.append(self.binary(0))
            if self.sign != ")":
                self.take(",")
        self.next()
        return Expression("call", name, tuple(arguments), self.source[start : self.before].strip())


def fold(tree: Expression, known: Known) -> Expression:
    """The tree with everything computed that can be; `known` gives what stands for a context, or None."""
    if tree.kind == "constant":
        return tree
    if tree.kind == "context":
        return known(tree.value) or tree
    operands = tuple(fold(each, known) for each in tree.operands)
    made = Expression(tree.kind, tree.value, operands, tree.source)
    if tree.kind in ("&&", "||"):
        return _fold_logic(made)
    if all(each.known for each in operands):
        values = [each.value for each in operands]
        if tree.kind == "not":
            return constant(not values[0])
        if tree.kind in ("==", "!="):
            return constant(equal(*values) == (tree.kind == "=="))
        if tree.kind == "call" and tree.value in _FUNCTIONS:
            try:
                return constant(_FUNCTIONS[tree.value](*values))
            except (TypeError, ValueError, IndexError):
                return made
    return made


def _fold_logic(tree: Expression) -> Expression:
    """`a && b` is b where a is true, else a, as `and` of Python; `||` likewise."""
    left, right = tree.operands
    if left.known:
        return right if bool(left.value) == (tree.kind == "&&") else left
    if right.known and isinstance(right.value, bool) and right.value == (tree.kind == "&&"):
        return left
    return tree


def equal(left: Any, right: Any) -> bool:
    """Equality of the original: texts whatever their case, different kinds as numbers."""
    if isinstance(left, str) and isinstance(right, str):
        return left.casefold() == right.casefold()
    if type(left) is type(right) or isinstance(left, (dict, list)) or isinstance(right, (dict, list)):
        return bool(left == right)
    return _number(left) == _number(right)


def _number(value: Any) -> float:
    if value is None or value == "":
        return 0.0
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def text_of(value: Any) -> str:
    """A value as text, as the original writes it into a command."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return str(value)


def _contains(search: Any, item: Any) -> bool:
    if isinstance(search, list):
        return any(equal(each, item) for each in search)
    return text_of(item).casefold() in text_of(search).casefold()


def _format(pattern: str, *values: Any) -> str:
    def put(match: re.Match[str]) -> str:
        return text_of(values[int(match[1])]) if match[1] else match[0][0]

    return re.sub(r"\{\{|\}\}|\{(\d+)\}", put, pattern)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "contains": _contains,
    "startswith": lambda text, part: text_of(text).casefold().startswith(text_of(part).casefold()),
    "endswith": lambda text, part: text_of(text).casefold().endswith(text_of(part).casefold()),
    "format": _format,
    "join": lambda items, by=",": text_of(by).join(map(text_of, items)),
    "tojson": lambda value: json.dumps(value, indent=2),
    "fromjson": json.loads,
}


def walk(tree: Expression) -> Iterator[Expression]:
    """Every node of a tree."""
    left = [tree]
    while left:
        node = left.pop()
        yield node
        left += node.operands


def pieces(text: str) -> Iterator[str | Expression]:
    """A text cut at its `${{ }}`: plain text, and the tree of each expression."""
    at = 0
    while (start := text.find("${{", at)) >= 0:
        end = _end_of(text, start + 3)
        if at < start:
            yield text[at:start]
        yield parse(text[start + 3 : end])
        at = end + 2
    if at < len(text):
        yield text[at:]


def _end_of(text: str, at: int) -> int:
    """Where the `}}` stands that ends an expression; one inside a text in quotes does not."""
    match = re.compile(r"(?:'(?:[^']|'')*'|(?!\}\})[^'])*+").match(text, at)
    end = match.end() if match is not None else at
    if not text.startswith("}}", end):
        raise UnreadableExpression("`${{` is not closed")
    return end
