"""What a condition may say, what it is worth, and what is refused where."""

from __future__ import annotations

import math
import operator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_scope import SampleScope

from codomyrmex.logistics.orchestration.project.expression_syntax import MAX_CALLS, MAX_DEPTH, MAX_SOURCE
from codomyrmex.logistics.orchestration.project.expressions import (
    EvaluationError,
    ExpressionError,
    ReferenceFault,
    compile_condition,
)

SCOPE = SampleScope()

WORTH: list[tuple[str, Any]] = [
    # references
    ("steps.build.output.count", 5),
    ("steps.build.output.files[0]", "p"),
    ("steps.build.output.files[-1]", "q"),
    ("steps.build.output.nested.a[0].b", 1),
    ("steps['build'].output['count']", 5),
    ("steps['build-wheel'].output.path", "dist/x.whl"),
    ("steps.build-wheel.output['a-b']", 7),
    ("steps.build.status == 'completed'", True),
    ("steps.gone.status", "skipped"),
    ("steps.build.error is null", True),
    ("steps.gone.error.type == 'ValueError'", True),
    ("len(steps.build.errors)", 1),
    ("steps.build.errors[index].type == 'ValueError'", True),
    ("'3' in steps.build.errors", True),
    ("len(steps.gone.errors)", 0),
    ("output.id + 1", 10),
    ("parameters.x", 1),
    ("parameters['a-b']", 4),
    ("run.id", "r1"),
    ("env.HOME", "/root"),
    ("item.list[1]", 2),
    ("index", 3),
    ("item.list[index - 2]", 2),
    ("steps.build.output[item.name ?? 'x'] ?? 1", 1),
    ("parameters.list[item.list[0]]", 1),
    ("${steps.build.output.count > 3}", True),
    # missing values
    ("steps.gone.output", None),
    ("steps.gone.output.a.b[0]", None),
    ("steps.build.output.none.deeper", None),
    ("len(steps.gone.output)", 0),
    ("len(steps.gone.output) > 0", False),
    ("steps.gone.output.count > 0", False),
    ("steps.gone.output.count <= 0", False),
    ("1 < steps.gone.output < 3", False),
    ("env.UNSET", None),
    ("env.UNSET == 'x'", False),
    ("any(steps.gone.output)", False),
    ("'a' in steps.gone.output", False),
    ("not steps.gone.output", True),
    # defaults
    ("steps.gone.output.count ?? 4", 4),
    ("steps.gone.output.count ?? 4 > 3", True),
    ("1 + steps.gone.output.count ?? 4", 5),
    ("parameters.nothing ?? 'd'", "d"),
    ("parameters.flag ?? true", False),
    ("steps.build.output.missing ?? -1", -1),
    ("steps.gone.output ?? steps.empty.output ?? []", []),
    ("len(steps.gone.output ?? {})", 0),
    ("(steps.gone.output.n + 1) ?? 9", 9),
    # tagged values read as what is inside them
    ("steps.typed.output.value", 3),
    ("steps.typed.output.where == '/data/in.csv'", True),
    ("basename(steps.typed.output.where)", "in.csv"),
    ("'/a' in steps.paths.output", True),
    ("join(steps.paths.output, ':')", "/a:/b"),
    ("steps.pairs.output[1]", "one"),
    ("steps.pairs.output['$type']", "two"),
    # operators
    ("1 + 2 * 3 - 4 / 2", 5.0),
    ("-(1 + 2)", -3),
    ("- -2", 2),
    ("7 - 2 - 1", 4),
    ("1 < 2 <= 2 != 3", True),
    ("1 < 2 > 3", False),
    ("1 == 1.0", True),
    ("'a' < 'b'", True),
    ("'1' == 1", False),
    ("2 not in [1, 3]", True),
    ("'x' in ('x', 'y')", True),
    ("('x',)", ["x"]),
    ("'count' in steps.build.output", True),
    ("not true or true and not false", True),
    ("not 1 == 2", True),
    ("null is null and None is not true", True),
    ("false or 'last'", "last"),
    ("0 and 1", 0),
    # functions
    ("len('abc') + len([1, 2]) + len(parameters.list)", 8),
    ("min(parameters.list) + max(parameters.list) + min(5, 6)", 9),
    ("sum([1, 2.5])", 3.5),
    ("any([0, 1]) and all([1, 2]) and not all([0])", True),
    ("sorted(parameters.list)", [1, 2, 3]),
    ("keys(item)", ["name", "list"]),
    ("values({})", []),
    ("str(true)", "true"),
    ("str(null)", "null"),
    ("str([1, 'a'])", '[1, "a"]'),
    ("int('12') + int(3.9) + int(true)", 16),
    ("float('1.5')", 1.5),
    ("bool('') or bool([0])", True),
    ("len(range(5)) + sum(range(1, 10, 3))", 17),
    ("2 in range(3)", True),
    ("upper(lower('Ab'))", "AB"),
    ("startswith('abc', 'ab') and endswith('abc', 'bc')", True),
    ("contains('abc', 'b') and contains([1], 1) and not contains(null, 1)", True),
    ("basename('/a/b.txt')", "b.txt"),
    ("basename('/a/b/')", "b"),
    ("join([1, true, null])", "1,true,null"),
    ("join('-', ['a', 'b'])", "a-b"),
    # words
    (r"""'it\'s' == "it's" """, True),
    (r"len('\n\\')", 2),
    ("1.5e3", 1500.0),
]  # fmt: skip


