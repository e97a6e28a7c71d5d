"""Recorded runs of scientific workflows: WfFormat JSON 1.5 read into a workflow.

Layer: pure. Every recorded task becomes a step that holds its runtime, times a scale, with the CPUs and the
memory that were recorded; an edge is one that `parents` or `children` tells. What the tasks computed (their
commands and files) is not carried over: nothing is run but the waiting.
Source: https://github.com/wfcommons/WfFormat (schema 1.5).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from codomyrmex.exceptions import Fault, ValidationError
from codomyrmex.logistics.orchestration.project.amounts import write_size
from codomyrmex.logistics.orchestration.project.workflow_dag import Graph
from codomyrmex.logistics.orchestration.project.workflow_faults import Path, clean_name, nearest
from codomyrmex.logistics.orchestration.project.workflow_import.import_report import (
    Imported,
    LeftOut,
    StepNames,
    dotted,
    is_name,
    line_of,
    unreadable,
)
from codomyrmex.logistics.orchestration.project.workflow_schema import MAX_STEPS
from codomyrmex.logistics.orchestration.project.workflow_text import UnreadableText, json_lines, read_json

ACTION = "codomyrmex.logistics.orchestration.project.recorded_work:hold"
MAX_LISTED_FAULTS = 100
_MIB = 2**20
_SPECIFIED: Path = ("workflow", "specification", "tasks")
_EXECUTED: Path = ("workflow", "execution", "tasks")
_NOT_CARRIED: Mapping[str, str] = {
    "command": "the commands are not run: the steps only hold their time",
    "machines": "",
    "avgCPU": "the average use of a CPU says how busy a task was, not how many CPUs it had",
    "priority": "the order is that of this engine",
    "readBytes": "",
    "writtenBytes": "",
    "energyInKWh": "",
    "avgPower": "",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """How a recording is to be read; `max_cpu` and `max_memory_bytes` cap what one task asks for.

    In isolation `thread` thousands of tasks cost next to nothing, but memory, which only a process can be
    held to, is then kept as a note.
    """

    time_scale: float = 1.0
    max_cpu: float | None = None
    max_memory_bytes: int | None = None
    isolation: str = "thread"
    name: str | None = None
    file: str | None = None


@dataclass(slots=True, kw_only=True)
class _Reading:
    """One file on its way: its tree, the faults found so far and what will be left out."""

    recording: Recording
    tree: Mapping[str, Any]
    faults: list[tuple[Path, Fault]] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def fault(self, path: Path, message: str, code: str = "invalid", **more: Any) -> None:
        self.faults.append((path, Fault(message=message, path=dotted(path), code=code, **more)))

    def leave_out(self, what: str, place: str, advice: str = "") -> None:
        self.left_out.append(LeftOut(what=what, place=place, advice=advice))


def read_wfformat(text: str, recording: Recording) -> Imported:
    """The workflow of a recording; `ValidationError` lists every fault with its line."""
    subject = recording.file or "the recording"
    try:
        parsed = read_json(text)
    except UnreadableText as error:
        raise unreadable(error.faults, recording.file, subject) from None
    if parsed.faults:
        raise unreadable(parsed.faults, recording.file, subject)
    tree = parsed.tree if isinstance(parsed.tree, dict) else {}
    reading = _Reading(recording=recording, tree=tree)
    steps = list(_steps(reading))
    if reading.faults:
        raise ValidationError(_placed(reading, text), subject=subject)
    return Imported(tree=_workflow(reading, steps), left_out=reading.left_out, steps=len(steps))


def _placed(reading: _Reading, text: str) -> list[Fault]:
    """The faults with their lines; the text is read again only now."""
    lines = json_lines(text)
    placed = []
    for path, fault in reading.faults[:MAX_LISTED_FAULTS]:
        placed.append(replace(fault, file=reading.recording.file, line=line_of(lines, path)))
    more = len(reading.faults) - len(placed)
    if more > 0:
        placed.append(Fault(message=f"and {more:,} more", code="more"))
    return placed


def _workflow(reading: _Reading, steps: list[dict[str, Any]]) -> dict[str, Any]:
    recording, told = reading.recording, str(reading.tree.get("name") or "")
    name = recording.name or clean_name(told.removesuffix(".json")) or "recording"
    about = f"{told or 'a workflow'} as recorded: {len(steps):,} tasks, time scale {recording.time_scale:g}"
    return {
        "codomyrmex": 1,
        "name": name,
        "description": about,
        "defaults": {"isolation": recording.isolation},
        "steps": steps,
    }


def _steps(reading: _Reading) -> Iterator[dict[str, Any]]:
    """The steps, once everything is known to be right; nothing when there is a fault."""
    specified = _tasks(reading, _SPECIFIED)
    executed = _tasks(reading, _EXECUTED)
    if not (specified and executed):
        return
    if len(specified) > MAX_STEPS:
        reading.fault(_SPECIFIED, f"a workflow has at most {MAX_STEPS:,} steps, this has {len(specified):,}")
        return
    ids = list(specified)
    parents = _parents(reading, specified)
    runs = {task: _executed(reading, task, place, executed) for task, (place, _) in specified.items()}
    for task, (place, _) in executed.items():
        if task not in specified:
            reading.fault((*place, "id"), f"the task {task!r} is not in the specification")
    _check_cycle(reading, ids, parents, specified)
    if reading.faults:
        return
    _note_left_out(reading, specified, executed)
    with_memory = sum("memory" in resources for _, resources in runs.values())
    noted = reading.recording.isolation == "thread"
    if with_memory and noted:
        advice = (
            "it stands as `x-memory`: only a process can be held to it; --isolation process makes it count"
        )
        reading.leave_out(f"`memoryInBytes` of {with_memory:,} tasks", dotted(_EXECUTED), advice)
    names = _names(ids)
    for task in ids:
        yield _step(task, names, parents[task], runs[task], noted=noted)


def _tasks(reading: _Reading, path: Path) -> dict[str, tuple[Path, Mapping[str, Any]]]:
    """The tasks under a path: {id: (place, task)}."""
    here: Any = reading.tree
    for depth, key in enumerate(path):
        if not isinstance(here, dict) or key not in here:
            advice = None
            if "workflow" in reading.tree or path is _SPECIFIED:
                advice = "a recording in WfFormat 1.5 has workflow.specification and workflow.execution"
            reading.fault(
                path[:depth], f"`{dotted(path[: depth + 1])}` is missing", "missing_key", advice=advice
            )
            return {}
        here = here[key]
    if not isinstance(here, list) or not here:
        reading.fault(path, "at least one task must stand here", "wrong_type")
        return {}
    found: dict[str, tuple[Path, Mapping[str, Any]]] = {}
    for index, task in enumerate(here):
        place = (*path, index)
        name = task.get("id") if isinstance(task, dict) else None
        if not isinstance(name, str) or not name:
            reading.fault(place, "a task without an `id`", "missing_key")
        elif name in found:
            reading.fault((*place, "id"), f"two tasks have the id {name!r}", "duplicate")
        else:
            found[name] = (place, task)
    return found


def _parents(
    reading: _Reading, specified: Mapping[str, tuple[Path, Mapping[str, Any]]]
) -> dict[str, list[str]]:
    """The parents of each task, from both sides of the edges."""
    found: dict[str, dict[str, None]] = {task: {} for task in specified}
    children: list[tuple[str, str]] = []
    for task, (place, said) in specified.items():
        for index, parent in enumerate(_texts(reading, said, place, "parents")):
            if _known(reading, parent, specified, (*place, "parents", index)):
                found[task][parent] = None
        for index, child in enumerate(_texts(reading, said, place, "children")):
            if _known(reading, child, specified, (*place, "children", index)):
                children.append((task, child))
    one_sided = [(parent, child) for parent, child in children if parent not in found[child]]
    for parent, child in one_sided:
        found[child][parent] = None
    if one_sided and not reading.faults:
        what = f"{len(one_sided):,} edges stand only in `children`"
        reading.leave_out(what, dotted(_SPECIFIED), "they were taken as edges all the same")
    return {task: list(before) for task, before in found.items()}


def _texts(reading: _Reading, task: Mapping[str, Any], place: Path, key: str) -> list[str]:
    said = task.get(key) or []
    if isinstance(said, list) and all(isinstance(each, str) for each in said):
        return said
    reading.fault((*place, key), "a list of ids must stand here", "wrong_type")
    return []


def _known(reading: _Reading, task: str, specified: Mapping[str, Any], place: Path) -> bool:
    if task in specified:
        return True
    close = nearest(task, specified) if len(specified) <= 5000 else None
    reading.fault(place, f"no task has the id {task!r}", "unknown_step", nearest=close)
    return False


def _check_cycle(
    reading: _Reading,
    ids: list[str],
    parents: Mapping[str, list[str]],
    specified: Mapping[str, tuple[Path, Mapping[str, Any]]],
) -> None:
    index = {task: number for number, task in enumerate(ids)}
    cycle = Graph.build(ids, ([index[each] for each in parents[task]] for task in ids)).find_cycle()
    if cycle is not None:
        shown = " -> ".join(ids[each] for each in [*cycle[:8], cycle[8] if len(cycle) > 8 else cycle[0]])
        place = specified[ids[cycle[0]]][0]
        reading.fault((*place, "parents"), f"the tasks wait for each other: {shown}", "cycle")


def _executed(
    reading: _Reading, task: str, place: Path, executed: Mapping[str, tuple[Path, Mapping[str, Any]]]
) -> tuple[float, dict[str, Any]]:
    """Scaled seconds and resources of a task."""
    if task not in executed:
        reading.fault(place, f"no execution of the task {task!r} is recorded", "missing_key")
        return 0.0, {}
    there, said = executed[task]
    runtime: Any = said.get("runtimeInSeconds")
    if not _is_amount(runtime):
        message = "a runtime of 0 seconds or more must stand here"
        reading.fault((*there, "runtimeInSeconds"), message, "wrong_value", got=repr(runtime)[:40])
        runtime = 0
    resources: dict[str, Any] = {}
    for key in ("coreCount", "memoryInBytes"):
        amount = said.get(key)
        if amount is not None and not _is_amount(amount):
            reading.fault((*there, key), "an amount must stand here", "wrong_value", got=repr(amount)[:40])
        elif amount:
            name, value = _resource(reading, key, float(amount), task)
            resources[name] = value
    return round(runtime * reading.recording.time_scale, 6), resources


def _is_amount(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**60


def _resource(reading: _Reading, key: str, amount: float, task: str) -> tuple[str, Any]:
    """CPUs in thousandths, memory in whole MiB, both rounded up and capped if asked for."""
    recording = reading.recording
    if key == "coreCount":
        cpu = -(-amount * 1000 // 1) / 1000
        if recording.max_cpu is not None and cpu > recording.max_cpu:
            what = f"{cpu:g} CPUs of {task!r} became {recording.max_cpu:g}"
            reading.leave_out(what, "coreCount", "asked for by --max-cpu")
            cpu = recording.max_cpu
        return "cpu", int(cpu) if cpu == int(cpu) else cpu
    size = int(-(-amount // _MIB)) * _MIB
    limit = recording.max_memory_bytes
    if limit is not None and size > limit:
        what = f"{write_size(size)} of {task!r} became {write_size(limit)}"
        reading.leave_out(what, "memoryInBytes", "asked for by --max-memory")
        size = limit
    return "memory", write_size(size)


def _note_left_out(reading: _Reading, specified: Mapping[str, Any], executed: Mapping[str, Any]) -> None:
    """What the recording says of its tasks that steps do not hold, once for each key."""
    with_files = sum(
        bool(said.get("inputFiles") or said.get("outputFiles")) for _, said in specified.values()
    )
    if with_files:
        advice = "no file is read or written; the edges are those of `parents` and `children`"
        reading.leave_out(f"the files of {with_files:,} tasks", dotted(_SPECIFIED), advice)
    for key, advice in _NOT_CARRIED.items():
        count = sum(said.get(key) is not None for _, said in executed.values())
        if count:
            reading.leave_out(f"`{key}` of {count:,} tasks", dotted(_EXECUTED), advice)


def _names(ids: list[str]) -> dict[str, str]:
    """Step names by id: an id that is a good name keeps it, whatever the others have to become."""
    good = {task for task in ids if is_name(task)}
    names = StepNames(good)
    return {task: task if task in good else names.take(task, otherwise="task") for task in ids}


def _step(
    task: str, names: Mapping[str, str], parents: list[str], run: tuple[float, dict[str, Any]], *, noted: bool
) -> dict[str, Any]:
    """A step; where memory is only noted it is no resource of it."""
    seconds, resources = run
    memory = resources.pop("memory", None) if noted else None
    step: dict[str, Any] = {"name": names[task]}
    if names[task] != task:
        step["description"] = task
    step["call"] = ACTION
    step["with"] = {"seconds": seconds}
    if parents:
        step["needs"] = [names[each] for each in parents]
    if resources:
        step["resources"] = resources
    if memory is not None:
        step["x-memory"] = memory
    return step
