"""What lies over a run while a drain plans: its new values, and the rows that say so.

Layer: pure. Everything a plan changes stands here first and reads through to the columns of the run; `apply`
writes it into them once the transaction has succeeded. Row tuples are in the order that `run_store` binds
them. What the news mean is decided above, in `run_plan`, `waiting_steps` and `run_phases`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from codomyrmex.logistics.orchestration.project.run_state import (
    BLOCKED,
    KEPT_OUTPUT_BYTES,
    Group,
    RunState,
)
from codomyrmex.logistics.orchestration.project.states import (
    BlockReason,
    RunIntent,
    RunPhase,
    WorkflowStatus,
)

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildStart:
    """A run that a step starts."""

    position: int
    attempt: int
    run: RunState


class RunOverlay:
    """See the module."""

    __slots__ = (
        "answered",
        "approvals_closed",
        "approvals_opened",
        "attempts",
        "blocked",
        "cached",
        "child_wishes",
        "children_started",
        "compensation",
        "crashes",
        "deadline_us",
        "decoded",
        "ended",
        "epoch",
        "errors",
        "events",
        "expanded",
        "failed",
        "failed_attempts",
        "finished",
        "first_failure",
        "groups",
        "groups_cancelled",
        "groups_failed",
        "groups_open",
        "groups_opened",
        "groups_stopped",
        "handler_failure",
        "intent",
        "losses",
        "memory_raises",
        "now_us",
        "open",
        "outcome",
        "outputs",
        "paused_us",
        "phase",
        "present",
        "queue",
        "ready",
        "restarted",
        "result",
        "resumed",
        "returned",
        "run",
        "running",
        "settled",
        "signal_names",
        "signals",
        "skipped",
        "started",
        "states",
        "status",
        "stopping",
        "timers",
        "undoable",
        "waited",
        "waiting",
        "wish_cancelled",
        "withdrawn",
    )  # fmt: skip

    def __init__(self, run: RunState, *, epoch: int, now_us: int) -> None:
        self.run = run
        self.epoch = epoch
        self.now_us = now_us
        self._begin_columns(run)
        # What the store writes.
        self.started: list[Row] = []
        """Tasks that get their row now."""
        self.restarted: list[Row] = []
        """Tasks that have a row already."""
        self.finished: list[Row] = []
        self.returned: list[Row] = []
        self.withdrawn: list[Row] = []
        """Tasks that lose their row: they were taken back before they ever began."""
        self.settled: list[Row] = []
        self.waited: list[Row] = []
        """Tasks without a slot that were opened."""
        self.answered: list[Row] = []
        """Their ends."""
        self.expanded: list[Row] = []
        self.failed_attempts: list[Row] = []
        self.cached: list[Row] = []
        self.approvals_opened: list[Row] = []
        self.approvals_closed: list[Row] = []
        self.signals: dict[str, tuple[bytes, str]] = {}
        """Signals that were sent: data, and who did."""
        self.events: list[Row] = []
        self.ended = False
        # What the drain does after the commit.
        self.ready: list[tuple[int, int]] = []
        self.timers: list[tuple[int, int]] = []
        self.children_started: list[ChildStart] = []
        self.child_wishes: list[tuple[int, RunIntent]] = []
        """What is asked of the children that stand behind positions."""
        self.resumed = False
        self.queue: list[tuple[int, int]] = []

    def _begin_columns(self, run: RunState) -> None:
        self.states: dict[int, int] = {}
        self.attempts: dict[int, int] = {}
        self.waiting: dict[int, int] = {}
        self.failed: dict[int, int] = {}
        self.skipped: dict[int, int] = {}
        self.crashes: dict[int, int] = {}
        self.losses: dict[int, int] = {}
        self.memory_raises: dict[int, int] = {}
        self.outputs: dict[int, bytes] = {}
        self.decoded: dict[int, Any] = {}
        self.errors: dict[int, dict[str, Any]] = {}
        self.blocked: dict[int, BlockReason] = {}
        self.signal_names: dict[int, str] = {}
        self.groups: dict[int, tuple[int, list[Any]]] = {}
        self.groups_open: dict[int, int] = {}
        self.groups_failed: dict[int, int] = {}
        self.groups_cancelled: dict[int, int] = {}
        self.groups_opened: dict[int, int] = {}
        self.groups_stopped: set[int] = set()
        self.undoable: list[tuple[int, int]] = []
        self.compensation: list[int] | None = None
        self.present: list[int] = []
        """Steps of phases that begin here."""
        self.open = run.open
        self.running = run.running
        self.status = run.status
        self.phase = run.phase
        self.outcome: WorkflowStatus | None = run.outcome
        self.result = run.result
        self.intent = run.intent
        self.stopping = run.stopping
        self.deadline_us = run.deadline_us
        self.paused_us = run.paused_us
        self.first_failure = run.first_failure
        self.handler_failure = run.handler_failure
        self.wish_cancelled = run.wish_cancelled

    # -- reading through -------------------------------------------------------------------------

    def state_of(self, position: int) -> int:
        """The state code as this plan leaves it."""
        code = self.states.get(position)
        if code is not None:
            return code
        try:
            return self.run.state[position]
        except IndexError:
            return self.run.first_code(self.step_of(position))  # an item of a fan-out that this plan expands

    @property
    def size(self) -> int:
        """The number of positions as this plan leaves it."""
        return len(self.run.state) + sum(len(items) for _first, items in self.groups.values())

    def step_of(self, position: int) -> int:
        """The step of a position, one of this plan's own fan-outs included."""
        if position < self.run.step_count:
            return position
        if position < len(self.run.state):
            return self.run.step_of(position)
        return next(
            step for step, (first, items) in self.groups.items() if first <= position < first + len(items)
        )

    def items_of(self, step: int) -> tuple[int, list[Any]] | None:
        """First position and items of a fan-out that has been expanded, else None."""
        group = self.run.groups.get(step)
        return (group.first, group.items) if group is not None else self.groups.get(step)

    def item_of(self, position: int) -> tuple[Any, int] | None:
        """Item and index of a position of a fan-out, None for a step."""
        if position < self.run.step_count:
            return None
        found = self.items_of(self.step_of(position))
        assert found is not None, position
        return found[1][position - found[0]], position - found[0]

    def name_of(self, position: int) -> str:
        """`name`, or `name[i]` for an item."""
        item = self.item_of(position)
        name = self.run.workflow.names[self.step_of(position)]
        return name if item is None else f"{name}[{item[1]}]"

    def undone_by(self, position: int) -> int | None:
        """The position that a compensating one undoes, or None for all others."""
        step = self.step_of(position)
        undone = self.run.workflow.undoes.get(step)
        if undone is None or position == step:
            return undone
        own, other = self.items_of(step), self.items_of(undone)
        assert own is not None, position
        assert other is not None, position
        return other[0] + position - own[0]

    def output_of(self, position: int) -> bytes | None:
        """The encoded output of a completed position as this plan leaves it."""
        found = self.outputs.get(position)
        return self.run.whole_output(found) if found is not None else self.run.output_of(position)

    def attempt_of(self, position: int) -> int:
        """How many attempts of a position were started."""
        number = self.attempts.get(position)
        if number is not None:
            return number
        return self.run.attempts[position] if position < len(self.run.attempts) else 0

    def crash_count(self, position: int) -> int:
        """How often attempts of this position crashed by themselves."""
        return self.crashes.get(position, self.run.crashes.get(position, 0))

    def loss_count(self, position: int) -> int:
        """How often an engine died while this position ran."""
        return self.losses.get(position, self.run.losses.get(position, 0))

    def raise_count(self, position: int) -> int:
        """How often a task ran out of memory and so asks for more of it."""
        return self.memory_raises.get(position, self.run.memory_raises.get(position, 0))

    def reason_of(self, position: int) -> BlockReason | None:
        """What an open position without a slot waits for."""
        return self.blocked.get(position) or self.run.blocked.get(position)

    def group_value(self, step: int, overlay: dict[int, int], column: str) -> int:
        """A count of a fan-out as this plan leaves it: `open`, `failed`, `cancelled` or `opened`."""
        found = overlay.get(step)
        if found is not None:
            return found
        group = self.run.groups.get(step)
        if group is not None:
            return int(getattr(group, column))
        return len(self.groups[step][1]) if column == "open" else 0

    def group_stopped(self, step: int) -> bool:
        """True once nothing new of a fan-out starts because one of its items failed."""
        return step in self.groups_stopped or step in self.run.stopped_groups

    @property
    def undoing(self) -> Sequence[int]:
        """The positions of the compensation in their order."""
        return self.run.compensation if self.compensation is None else self.compensation

    def present_steps(self) -> Sequence[int]:
        """Every step of the present phase; of compensation, those that have something to undo."""
        if self.phase is RunPhase.COMPENSATING:
            return list(dict.fromkeys(map(self.step_of, self.undoing)))
        return self.run.workflow.phase_steps(self.phase)

    def present_positions(self) -> Iterator[int]:
        """Every position of the present phase, steps before items."""
        steps = self.present_steps()
        yield from steps
        for step in steps:
            found = self.items_of(step) if step in self.run.workflow.fan_outs else None
            if found is not None:
                yield from range(found[0], found[0] + len(found[1]))

    # -- after the commit ------------------------------------------------------------------------

    def apply(self) -> None:
        """Writes the overlay into the run; called once, after the transaction has succeeded."""
        run = self.run
        if self.present:
            run.add_steps(self.present)
        for step, (first, items) in self.groups.items():
            run.add_group(step, first, items)
        for step in self.groups_open:
            self._apply_group(run.groups[step])
        for position, number in self.attempts.items():
            run.attempts[position] = number
        for child, left in self.waiting.items():
            run.waiting[child] = left
        for position, output in self.outputs.items():
            if len(output) <= KEPT_OUTPUT_BYTES:
                run.outputs[position] = output
        run.move_all(self.states)
        for position in self.blocked:
            run.timers.pop(position, None)  # it waits for something else now
        if self.failed or self.skipped or self.crashes or self.losses or self.errors or self.timers:
            self._apply_rare(run)
        if self.memory_raises:
            run.memory_raises.update(self.memory_raises)
        if self.blocked or self.signals or self.groups_opened or self.groups_stopped or self.undoable:
            self._apply_waiting(run)
        run.open = self.open
        run.journal_length += 1
        run.status = self.status
        run.intent = self.intent
        run.stopping = self.stopping
        run.first_failure = self.first_failure
        if self.phase is not run.phase or self.result is not run.result:
            run.phase, run.outcome, run.result = self.phase, self.outcome, self.result
            run.compensation = list(self.undoing)
        run.handler_failure = self.handler_failure
        run.wish_cancelled = self.wish_cancelled
        run.outcome = self.outcome
        run.deadline_us = self.deadline_us
        run.paused_us = self.paused_us

    def _apply_group(self, group: Group) -> None:
        step = group.step
        group.open = self.groups_open[step]
        group.failed = self.groups_failed.get(step, group.failed)
        group.cancelled = self.groups_cancelled.get(step, group.cancelled)

    def _apply_waiting(self, run: RunState) -> None:
        """What a plan has that tells of steps without a slot."""
        for position, reason in self.blocked.items():
            if run.state[position] == BLOCKED:
                run.blocked[position] = reason
        run.signal_names.update((at, name) for at, name in self.signal_names.items() if at in run.blocked)
        run.signals.update((name, data) for name, (data, _by) in self.signals.items())
        for step, opened in self.groups_opened.items():
            run.groups[step].opened = opened
        run.stopped_groups |= self.groups_stopped
        run.undoable += self.undoable

    def _apply_rare(self, run: RunState) -> None:
        """What a plan has that tells of more than successes."""
        run.failed_parents.update(self.failed)
        run.skipped_parents.update(self.skipped)
        run.crashes.update(self.crashes)
        run.losses.update(self.losses)
        run.errors.update(self.errors)
        run.timers.update(
            (position, ready_us)
            for ready_us, position in self.timers
            if position >= 0 and run.state[position] == BLOCKED
        )

    @property
    def changed(self) -> bool:
        """True where there is something to commit."""
        return bool(self.events)


def encoded(value: Any) -> str | None:
    """JSON text, None for None."""
    return None if value is None else msgspec.json.encode(value).decode()
