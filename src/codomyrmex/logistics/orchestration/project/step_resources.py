"""The `resources:` of a step: its words, what is held of each, and the request that they make.

Layer: pure. Five words mean what every machine has; any other word is a *named resource*, which a state knows
(`codomyrmex resources add`). `api_quota` is short for the quota that every state has. A document holds whole
numbers only: CPUs in thousandths, GPUs and named resources in ten-thousandths, sizes in bytes, so the same
amount is the same document however it was written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from codomyrmex.logistics.orchestration.project.amounts import (
    MAX_SIZE_BYTES,
    RATE_PATTERN,
    SIZE_PATTERN,
    read_milli_cpu,
    read_rate_bps,
    read_size_bytes,
    read_units,
    write_cpu,
    write_size,
    write_units,
)
from codomyrmex.logistics.orchestration.project.resource_request import (
    CPU,
    DEFAULT_CPU_MILLI,
    DEFAULT_QUOTA,
    DISK,
    GPU,
    MEMORY,
    NETWORK,
    UNIT,
    Request,
)

QUOTA_WORD = "api_quota"
"""Means the quota `api-global`."""
MAX_CPUS = 100_000
MAX_GPUS = 4096
MAX_UNITS = 10**14
"""So much of a named resource can be asked for: bytes are a unit too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How the amount of one word is read and written; `most` is in what it is held in."""

    read: Callable[[Any], int]
    write: Callable[[int], Any]
    most: int
    pattern: str = ""
    """Of the texts that it may be, like `256MiB`; empty where it is a number."""
    wanted: str
    counted: str
    """What is wrong with an amount that cannot be held exactly."""


_NO_WHOLE_BYTES = "this is not a whole number of bytes"
MACHINE_AMOUNTS: Mapping[str, Amount] = {
    "cpu": Amount(
        read=read_milli_cpu, write=write_cpu, most=MAX_CPUS * 1000,
        wanted="cpu is a number of CPUs like 2 or 0.5", counted="CPUs are shared in thousandths",
    ),
    "memory": Amount(
        read=read_size_bytes, write=write_size, most=MAX_SIZE_BYTES, pattern=SIZE_PATTERN,
        wanted="memory is a size like 256MiB or 1.5GB", counted=_NO_WHOLE_BYTES,
    ),
    "gpu": Amount(
        read=read_units, write=write_units, most=MAX_GPUS * UNIT,
        wanted="gpu is a number of GPUs like 1 or 0.5", counted="GPUs are shared in ten-thousandths",
    ),
    "disk": Amount(
        read=read_size_bytes, write=write_size, most=MAX_SIZE_BYTES, pattern=SIZE_PATTERN,
        wanted="disk is a size like 10GiB", counted=_NO_WHOLE_BYTES,
    ),
    "network": Amount(
        read=read_rate_bps, write=write_size, most=MAX_SIZE_BYTES, pattern=RATE_PATTERN,
        wanted="network is a size per second like 10MB", counted=_NO_WHOLE_BYTES,
    ),
}  # fmt: skip
NAMED_AMOUNT = Amount(
    read=read_units,
    write=write_units,
    most=MAX_UNITS * UNIT,
    wanted="the amount of a named resource is a number above 0 like 1 or 0.5",
    counted="named resources are counted in ten-thousandths",
)
MACHINE_WORDS = tuple(MACHINE_AMOUNTS)
WORD_OF_ID: Mapping[str, str] = {
    CPU: "cpu",
    MEMORY: "memory",
    DISK: "disk",
    NETWORK: "network",
}
"""The word for what has this id on every machine."""
_DEVICE = re.compile(rf"{GPU}-\d+", re.ASCII)


def is_device(name: str) -> bool:
    """Whether a name is the id of one GPU."""
    return _DEVICE.fullmatch(name) is not None


def read_resources(written: Mapping[str, Any]) -> dict[str, int]:
    """What a document holds of amounts that were found without fault; `x-` keys are left out."""
    held: dict[str, int] = {}
    for name, amount in written.items():
        if not name.startswith("x-"):
            kind = MACHINE_AMOUNTS.get(name, NAMED_AMOUNT)
            word = DEFAULT_QUOTA if name == QUOTA_WORD else str.__str__(name)  # may be a ResourceType
            held[word] = kind.read(amount)
    return held


def write_resources(held: Mapping[str, int]) -> dict[str, Any]:
    """The amounts of a document as a person writes them; reading them gives the same."""
    return {name: MACHINE_AMOUNTS.get(name, NAMED_AMOUNT).write(amount) for name, amount in held.items()}


def request_of(held: Mapping[str, int]) -> Request:
    """What an attempt claims whose document holds these amounts."""
    named = [(name, amount) for name, amount in held.items() if name not in MACHINE_AMOUNTS]
    return Request(
        cpu_milli=held.get("cpu", DEFAULT_CPU_MILLI),
        cpu_given="cpu" in held,
        memory_bytes=held.get("memory", 0),
        gpu=held.get("gpu", 0),
        disk_bytes=held.get("disk", 0),
        network_bps=held.get("network", 0),
        named=tuple(sorted(named)),
    )
