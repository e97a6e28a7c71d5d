"""Conditions, and how any expression is computed: a parsed tree becomes closures over a `Scope`.

Pure. A condition (`run_if: "len(steps.a.output) > 0"`) is lenient: the output of a step that has none is
null, so is all below a null and an unset environment variable; ordering null with anything is False. Inside
`${...}` (see `references`) the same missing values are faults, unless `??` gives a default. A key that an
existing object does not have is a fault in both: it is a misspelling more often than an absence.
Invariant: evaluation raises nothing but `EvaluationError`, and never changes a value of the scope.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from codomyrmex.logistics.orchestration.project.expression_functions import (
    FUNCTIONS,
    EvaluationError,
    MissingValue,
    ReferenceFault,
    contains,
    kind,
    number,
    plain,
)
from codomyrmex.logistics.orchestration.project.expression_syntax import Node, Reference, parse
from codomyrmex.logistics.orchestration.project.expression_tokens import ExpressionError, nearest

__all__ = [
    "Condition",
    "EvaluationError",
    "ExpressionError",
    "MissingValue",
    "Reference",
    "ReferenceFault",
    "Scope",
    "compile_condition",
]


class Scope(Protocol):
    """What an expression may read. Values are JSON trees, tagged or not; they are never changed."""

    @property
    def parameters(self) -> Mapping[str, object]:
        """The run's parameters, bound and checked."""

    @property
    def run(self) -> Mapping[str, object]:
        """Facts about the run: `id` and its like."""

    @property
    def env(self) -> Mapping[str, str]:
        """The environment that a step of the run sees."""

    @property
    def item(self) -> object:
        """The element of a fan-out that this task is for; null elsewhere."""

    @property
    def index(self) -> int | None:
        """Its place in the fan-out, from 0."""

    @property
    def output(self) -> object:
        """What the step returned, or its item, that a compensation is to undo; null elsewhere."""

    def step(self, name: str, field: str) -> object:
        """The `output`, `status`, `error` or `errors` of a step; raises `MissingValue` if it has no output.

        `errors` is an object: the error of each failed item of a fan-out under its index as text.
        """


Evaluate = Callable[[Scope], Any]


class Condition:
    """A compiled condition; immutable, usable from several threads."""

    __slots__ = ("evaluate", "references", "text")

    evaluate: Evaluate
    references: frozenset[Reference]
    text: str

    def __init__(self, text: str, evaluate: Evaluate, references: frozenset[Reference]) -> None:
        self.text, self.evaluate, self.references = text, evaluate, references

    def __repr__(self) -> str:
        return f"Condition({self.text!r})"


def compile_condition(text: str) -> Condition:
    """Compile a condition; its value is what Python would give, so callers ask for its truth.

    The whole may be wrapped in `${...}`. Raises `ExpressionError`.
    """
    source = text
    if "${" in text:
        source, offset = _unwrapped(text)
    else:
        offset = 0
    try:
        parsed = parse(source, dialect="condition")
        _refuse_secrets(parsed.references)
        evaluate = generate(parsed.root, strict=False)
        if not parsed.references:
            evaluate = folded(evaluate)
    except ExpressionError as error:
        if error.column is not None:
            error.column += offset
        raise
    return Condition(text, evaluate, frozenset(parsed.references))


def _unwrapped(text: str) -> tuple[str, int]:
    whole = text.strip()
    if whole.startswith("${") and whole.endswith("}") and "${" not in whole[2:]:
        return whole[2:-1], text.index("${") + 2
    advice = "write steps.a.output.x > 0, not ${steps.a.output.x} > 0"
    raise ExpressionError("a condition is written without ${...}", text.index("${") + 1, advice)


def _refuse_secrets(references: tuple[Reference, ...]) -> None:
    for reference in references:
        if reference.root == "secrets":
            raise ExpressionError(
                f"a condition cannot read {reference.text}",
                advice="a secret goes to the worker only; test it inside the step",
            )


class _Nothing:
    """The scope of an expression without references."""

    __slots__ = ()


def folded(evaluate: Evaluate) -> Evaluate:
    """The same for an expression without references: computed now. Raises `ExpressionError`."""
    try:
        value = evaluate(_Nothing())  # type: ignore[arg-type]
    except EvaluationError as error:
        raise ExpressionError(error.message, advice=error.hint) from None
    return lambda scope: value


# -- from tree to closures


