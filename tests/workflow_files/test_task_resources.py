"""What a `Task` asks for, as a list of `TaskResource` or as a mapping, is what the step that does it says."""

from __future__ import annotations

from typing import Any

import pytest

from codomyrmex.exceptions import ValidationError
from codomyrmex.logistics.orchestration.project.states import ResourceType
from codomyrmex.logistics.orchestration.project.task import Task, TaskResource
from codomyrmex.logistics.orchestration.project.task_runs import definition_of


def held(resources: Any) -> dict[str, int]:
    """What the step of a task with these resources holds."""
    task = Task("work", "m", "f", resources=resources)
    assert Task.of(task.to_dict()).to_dict() == task.to_dict()
    document = definition_of(task, cpu=None).document
    found: dict[str, int] = document["steps"][0].get("resources", {})
    return found


@pytest.mark.parametrize(
    ("resource", "amounts"),
    [
        (TaskResource(ResourceType.CPU, 0.5), {"cpu": 500}),
        (TaskResource("cpu", 2, "sys-compute"), {"cpu": 2000}),
        (TaskResource(ResourceType.MEMORY, "1GiB"), {"memory": 2**30}),
        (TaskResource(ResourceType.GPU), {"gpu": 10_000}),
        (TaskResource("disk", "1GB"), {"disk": 10**9}),
        (TaskResource("network", 10**6), {"network": 10**6}),
        (TaskResource(ResourceType.API_QUOTA, 2), {"api-global": 20_000}),
        (TaskResource("api_quota", 2, "openai"), {"openai": 20_000}),
        (TaskResource("custom", 2, "licence"), {"licence": 20_000}),
        (TaskResource(ResourceType.CUSTOM, 0.5, resource_id="licence"), {"licence": 5000}),
        (TaskResource("disk", "1KiB", "scratch"), {"scratch": 1024 * 10_000}),
        (TaskResource("licence", 1), {"licence": 10_000}),
        ({"resource_type": "gpu", "amount": 0.25}, {"gpu": 2500}),
    ],
)
def test_every_type_of_resource_can_be_asked_for(resource: Any, amounts: dict[str, int]) -> None:
    assert held([resource]) == amounts


def test_a_mapping_says_it_as_a_workflow_file_does() -> None:
    asked = {"cpu": 2, "memory": "1GiB", ResourceType.GPU: 0.5, "licence": 1}
    assert held(asked) == {"cpu": 2000, "memory": 2**30, "gpu": 5000, "licence": 10_000}


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ([TaskResource("custom", 1)], "resources[0]: which one is asked for?"),
        ([TaskResource("cstom", 1, "licence")], "unknown type of resource 'cstom'; did you mean 'custom'?"),
        ([TaskResource("gpu", 1, "sys-memory")], "'sys-memory' is no resource of type 'gpu'"),
        ([TaskResource("custom", 1, "memory")], "'memory' is no resource of type 'custom'"),
        ([TaskResource("disk", "1 lot", "scratch")], "resources[0]: not a size: '1 lot'"),
        (
            [TaskResource("cpu"), TaskResource("cpu", 1, "sys-compute")],
            "resources[1]: cpu is asked for twice",
        ),
        ([TaskResource("gpu", 1, "gpu-0")], "'gpu-0' is one device"),
        ([TaskResource("gpu", 1.5)], "a fraction of a GPU is a share of one device"),
        ([TaskResource("ram", "1GiB")], "unknown resource 'ram'; did you mean 'memory'?"),
        ({"licence": True}, "write licence: 1"),
    ],
)
def test_what_no_step_could_say_is_refused(resources: Any, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        held(resources)
    assert words in str(caught.value)