@pytest.mark.parametrize(("text", "worth"), WORTH)
def test_a_condition_is_worth(text: str, worth: Any) -> None:
    found = compile_condition(text).evaluate(SCOPE)
    assert found == worth
    assert type(found) is type(worth)


# text, a part of the message, the column, a part of the advice
REFUSED: list[tuple[str, str, int | None, str]] = [
    ("", "empty", 1, ""),
    ("   ", "empty", 1, ""),
    ("__import__('os')", "unknown function '__import__'", 1, "len, min"),
    ("eval('1')", "unknown function 'eval'", 1, ""),
    ("open('/etc/passwd')", "unknown function 'open'", 1, ""),
    ("lenn(steps.a.output)", "unknown function 'lenn'", 1, "'len'"),
    ("true and stepps.a.output", "unknown name 'stepps'", 10, "'steps'"),
    ("steps.a.status == completed", "unknown name 'completed'", 19, "'completed'"),
    ("item.__class__", "'__class__' is not a field", 6, ""),
    ("''.join(['a'])", "only the named functions", 8, "join"),
    ("parameters.f('a')", "only the named functions", 13, ""),
    ("(len)(1)", "unknown name 'len'", 2, ""),
    ("steps.a > 1", "must be followed by .output", 1, "steps.a.output"),
    ("steps.a.result", "must be followed by .output", 1, ""),
    ("steps.build-wheel == 1", "must be followed by .output", 1, "steps['the-name']"),
    ("steps", "the name of a step must follow", 1, "steps.NAME.output"),
    ("steps[item].output", "named by a constant", 1, "steps['build'].output"),
    ("steps.a.status.x", "text; it has no fields", 7, ""),
    ("index[0]", "index is a number", 1, ""),
    ("env", "followed by one name", 1, "env.NAME"),
    ("env.A.B", "followed by one name", 1, ""),
    ("parameters[0]", "not by a number", 1, "parameters.NAME"),
    ("secrets.TOKEN == 'x'", "cannot read secrets.TOKEN", None, "inside the step"),
    ("a && b", "unknown name 'a'", 1, ""),
    ("true && false", "unexpected '&&'", 6, "'and'"),
    ("true || false", "unexpected '||'", 6, "'or'"),
    ("!true", "'!' means nothing", 1, "'not'"),
    ("index = 1", "'=' means nothing", 7, "'=='"),
    ("2 ** 3", "'**' is not supported", 3, ""),
    ("7 // 2", "'//' is not supported", 3, ""),
    ("7 % 2", "'%' means nothing", 3, ""),
    ("1 if true else 2", "unexpected 'if'", 3, ""),
    ("[x for x in item]", "unknown name 'x'", 2, ""),
    ("lambda: 1", "':' means nothing", 7, ""),
    ("{'a': 1}", "':' means nothing", 5, ""),
    ("{1}", "expected '}'", 2, ""),
    ("item[1:2]", "':' means nothing", 7, ""),
    ("index is 3", "compares with null", 11, "=="),
    ("1 +", "breaks off", 4, ""),
    ("(1", "expected ','", 3, ""),
    ("()", "nothing stands between", 1, ""),
    ("1 2", "unexpected '2'", 3, ""),
    ("'open", "never ends", 1, ""),
    ("1_000", "followed by letters", 1, "quote"),
    ("item.", "a name must follow the dot", 5, "[0]"),
    ("1e999", "too large", 1, ""),
    ("99999999999999999999", "too large", 1, ""),
    ("len()", "takes 1 arguments, got 0", 1, ""),
    ("range(1, 2, 3, 4)", "takes 1 to 3", 1, ""),
    ("1 / 0", "division by zero", None, ""),
    ("'a' < 1", "cannot compare text with an integer", None, ""),
    ("1 + true", "works on numbers, got a boolean", None, ""),
    ("'a' + 'b'", "works on numbers, got text", None, "join"),
    ("'a' * 9", "works on numbers, got text", None, ""),
    ("${steps.a.output.x} > 0", "without ${...}", 1, ""),
    ("index > ${parameters.x}", "without ${...}", 9, ""),
    (" ${inde}", "unknown name 'inde'", 4, "'index'"),
    ("x" * (MAX_SOURCE + 1), "at most 1,024 characters", None, "in a step"),
    ("(" * (MAX_DEPTH + 1) + "1" + ")" * (MAX_DEPTH + 1), "deeper than 20", 22, ""),
    ("not " * 30 + "true", "deeper than 20", None, ""),
    ("+".join("1" * 120), "more than 200 parts", None, ""),
    ("[" + ",".join(["len('')"] * (MAX_CALLS + 1)) + "]", "at most 32 calls", None, ""),
    ("[" + ",".join(["sorted([])"] * 5) + "]", "4 of them of", None, ""),
]


