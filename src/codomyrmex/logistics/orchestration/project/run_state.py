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
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from codomyrmex.logistics.orchestration.project.child_definition import ChildDefinition
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.states import (
    CODES,
    BlockReason,
    RunIntent,
    RunPhase,
    TaskStatus,
    WorkflowStatus,
)
from codomyrmex.logistics.orchestration.project.step_spec import StepSpec

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.followed_plan import Turn

PENDING = CODES[TaskStatus.PENDING]
BLOCKED = CODES[TaskStatus.BLOCKED]
RUNNING = CODES[TaskStatus.RUNNING]
COMPLETED = CODES[TaskStatus.COMPLETED]
FAILED = CODES[TaskStatus.FAILED]
CANCELLED = CODES[TaskStatus.CANCELLED]
SKIPPED = CODES[TaskStatus.SKIPPED]

NO_TAILS: array[float] = array("d")
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
    """How long main may take, from what started the run; the workflow may say less."""
    in_engine: bool = False
    """True where steps named by module + action may be imported into the engine (made in Python)."""
    force: bool = False
    """True where results of the cache are not looked up; they are kept all the same."""
    concurrency: str | None = None
    """The key that keeps runs of one kind apart, worked out."""
    labels: Mapping[str, str] = field(default_factory=dict)
    session: str | None = None
    """The session that it belongs to, out of whose holding it is served."""
    mode: str | None = None
    """The order in which that session's tasks go (`OrchestrationMode`); None: as everywhere in its engine,"""
    weight: float | None = None
    """and its part of the machine beside those of other sessions that have work; None: as it is."""
    follow: tuple[str, ...] | None = None
    """The tasks in the order in which they are to begin, where a plan is followed."""
    clean_env: tuple[str, ...] | None = None
    """What its attempts inherit of the engine's variables besides the few that any program needs; None: all."""
    environment: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """What is stored as one text; key and labels have columns of their own."""
        return {
            "root": self.root,
            "roots": list(self.roots),
            "file": self.file,
            "max_parallel": self.max_parallel,
            "python": self.python,
            "timeout_s": self.timeout_s,
            "in_engine": self.in_engine,
            "force": self.force,
            "session": self.session,
            "mode": self.mode,
            "weight": self.weight,
            "follow": None if self.follow is None else list(self.follow),
            "clean_env": None if self.clean_env is None else list(self.clean_env),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """What a child run belongs to: a task of another run, and which attempt of it."""

    run: int
    """The number of that run."""
    position: int
    attempt: int
    root: int
    """The number of the run at the top, whose limits hold for the whole tree."""
    root_cap: int | None = None
    """How many tasks of the whole tree may run at once."""
    keyed: bool = False
    """True where a run above has a concurrency key."""


@dataclass(slots=True)
class Group:
    """The items of a fan-out step: positions `first` to `first + size - 1`."""

    step: int
    first: int
    size: int
    items: list[Any]
    open: int
    failed: int = 0
    cancelled: int = 0
    opened: int = 0
    """How many items have been opened, of a step that holds no slot."""


class RunState:
    """The columns of one run; see the module."""

    __slots__ = (
        "attempts",
        "began_us",
        "blocked",
        "children",
        "compensation",
        "counts",
        "crashes",
        "deadline_us",
        "decoded",
        "errors",
        "failed_parents",
        "first_failure",
        "group_starts",
        "group_steps",
        "groups",
        "handler_failure",
        "id",
        "intent",
        "journal_length",
        "lanes",
        "load_output",
        "losses",
        "memory_raises",
        "number",
        "open",
        "options",
        "outcome",
        "outputs",
        "parameters",
        "parent",
        "paused_us",
        "phase",
        "result",
        "running",
        "signal_names",
        "signals",
        "skipped_parents",
        "slowest_s",
        "span_us",
        "state",
        "status",
        "step_count",
        "stopped_groups",
        "stopping",
        "tails",
        "task_s",
        "timers",
        "turn",
        "typical_s",
        "undoable",
        "undone",
        "waiting",
        "whole_output",
        "wish_cancelled",
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
        children: Mapping[str, ChildDefinition] | None = None,
        parent: Parent | None = None,
    ) -> None:
        size = self.step_count = len(workflow)
        self.number = number
        self.id = id
        self.workflow = workflow
        self.parameters = parameters
        self.options = options
        self.children = children or {}
        self.parent = parent
        self.status = WorkflowStatus.PENDING
        self.phase = RunPhase.MAIN
        self.outcome: WorkflowStatus | None = None
        """What main became, once that is decided."""
        self.result: tuple[str | None, str | None] | None = None
        """Outputs and error, encoded, once the outcome is decided."""
        self.intent = RunIntent.NONE
        self.stopping: str | None = None
        """Why no new task of this phase starts any more (`cancelled`, `fail_fast`, `timeout`), or None."""
        self.deadline_us: int | None = None
        self.paused_us: int | None = None
        self.state = bytearray([BLOCKED]) * size
        self.attempts: array[int] = array("H", bytes(2 * size))
        offsets = workflow.graph.parent_offsets
        self.waiting: array[int] = array("I", (offsets[step + 1] - offsets[step] for step in range(size)))
        self._begin_rare()
        self._begin_waits()
        self.counts = [0] * len(CODES)
        """Tasks per state; those of a phase that has not begun are none."""
        self.counts[BLOCKED] = workflow.main_count
        self.open = workflow.main_count
        """Tasks of the present phase that are not terminal."""
        self.journal_length = 0
        """How many lines of the journal this run has."""
        self.running = 0
        """Attempts in flight: RUNNING positions that are not fan-out steps."""
        self.first_failure: int | None = None
        self.handler_failure: int | None = None
        """The first required task of a later phase that failed."""
        self.wish_cancelled = False
        """True once a task was cancelled because somebody cancelled the run."""
        self.typical_s: array[float] = array("d", [-1.0]) * len(workflow.specs)
        """Per spec, how long its attempts take: the largest of late, slowly forgotten; -1 while unknown."""
        self._know_waits()
        self._begin_order()
        self.load_output: Callable[[int], bytes | None] = lambda position: None
        """Reads a recorded output that is not in memory."""
        self.whole_output: Callable[[bytes], bytes | None] = lambda output: output
        """What the content of a row stands for: of a large output it has only the name of the file."""

    def _begin_rare(self) -> None:
        """What a plain run has none of."""
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
        self.memory_raises: dict[int, int] = {}
        """How often a task ran out of memory, of those that ask for more then."""
        self.timers: dict[int, int] = {}
        """When the next attempt of a position is due that is blocked by a timer (microseconds)."""

    def _begin_waits(self) -> None:
        """What there is of steps without a slot, of handlers and of compensation: nothing yet."""
        self.blocked: dict[int, BlockReason] = {}
        """What the open positions wait for that hold no slot."""
        self.signals: dict[str, bytes] = {}
        self.signal_names: dict[int, str] = {}
        """The name of the signal that an open position waits for."""
        self.stopped_groups: set[int] = set()
        """Fan-outs of which nothing new starts because an item failed."""
        self.undoable: list[tuple[int, int]] = []
        """What has completed and can be undone: when (microseconds), and its position."""
        self.compensation: list[int] = []
        """The positions that undo, in their order, once that phase has begun."""
        self.undone = 0
        """How many of them, from the first, are known to have ended."""

    def _begin_order(self) -> None:
        """What decides which of its tasks go first; worked out when the run is taken up."""
        self.tails: array[float] = NO_TAILS
        """Per step the longest path ahead (`tails`), from when the run begins here."""
        self.began_us = 0
        """When it was taken up here."""
        self.task_s = 0.0
        """What one of its tasks is expected to take, as learned in earlier runs; 0 where nothing was."""
        self.span_us = 0
        """How long its tasks let each other pass (`order_policy`)."""
        self.lanes: dict[int, Any] = {}
        """Per spec the lane of its tasks in the queues, where all of them stand in one."""
        self.slowest_s = 0.0
        """The longest that one of its tasks has taken here."""
        self.turn: Turn | None = None
        """Whose turn it is, where the run follows a plan, from when it begins here."""

    def _know_waits(self) -> None:
        """Of steps without a slot, or that run late if at all, nothing needs to be learned before others are quick."""
        workflow = self.workflow
        if not workflow.waiting and workflow.main_count == self.step_count:
            return
        main = {workflow.spec_of[step] for step in range(workflow.main_count) if step not in workflow.waiting}
        for spec in set(range(len(workflow.specs))) - main:
            self.typical_s[spec] = 0.0

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

    def item_of(self, position: int) -> tuple[Any, int] | None:
        """Item and index of a position of a fan-out, None for a step."""
        number = self.item_number(position)
        return None if number is None else (self.groups[self.step_of(position)].items[number], number)

    def undone_by(self, position: int) -> int | None:
        """The position that a compensating one undoes, or None for all others."""
        step = self.step_of(position)
        undone = self.workflow.undoes.get(step)
        if undone is None or position == step:
            return undone
        return self.groups[undone].first + position - self.groups[step].first

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

    def first_code(self, step: int) -> int:
        """The state in which the items of a fan-out step begin: ready, or still to be opened."""
        held = step in self.workflow.waiting or step in self.workflow.undoes
        return BLOCKED if held else PENDING

    def add_group(self, step: int, first: int, items: list[Any]) -> Group:
        """Appends the positions of a fan-out, in the state of `first_code`."""
        size = len(items)
        group = self.groups[step] = Group(step, first, size, items, open=size)
        if size:
            code = self.first_code(step)
            self.group_starts.append(first)
            self.group_steps.append(step)
            self.state.extend(bytes([code]) * size)
            self.attempts.frombytes(bytes(2 * size))
            self.counts[code] += size
        return group

    def add_steps(self, steps: Sized) -> None:
        """Counts steps of a phase that begins."""
        self.counts[BLOCKED] += len(steps)

    def move(self, position: int, code: int) -> None:
        """Sets a state and keeps the counts; the legality was looked up when it was planned."""
        self.move_all({position: code})

    def move_all(self, codes: Mapping[int, int]) -> None:
        """The same for many positions."""
        state, counts, groups, timers, blocked = (
            self.state,
            self.counts,
            self.groups,
            self.timers,
            self.blocked,
        )
        for position, code in codes.items():
            before = state[position]
            state[position] = code
            counts[before] -= 1
            counts[code] += 1
            if code == RUNNING or before == RUNNING:
                if position not in groups:
                    self.running += (code == RUNNING) - (before == RUNNING)
            elif before == BLOCKED and (timers or blocked) and code != BLOCKED:
                timers.pop(position, None)
                blocked.pop(position, None)
                self.signal_names.pop(position, None)
