"""`${...}` in parameters: types, texts, defaults, secrets, old files, and what is refused where."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_scope import OUTPUTS, SampleScope

from codomyrmex.logistics.orchestration.project.expression_functions import MAX_TEXT
from codomyrmex.logistics.orchestration.project.expressions import (
    EvaluationError,
    ExpressionError,
    Reference,
    ReferenceFault,
)
from codomyrmex.logistics.orchestration.project.references import (
    MAX_DEPTH,
    compile_environment,
    compile_template,
    modernise,
)

SCOPE = SampleScope()

RESOLVED: list[tuple[Any, Any]] = [
    # a whole reference keeps its type
    ("${parameters.x}", 1),
    ("${ parameters.x }", 1),
    ("${parameters.flag}", False),
    ("${parameters.nothing}", None),
    ("${parameters.a-b}", 4),
    ("${parameters['a-b']}", 4),
    ("${parameters}", dict(SCOPE.parameters)),
    ("${steps.build.output}", OUTPUTS["build"]),
    ("${steps.build.output.nested.a[0].b}", 1),
    ("${steps.build.output.files[-1]}", "q"),
    ("${steps.build-wheel.output.a-b}", 7),
    ("${steps['build-wheel'].output.path}", "dist/x.whl"),
    ("${steps.empty.output}", None),
    ("${steps.build.status}", "completed"),
    ("${steps.gone.error.type}", "ValueError"),
    ("${run.id}", "r1"),
    ("${env.HOME}", "/root"),
    ("${item}", {"name": "it", "list": [1, 2]}),
    ("${item.list[index - 2]}", 2),
    ("${index}", 3),
    ("${steps.build.errors[3].message}", "bad item"),
    ("${steps.build.errors[index].type}", "ValueError"),
    ("${steps.build.errors[2] ?? 'none'}", "none"),
    ("${steps.empty.errors}", {}),
    ("${output}", {"id": 9, "parts": ["a"]}),
    ("${output.id}", 9),
    ("undo ${output.parts[0]}", "undo a"),
    # a whole look-up passes tagged values on as they are; a computed value has no tag
    ("${steps.typed.output}", OUTPUTS["typed"]),
    ("${steps.typed.output.where}", {"$type": "path", "value": "/data/in.csv"}),
    ("${steps.gone.output ?? steps.paths.output[0]}", {"$type": "path", "value": "/a"}),
    ("${str(steps.typed.output.where)}", "/data/in.csv"),
    # inside a text it is text
    ("x=${parameters.x}", "x=1"),
    ("${parameters.x}${index}", "13"),
    ("a ${parameters.name} b ${env.HOME}", "a hi b /root"),
    ("${parameters.flag}/${parameters.nothing}/", "false/null/"),
    ("l=${parameters.list}", "l=[3, 1, 2]"),
    ("at ${steps.typed.output.where}", "at /data/in.csv"),
    (" ${index}", " 3"),
    # defaults
    ("${env.UNSET ?? 'dev'}", "dev"),
    ("${env.UNSET ?? env.HOME}", "/root"),
    ("${steps.gone.output.n ?? 0}", 0),
    ("${steps.build.output.zzz ?? null}", None),
    ("${parameters.nothing ?? []}", []),
    ("${parameters.nothing ?? {}}", {}),
    ("${env.UNSET ?? '}'}", "}"),
    ("n=${steps.gone.output ?? 'none'}", "n=none"),
    # computed
    ("${range(5)}", [0, 1, 2, 3, 4]),
    ("${range(parameters.x, 3)}", [1, 2]),
    ("${index + 1}", 4),
    ("${len(parameters.list)}", 3),
    ("${join(parameters.list, ' ')}", "3 1 2"),
    ("${parameters.x == 1}", True),
    # literals
    ("$${item}", "${item}"),
    ("a $${b} ${index} $${", "a ${b} 3 ${"),
    ("$index {index} $ {index} ${'${'}", "$index {index} $ {index} ${"),
    ("", ""),
    # trees
    ({"a": ["${index}", {"b": "${item.name}"}], "c": 1}, {"a": [3, {"b": "it"}], "c": 1}),
    ({"$${k}": "${index}"}, {"${k}": 3}),
    ({1: "${index}"}, {1: 3}),
    ((1, "${index}"), (1, 3)),
    ([], []),
    ({}, {}),
    (None, None),
    (5, 5),
]


@pytest.mark.parametrize(("tree", "resolved"), RESOLVED)
def test_a_template_resolves_to(tree: Any, resolved: Any) -> None:
    before = copy.deepcopy(tree)
    found = compile_template(tree).resolve(SCOPE)
    assert found == resolved
    assert type(found) is type(resolved)
    assert tree == before


REFUSED: list[tuple[Any, str, int | None, tuple[Any, ...]]] = [
    ("${}", "empty", 3, ()),
    ("${item", "never closed", 1, ()),
    ("a ${item ${index}", "never closed", 3, ()),
    ("${'open}", "never closed", 1, ()),
    ("${itm}", "unknown name 'itm'", 3, ()),
    ("abc ${itm}", "unknown name 'itm'", 7, ()),
    ({"a": [0, "x ${steps.b}"]}, "must be followed by .output", 5, ("a", 1)),
    ({"a": {"${index}": 1}}, "a key cannot hold a reference", None, ("a", "${index}")),
    ({"$secret": "T"}, "reserved", None, ()),
    ("${output.__class__}", "not a field of any value", None, ()),
    ("x ${secrets.T}", "may only be the whole", 5, ()),
    ("${secrets.T ?? 'x'}", "may only be the whole", 3, ()),
    ("${lower(secrets.T)}", "may only be the whole", 9, ()),
    ("${secrets}", "followed by one name", 3, ()),
    ("${item.__class__}", "not a field of any value", 8, ()),
    ("${steps.__x.output.__y__}", "not a field", None, ()),
    ("${1 / 0}", "division by zero", None, ()),
    ("${range(300000)}", "at most 200,000", None, ()),
    ("${" + "item." * 300 + "x}", "at most 1,024 characters", None, ()),
]


@pytest.mark.parametrize(("tree", "message", "column", "path"), REFUSED)
def test_a_template_is_refused_with_its_place(
    tree: Any, message: str, column: int | None, path: tuple[Any, ...]
) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_template(tree)
    assert message in caught.value.message
    assert caught.value.path == path
    if column is not None:
        assert caught.value.column == column


def test_every_fault_of_a_tree_is_collected_in_order() -> None:
    faults: list[ExpressionError] = []
    template = compile_template({"a": "${x}", "b": "${index}", "c": ["${y}", {"${z}": 1}]}, faults=faults)
    assert [fault.path for fault in faults] == [("a",), ("c", 0), ("c", 1, "${z}")]
    assert {reference.text for reference in template.references} == {"index"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("${steps.gone.output}", "step 'gone' was skipped"),
        ("${steps.gone.output.a.b}", "step 'gone' was skipped"),
        ("n ${steps.gone.output}", "step 'gone' was skipped"),
        ("${len(steps.gone.output)}", "step 'gone' was skipped"),
        ("${steps.empty.output.a}", "null has no 'a'"),
        ("${steps.build.output.cuont}", "did you mean 'count'?"),
        ("${env.UNSET}", "there is no 'UNSET'"),
        ("${parameters.unknown.x}", "there is no 'unknown'"),
    ],
)
def test_a_missing_value_is_a_fault_that_names_the_reference(text: str, reason: str) -> None:
    with pytest.raises(ReferenceFault) as caught:
        compile_template({"p": [text]}).resolve(SCOPE)
    assert reason in caught.value.reason
    assert caught.value.reference.removeprefix("${").removesuffix("}") in text
    assert "?? null" in (caught.value.hint or "")


def test_a_tree_without_references_is_handed_back_as_it_is() -> None:
    for tree in ({}, {"x": 1}, {"a": {"b": ["c", 1.5, None]}}, "text", ["$5", "{x}"]):
        template = compile_template(tree)
        assert template.constant
        assert template.resolve(SCOPE) is tree
        assert template.references == frozenset()


def test_what_needs_no_scope_is_computed_once() -> None:
    template = compile_template({"seed": "${range(3)}", "text": "n=${1 + 1}", "literal": "$${x}"})
    assert template.constant
    assert template.resolve(SCOPE) == {"seed": [0, 1, 2], "text": "n=2", "literal": "${x}"}


def test_parts_without_references_are_shared_and_a_whole_value_is_not_copied() -> None:
    tree = {"big": ["x"] * 3, "out": "${steps.build.output}"}
    found = compile_template(tree).resolve(SCOPE)
    assert found["out"] is OUTPUTS["build"]


def test_a_value_that_looks_like_a_reference_stays_text() -> None:
    scope = SampleScope(parameters={"p": "${secrets.TOKEN} ${item} $${x} {{a.output}}"})
    assert compile_template("${parameters.p}").resolve(scope) == scope.parameters["p"]
    assert compile_template("<${parameters.p}>").resolve(scope) == f"<{scope.parameters['p']}>"


def test_a_secret_stays_a_marker_and_is_named() -> None:
    template = compile_template({"token": "${secrets.TOKEN}", "other": ["${ secrets['A.B'] }"]})
    assert template.constant
    assert template.secrets == {"TOKEN", "A.B"}
    assert template.resolve(SCOPE) == {"token": {"$secret": "TOKEN"}, "other": [{"$secret": "A.B"}]}


def test_a_reference_says_what_it_reads() -> None:
    template = compile_template(["${steps.a.output.x[0] ?? parameters.y}", "${run.id} ${steps.b-c.status}"])
    assert template.references == {
        Reference(
            root="steps",
            step="a",
            field="output",
            path=("x", 0),
            has_default=True,
            text="steps.a.output.x[0]",
        ),
        Reference(root="parameters", path=("y",), text="parameters.y"),
        Reference(root="run", path=("id",), text="run.id"),
        Reference(root="steps", step="b-c", field="status", text="steps.b-c.status"),
    }


def test_environment_values_become_text() -> None:
    template = compile_environment(
        {"A": "${parameters.x}", "B": 2, "C": True, "D": "${secrets.T}", "E": "${parameters.list}", "F": "f"}
    )
    assert template.resolve(SCOPE) == {
        "A": "1", "B": "2", "C": "true", "D": {"$secret": "T"}, "E": "[3, 1, 2]", "F": "f",
    }  # fmt: skip
    plain = {"A": "1"}
    assert compile_environment(plain).constant


def test_a_text_cannot_be_blown_up_beyond_its_limit() -> None:
    scope = SampleScope(parameters={"p": "x" * (MAX_TEXT // 4)})
    with pytest.raises(EvaluationError, match="longer than"):
        compile_template("${parameters.p} " * 5).resolve(scope)
    scope = SampleScope(parameters={"p": "x" * 10_000})
    with pytest.raises(EvaluationError, match="longer than"):
        compile_template(["a${parameters.p}"] * 10_000).resolve(scope)


def test_a_tree_that_is_too_deep_or_holds_itself_is_refused() -> None:
    deep: Any = "${index}"
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    cyclic: dict[str, Any] = {}
    cyclic["self"] = cyclic
    for tree in (deep, cyclic):
        with pytest.raises(ExpressionError, match="nest deeper"):
            compile_template(tree)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{{fetch.output}}", "${steps.fetch.output}"),
        ("{{ fetch.output.a[0].b }}", "${steps.fetch.output.a[0].b}"),
        ("{{fetch.result.a}}", "${steps.fetch.output.a}"),
        ("{{fetch.count}}", "${steps.fetch.output.count}"),
        ("{{fetch.status}}", "${steps.fetch.status}"),
        ("{{build-wheel.output}}", "${steps.build-wheel.output}"),
        ("{{root}}", "${parameters.root}"),
        ("{{params.root}}", "${parameters.root}"),
        ("{{parameters.root}}", "${parameters.root}"),
        ("{{steps.a.output}}", "${steps.a.output}"),
        ("{{item}} {{index}}", "${item} ${index}"),
        ("a {{x.output}} b {{y}}", "a ${steps.x.output} b ${parameters.y}"),
        ("no marks, { } {{ }} {{1}}", "no marks, { } {{ }} {{1}}"),
    ],
)
def test_an_old_mark_becomes_a_reference(old: str, new: str) -> None:
    assert modernise(old) == new
    compile_template(new)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(value=PLAIN)
def test_any_value_passes_through_a_whole_reference_unchanged(value: Any) -> None:
    scope = SampleScope(parameters={"v": value})
    assert compile_template({"a": ["${parameters.v}"]}).resolve(scope) == {"a": [value]}


@given(text=st.text())
def test_any_text_can_be_written_as_a_literal(text: str) -> None:
    assert compile_template(text.replace("${", "$${")).resolve(SCOPE) == text


@given(
    name=st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*(-[A-Za-z0-9_]+)*", fullmatch=True), place=st.integers(0, 3)
)
def test_the_short_way_through_the_grammar_agrees_with_the_parser(name: str, place: int) -> None:
    if name.startswith("__"):
        return
    scope = SampleScope(
        parameters={name: [0, 1, 2, 3]}, item={name: {"x": [7] * 4}}, outputs={name: {name: 5}}
    )
    for path in (f"parameters.{name}[{place}]", f"item.{name}.x[{place}]", f"steps.{name}.output.{name}"):
        short, parsed = compile_template(f"${{{path}}}"), compile_template(f"${{({path})}}")
        assert short.references == parsed.references
        assert short.resolve(scope) == parsed.resolve(scope)
