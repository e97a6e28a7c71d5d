"""Steps that ask for what there will never be are refused when they are submitted, all of them at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codomyrmex.exceptions import ResourceRefused, ValidationError
from codomyrmex.logistics.orchestration.project.actions.catalogue import ActionCatalogue
from codomyrmex.logistics.orchestration.project.child_definition import ChildDefinition
from codomyrmex.logistics.orchestration.project.impossible_requests import (
    Supply,
    asks_for_gpus,
    asks_for_named,
    impossible_requests,
    size_text,
)
from codomyrmex.logistics.orchestration.project.resource_request import NamedLimit
from codomyrmex.logistics.orchestration.project.workflow_compiler import compile_workflow
from codomyrmex.logistics.orchestration.project.workflow_file import load_text
from codomyrmex.logistics.orchestration.project.workflow_preparation import (
    Definition,
    Prepared,
    check,
    prepare,
    refuse_impossible,
    workflows_of,
)

MACHINE = {
    "sys-compute": 2000,
    "sys-memory": 4 * 2**30,
    "sys-disk": 10 * 2**30,
    "sys-network": 10**7,
    "gpu-0": 10_000,
    "gpu-1": 0,
}
NAMED = {
    "licence": NamedLimit(type="custom", capacity=20_000),
    "openai": NamedLimit(type="api_quota", capacity=600_000, burst=50_000),
}
SUPPLY = Supply(capacities=MACHINE, named=NAMED)


def told(resources: str, supply: Supply = SUPPLY) -> list[str]:
    """What is impossible about one step with these resources."""
    text = f"name: w\nsteps:\n  - {{name: a, run: [ls], resources: {resources}}}\n"
    return [
        f"{path[-1]}: {fault}"
        for path, fault in impossible_requests(compile_workflow(load_text(text).document), supply)
    ]


@pytest.mark.parametrize(
    "resources",
    [
        "{}",
        "{cpu: 2, memory: 4GiB, disk: 10GiB, network: 10MB/s}",
        "{gpu: 1}",
        "{gpu: 0.5}",
        "{gpu: 2}",  # one of them is busy, which may end
        "{licence: 2}",
        "{openai: 5}",
    ],
)
def test_what_fits_an_idle_machine_is_not_impossible(resources: str) -> None:
    assert told(resources) == []


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ("{cpu: 2.5}", ["cpu: asks for 2.5 CPUs, and the machine has 2"]),
        ("{memory: 5GiB}", ["memory: asks for 5GiB of memory, and the machine has 4GiB"]),
        ("{disk: 11GiB}", ["disk: asks for 11GiB of disk, and the machine has 10GiB"]),
        ("{network: 11MB}", ["network: asks for 11MB/s of network, and the machine has 10MB/s"]),
        ("{gpu: 3}", ["gpu: asks for 3 GPUs, and the machine has 2"]),
        ("{licence: 2.5}", ["licence: asks for 2.5 of 'licence', and at most 2 can be had at once"]),
        ("{openai: 6}", ["openai: asks for 6 of 'openai', and at most 5 can be had at once"]),
        (
            "{opanai: 1.5}",
            [
                "opanai: there is no resource 'opanai'; did you mean 'openai'?\n"
                "    add it: codomyrmex resources add opanai --type custom --capacity 2"
            ],
        ),
        (
            "{cpu: 3, gpu: 3}",
            ["cpu: asks for 3 CPUs, and the machine has 2", "gpu: asks for 3 GPUs, and the machine has 2"],
        ),
    ],
)  # fmt: skip
def test_what_there_will_never_be_is_told_with_its_figures(resources: str, words: list[str]) -> None:
    assert told(resources) == words


def test_a_share_of_a_gpu_needs_one_device() -> None:
    bare = Supply(capacities={"sys-compute": 2000}, named={})
    assert told("{gpu: 0.5}", bare) == ["gpu: asks for 0.5 of a GPU, and the machine has none"]


def test_the_cpu_that_nobody_asked_for_is_never_refused() -> None:
    half = Supply(capacities={"sys-compute": 500}, named={})
    assert told("{}", half) == []
    assert told("{cpu: 1}", half) == ["cpu: asks for 1 CPU, and the machine has 0.5"]


FILE = """
name: big
steps:
  - {name: a, run: [ls], resources: {cpu: 9}, compensate: {run: [rm], resources: {licens: 1}}}
  - {name: b, run: [ls]}
  - {name: c, run: [ls], resources: {cpu: 9}}
on_failure:
  - {name: d, run: [ls], resources: {gpu: 4}}
finally:
  - {name: e, run: [ls], resources: {memory: 1TiB}}
