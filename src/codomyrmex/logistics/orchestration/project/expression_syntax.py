"""The grammar of conditions and of what stands inside `${...}`: a small parser, its tree and its limits.

Pure. The language is a subset of Python's expressions plus `??`; nothing in it can loop, assign, reach an
attribute of an object or call anything but the named functions. By rising strength:

    or · and · not · < <= == != >= > in, not in, is (chained) · + - · * / · unary - · ?? · a.b a[0] f(x)

Invariants: a source of more than `MAX_SOURCE` characters, `MAX_NODES` nodes or `MAX_DEPTH` levels is refused,
so that time and stack are bounded before anything is evaluated. Columns are 1-based.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from math import inf
from typing import Any, Final

from codomyrmex.logistics.orchestration.project.expression_functions import FUNCTIONS, MAX_INTEGER
from codomyrmex.logistics.orchestration.project.expression_tokens import (
    FOREIGN,
    ExpressionError,
    Token,
    nearest,
    tokens,
    unquoted,
)

MAX_SOURCE: Final = 1024
MAX_NODES: Final = 200
MAX_DEPTH: Final = 20
MAX_CALLS: Final = 32
MAX_COSTLY_CALLS: Final = 4  # of these four, which make a new collection or a long text out of any data

ROOTS: Final = ("parameters", "steps", "run", "item", "index", "output", "env", "secrets")
FIELDS: Final = ("output", "status", "error", "errors")

_COSTLY: Final = frozenset({"range", "sorted", "join", "str"})
_CONSTANTS: Final = {"null": None, "None": None, "true": True, "True": True, "false": False, "False": False}
_KEYWORDS: Final = frozenset({"and", "or", "not", "in", "is"})
_COMPARISONS: Final = frozenset({"<", "<=", "==", "!=", ">=", ">"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One place that an expression reads; `path` begins after the step's field, or after the root.

    `text` is how the source wrote it; `has_default` is True left of `??`.
    """

    root: str
    step: str | None = None
    field: str | None = None
    path: tuple[str | int, ...] = ()
    has_default: bool = False
    text: str = ""


@dataclass(slots=True, kw_only=True)
class Node:
    """One node of the tree: `kind` names the rule, `value` is its constant, reference, operator or name."""

    kind: str
    value: Any = None
    operands: tuple[Node, ...] = ()


@dataclass(slots=True, kw_only=True)
class Expression:
    """A parsed source."""

    text: str
    root: Node
    references: tuple[Reference, ...]


def parse(text: str, *, dialect: str) -> Expression:
    """Read one expression; `dialect` is `condition` or `reference` (names after a dot may hold dashes).

    Raises `ExpressionError`.
    """
    if len(text) > MAX_SOURCE:
        raise ExpressionError(
            f"an expression has at most {MAX_SOURCE:,} characters, got {len(text):,}",
            advice="compute it in a step and refer to the step's output",
        )
    if dialect == "reference":
        match = _plain().fullmatch(text)
        expression = None if match is None else _looked_up(text, match)
        if expression is not None:
            return expression
    if not text.strip():
        raise ExpressionError("the expression is empty", 1)
    parser = _Parser(text, tokens(text, dialect=dialect))
    root = parser.whole()
    return Expression(text=text, root=root, references=tuple(parser.references))


_NAME: Final = r"(?!__)[A-Za-z_][A-Za-z0-9_]*+(?:-[A-Za-z0-9_]++)*+"


@cache
def _plain() -> re.Pattern[str]:
    """Most references by far: a root, then names and places. What it does not match is parsed."""
    step = rf"steps\.(?P<step>{_NAME})\.(?P<field>output|errors?)"
    return re.compile(
        rf"\s*+(?P<text>(?:{step}|(?P<root>parameters|item|output))(?P<path>(?:\.{_NAME}|\[[0-9]{{1,9}}\])*+))\s*+"
    )


def _looked_up(text: str, match: re.Match[str]) -> Expression | None:
    """The same tree that the parser would make, at a third of its time."""
    found, step, field, root, rest = match.group("text", "step", "field", "root", "path")
    path: tuple[str | int, ...] = ()
    if rest:
        names = rest.replace("[", ".").replace("]", "").split(".")
        path = tuple([int(name) if name[0].isdigit() else name for name in names[1:]])
    if root == "parameters" and path and type(path[0]) is int:
        return None
    reference = Reference(root=root or "steps", step=step, field=field, path=path, text=found)
    return Expression(text=text, root=Node(kind="reference", value=reference), references=(reference,))


