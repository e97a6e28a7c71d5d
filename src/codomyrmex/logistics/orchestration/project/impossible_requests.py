"""Requests of steps that can never be met: more than the machine has, or of something that nobody added.

Layer: pure, above compiled workflows. What is only taken at the moment, or out of service, is not impossible:
the step waits for it. One CPU that nobody asked for is never refused either, since less does then. Every step
that cannot be met is told, those of the workflows that it starts too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from codomyrmex.exceptions import Fault
from codomyrmex.logistics.orchestration.project.amounts import write_cpu, write_size, write_units
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow, Path
from codomyrmex.logistics.orchestration.project.resource_request import (
    CPU,
    DISK,
    GPU,
    MEMORY,
    NETWORK,
    UNIT,
    NamedLimit,
    Request,
)
from codomyrmex.logistics.orchestration.project.workflow_faults import nearest

Placed = tuple[Path, Fault]


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """The most that there will ever be: of the machine by id, and of named resources by name and by id."""

    capacities: Mapping[str, int]
    named: Mapping[str, NamedLimit]


def asks_for_gpus(workflows: Iterable[CompiledWorkflow]) -> bool:
    """Whether any step asks for a GPU, so that somebody has to look for them."""
    return any(spec.request.gpu for workflow in workflows for spec in workflow.specs)


def asks_for_named(workflows: Iterable[CompiledWorkflow]) -> bool:
    """Whether any step asks for a named resource, so that somebody has to look them up."""
    return any(spec.request.named for workflow in workflows for spec in workflow.specs)


def impossible_requests(workflow: CompiledWorkflow, supply: Supply) -> list[Placed]:
    """What each step asks for that can never be met, in the order of the steps, with its place."""
    bad = {
        number: found for number, spec in enumerate(workflow.specs) if (found := _unmet(spec.request, supply))
    }
    if not bad:
        return []
    return [
        ((*_place(workflow, step), "resources", word), fault)
        for step, number in enumerate(workflow.spec_of)
        for word, fault in bad.get(number, ())
    ]


def _unmet(request: Request, supply: Supply) -> list[tuple[str, Fault]]:
    """The words of a request that ask for too much."""
    found: list[tuple[str, Fault]] = []
    had = supply.capacities
    if request.cpu_given and request.cpu_milli > had.get(CPU, 0):
        asked_cpus = write_cpu(request.cpu_milli)
        what = f"{asked_cpus} CPU{'' if asked_cpus == 1 else 's'}"
        found.append(("cpu", _too_much(what, write_cpu(had.get(CPU, 0)))))
    for word, id, asked in (
        ("memory", MEMORY, request.memory_bytes),
        ("disk", DISK, request.disk_bytes),
        ("network", NETWORK, request.network_bps),
    ):
        if asked > had.get(id, 0):
            per = "/s" if id == NETWORK else ""
            what = f"{size_text(asked)}{per} of {word}"
            found.append((word, _too_much(what, f"{size_text(had.get(id, 0))}{per}")))
    devices = sum(id.startswith(f"{GPU}-") for id in had)
    if request.gpu > devices * UNIT:
        count = write_units(request.gpu)
        what = f"{count} of a GPU" if count < 1 else f"{count} GPU{'' if count == 1 else 's'}"
        found.append(("gpu", _too_much(what, devices)))
    found += [
        (name, fault) for name, asked in request.named if (fault := _of_named(name, asked, supply.named))
    ]
    return found


def _too_much(what: str, had: float | str) -> Fault:
    return Fault(message=f"asks for {what}, and the machine has {had or 'none'}", code="impossible")


def _of_named(name: str, asked: int, named: Mapping[str, NamedLimit]) -> Fault | None:
    limit = named.get(name)
    if limit is None:
        capacity = -(-asked // UNIT)
        advice = f"add it: codomyrmex resources add {name} --type custom --capacity {capacity}"
        message = f"there is no resource {name!r}"
        return Fault(
            message=message, code="unknown_resource", got=name, nearest=nearest(name, named), advice=advice
        )
    most = limit.capacity if limit.burst is None else limit.burst
    if asked <= most:
        return None
    message = f"asks for {write_units(asked)} of {name!r}, and at most {write_units(most)} can be had at once"
    return Fault(message=message, code="impossible")


def _place(workflow: CompiledWorkflow, step: int) -> Path:
    """Where a step stands in the document."""
    main, undone, failed, _ = workflow.phase_ends
    if step < main:
        return ("steps", step)
    if step < undone:
        return ("steps", workflow.undoes[step], "compensate")
    return ("on_failure", step - undone) if step < failed else ("finally", step - failed)


def size_text(size_bytes: int) -> str:
    """A size as it is written, or rounded where that would be a row of digits: `512MiB`, `3.8GiB`."""
    exact = write_size(size_bytes)
    if len(exact) <= _LONGEST:
        return exact
    unit = next(each for each in _ROUGH if size_bytes >= _ROUGH[each])
    return f"{size_bytes / _ROUGH[unit]:.1f}{unit}"


_ROUGH = {"TiB": 2**40, "GiB": 2**30, "MiB": 2**20, "KiB": 2**10}
_LONGEST = 7
