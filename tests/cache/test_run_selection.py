"""Which steps `only`, `until` and `from` mean, and what definition is left: tables, nothing runs."""

from __future__ import annotations

from typing import Any

import pytest

from codomyrmex.exceptions import ValidationError
from codomyrmex.logistics.orchestration.project.run_selection import Part, part_of, select
from codomyrmex.logistics.orchestration.project.workflow_compiler import compile_workflow


def step(name: str, *parents: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "module": "acts", "action": name, "dependencies": list(parents), **more}


#  a ──> b ──> d ──> e        f alone; `tidy` (finally) reads b and e
#  └───> c ────┘
DOCUMENT: dict[str, Any] = {
    "name": "flow",
    "steps": [
        step("a"),
        step("b", "a", compensate={"module": "acts", "action": "undo_b"}),
        step("c", parameters={"x": "${steps.a.output}"}, foreach=[1, 2]),
        step("d", "b", "c"),
        step("e", "d"),
        step("f"),
    ],
    "finally": [step("tidy", parameters={"b": "${steps.b.output ?? 0}", "e": "${steps.e.output ?? 0}"})],
    "outputs": {
        "whole": {"d": "${steps.d.output}", "e": "${steps.e.output}"},
        "c": "${steps.c.output}",
        "n": 1,
    },
}
WORKFLOW = compile_workflow(DOCUMENT)


def names(numbers: Any) -> str:
    return "".join(sorted(WORKFLOW.names[number] for number in numbers))


@pytest.mark.parametrize(
    ("part", "run", "needed", "wanted", "mentioned", "left_out"),
    [
        (Part(until=("b",)), "ab", "", "", "e", "cdf"),
        (Part(until=("d",)), "abcd", "", "", "e", "f"),
        (Part(until=("b", "f")), "abf", "", "", "e", "cd"),
        (Part(only=("d",)), "d", "bc", "", "e", "af"),
        (Part(only=("a", "c")), "ac", "", "", "be", "df"),
        (Part(only=("e",)), "e", "d", "b", "", "acf"),
        (Part(from_steps=("d",)), "de", "bc", "", "", "af"),
        (Part(from_steps=("b",)), "bde", "ac", "", "", "f"),
        (Part(from_steps=("b",), until=("d",)), "bd", "ac", "", "e", "f"),
        (Part(from_steps=("f",)), "f", "", "be", "", "acd"),
    ],
)
def test_a_part_is_split(
    part: Part, run: str, needed: str, wanted: str, mentioned: str, left_out: str
) -> None:
    found = select(WORKFLOW, part)
    assert tuple(map(names, (found.run, found.needed, found.wanted, found.mentioned, found.left_out))) == (
        run, needed, wanted, mentioned, left_out,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Part(only=("bb", "x")), "there is no step 'x' in `steps`"),
        (Part(until=("tidy",)), "there is no step 'tidy'"),
        (Part(until=("b.compensate",)), "there is no step 'b.compensate'"),
        (Part(only=("a",), until=("b",)), "`only` stands alone"),
        (Part(from_steps=("e",), until=("b",)), "no step lies between these"),
    ],
)
def test_what_means_nothing_is_refused(part: Part, message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        select(WORKFLOW, part)
    assert any(message in fault.message for fault in refused.value.faults)


def test_the_definition_keeps_what_runs_and_reduces_what_does_not() -> None:
    selection = select(WORKFLOW, Part(from_steps=("d",)))
    document, lost = part_of(DOCUMENT, WORKFLOW, selection, reused=selection.needed, skipped=())
    by_name = {each["name"]: each for each in document["steps"]}
    assert list(by_name) == ["b", "c", "d", "e"]
    assert by_name["d"] == DOCUMENT["steps"][3]
    assert by_name["b"] == {"name": "b", "module": "acts", "action": "b"}, (
        "it undoes nothing that it has not done"
    )
    assert by_name["c"] == {"name": "c", "module": "acts", "action": "c", "foreach": []}
    assert (lost, list(document["outputs"])) == ((), ["whole", "c", "n"])
    assert compile_workflow(document).names == ["b", "c", "d", "e", "tidy"]


def test_what_only_handlers_read_is_skipped_and_outputs_that_are_not_there_are_lost() -> None:
    selection = select(WORKFLOW, Part(until=("b",)))
    document, lost = part_of(DOCUMENT, WORKFLOW, selection, reused=(), skipped=selection.mentioned)
    assert [each["name"] for each in document["steps"]] == ["a", "b", "e"]
    assert document["steps"][2] == {"name": "e", "module": "acts", "action": "e", "run_if": "false"}
    assert (lost, document["outputs"]) == (("whole", "c"), {"n": 1})
    compile_workflow(document)


@pytest.mark.parametrize(
    "kind",
    [
        {"approval": {"message": "ship ${steps.a.output}?"}},
        {"wait_for": {"signal": "go-${steps.a.output}"}},
        {"sleep": "${steps.a.output}"},
        {"workflow": "child", "parameters": {"x": "${steps.a.output}"}},
    ],
)
def test_a_reused_step_of_every_kind_still_compiles_without_what_it_read(kind: dict[str, Any]) -> None:
    waits = {"name": "w", **kind}
    document = {"name": "flow", "steps": [step("a"), waits, step("z", "w")]}
    workflow = compile_workflow(document)
    selection = select(workflow, Part(only=("z",)))
    reduced, _ = part_of(document, workflow, selection, reused=selection.needed, skipped=())
    assert compile_workflow(reduced).names == ["w", "z"]
