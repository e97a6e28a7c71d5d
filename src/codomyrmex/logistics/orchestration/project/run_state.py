"""One run in memory: columns, not objects.

Layer: pure. A *position* is the number of a task in its run: the steps come first, in the order of the
definition, and every fan-out appends a range for its items. Per position there is one byte of state and
two of attempt count; per step there is the number of parents that are not terminal. Everything rare
(failed parents, crashes, errors, fan-outs) lives in dictionaries that are empty in a plain run.

A `RunState` only ever shows what is committed. What a drain is about to do stands in a `RunPlan`
(`run_plan.py`), which reads through to the columns here and is written into them by `apply` once the
transaction has succeeded.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.states import (
    CODES,
    FIRST_TERMINAL_CODE,
    RunIntent,
    TaskStatus,
    WorkflowStatus,
)
from codomyrmex.logistics.orchestration.project.step_spec import StepSpec

PENDING = CODES[TaskStatus.PENDING]
BLOCKED = CODES[TaskStatus.BLOCKED]
RUNNING = CODES[TaskStatus.RUNNING]
COMPLETED = CODES[TaskStatus.COMPLETED]
FAILED = CODES[TaskStatus.FAILED]
CANCELLED = CODES[TaskStatus.CANCELLED]
SKIPPED = CODES[TaskStatus.SKIPPED]

KEPT_OUTPUT_BYTES = 4096
"""Outputs up to this size that somebody refers to stay in memory; larger ones are read when wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What a run was started with besides its definition; all but `environment` is stored with it."""

    root: str
    roots: tuple[str, ...] = ()
    """Where project modules are looked for, in order."""
    file: str | None = None
    """The workflow file, absolute, where there was one."""
    max_parallel: int | None = None
    python: str | None = None
    timeout_s: float | None = None
    in_engine: bool = False
    """True where steps named by module + action may be imported into the engine (made in Python)."""
    environment: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The stored part."""
        return {
            "root": self.root,
            "roots": list(self.roots),
            "file": self.file,
            "max_parallel": self.max_parallel,
            "python": self.python,
            "timeout_s": self.timeout_s,
            "in_engine": self.in_engine,
        }


@dataclass(slots=True)
class Group:
    """The items of a fan-out step: positions `first` to `first + size - 1`."""

    step: int
    first: int
    size: int
    items: list[Any]
    open: int
    bad: int = 0


