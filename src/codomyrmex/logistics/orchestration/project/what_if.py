"""Another supply than the one that is there: what a plan is made for when somebody asks "what if".

Layer: pure. Amounts are read as those of `resources:` in a step. What a machine has can be named by the word
that steps use or by its id; a named resource by its name or id, and also one that only steps know yet. A plan
takes for granted that nobody else uses anything; where somebody does at the moment, a sentence says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from codomyrmex.exceptions import Fault, ValidationError
from codomyrmex.logistics.orchestration.project.amount_words import amount_text
from codomyrmex.logistics.orchestration.project.machine import Gpu, Machine
from codomyrmex.logistics.orchestration.project.named_resources import NamedResource
from codomyrmex.logistics.orchestration.project.resource_amounts import (
    MACHINE_TYPES,
    WORDS,
    AmountFault,
    scale_of,
    to_held,
)
from codomyrmex.logistics.orchestration.project.resource_request import (
    CPU,
    DISK,
    GPU,
    MEMORY,
    NETWORK,
    UNIT,
)
from codomyrmex.logistics.orchestration.project.states import ResourceType
from codomyrmex.logistics.orchestration.project.workflow_faults import nearest

MOST_GPUS = 9999
_FIELDS = {CPU: "cpu_milli", MEMORY: "memory_bytes", DISK: "disk_bytes", NETWORK: "network_bps"}
_NEEDED = frozenset({CPU, MEMORY})
"""No machine is without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supplied:
    """What a plan is made for, and sentences on what was taken to be so."""

    machine: Machine
    named: tuple[NamedResource, ...]
    assumptions: tuple[str, ...] = ()


def supplied(
    what_if: Mapping[str, Any], *, machine: Machine, named: Iterable[NamedResource], asked: Iterable[str]
) -> Supplied:
    """The machine and the named resources, idle, with other amounts where `what_if` gives any.

    `asked` are the names that steps ask for. Raises `ValidationError` with every fault of `what_if`.
    """
    return _Supply(machine, named, frozenset(asked)).with_amounts(what_if)


class _Supply:
    """What is there, changed word by word."""

    def __init__(self, machine: Machine, named: Iterable[NamedResource], asked: frozenset[str]) -> None:
        self._asked = asked
        self._machine = machine
        self._named = {row.id: row for row in named}
        self._ids = {row.name: row.id for row in self._named.values()} | {id: id for id in self._named}
        self._told: list[str] = []
        self._faults: list[Fault] = []

    def with_amounts(self, what_if: Mapping[str, Any]) -> Supplied:
        given: dict[str, str] = {}
        for word, amount in what_if.items():
            id = self._id_of(word)
            if id is None:
                self._faults.append(self._unknown(word))
            elif id in given:
                message = f"`{given[id]}` and `{word}` are the same; keep one"
                self._faults.append(Fault(message=message, path=word, code="twice"))
            else:
                given[id] = word
                self._set(id, word, amount)
        if self._faults:
            raise ValidationError(self._faults, subject="the what-if")
        self._make_idle(given)
        return Supplied(
            machine=self._machine, named=tuple(self._named.values()), assumptions=tuple(self._told)
        )

    def _id_of(self, word: str) -> str | None:
        id = WORDS.get(word, word)
        if id in MACHINE_TYPES:
            return id
        found = self._ids.get(id)
        return found if found is not None or id not in self._asked else id

    def _unknown(self, word: str) -> Fault:
        known = [*(each for each in WORDS if self._id_of(each) is not None), *self._ids, *sorted(self._asked)]
        near = nearest(word, dict.fromkeys(known))
        return Fault(
            message=f"there is no resource {word!r} here, and no step asks for it",
            path=word,
            code="unknown_resource",
            got=word,
            nearest=near,
            advice=None if near else "name cpu, memory, gpu, disk, network, or what a step asks for",
        )

    def _set(self, id: str, word: str, amount: Any) -> None:
        try:
            held = to_held(amount, self._type_of(id), scale_of(id))
            if id in MACHINE_TYPES:
                self._set_machine(id, held)
            else:
                self._set_named(id, held)
        except AmountFault as error:
            self._faults.append(
                Fault(message=str(error), path=word, code=error.code, got=str(amount), advice=error.advice)
            )

    def _type_of(self, id: str) -> ResourceType:
        if id in MACHINE_TYPES:
            return MACHINE_TYPES[id]
        row = self._named.get(id)
        return ResourceType(row.type) if row is not None else ResourceType.CUSTOM

    def _set_machine(self, id: str, held: int) -> None:
        if id == GPU:
            count, part = divmod(held, UNIT)
            if part or count > MOST_GPUS:
                raise AmountFault(f"a machine has whole devices, at most {MOST_GPUS:,}")
            self._machine = replace(self._machine, gpus=tuple(Gpu(index=index) for index in range(count)))
            return
        if held == 0 and id in _NEEDED:
            raise AmountFault("no machine is without")
        changed: dict[str, Any] = {_FIELDS[id]: held}
        self._machine = replace(self._machine, **changed)

    def _set_named(self, id: str, held: int) -> None:
        row = self._named.get(id)
        if row is None:
            self._named[id] = NamedResource(id=id, name=id, type=ResourceType.CUSTOM.value, capacity=held)
            self._told.append(
                f"there is no resource {id!r} here: planned as if there were {amount_text(id, held)}"
            )
        elif row.rate is None:
            self._named[id] = replace(row, capacity=held)
        elif held == 0:
            raise AmountFault("a quota lets more than nothing pass")
        else:
            self._named[id] = replace(row, capacity=held, rate=row.rate._replace(capacity=held))

    def _make_idle(self, given: Mapping[str, str]) -> None:
        """Takes everything for free and in service, and says where it is not, of what steps ask for."""
        for id, row in self._named.items():
            if id in self._asked or row.name in self._asked:
                self._told += _not_idle(row)
            self._named[id] = replace(row, used=0, used_by_others=0, offline=False, tat_us=0, waits=[])
        busy = [gpu for gpu in self._machine.gpus if gpu.busy]
        if busy and GPU not in given:
            self._told += [
                f"{gpu.id} is at work for somebody else: planned as if it were free" for gpu in busy
            ]
            gpus = tuple(replace(gpu, busy=False) for gpu in self._machine.gpus)
            self._machine = replace(self._machine, gpus=gpus)


def _not_idle(row: NamedResource) -> list[str]:
    """What of a named resource is not as a plan takes it to be."""
    told = []
    if row.offline:
        told.append(f"{row.name} is out of service: planned as if it were back")
    if row.used:
        amount = amount_text(row.id, row.used)
        told.append(f"{amount} of {row.name} is in use: planned as if nothing were")
    return told
