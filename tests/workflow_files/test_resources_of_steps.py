"""`resources` of steps: what may stand there, what it is held as, and what an attempt of the step then claims."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codomyrmex.exceptions import ValidationError
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow, CompileFaults
from codomyrmex.logistics.orchestration.project.resource_request import Request
from codomyrmex.logistics.orchestration.project.states import Isolation, ResourceType
from codomyrmex.logistics.orchestration.project.step_resources import (
    MACHINE_WORDS,
    read_resources,
    request_of,
    write_resources,
)
from codomyrmex.logistics.orchestration.project.workflow import Workflow, WorkflowStep
from codomyrmex.logistics.orchestration.project.workflow_amount_check import machine_word, resource_faults
from codomyrmex.logistics.orchestration.project.workflow_compiler import compile_workflow
from codomyrmex.logistics.orchestration.project.workflow_file import load_text
from codomyrmex.logistics.orchestration.project.workflow_schema import schema

SCHEMA = jsonschema_rs.Draft202012Validator(schema()["$defs"]["defaults"]["properties"]["resources"])


def compiled(steps: str, head: str = "") -> CompiledWorkflow:
    return compile_workflow(load_text(f"name: w\n{head}\nsteps:\n{steps}").document)


def request(resources: str) -> Request:
    """What an attempt claims of a step with these resources."""
    return compiled(f"  - {{name: a, run: [ls], resources: {resources}}}").spec(0).request


@pytest.mark.parametrize(
    ("written", "held"),
    [
        ({"cpu": 0.5}, {"cpu": 500}),
        ({"memory": "1.5GB"}, {"memory": 1_500_000_000}),
        ({"gpu": 0.25}, {"gpu": 2500}),
        ({"gpu": 2}, {"gpu": 20_000}),
        ({"gpu": 2.0}, {"gpu": 20_000}),
        ({"disk": "10GiB"}, {"disk": 10 * 2**30}),
        ({"network": "10MB"}, {"network": 10_000_000}),
        ({"network": "10MB/s"}, {"network": 10_000_000}),
        ({"openai": 2, "gpu_licence": 0.1}, {"openai": 20_000, "gpu_licence": 1000}),
        ({"api_quota": 3}, {"api-global": 30_000}),
        ({"x-note": "for later", "cpu": 0}, {"cpu": 0}),
    ],
)
def test_an_amount_is_held_as_a_whole_number(written: dict[str, Any], held: dict[str, int]) -> None:
    assert resource_faults(("resources",), written, {"resources": written}) == []
    assert read_resources(written) == held
    assert read_resources(write_resources(held)) == held


def test_an_attempt_claims_what_its_step_says_and_one_cpu_where_that_says_nothing() -> None:
    assert request("{}") == Request(cpu_milli=1000, cpu_given=False)
    assert request("{memory: 1KiB}") == Request(memory_bytes=1024)
    assert request(
        "{cpu: 0.5, gpu: 2, disk: 1KB, network: 2KB, openai: 2, lock: 1, api_quota: 1}"
    ) == Request(
        cpu_milli=500,
        cpu_given=True,
        gpu=20_000,
        disk_bytes=1000,
        network_bps=2000,
        named=(("api-global", 10_000), ("lock", 10_000), ("openai", 20_000)),
    )


def test_a_type_of_resource_is_a_word_too() -> None:
    workflow = Workflow("w")
    workflow.add(WorkflowStep("a", "m", "f", resources={ResourceType.GPU: 1, ResourceType.API_QUOTA: 2}))
    held = workflow.to_document()["steps"][0]["resources"]
    assert held == {"gpu": 10_000, "api-global": 20_000}
    assert {type(name) for name in held} == {str}


def test_equal_requests_of_different_steps_are_one_object() -> None:
    workflow = compiled(
        "  - {name: a, run: [ls], resources: {openai: 1, lock: 1}}\n"
        "  - {name: b, run: [ls], priority: high, resources: {lock: 1, openai: 1}}"
    )
    assert workflow.spec(0) is not workflow.spec(1)
    assert workflow.spec(0).request is workflow.spec(1).request


def test_a_step_that_waits_claims_nothing() -> None:
    assert compiled("  - {name: a, sleep: 1}").spec(0).request == Request(cpu_milli=0)


def test_defaults_and_compensations_have_resources_like_steps() -> None:
    workflow = compiled(
        "  - {name: a, run: [ls], compensate: {run: [rm], resources: {lock: 1}}}\n"
        "  - {name: b, run: [ls], resources: {cpu: 2}}",
        "defaults: {resources: {gpu: 1}}",
    )
    requests = {name: workflow.spec(step).request for name, step in workflow.index.items()}
    assert requests["a"] == Request(gpu=10_000)
    assert requests["b"] == Request(cpu_milli=2000, cpu_given=True)
    assert requests["a.compensate"] == Request(named=(("lock", 10_000),))


@pytest.mark.parametrize(
    ("resources", "isolation"),
    [
        ("{}", Isolation.THREAD),
        ("{gpu: 1}", Isolation.PROCESS),
        ("{memory: 1MiB}", Isolation.PROCESS),
        ("{gpu: 0, memory: 0}", Isolation.THREAD),
        ("{disk: 1GiB, network: 1MB, lock: 1}", Isolation.THREAD),
    ],
)
def test_a_memory_limit_and_a_gpu_need_a_process_of_their_own(resources: str, isolation: Isolation) -> None:
    document = load_text(f"name: w\nsteps:\n  - {{name: a, call: 'm:f', resources: {resources}}}").document
    found = compile_workflow({**document, "isolation": "thread"})
    assert found.spec(0).isolation is isolation


@pytest.mark.parametrize("isolation", ["thread", "async"])
def test_a_gpu_beside_an_isolation_that_cannot_hide_the_others_is_refused(isolation: str) -> None:
    with pytest.raises(CompileFaults) as caught:
        compiled(f"  - {{name: a, call: 'm:f', isolation: {isolation}, resources: {{gpu: 0.5, lock: 1}}}}")
    ((path, fault),) = caught.value.found
    assert path == ("steps", 0, "resources")
    assert "a GPU of its own cannot be kept in isolation" in str(fault)


# -- names and amounts that nothing can have -----------------------------------------------------

NAMES = st.sampled_from(
    [
        *MACHINE_WORDS,
        "api_quota",
        "api-global",
        "ram",
        "lock",
        "x-a",
        "gpu-1",
        "",
        "a b",
        "é",
        "memroy",
        "a\n",
    ]
)
AMOUNTS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**20),
    st.floats(),
    st.sampled_from(
        ["", "1", "1GiB", "10MB/s", "1gb", " 1GiB", "1GiB\n", "٣", "0.3B", "9" * 30, "${item}", "nan"]
    ),
    st.lists(st.integers(), max_size=1),
    st.just({"cores": 1}),
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(NAMES, AMOUNTS, max_size=3))
@example({"disk": "1GiB\n"})
def test_what_the_schema_refuses_is_told_in_words_and_what_is_told_of_nothing_is_read_back(
    resources: dict[str, Any],
) -> None:
    faults = resource_faults(("resources",), resources, {"resources": resources})
    if not SCHEMA.is_valid(resources):
        assert faults
    if not faults:
        held = read_resources(resources)
        assert all(type(amount) is int and amount >= 0 for amount in held.values())
        assert read_resources(write_resources(held)) == held
        assert request_of(held).cpu_given is ("cpu" in held)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("ram", "memory"), ("cpus", "cpu"), ("cores", "cpu"), ("gpus", "gpu"), ("CPU", "cpu"), ("cup", "cpu"),
        ("memry", "memory"), ("disc", "disk"), ("netwrok", "network"), ("sys-disk", "disk"),
        ("openai", None), ("gpu_licence", None), ("licence", None), ("lock", None), ("desk", None), ("task", None),
    ],
)  # fmt: skip
def test_a_slip_in_a_word_of_the_machine_is_not_taken_for_a_resource_of_ones_own(
    name: str, word: str | None
) -> None:
    assert machine_word(name) == word


def test_a_parameter_called_resources_is_no_list_of_amounts() -> None:
    with pytest.raises(ValidationError) as caught:
        load_text("name: w\nparameters: {resources: {type: integr}}\nsteps: [{name: a, run: [ls]}]")
    assert "unknown type" in str(caught.value.faults[0])


# -- retries with more memory --------------------------------------------------------------------


def test_a_retry_raises_the_memory_of_its_step() -> None:
    workflow = compiled(
        "  - {name: a, run: [ls], resources: {memory: 1GiB}, retry: {max_attempts: 3, memory: 1.5}}\n"
        "  - {name: b, run: [ls], resources: {memory: 1GiB}, retry: 2}"
    )
    assert [workflow.spec(step).retry.memory for step in (0, 1)] == [1.5, 1.0]


def test_a_default_retry_raises_memory_only_where_a_step_claims_some() -> None:
    document = load_text(
        "name: w\n"
        "defaults: {retry: {max_attempts: 3, memory: 2}}\n"
        "steps:\n"
        "  - {name: a, run: [ls]}\n"
        "  - {name: b, run: [ls], resources: {memory: 1GiB}}\n"
        "  - {name: c, run: [ls], resources: {memory: 1GiB}, retry: 1}\n"
    ).document
    assert [step["retry"] for step in document["steps"]] == [
        {"max_attempts": 3},
        {"max_attempts": 3, "memory": 2.0},
        {"max_attempts": 2},
    ]
