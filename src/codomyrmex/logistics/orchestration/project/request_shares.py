"""How large a request is beside what there is: its largest share of any resource.

Layer: pure. The dominant share of DRF (Ghodsi et al. 2011), as a number from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping

from codomyrmex.logistics.orchestration.project.named_resources import NamedResources
from codomyrmex.logistics.orchestration.project.resource_request import CPU, GPU, Request


def dominant_share(
    request: Request, capacities: Mapping[str, int], named: NamedResources, cpu_milli: int
) -> float:
    """The largest share of the machine, or of what the state limits, that one attempt takes; 1 at most."""
    largest = 0.0
    for id, amount in request.machine():
        if id == CPU:
            most = cpu_milli
        elif id == GPU:
            most = sum(each for name, each in capacities.items() if name.startswith(f"{GPU}-"))
        else:
            most = capacities.get(id, 0)
        if most:
            largest = max(largest, amount / most)
    for name, amount in request.named:
        found = named.find(name)
        if found is not None and found.rate is None and found.capacity:
            largest = max(largest, amount / found.capacity)
    return min(1.0, largest)