def generate(node: Node, *, strict: bool, tagged: bool = False) -> Evaluate:
    """The closure that computes a tree; strict where a missing value is a fault, as inside `${...}`.

    `tagged` passes a value that is only looked up on exactly as it is, its tag not read.
    """
    if node.kind == "reference":
        return reader(node.value, strict=strict, tagged=tagged)
    if node.kind == "default":
        *tried, last = node.operands
        first = [generate(operand, strict=True, tagged=tagged) for operand in tried]
        return _default(first, generate(last, strict=strict, tagged=tagged))
    operands = [generate(operand, strict=strict) for operand in node.operands]
    return _GENERATORS[node.kind](node, operands)


def _constant(node: Node, operands: list[Evaluate]) -> Evaluate:
    value = node.value
    return lambda scope: value


def _list(node: Node, operands: list[Evaluate]) -> Evaluate:
    return lambda scope: [operand(scope) for operand in operands]


def _and(node: Node, operands: list[Evaluate]) -> Evaluate:
    *first, last = operands

    def evaluate(scope: Scope) -> Any:
        for operand in first:
            if not (value := operand(scope)):
                return value
        return last(scope)

    return evaluate


def _or(node: Node, operands: list[Evaluate]) -> Evaluate:
    *first, last = operands

    def evaluate(scope: Scope) -> Any:
        for operand in first:
            if value := operand(scope):
                return value
        return last(scope)

    return evaluate


def _not(node: Node, operands: list[Evaluate]) -> Evaluate:
    (operand,) = operands
    return lambda scope: not operand(scope)


def _negate(node: Node, operands: list[Evaluate]) -> Evaluate:
    (operand,) = operands
    return lambda scope: -number(operand(scope), "-")


_ARITHMETIC: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


def _arithmetic(node: Node, operands: list[Evaluate]) -> Evaluate:
    left, right = operands
    symbol, compute = node.value, _ARITHMETIC[node.value]

    def evaluate(scope: Scope) -> Any:
        try:
            return number(compute(number(left(scope), symbol), number(right(scope), symbol)), symbol)
        except (ZeroDivisionError, OverflowError) as error:
            raise EvaluationError(f"{symbol!r}: {error}") from None

    return evaluate


def _default(tried: list[Evaluate], last: Evaluate) -> Evaluate:
    def evaluate(scope: Scope) -> Any:
        for operand in tried:
            try:
                if (value := operand(scope)) is not None:
                    return value
            except ReferenceFault:
                continue
        return last(scope)

    return evaluate


def _call(node: Node, operands: list[Evaluate]) -> Evaluate:
    function = FUNCTIONS[node.value][0]
    if len(operands) == 1:
        (operand,) = operands
        return lambda scope: function(operand(scope))
    return lambda scope: function(*[operand(scope) for operand in operands])


def _get(node: Node, operands: list[Evaluate]) -> Evaluate:
    base, key = operands
    place = node.operands[0].value if node.operands[0].kind == "reference" else None
    of_errors = place is not None and place.field == "errors" and not place.path

    def evaluate(scope: Scope) -> Any:
        value, wanted = base(scope), key(scope)
        if of_errors and type(wanted) is int:
            wanted = str(wanted)
        if value is None:
            raise ReferenceFault(f"[{wanted!r}]", "null has no fields")
        return plain(_element(value, wanted, f"[{wanted!r}]"))

    return evaluate


# -- comparisons


def _contained(item: Any, container: Any) -> bool:
    return contains(container, item)


_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": _contained,
    "not in": lambda item, container: not contains(container, item),
    "is": operator.is_,
    "is not": operator.is_not,
}


def _compare(node: Node, operands: list[Evaluate]) -> Evaluate:
    if len(operands) == 2:
        return _compare_two(node, operands)
    tests = [
        (symbol, _COMPARE[symbol], operand) for symbol, operand in zip(node.value, operands[1:], strict=True)
    ]
    first = operands[0]

    def evaluate(scope: Scope) -> bool:
        left = first(scope)
        for symbol, compare, operand in tests:
            right = operand(scope)
            try:
                if not compare(left, right):
                    return False
            except (TypeError, RecursionError):
                if not _unordered(symbol, left, right):
                    return False
            left = right
        return True

    return evaluate