class _Parser:
    """Recursive descent, one method a level; counts what it makes against the limits."""

    __slots__ = ("at", "calls", "costly", "depth", "nodes", "references", "text", "token", "tokens")

    def __init__(self, text: str, tokens: list[Token]) -> None:
        self.text, self.tokens = text, tokens
        self.at = self.nodes = self.depth = self.calls = self.costly = 0
        self.token = tokens[0]
        self.references: list[Reference] = []

    def whole(self) -> Node:
        root = self.either()
        if self.token.rule != "end":
            raise self.unexpected()
        return root

    # -- the tokens

    def advance(self) -> Token:
        token = self.token
        self.at += 1
        self.token = self.tokens[self.at]
        return token

    def takes(self, text: str) -> bool:
        """Step over an operator or a keyword if it is the next token."""
        token = self.token
        if token.text != text or token.rule not in ("operator", "name"):
            return False
        self.advance()
        return True

    def expect(self, text: str, why: str) -> None:
        if not self.takes(text):
            raise ExpressionError(f"expected {text!r} {why}", self.token.start + 1)

    def unexpected(self) -> ExpressionError:
        token = self.token
        if token.rule == "end":
            return ExpressionError("the expression breaks off", token.start + 1)
        if token.text in ("//", "**", "{", "}"):
            return ExpressionError(
                f"{token.text!r} is not supported", token.start + 1, "use + - * / on numbers"
            )
        message = f"unexpected {self.text[token.start : token.end]!r}"
        return ExpressionError(message, token.start + 1, FOREIGN.get(token.text))

    # -- the nodes

    def node(self, kind: str, value: Any = None, operands: tuple[Node, ...] = ()) -> Node:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise ExpressionError(f"the expression has more than {MAX_NODES} parts", self.token.start + 1)
        return Node(kind=kind, value=value, operands=operands)

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ExpressionError(
                f"the expression nests deeper than {MAX_DEPTH} levels", self.token.start + 1
            )

    # -- the levels, weakest first

    def either(self) -> Node:
        operands = [self.both()]
        while self.takes("or"):
            operands.append(self.both())
        return operands[0] if len(operands) == 1 else self.node("or", operands=tuple(operands))

    def both(self) -> Node:
        operands = [self.inverted()]
        while self.takes("and"):
            operands.append(self.inverted())
        return operands[0] if len(operands) == 1 else self.node("and", operands=tuple(operands))

    def inverted(self) -> Node:
        if not self.takes("not"):
            return self.comparison()
        self.deeper()
        operand = self.inverted()
        self.depth -= 1
        return self.node("not", operands=(operand,))

    def comparison(self) -> Node:
        operands, operators = [self.added()], []
        while (operator := self.comparator()) is not None:
            operands.append(self.added())
            operators.append(operator)
            if operator.startswith("is") and not _is_constant(operands[-1]):
                raise ExpressionError(
                    "'is' compares with null, true or false only",
                    self.token.start + 1,
                    "use == for other values",
                )
        return self.node("compare", tuple(operators), tuple(operands)) if operators else operands[0]

    def comparator(self) -> str | None:
        token = self.token
        if token.rule == "operator" and token.text in _COMPARISONS:
            return self.advance().text
        if self.takes("in"):
            return "in"
        if self.takes("is"):
            return "is not" if self.takes("not") else "is"
        if token.rule == "name" and token.text == "not":
            self.advance()
            self.expect("in", "after 'not'")
            return "not in"
        return None

    def added(self) -> Node:
        return self.arithmetic(("+", "-"), self.multiplied)

    def multiplied(self) -> Node:
        return self.arithmetic(("*", "/"), self.signed)

    def arithmetic(self, operators: tuple[str, str], operand: Callable[[], Node]) -> Node:
        left = operand()
        while self.token.rule == "operator" and self.token.text in operators:
            operator = self.advance().text
            left = self.node("arithmetic", operator, (left, operand()))
        return left

    def signed(self) -> Node:
        if not self.takes("-"):
            return self.defaulted()
        self.deeper()
        operand = self.signed()
        self.depth -= 1
        if operand.kind == "constant" and type(operand.value) in (int, float):
            operand.value = -operand.value
            return operand
        return self.node("negate", operands=(operand,))

    def defaulted(self) -> Node:
        first = len(self.references)
        operands = [self.postfix()]
        while self.token.text == "??" and self.token.rule == "operator":
            self.advance()
            for place in range(first, len(self.references)):
                self.references[place] = replace(self.references[place], has_default=True)
            first = len(self.references)
            operands.append(self.negative() or self.postfix())
        return operands[0] if len(operands) == 1 else self.node("default", operands=tuple(operands))

    def negative(self) -> Node | None:
        """A negative number right of `??`, if that is what stands there."""
        number = self.tokens[self.at + 1] if self.token.text == "-" else self.token
        if self.token.rule != "operator" or number.rule != "number":
            return None
        self.advance()
        return self.node("constant", -_number(self.advance()))

    def postfix(self) -> Node:
        found = self.primary()
        while True:
            if self.token.rule == "member":
                key = self.node("constant", self.member())
            elif self.token.rule == "operator" and self.token.text == "[":
                key = self.subscript()
            elif self.token.rule == "operator" and self.token.text == "(":
                raise ExpressionError(
                    "only the named functions can be called",
                    self.token.start + 1,
                    f"they are {', '.join(FUNCTIONS)}",
                )
            else:
                return found
            found = self.node("get", operands=(found, key))

    def member(self) -> str:
        token = self.advance()
        if token.text.startswith("__"):
            raise ExpressionError(f"{token.text!r} is not a field of any value", token.start + 1)
        return token.text

    def subscript(self) -> Node:
        self.advance()
        self.deeper()
        key = self.either()
        self.depth -= 1
        self.expect("]", "after the key")
        return key

    def primary(self) -> Node:
        token = self.token
        if token.rule == "step":
            self.advance()
            return self.step(token.text, token)
        if token.rule == "number":
            self.advance()
            return self.node("constant", _number(token))
        if token.rule == "string":
            self.advance()
            return self.node("constant", unquoted(token.text))
        if token.rule == "name" and token.text not in _KEYWORDS:
            return self.named(self.advance())
        if token.rule == "operator" and token.text in "([{":
            return self.bracketed(self.advance())
        raise self.unexpected()

    def bracketed(self, token: Token) -> Node:
        if token.text == "{":
            self.expect("}", "(the empty object is the only one that can be written here)")
            return self.node("constant", {})
        if token.text == "[":
            return self.listed(self.elements("]"))
        elements = self.elements(")", parenthesis=token)
        if len(elements) == 1 and self.tokens[self.at - 2].text != ",":
            return elements[0]
        return self.listed(elements)

    def listed(self, elements: tuple[Node, ...]) -> Node:
        if all(element.kind == "constant" for element in elements):
            return self.node("constant", [element.value for element in elements])
        return self.node("list", operands=elements)

    def elements(self, closing: str, parenthesis: Token | None = None) -> tuple[Node, ...]:
        """What stands up to the closing bracket, separated by commas."""
        self.deeper()
        found: list[Node] = []
        while not self.takes(closing):
            if found:
                self.expect(",", f"or {closing!r}")
                if self.takes(closing):
                    break
            found.append(self.either())
        self.depth -= 1
        if parenthesis is not None and not found:
            raise ExpressionError("nothing stands between the parentheses", parenthesis.start + 1)
        return tuple(found)

    # -- names

    def named(self, token: Token) -> Node:
        name = token.text
        if self.token.rule == "operator" and self.token.text == "(":
            return self.call(token)
        if name in _CONSTANTS:
            return self.node("constant", _CONSTANTS[name])
        if name == "steps":
            return self.step(self.step_name(token), token)
        if name in ROOTS:
            return self.reference(name, None, None, token)
        raise _unknown_name(token)

    def call(self, token: Token) -> Node:
        if token.text not in FUNCTIONS:
            raise _unknown_function(token)
        self.advance()
        arguments = self.elements(")")
        self.calls += 1
        self.costly += token.text in _COSTLY
        if self.calls > MAX_CALLS or self.costly > MAX_COSTLY_CALLS:
            raise ExpressionError(
                f"an expression makes at most {MAX_CALLS} calls, {MAX_COSTLY_CALLS} of them of "
                f"{', '.join(sorted(_COSTLY))}",
                token.start + 1,
                "compute it in a step and refer to the step's output",
            )
        _, fewest, most = FUNCTIONS[token.text]
        if not fewest <= len(arguments) <= most:
            wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
            raise ExpressionError(
                f"{token.text}() takes {wanted} arguments, got {len(arguments)}", token.start + 1
            )
        return self.node("call", token.text, arguments)

    def step_name(self, token: Token) -> str:
        """The name after `steps`, when it is not followed by a field (a fault) or stands in brackets."""
        if self.token.rule == "operator" and self.token.text == "[":
            key = self.subscript()
            if key.kind == "constant" and type(key.value) is str:
                return key.value
            raise ExpressionError(
                "a step is named by a constant text", token.start + 1, "steps['build'].output"
            )
        if self.token.rule == "member":
            name = self.member()
            raise ExpressionError(
                f"steps.{name} must be followed by .output, .status, .error or .errors",
                token.start + 1,
                f"steps.{name}.output; a name with dots or dashes is written steps['the-name'].output",
            )
        raise ExpressionError("the name of a step must follow", token.start + 1, "steps.NAME.output")

    def step(self, name: str, token: Token) -> Node:
        field = self.member() if self.token.rule == "member" else ""
        if field not in FIELDS:
            raise ExpressionError(
                f"steps.{name} must be followed by .output, .status, .error or .errors",
                token.start + 1,
                f"steps.{name}.output.{field}" if field else f"steps.{name}.output",
            )
        return self.reference("steps", name, field, token)

    def reference(self, root: str, step: str | None, field: str | None, token: Token) -> Node:
        path = self.literal_path()
        start = token.start - (len("steps.") if token.rule == "step" else 0)
        text = self.text[start : self.tokens[self.at - 1].end]
        _check_path(root, field, path, token)
        found = Reference(root=root, step=step, field=field, path=path, text=text)
        self.references.append(found)
        return self.node("reference", found)

    def literal_path(self) -> tuple[str | int, ...]:
        """The constant keys that follow; stops before one that must be computed."""
        path: list[str | int] = []
        while True:
            if self.token.rule == "member":
                path.append(self.member())
                continue
            key = self.literal_key()
            if key is None:
                return tuple(path)
            path.append(key)

    def literal_key(self) -> str | int | None:
        if self.token.text != "[" or self.token.rule != "operator":
            return None
        at = self.at + 1
        negative = self.tokens[at].rule == "operator" and self.tokens[at].text == "-"
        key, closing = self.tokens[at + negative], self.tokens[min(at + negative + 1, len(self.tokens) - 1)]
        if closing.text != "]" or closing.rule != "operator":
            return None
        if key.rule == "string" and not negative:
            found: str | int = unquoted(key.text)
        elif key.rule == "number" and key.text.isdigit() and len(key.text) <= 18:
            found = -int(key.text) if negative else int(key.text)
        else:
            return None
        self.at += 2 + negative
        self.advance()
        return found