@pytest.mark.parametrize(("text", "message", "column", "advice"), REFUSED)
def test_a_condition_is_refused_with_its_place(
    text: str, message: str, column: int | None, advice: str
) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_condition(text)
    assert message in caught.value.message
    assert advice in (caught.value.advice or "")
    if column is not None:
        assert caught.value.column == column
    assert caught.value.exit_code == 2


# what only the values can show
FAULTS = [
    ("steps.build.output.cuont", ReferenceFault, "did you mean 'count'?"),
    ("steps.build.output.zzz", ReferenceFault, "there is count, files"),
    ("steps.build.output.files[9]", ReferenceFault, "the list has 2 elements"),
    ("steps.build.output.files.x", ReferenceFault, "a list has no 'x'"),
    ("steps.build.output.count.real", ReferenceFault, "an integer has no 'real'"),
    ("parameters.unknown", ReferenceFault, "no 'unknown'"),
    ("run.nothing", ReferenceFault, "no 'nothing'"),
    ("item[parameters.list]", ReferenceFault, "no [3, 1, 2]"),
    ("(steps.gone.output)['a']", ReferenceFault, "null has no fields"),
    ("parameters.name + 1", EvaluationError, "got text"),
    ("parameters.name > 1", EvaluationError, "cannot compare text with an integer"),
    ("len(parameters.x)", EvaluationError, "got an integer"),
    ("sum(parameters.name)", EvaluationError, "wants a list, got text"),
    ("sorted([parameters.x, 'a'])", EvaluationError, "no order among them"),
    ("max(steps.gone.output)", EvaluationError, "max() of nothing"),
    ("lower(parameters.x)", EvaluationError, "wants text"),
    ("keys(parameters.list)", EvaluationError, "wants an object"),
    ("any(item)", EvaluationError, "use keys(...)"),
    ("int(parameters.name)", EvaluationError, "cannot read 'hi'"),
    ("int(parameters.list)", EvaluationError, "got a list"),
    ("float('1' ) / (index - 3)", EvaluationError, "division by zero"),
    ("range(parameters.x, 2, 0 * index)", EvaluationError, "never ends"),
    ("range(parameters.x * 1000000)", EvaluationError, "at most 200,000"),
    ("range(parameters.name)", EvaluationError, "wants integers"),
    ("parameters.x in parameters.name", EvaluationError, "cannot hold an integer"),
    ("parameters.list in item", EvaluationError, "cannot be a key"),
    ("index in parameters.x", EvaluationError, "wants a list"),
]