def _compare_two(node: Node, operands: list[Evaluate]) -> Evaluate:
    symbol, compare = node.value[0], _COMPARE[node.value[0]]
    left, right = operands
    if node.operands[1].kind == "constant":
        constant = node.operands[1].value

        def against_constant(scope: Scope) -> bool:
            value = left(scope)
            try:
                return compare(value, constant)
            except (TypeError, RecursionError):
                return _unordered(symbol, value, constant)

        return against_constant

    def evaluate(scope: Scope) -> bool:
        one, other = left(scope), right(scope)
        try:
            return compare(one, other)
        except (TypeError, RecursionError):
            return _unordered(symbol, one, other)

    return evaluate


def _unordered(symbol: str, left: Any, right: Any) -> bool:
    """What an ordering of two values that have none is: False with null, else a fault."""
    if left is None or right is None:
        return False
    raise EvaluationError(f"{symbol!r} cannot compare {kind(left)} with {kind(right)}")


_GENERATORS: Final[dict[str, Callable[[Node, list[Evaluate]], Evaluate]]] = {
    "constant": _constant,
    "list": _list,
    "and": _and,
    "or": _or,
    "not": _not,
    "negate": _negate,
    "arithmetic": _arithmetic,
    "compare": _compare,
    "call": _call,
    "get": _get,
}


# -- references


def reader(reference: Reference, *, strict: bool, tagged: bool) -> Evaluate:
    """The closure that reads one place; `tagged` leaves the value exactly as the scope holds it."""
    text = f"${{{reference.text}}}"
    root, path = _root_reader(reference, text, strict=strict)
    if tagged and not path:
        return root

    def read_strictly(scope: Scope) -> Any:
        value = root(scope)
        for key in path:
            value = _element(value, key, text)
        return value if tagged else plain(value)

    def read_leniently(scope: Scope) -> Any:
        value = root(scope)
        for key in path:
            if value is None:
                return None
            value = _element(value, key, text)
        return plain(value)

    return read_strictly if strict else read_leniently


def _root_reader(reference: Reference, text: str, *, strict: bool) -> tuple[Evaluate, tuple[str | int, ...]]:
    """The closure that reads where a reference begins, and the path that is left from there."""
    root, path = reference.root, reference.path
    if root == "steps":
        if reference.field == "errors" and path:
            path = (str(path[0]), *path[1:])
        return _step_reader(str(reference.step), str(reference.field), text, strict=strict), path
    if root in ("item", "index", "output"):
        return operator.attrgetter(root), path
    if not path:
        return (lambda scope: dict(getattr(scope, root))), path
    return _named_reader(root, str(path[0]), text, strict=strict or root != "env"), path[1:]


def _step_reader(step: str, field: str, text: str, *, strict: bool) -> Evaluate:
    def read_strictly(scope: Scope) -> Any:
        try:
            return scope.step(step, field)
        except MissingValue as missing:
            raise ReferenceFault(text, missing.message) from None

    def read_leniently(scope: Scope) -> Any:
        try:
            return scope.step(step, field)
        except MissingValue:
            return None

    return read_strictly if strict else read_leniently


def _named_reader(root: str, name: str, text: str, *, strict: bool) -> Evaluate:
    whole = operator.attrgetter(root)

    def read_strictly(scope: Scope) -> Any:
        try:
            return whole(scope)[name]
        except KeyError:
            raise ReferenceFault(text, _absent(name, whole(scope))) from None

    def read_leniently(scope: Scope) -> Any:
        return whole(scope).get(name)

    return read_strictly if strict else read_leniently


def _element(value: Any, key: Any, text: str) -> Any:
    """What an object holds under a key, or a list at a place; raises `ReferenceFault`."""
    if type(value) is dict and "$type" in value:
        value = plain(value)
    if type(value) is dict:
        try:
            return value[key]
        except (KeyError, TypeError):
            raise ReferenceFault(text, _absent(key, value)) from None
    if type(value) in (list, tuple, range) and type(key) is int:
        try:
            return value[key]
        except IndexError:
            raise ReferenceFault(text, f"the list has {len(value)} elements, no [{key}]") from None
    raise ReferenceFault(text, f"{kind(value)} has no {key!r}")


def _absent(key: Any, whole: Mapping[Any, object]) -> str:
    """Why a key is not there, with what is."""
    names = [name for name in whole if type(name) is str]
    close = nearest(key, names[:1000]) if type(key) is str else None
    if close is not None:
        return f"there is no {key!r}; did you mean {close!r}?"
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"there is no {key!r}; there is {shown or 'nothing'}"