"""


def prepared(text: str, root: Path) -> Prepared:
    loaded = load_text(text, file="big.yaml")
    definition = Definition(document=loaded.document, loaded=loaded)
    return prepare(definition, {}, root=root, caller_dir=root, catalogue=ActionCatalogue(root))


def test_every_step_that_can_never_run_is_listed_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ResourceRefused) as caught:
        refuse_impossible(prepared(FILE, tmp_path), {}, SUPPLY)

    text = str(caught.value)
    assert text.splitlines()[0] == "big.yaml asks for what there will never be:"
    for line in (
        "big.yaml:4: steps[0] 'a'.resources.cpu: asks for 9 CPUs",
        "big.yaml:4: steps[0] 'a'.compensate.resources.licens: there is no resource 'licens'",
        "big.yaml:6: steps[2] 'c'.resources.cpu: asks for 9 CPUs",
        "big.yaml:8: on_failure[0] 'd'.resources.gpu: asks for 4 GPUs",
        "big.yaml:10: finally[0] 'e'.resources.memory: asks for 1TiB of memory",
    ):
        assert line in text
    assert caught.value.exit_code == 7
    details: list[dict[str, Any]] = caught.value.details
    assert {each["code"] for each in details} == {"impossible", "unknown_resource"}
    assert "larger machine" in str(caught.value.hint)


def test_hundreds_of_impossible_steps_are_cut_to_a_hundred_and_a_number(tmp_path: Path) -> None:
    steps = "\n".join(f"  - {{name: s{number}, run: [ls], resources: {{gpu: 9}}}}" for number in range(300))
    with pytest.raises(ResourceRefused, match="and 200 more"):
        refuse_impossible(prepared(f"name: big\nsteps:\n{steps}\n", tmp_path), {}, SUPPLY)


def test_what_children_ask_for_is_told_once_each(tmp_path: Path) -> None:
    loaded = load_text("name: child\nsteps: [{name: k, run: [ls], resources: {tpu_pod: 1}}]")
    child = ChildDefinition(
        workflow=compile_workflow(loaded.document), document=loaded.document, file="child.yaml"
    )
    parent = prepared("name: big\nsteps: [{name: a, workflow: child}, {name: b, workflow: child}]", tmp_path)
    middle = ChildDefinition(workflow=parent.workflow, document=parent.document, children={"child": child})
    children = {"child": child, "middle": middle}

    assert asks_for_named(workflows_of(parent, children))
    assert not asks_for_gpus(workflows_of(parent, children))
    with pytest.raises(ResourceRefused) as caught:
        refuse_impossible(parent, children, SUPPLY)
    assert str(caught.value).count("child.yaml: steps[0] 'k'.resources.tpu_pod: there is no resource") == 1


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (512 * 2**20, "512MiB"), (4_127_465_472, "3.8GiB"), (10**7, "10MB"), (2**60 - 1, "1048576.0TiB")],
)  # fmt: skip
def test_a_size_is_told_in_few_digits(size: int, text: str) -> None:
    assert size_text(size) == text


# -- retries that raise no memory ----------------------------------------------------------------


def faults_of(text: str, root: Path) -> list[str]:
    definition = Definition(document=load_text(text).document)
    return [str(fault) for _, fault in check(definition, ActionCatalogue(root))[1]]


def test_a_retry_that_raises_memory_where_none_is_claimed_is_refused(tmp_path: Path) -> None:
    text = "name: w\nsteps: [{name: a, run: [ls], retry: {max_attempts: 2, memory: 2}}]"
    (fault,) = faults_of(text, tmp_path)
    assert fault.startswith("there is no memory to raise: the step claims none")
    assert "resources: {memory: 512MiB}" in fault


def test_an_action_may_declare_the_memory_that_a_retry_raises(tmp_path: Path) -> None:
    (tmp_path / "acts.py").write_text(
        "from codomyrmex import action\n"
        "@action(resources={'memory': '1GiB', 'licence': 1})\n"
        "def fit():\n    return 1\n"
    )
    text = "name: w\nsteps: [{name: a, call: 'acts:fit', retry: {max_attempts: 2, memory: 2}}]"
    assert faults_of(text, tmp_path) == []
    ready = prepared(text, tmp_path)
    assert ready.workflow.spec(0).request.memory_bytes == 2**30
    assert ready.workflow.spec(0).request.named == (("licence", 10_000),)


def test_what_an_action_declares_is_checked_like_what_a_file_says(tmp_path: Path) -> None:
    (tmp_path / "acts.py").write_text(
        "from codomyrmex import action\n"
        "@action(resources={'ram': '1GiB', 'gpu': 1.5})\n"
        "def bad():\n    return 1\n"
    )
    with pytest.raises(ValidationError) as caught:
        prepared("name: w\nsteps: [{name: a, call: 'acts:bad'}]", tmp_path)
    assert "@action of acts:bad has 2 faults" in str(caught.value)
    assert "resources.ram: unknown resource 'ram'; did you mean 'memory'?" in str(caught.value)
