"""What a workflow under test asks for is there: a machine as large as its largest step, and every resource it names.

A test says what a workflow does, not what the machine of whoever runs it can hold. So a step that asks for
eight devices runs on a laptop, and a lock that the state of the test has never heard of is there in any
amount. What the machine has is left as it is wherever it is enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from codomyrmex.logistics.orchestration.project.machine import Overrides
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.logistics.orchestration.project.resource_request import (
    CPU,
    DISK,
    MEMORY,
    NETWORK,
    UNIT,
)
from codomyrmex.logistics.orchestration.project.resources import Resource
from codomyrmex.logistics.orchestration.project.states import ResourceType
from codomyrmex.logistics.orchestration.project.step_resources import MACHINE_WORDS

PLENTY = 1_000_000


def supply(engine: OrchestrationEngine, document: Mapping[str, Any]) -> None:
    """Sees to it that every request of a checked document can be met."""
    most: dict[str, int] = {}
    for resources in _requests(document):
        for word, amount in resources.items():
            most[word] = max(amount, most.get(word, 0))
    have = engine.host.machine.capacities()

    def more(word: str, id: str) -> int | None:
        return most[word] if most.get(word, 0) > have.get(id, 0) else None

    engine.host.believe(
        Overrides(
            cpu_milli=more("cpu", CPU),
            memory_bytes=more("memory", MEMORY),
            disk_bytes=more("disk", DISK),
            network_bps=more("network", NETWORK),
            gpu_count=-(-most["gpu"] // UNIT) if most.get("gpu") else None,
        )
    )
    for name in most.keys() - set(MACHINE_WORDS):
        if engine.resources.get_resource(name) is None:
            engine.resources.add_resource(
                Resource(id=name, name=name, type=ResourceType.CUSTOM, capacity=PLENTY)
            )


def _requests(tree: Any) -> Iterator[Mapping[str, int]]:
    """Every `resources` of a document, wherever it stands."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            if key == "resources" and isinstance(value, Mapping):
                yield value
            elif key not in ("parameters", "env", "outputs"):
                yield from _requests(value)
    elif isinstance(tree, list):
        for each in tree:
            yield from _requests(each)
