"""What people write of amounts, read into the whole numbers that are held, and back.

Layer: pure. Machine resources are held in thousandths of a CPU, bytes, bytes per second and ten-thousandths
of a device; named ones always in ten-thousandths of their unit (`resource_request.UNIT`). Nothing is rounded:
what is finer than a type is counted (1e-3 CPU, 1e-4 of a device or a unit, one byte) is a fault that names
its place. A float counts as the decimal that it prints as; the last bit that float arithmetic gets wrong
(`0.1 + 0.2`) is forgiven.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

from codomyrmex.exceptions import Fault, ResourceRefused, ValidationError
from codomyrmex.logistics.orchestration.project.amounts import read_size_bytes
from codomyrmex.logistics.orchestration.project.resource_request import (
    CPU,
    DEFAULT_QUOTA,
    DISK,
    GPU,
    MEMORY,
    NETWORK,
    UNIT,
)
from codomyrmex.logistics.orchestration.project.states import ResourceType

MAX_HELD = 2**62
"""No amount, and so no sum that fits a capacity, overflows the store's 64 bits."""
WORDS: Mapping[str, str] = {
    "cpu": CPU,
    "memory": MEMORY,
    "gpu": GPU,
    "disk": DISK,
    "network": NETWORK,
    "api_quota": DEFAULT_QUOTA,
}
"""What a word in `resources` stands for."""
MACHINE_TYPES: Mapping[str, ResourceType] = {
    CPU: ResourceType.CPU,
    MEMORY: ResourceType.MEMORY,
    DISK: ResourceType.DISK,
    NETWORK: ResourceType.NETWORK,
    GPU: ResourceType.GPU,
}