@pytest.mark.parametrize(("text", "error", "message"), FAULTS)
def test_a_condition_faults_on_values_it_cannot_use(
    text: str, error: type[EvaluationError], message: str
) -> None:
    condition = compile_condition(text)
    with pytest.raises(error) as caught:
        condition.evaluate(SCOPE)
    assert message in caught.value.message


def test_references_say_what_a_condition_reads_and_where_it_has_a_default() -> None:
    condition = compile_condition(
        "steps.a.output.n[0] ?? parameters.d > 1 and steps['b c'].status == 'x' and item.q[index].r"
    )
    found = {
        reference.text: (
            reference.root,
            reference.step,
            reference.field,
            reference.path,
            reference.has_default,
        )
        for reference in condition.references
    }
    assert found == {
        "steps.a.output.n[0]": ("steps", "a", "output", ("n", 0), True),
        "parameters.d": ("parameters", None, None, ("d",), False),
        "steps['b c'].status": ("steps", "b c", "status", (), False),
        "item.q": ("item", None, None, ("q",), False),
        "index": ("index", None, None, (), False),
    }


def test_a_dash_is_a_minus_outside_the_name_of_a_step() -> None:
    assert compile_condition("index-1").evaluate(SCOPE) == 2
    assert compile_condition("steps.build.output.count-1").evaluate(SCOPE) == 4


def test_a_right_side_that_is_not_needed_is_not_computed() -> None:
    assert compile_condition("index == 3 or index / 0").evaluate(SCOPE) is True
    assert compile_condition("index == 4 and index / 0").evaluate(SCOPE) is False
    assert compile_condition("index < 0 < index / 0").evaluate(SCOPE) is False


def test_arithmetic_stays_within_64_bits() -> None:
    scope = SampleScope(parameters={"big": 2**62, "huge": 2**64})
    assert compile_condition("parameters.big + 1").evaluate(scope) == 2**62 + 1
    for text in ("parameters.big * 4", "parameters.huge + 1", "-parameters.huge", "sum([parameters.huge])"):
        with pytest.raises(EvaluationError, match="64 bits"):
            compile_condition(text).evaluate(scope)


def test_a_condition_does_not_change_what_it_reads() -> None:
    scope = SampleScope(item={"list": [3, 1]})
    compile_condition("sorted(item.list) == [1, 3] and len(keys(item)) == 1").evaluate(scope)
    assert scope.item == {"list": [3, 1]}


NUMBERS = st.integers(-(2**31), 2**31) | st.floats(allow_nan=False, allow_infinity=False, width=32)
OPERATORS = {"<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne, "+": operator.add,
             "-": operator.sub, "*": operator.mul}  # fmt: skip


@given(left=NUMBERS, right=NUMBERS, symbol=st.sampled_from(sorted(OPERATORS)))
def test_operators_agree_with_python_on_numbers(left: float, right: float, symbol: str) -> None:
    scope = SampleScope(parameters={"l": left, "r": right})
    found = compile_condition(f"parameters.l {symbol} parameters.r").evaluate(scope)
    wanted = OPERATORS[symbol](left, right)
    assert found == wanted or math.isclose(found, wanted)


@st.composite
def boolean_sources(draw: st.DrawFn) -> str:
    atoms = st.sampled_from(["True", "False", "1", "0", "2", "'a'", "''", "None", "[]", "[1]"])
    return draw(
        st.recursive(
            atoms,
            lambda inner: st.one_of(
                st.tuples(inner, st.sampled_from(["and", "or", "==", "!="]), inner).map(
                    lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"
                ),
                inner.map(lambda part: f"(not {part})"),
            ),
            max_leaves=12,
        )
    )


@given(source=boolean_sources())
def test_boolean_operators_agree_with_python(source: str) -> None:
    if source.count("(") <= MAX_DEPTH // 2:
        assert compile_condition(source).evaluate(SCOPE) == eval(source)