class RunState:
    """The columns of one run; see the module."""

    __slots__ = (
        "attempts", "counts", "crashes", "decoded", "errors", "failed_parents", "first_failure",
        "group_starts", "group_steps", "groups", "id", "intent", "journal_length", "load_output", "losses",
        "number", "open", "options", "outputs", "parameters", "rows_ahead", "running", "skipped_parents",
        "state", "status", "step_count", "stopping", "timers", "typical_s", "waiting", "whole_output",
        "workflow",
    )  # fmt: skip

    def __init__(
        self,
        *,
        number: int,
        id: str,
        workflow: CompiledWorkflow,
        parameters: Mapping[str, Any],
        options: RunOptions,
    ) -> None:
        size = self.step_count = len(workflow)
        self.number = number
        self.id = id
        self.workflow = workflow
        self.parameters = parameters
        self.options = options
        self.status = WorkflowStatus.PENDING
        self.intent = RunIntent.NONE
        self.stopping: str | None = None
        """Why no new task starts any more (`cancelled`, `fail_fast`), or None."""
        self.state = bytearray([BLOCKED]) * size
        self.attempts: array[int] = array("H", bytes(2 * size))
        offsets = workflow.graph.parent_offsets
        self.waiting: array[int] = array("I", (offsets[step + 1] - offsets[step] for step in range(size)))
        self.failed_parents: dict[int, int] = {}
        self.skipped_parents: dict[int, int] = {}
        self.groups: dict[int, Group] = {}
        self.group_starts: list[int] = []
        self.group_steps: list[int] = []
        self.outputs: dict[int, bytes] = {}
        self.decoded: dict[int, Any] = {}
        self.errors: dict[int, dict[str, Any]] = {}
        self.crashes: dict[int, int] = {}
        self.losses: dict[int, int] = {}
        self.timers: dict[int, int] = {}
        """When the next attempt of a position is due that is blocked by a timer (microseconds)."""
        self.counts = [0] * len(CODES)
        self.counts[BLOCKED] = size
        self.open = size
        self.journal_length = 0
        """How many lines of the journal this run has."""
        self.running = 0
        """Attempts in flight: RUNNING positions that are not fan-out steps."""
        self.first_failure: int | None = None
        self.rows_ahead = False
        """True once a task that was never started may have a row all the same: in a run read back from the
        store, and after tasks were taken back before they began."""
        self.typical_s: array[float] = array("d", [-1.0]) * len(workflow.specs)
        """Per spec, how long its attempts take: the largest of late, slowly forgotten; -1 while unknown."""
        self.load_output: Callable[[int], bytes | None] = lambda position: None
        """Reads a recorded output that is not in memory."""
        self.whole_output: Callable[[bytes], bytes | None] = lambda output: output
        """What the content of a row stands for: of a large output it has only the name of the file."""

    def __len__(self) -> int:
        """The number of positions."""
        return len(self.state)

    @property
    def terminal(self) -> bool:
        return self.status.terminal

    def step_of(self, position: int) -> int:
        """The number of the step that a position belongs to."""
        if position < self.step_count:
            return position
        return self.group_steps[bisect_right(self.group_starts, position) - 1]

    def spec_of(self, position: int) -> StepSpec:
        """How attempts of a position are run."""
        return self.workflow.spec(self.step_of(position))

    def item_number(self, position: int) -> int | None:
        """The index of an item in its fan-out, or None for a step."""
        if position < self.step_count:
            return None
        return position - self.group_starts[bisect_right(self.group_starts, position) - 1]

    def name_of(self, position: int) -> str:
        """`name`, or `name[i]` for an item."""
        item = self.item_number(position)
        name = self.workflow.names[self.step_of(position)]
        return name if item is None else f"{name}[{item}]"

    def position_of(self, name: str) -> int | None:
        """The position of `name` or `name[i]`, or None where there is none."""
        step = self.workflow.index.get(name)
        if step is not None:
            return step
        head, bracket, tail = name.partition("[")
        step = self.workflow.index.get(head)
        group = self.groups.get(step) if step is not None else None
        if not bracket or group is None or not tail[:-1].isdecimal() or int(tail[:-1]) >= group.size:
            return None
        return group.first + int(tail[:-1])

    def output_of(self, position: int) -> bytes | None:
        """The encoded output of a completed position, from memory or from the store."""
        found = self.outputs.get(position)
        return self.whole_output(found) if found is not None else self.load_output(position)

    def add_group(self, step: int, first: int, items: list[Any]) -> Group:
        """Appends the positions of a fan-out; they begin as PENDING."""
        size = len(items)
        group = self.groups[step] = Group(step, first, size, items, open=size)
        if size:
            self.group_starts.append(first)
            self.group_steps.append(step)
            self.state.extend(bytes([PENDING]) * size)
            self.attempts.frombytes(bytes(2 * size))
            self.counts[PENDING] += size
            self.open += size
        return group

    def move(self, position: int, code: int) -> None:
        """Sets a state and keeps the counts; the legality was looked up when it was planned."""
        self.move_all({position: code})

    def move_all(self, codes: Mapping[int, int]) -> None:
        """The same for many positions."""
        state, counts, groups, timers = self.state, self.counts, self.groups, self.timers
        for position, code in codes.items():
            before = state[position]
            state[position] = code
            counts[before] -= 1
            counts[code] += 1
            if code == RUNNING or before == RUNNING:
                if position not in groups:
                    self.running += (code == RUNNING) - (before == RUNNING)
            elif before == BLOCKED and timers:
                timers.pop(position, None)
            if code >= FIRST_TERMINAL_CODE > before:
                self.open -= 1