_DEVICE = re.compile(r"gpu-(?:0|[1-9][0-9]{0,5})")
_NUMBER = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?")
_FINEST = {ResourceType.CPU: 1000, ResourceType.MEMORY: 1, ResourceType.DISK: 1, ResourceType.NETWORK: 1}
_COUNTED_IN = {
    ResourceType.CPU: "CPUs are shared in thousandths",
    ResourceType.GPU: "devices are shared in ten-thousandths",
    ResourceType.MEMORY: "this is not a whole number of bytes",
    ResourceType.DISK: "this is not a whole number of bytes",
    ResourceType.NETWORK: "this is not a whole number of bytes per second",
}
_SIZES: Mapping[str, Fraction] = {
    word: Fraction(size)
    for words, size in (
        ("bytes b", 1),
        ("kb", 10**3), ("mb", 10**6), ("gb", 10**9), ("tb", 10**12),
        ("kib", 2**10), ("mib", 2**20), ("gib", 2**30), ("tib", 2**40),
    )
    for word in words.split()
}  # fmt: skip
_ONE = Fraction(1)
_UNITS: Mapping[ResourceType, Mapping[str, Fraction]] = {
    ResourceType.CPU: {"cores": _ONE, "cpus": _ONE, "millicores": Fraction(1, 1000)},
    ResourceType.MEMORY: _SIZES,
    ResourceType.DISK: _SIZES,
    ResourceType.NETWORK: _SIZES,
    ResourceType.GPU: {"devices": _ONE, "count": _ONE},
    ResourceType.API_QUOTA: {"calls": _ONE, "requests": _ONE, "units": _ONE},
    ResourceType.CUSTOM: {"units": _ONE, "slots": _ONE, "count": _ONE},
}
_OTHERS_WORDS = {
    "cpus": "cpu", "cores": "cpu", "core": "cpu", "processors": "cpu", "vcpu": "cpu", "compute": "cpu",
    "ram": "memory", "mem": "memory", "gpus": "gpu", "cuda": "gpu", "storage": "disk", "space": "disk",
    "bandwidth": "network", "net": "network", "api": "api_quota", "quota": "api_quota", "rate": "api_quota",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Known:
    """A resource that can be asked for: its id, and how its amounts are read."""

    id: str
    type: ResourceType


class AmountFault(ValueError):
    """What is wrong with one amount; `code` and `advice` go into the fault that names its place."""

    def __init__(self, message: str, *, code: str = "wrong_value", advice: str | None = None) -> None:
        super().__init__(message)
        self.code, self.advice = code, advice


def machine_type(resource_id: str) -> ResourceType | None:
    """The type of what the host has (`sys-memory`, `gpu-3`; `gpu` is any device), None for named resources."""
    found = MACHINE_TYPES.get(resource_id)
    if found is None and _DEVICE.fullmatch(resource_id):
        return ResourceType.GPU
    return found


def scale_of(resource_id: str) -> int:
    """How many of what is held make one of what people count in."""
    kind = machine_type(resource_id)
    return UNIT if kind is None else _FINEST.get(kind, UNIT)


def from_held(held: int, scale: int) -> int | float:
    """What people read: whole amounts as `int`, parts as the nearest `float`."""
    whole, rest = divmod(held, scale)
    return held / scale if rest else whole


def to_held(amount: Any, kind: ResourceType, scale: int) -> int:
    """What is held for an amount as people write it: a number, a size or number as text, `{unit: number}`.

    Raises `AmountFault`, for 0 not.
    """
    if type(amount) is int or (type(amount) is float and amount.is_integer()):
        held = int(amount) * scale
        if 0 <= held <= MAX_HELD:
            return held
    if isinstance(amount, Mapping):
        return _of_mapping(amount, kind, scale)
    if isinstance(amount, str):
        return _held(_of_text(amount, kind), kind, scale)
    return _held(_of_number(amount), kind, scale)


def read_amount(amount: Any, kind: ResourceType, scale: int, *, path: str) -> int:
    """As `to_held`, but 0 is a fault too; raises `ValidationError` with the place `path`."""
    try:
        held = to_held(amount, kind, scale)
        if held == 0:
            raise AmountFault("an amount is above 0")
    except AmountFault as error:
        raise ValidationError([_fault(error, path, amount)], subject="the request") from None
    return held


def read_requirements(requirements: Mapping[str, Any], named: Mapping[str, Known]) -> dict[str, int]:
    """{resource id: what is held of it}; 0 asks for nothing. `named` are the state's resources, by name and by id.

    Raises `ValidationError` with every fault, or `ResourceRefused` where all that is wrong is that there are no
    such resources.
    """
    faults: list[Fault] = []
    found: dict[str, tuple[str, int]] = {}
    for word, amount in requirements.items():
        known = find(str(word), named)
        if known is None:
            faults.append(_unknown(str(word), named))
            continue
        try:
            held = to_held(amount, known.type, scale_of(known.id))
            if known.id in found:
                raise AmountFault(f"`{found[known.id][0]}` and `{word}` are the same; keep one", code="twice")
            found[known.id] = (str(word), held)
        except AmountFault as error:
            faults.append(_fault(error, str(word), amount))
    if faults:
        raise refusal(faults)
    return {id: held for id, (_word, held) in found.items() if held}


def find(word: str, named: Mapping[str, Known]) -> Known | None:
    """What a word of `resources` means: one of the six words, an id of the machine's, a named resource."""
    id = WORDS.get(word, word)
    kind = machine_type(id)
    return named.get(id) if kind is None else Known(id, kind)


def unknown(word: str, named: Mapping[str, Known]) -> ResourceRefused | ValidationError:
    """The error for a resource that nobody knows."""
    return refusal([_unknown(word, named)])


def refusal(faults: list[Fault]) -> ResourceRefused | ValidationError:
    """The error for faults of a request; where only resources are missing, what adds the first is the hint."""
    if any(fault.code != "unknown_resource" for fault in faults):
        return ValidationError(faults, subject="the request")
    return ResourceRefused(
        "; ".join(str(replace(fault, path="")) for fault in faults),
        hint=f"add it: codomyrmex resources add {faults[0].got} --type custom --capacity 1",
        details=[fault.to_dict() for fault in faults],
    )


def _unknown(word: str, named: Mapping[str, Known]) -> Fault:
    from difflib import get_close_matches

    near = _OTHERS_WORDS.get(word.lower())
    if near is None:
        near = next(iter(get_close_matches(word, [*WORDS, *named, *MACHINE_TYPES], n=1)), None)
    message = f"there is no resource {word!r} here"
    return Fault(message=message, path=word, code="unknown_resource", got=word, nearest=near)


def _fault(error: AmountFault, path: str, amount: Any) -> Fault:
    return Fault(message=str(error), path=path, code=error.code, got=repr(amount)[:80], advice=error.advice)


def _of_mapping(amount: Mapping[Any, Any], kind: ResourceType, scale: int) -> int:
    units = {**_UNITS[kind], "amount": _ONE}
    if len(amount) != 1:
        raise AmountFault(f"one of {', '.join(units)} with a number is wanted", code="wrong_type")
    ((word, number),) = amount.items()
    factor = units.get(str(word).lower())
    if factor is None:
        raise AmountFault(f"there is no unit {word!r}; there are {', '.join(units)}", code="unknown_key")
    return _held(_of_number(number), kind, scale, factor)


def _of_text(text: str, kind: ResourceType) -> Fraction:
    if kind in (ResourceType.MEMORY, ResourceType.DISK, ResourceType.NETWORK):
        bare = text.removesuffix("/s") if kind is ResourceType.NETWORK else text
        try:
            return Fraction(read_size_bytes(bare))
        except ValueError as error:
            raise AmountFault(str(error), advice="write a size: 256MiB, 10GB, 4096") from None
    if _NUMBER.fullmatch(text.strip().removeprefix("-")) is None:
        advice = "write a number, without a unit: 1, 4, 0.5"
        raise AmountFault(f"not a number: {text!r}", code="wrong_type", advice=advice)
    return _of_number(Fraction(text.strip()))


def _of_number(number: Any) -> Fraction:
    if isinstance(number, bool):
        raise AmountFault("an amount is a number", code="wrong_type", advice="write 1 for one of it")
    read = _reader(number)
    if read is None:
        raise AmountFault(f"an amount is a number, not {type(number).__name__}", code="wrong_type")
    try:
        exact = read(number)
    except (ValueError, OverflowError):
        raise AmountFault(f"{number!r} is no amount") from None
    if exact < 0:
        raise AmountFault("an amount is above 0")
    return exact


def _reader(number: Any) -> Callable[[Any], Fraction] | None:
    if isinstance(number, float):
        return _of_float
    if isinstance(number, int | Fraction | Decimal):
        return Fraction
    return (lambda each: Fraction(each.__index__())) if hasattr(number, "__index__") else None


def _of_float(number: float) -> Fraction:
    if not math.isfinite(number):
        raise ValueError("not finite")
    return Fraction(repr(float(number)))


def _held(exact: Fraction, kind: ResourceType, scale: int, factor: Fraction = _ONE) -> int:
    finest = _FINEST.get(kind, UNIT)
    steps = exact * factor * finest
    nearest = round(steps)
    if nearest != steps and not _is_noise(steps, nearest):
        raise AmountFault(_COUNTED_IN.get(kind, "units are counted in ten-thousandths"), code="too_fine")
    held = nearest * (scale // finest)
    if held > MAX_HELD:
        raise AmountFault("this is more than can be counted", code="too_much")
    if kind is ResourceType.GPU and nearest > finest and nearest % finest:
        raise AmountFault("a part of a device is below 1; above it devices are whole", code="wrong_value")
    return held


def _is_noise(steps: Fraction, nearest: int) -> bool:
    """Whether two numbers differ by no more than the last bits of a float."""
    return abs(float(steps) - nearest) <= 4 * math.ulp(float(nearest)) and nearest > 0