def _check_path(root: str, field: str | None, path: tuple[str | int, ...], token: Token) -> None:
    """Refuse a reference that can lead nowhere whatever the values are."""
    if root == "index" and path:
        raise ExpressionError("index is a number; it has no fields", token.start + 1)
    if field == "status" and path:
        raise ExpressionError("the status of a step is text; it has no fields", token.start + 1)
    if root in ("env", "secrets") and len(path) != 1:
        raise ExpressionError(f"{root} must be followed by one name", token.start + 1, f"{root}.NAME")
    if root in ("env", "secrets", "parameters", "run") and path and type(path[0]) is not str:
        raise ExpressionError(
            f"{root} is followed by a name, not by a number", token.start + 1, f"{root}.NAME"
        )


def _number(token: Token) -> int | float:
    found = int(token.text) if token.text.isdigit() else float(token.text)
    if not -MAX_INTEGER <= found <= MAX_INTEGER and (type(found) is int or found in (inf, -inf)):
        raise ExpressionError("the number is too large", token.start + 1)
    return found


def _is_constant(node: Node) -> bool:
    return node.kind == "constant" and (node.value is None or type(node.value) is bool)


def _unknown_name(token: Token) -> ExpressionError:
    close = nearest(token.text, (*ROOTS, "null", "true", "false"))
    advice = f"did you mean {close!r}? " if close else ""
    return ExpressionError(
        f"unknown name {token.text!r}",
        token.start + 1,
        f"{advice}Text is quoted: '{token.text}'; values begin with {', '.join(ROOTS)}",
    )


def _unknown_function(token: Token) -> ExpressionError:
    close = nearest(token.text, FUNCTIONS)
    advice = f"did you mean {close!r}? " if close else ""
    return ExpressionError(
        f"unknown function {token.text!r}", token.start + 1, f"{advice}There are {', '.join(FUNCTIONS)}"
    )
