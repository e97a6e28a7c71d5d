"""What a drain is about to do to one run: moves, rows and events, before anything changes.

Layer: pure. A `RunPlan` lies over a `RunState`: it reads through to the columns and writes only into
itself. The drain feeds it news (`take_up`, `start`, `complete`, `fail` ...), calls `settle`, commits the
rows that the plan has gathered, and then calls `apply`. A plan whose commit failed is dropped, and
nothing has happened.

Settling runs to a fixed point, without recursion: a task that became terminal counts down its children;
a child with no open parent is judged once (trigger rule, condition, fan-out), and may itself become
terminal; when nothing is open any more, the run ends. The cost of one result is O(its out-degree).
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

import msgspec

from codomyrmex.logistics.orchestration.project.expressions import EvaluationError
from codomyrmex.logistics.orchestration.project.run_scope import RunScope, fan_out_items
from codomyrmex.logistics.orchestration.project.run_state import (
    BLOCKED,
    CANCELLED,
    COMPLETED,
    FAILED,
    KEPT_OUTPUT_BYTES,
    PENDING,
    RUNNING,
    SKIPPED,
    RunState,
)
from codomyrmex.logistics.orchestration.project.states import (
    NEXT,
    STATUSES,
    RunIntent,
    RunMove,
    TaskMove,
    TriggerRule,
    WorkflowStatus,
    after,
    run_after,
)

Row = tuple[Any, ...]
_STARTED = NEXT[TaskMove.STARTED]
_COMPLETED = NEXT[TaskMove.COMPLETED]


class RunPlan:
    """The overlay; see the module. Row tuples are in the order that `run_store` binds them."""

    __slots__ = (
        "_groups_bad", "_groups_open", "_open", "_queue", "attempts", "crashes", "decoded", "ended", "epoch", "errors",
        "events", "expanded", "failed", "failed_attempts", "finished", "first_failure", "groups", "intent", "losses",
        "now_us", "outputs", "ready", "restarted", "result", "returned", "rows_ahead", "run", "settled", "skipped",
        "started", "states", "status", "stopping", "timers", "waiting",
    )  # fmt: skip

    def __init__(self, run: RunState, *, epoch: int, now_us: int) -> None:
        self.run = run
        self.epoch = epoch
        self.now_us = now_us
        # The overlay.
        self.states: dict[int, int] = {}
        self.attempts: dict[int, int] = {}
        self.waiting: dict[int, int] = {}
        self.failed: dict[int, int] = {}
        self.skipped: dict[int, int] = {}
        self.crashes: dict[int, int] = {}
        self.losses: dict[int, int] = {}
        self.outputs: dict[int, bytes] = {}
        self.decoded: dict[int, Any] = {}
        self.errors: dict[int, dict[str, Any]] = {}
        self.groups: dict[int, tuple[int, list[Any]]] = {}
        self._groups_open: dict[int, int] = {}
        self._groups_bad: dict[int, int] = {}
        self._open = run.open
        self.status = run.status
        self.intent = run.intent
        self.stopping = run.stopping
        self.rows_ahead = run.rows_ahead
        self.first_failure = run.first_failure
        # What the store writes.
        self.started: list[Row] = []
        """Tasks that get their row now."""
        self.restarted: list[Row] = []
        """Tasks that have a row already."""
        self.finished: list[Row] = []
        self.returned: list[Row] = []
        self.settled: list[Row] = []
        self.expanded: list[Row] = []
        self.failed_attempts: list[Row] = []
        self.events: list[Row] = []
        self.result: tuple[str | None, str | None] | None = None
        self.ended = False
        # What the drain does after the commit.
        self.ready: list[tuple[int, int]] = []
        self.timers: list[tuple[int, int]] = []
        self._queue: list[tuple[int, int]] = []

    # -- reading through -------------------------------------------------------------------------

    def state_of(self, position: int) -> int:
        """The state code as this plan leaves it."""
        code = self.states.get(position)
        if code is not None:
            return code
        try:
            return self.run.state[position]
        except IndexError:
            return PENDING  # an item of a fan-out that this plan expands

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

    def output_of(self, position: int) -> bytes | None:
        """The encoded output of a completed position as this plan leaves it."""
        found = self.outputs.get(position)
        return self.run.whole_output(found) if found is not None else self.run.output_of(position)

    # -- news ------------------------------------------------------------------------------------

    def take_up(self) -> None:
        """The run begins: steps without dependencies are judged."""
        self.status = run_after(self.status, RunMove.STARTED)
        self.events.append((RunMove.STARTED.value, None))
        waiting = self.run.waiting
        for step in range(len(self.run.workflow)):
            if not waiting[step] and self.state_of(step) == BLOCKED:  # `fail_fast` may have settled it
                self._judge(step)

    def revive(self) -> None:
        """After a recovery: what is pending is offered again, timers run on, what is ready to be judged is judged."""
        run = self.run
        self.events.append(("run_recovered", None))
        for position in range(len(run.state)):
            code = self.state_of(position)
            if run.state[position] == PENDING:
                self.ready.append((position, position + 1))
            elif position in run.timers:
                self.timers.append((run.timers[position], position))
            elif code == BLOCKED and not run.waiting[position]:
                self._judge(position)

    def start(self, position: int) -> int:
        """Admits an attempt; returns its number, counted from 1."""
        code = self.state_of(position)
        if _STARTED[code] < 0:
            after(code, TaskMove.STARTED)  # raises
        self.states[position] = RUNNING
        self.attempts[position] = number = self.attempt_of(position) + 1
        row = (self.run.number, position, number, self.epoch, self.now_us)
        (self.started if number == 1 and not self.rows_ahead else self.restarted).append(row)
        self.events.append(("started", position, number))
        return number

    def complete(self, position: int, number: int, result: bytes, ended_us: int) -> None:
        """Records the result of an attempt."""
        code = self.state_of(position)
        if _COMPLETED[code] < 0:
            after(code, TaskMove.COMPLETED)  # raises
        run = self.run
        self.states[position] = COMPLETED
        self.finished.append(
            ("completed", ended_us, result, crc32(result), None, run.number, position, number, self.epoch)
        )
        self.events.append(("completed", position, number))
        if run.workflow.referenced[self.step_of(position)]:
            self.outputs[position] = result  # also a large one: until the commit it stands nowhere else
        self._open -= 1
        self._queue.append((position, COMPLETED))

    def fail(self, position: int, number: int, kind: str, error: dict[str, Any], ended_us: int) -> None:
        """Records that an attempt failed for good; `kind` is the outcome's."""
        cancelled = kind == "cancelled" and self.stopping is not None
        move = TaskMove.CANCELLED if cancelled else TaskMove.FAILED
        self.states[position] = code = after(self.state_of(position), move)
        text = _text(error)
        self.finished.append(
            (move.value, ended_us, None, None, text, self.run.number, position, number, self.epoch)
        )
        self.failed_attempts.append((self.run.number, position, number, self.epoch, kind, ended_us, text))
        self.events.append((move.value, position, number, kind))
        self.errors[position] = error
        self._terminal(position, code)

    def retry(
        self, position: int, number: int, kind: str, error: dict[str, Any], ended_us: int, *, delay_us: int
    ) -> None:
        """Records a failed attempt that another follows, after `delay_us`."""
        if kind == "crashed":
            self.crashes[position] = self.crash_count(position) + 1
        if kind == "lost":
            self.losses[position] = self.loss_count(position) + 1
        self.failed_attempts.append(
            (self.run.number, position, number, self.epoch, kind, ended_us, _text(error))
        )
        if not delay_us:
            self.give_back(position, number, kind)
            return
        self.states[position] = after(self.state_of(position), TaskMove.RETRY_SET)
        ready_us = self.now_us + delay_us
        self._returned(position, number, "blocked", "timer", ready_us)
        self.events.append(("retry_set", position, number, kind, ready_us))
        self.timers.append((ready_us, position))

    def give_back(self, position: int, number: int, why: str) -> None:
        """An attempt that never began, or whose engine died, goes back to the queue; `why` tells which."""
        self.states[position] = after(self.state_of(position), TaskMove.RETURNED)
        if why == "recalled":  # it never began: the attempt is not counted
            self.attempts[position] = number - 1
            self.rows_ahead = True
        self._returned(position, number, "pending", None, None)
        self.events.append(("returned", position, number, why))
        if self.stopping is not None:
            self._settle_unstarted(position, CANCELLED, self.stopping)
        else:
            self.ready.append((position, position + 1))

    def lose(self, position: int, number: int) -> None:
        """The engine that ran this attempt is dead; it runs again and no retry is used up."""
        self.losses[position] = self.loss_count(position) + 1
        self.failed_attempts.append(
            (self.run.number, position, number, self.epoch, "lost", self.now_us, None)
        )
        self.give_back(position, number, "lost")

    def due(self, position: int) -> None:
        """The delay before the next attempt is over."""
        if self.state_of(position) != BLOCKED:
            return
        self.states[position] = after(BLOCKED, TaskMove.READY)
        number = self.attempt_of(position)
        self._move_row(position, number, "pending")
        self.events.append(("ready", position))
        self.ready.append((position, position + 1))

    def stop(self, reason: str, intent: RunIntent = RunIntent.NONE) -> None:
        """Nothing new starts: what has not begun is cancelled, what runs is left to its executor."""
        if intent.strength > self.intent.strength:
            self.intent = intent
            self.events.append(("intent", None, intent.value))
        if self.stopping is not None:
            return
        self.stopping = reason
        for position in range(self.size):
            if self.state_of(position) in (BLOCKED, PENDING):
                self._settle_unstarted(position, CANCELLED, reason)

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

    # -- settling --------------------------------------------------------------------------------

    def settle(self) -> None:
        """Runs consequences to a fixed point and ends the run when nothing is open."""
        queue = self._queue
        while queue:
            position, code = queue.pop()
            if position >= self.run.step_count:
                self._item_ended(self.step_of(position), code, position)
            else:
                self._count_down(position, code)
        if not self._open and not self.ended and self.status is WorkflowStatus.RUNNING:
            self._end()

    def _terminal(self, position: int, code: int) -> None:
        self._open -= 1
        self._queue.append((position, code))
        if code == FAILED and self.run.workflow.spec(self.step_of(position)).required:
            if self.first_failure is None:
                self.first_failure = position
            if self.run.workflow.fail_fast and self.stopping is None:
                self.stop("fail_fast")

    def _count_down(self, step: int, code: int) -> None:
        run = self.run
        graph = run.workflow.graph
        waiting, base = self.waiting, run.waiting
        for child in graph.child_targets[graph.child_offsets[step] : graph.child_offsets[step + 1]]:
            left = waiting.get(child)
            waiting[child] = left = (base[child] if left is None else left) - 1
            if code != COMPLETED:
                self._count_bad(step, child, code)
            if not left and self.state_of(child) == BLOCKED:
                self._judge(child)

    def _count_bad(self, step: int, child: int, code: int) -> None:
        optional = code == FAILED and not self.run.workflow.spec(step).required
        if code == SKIPPED or optional:
            self.skipped[child] = self.skipped.get(child, self.run.skipped_parents.get(child, 0)) + 1
        else:
            self.failed[child] = self.failed.get(child, self.run.failed_parents.get(child, 0)) + 1

    def _item_ended(self, step: int, code: int, position: int) -> None:
        group = self.run.groups.get(step)
        size = group.size if group else len(self.groups[step][1])
        left = self._groups_open.get(step, group.open if group else size) - 1
        self._groups_open[step] = left
        if code != COMPLETED:
            self._groups_bad[step] = self._groups_bad.get(step, group.bad if group else 0) + 1
            if code == FAILED and step not in self.run.errors:
                self.errors.setdefault(step, self.errors[position])
        if not left:
            self._group_ended(step, self._groups_bad.get(step, group.bad if group else 0))

    def _group_ended(self, step: int, bad: int) -> None:
        if not bad:
            move, error = TaskMove.COMPLETED, None
        elif step in self.errors or step in self.run.errors:
            first = self.errors.get(step) or self.run.errors[step]
            error = {
                "type": first.get("type"),
                "message": f"{bad} items failed; the first: {first.get('message')}",
            }
            move = TaskMove.FAILED
            self.errors[step] = error
        else:
            move, error = TaskMove.CANCELLED, None
        self.states[step] = code = after(RUNNING, move)
        self.finished.append(
            (move.value, self.now_us, None, None, _text(error), self.run.number, step, 1, self.epoch)
        )
        self.events.append((move.value, step, 1))
        self._terminal(step, code)

    def _judge(self, step: int) -> None:
        """Decides once what becomes of a step whose parents are all terminal."""
        workflow = self.run.workflow
        if self._bad_parents or self.stopping is not None or workflow.has_rules:
            verdict, reason = self._rule_verdict(step)
            if verdict is not None:
                self._settle_unstarted(step, verdict, reason)
                return
        try:
            condition = workflow.conditions.get(step)
            if condition is not None and not condition.evaluate(RunScope(self.run, self)):
                self._settle_unstarted(step, SKIPPED, "condition")
                return
            over = workflow.fan_outs.get(step)
            if over is not None:
                self._expand(step, fan_out_items(over.resolve(RunScope(self.run, self))))
                return
        except EvaluationError as error:
            self._settle_unstarted(
                step, FAILED, "expression", {"type": "ExpressionError", "message": str(error)}
            )
            return
        self.states[step] = after(BLOCKED, TaskMove.READY)
        self.ready.append((step, step + 1))

    @property
    def _bad_parents(self) -> bool:
        return bool(self.failed or self.skipped or self.run.failed_parents or self.run.skipped_parents)

    def _rule_verdict(self, step: int) -> tuple[int | None, str]:
        if self.stopping is not None:
            return CANCELLED, self.stopping
        rule = self.run.workflow.spec(step).trigger_rule
        failed = self.failed.get(step, self.run.failed_parents.get(step, 0))
        skipped = self.skipped.get(step, self.run.skipped_parents.get(step, 0))
        if rule is TriggerRule.ALL_SUCCESS:
            if failed:
                return CANCELLED, "upstream"
            return (SKIPPED, "upstream") if skipped else (None, "")
        if rule is TriggerRule.NONE_FAILED:
            return (CANCELLED, "upstream") if failed else (None, "")
        if rule is TriggerRule.ONE_FAILED:
            # A step that need not succeed counts as skipped above, but it has failed all the same.
            bad = any(
                self.state_of(parent) in (FAILED, CANCELLED)
                for parent in self.run.workflow.graph.parents(step)
            )
            return (None, "") if bad else (SKIPPED, "trigger_rule")
        if rule is TriggerRule.ONE_SUCCESS:
            parents = len(self.run.workflow.graph.parents(step))
            return (None, "") if parents - failed - skipped > 0 else (SKIPPED, "trigger_rule")
        return None, ""

    def _expand(self, step: int, items: list[Any]) -> None:
        first = self.size
        body = msgspec.json.encode(items)
        self.groups[step] = (first, items)
        self.states[step] = after(BLOCKED, TaskMove.EXPANDED)
        self.attempts[step] = 1
        self.started.append((self.run.number, step, 1, self.epoch, self.now_us))
        self.expanded.append((self.run.number, step, first, len(items), body, crc32(body)))
        self.events.append(("expanded", step, first, len(items)))
        self._open += len(items)
        if items:
            self.ready.append((first, first + len(items)))
        else:
            self._group_ended(step, 0)

    def _settle_unstarted(
        self, position: int, code: int, reason: str, error: dict[str, Any] | None = None
    ) -> None:
        move = TaskMove(STATUSES[code].value)
        after(self.state_of(position), move)
        self.states[position] = code
        number = self.attempt_of(position)
        self.settled.append(
            (self.run.number, position, move.value, reason, number, self.epoch, self.now_us, _text(error))
        )
        self.events.append((move.value, position, reason))
        if error is not None:
            self.errors[position] = error
        self._terminal(position, code)

    def _end(self) -> None:
        stopped = self.intent is not RunIntent.NONE and self._any_cancelled()
        outputs: str | None = None
        error: dict[str, Any] | None = None
        move = RunMove.CANCELLED if stopped else RunMove.COMPLETED
        if self.first_failure is not None and not stopped:
            move, error = RunMove.FAILED, self._failure(self.first_failure)
        elif move is RunMove.COMPLETED and self.run.workflow.outputs is not None:
            try:
                outputs = _text(self.run.workflow.outputs.resolve(RunScope(self.run, self)))
            except EvaluationError as fault:
                move, error = RunMove.FAILED, {"type": "ExpressionError", "message": f"outputs: {fault}"}
        self.status = run_after(self.status, move)
        self.ended = True
        self.result = (outputs, _text(error))
        self.events.append((move.value, None))

    def _any_cancelled(self) -> bool:
        return self.run.counts[CANCELLED] > 0 or CANCELLED in self.states.values()

    def _failure(self, position: int) -> dict[str, Any]:
        error = self.errors.get(position) or self.run.errors.get(position) or {}
        if position < len(self.run.state):
            name = self.run.name_of(position)
        else:
            step = self.step_of(position)
            name = f"{self.run.workflow.names[step]}[{position - self.groups[step][0]}]"
        return {"step": name, **error}

    # -- rows ------------------------------------------------------------------------------------

    def _returned(
        self, position: int, number: int, state: str, reason: str | None, ready_us: int | None
    ) -> None:
        kept = self.attempts.get(position, number)
        self.returned.append(
            (
                state, reason, ready_us, kept, self.crash_count(position), self.loss_count(position),
                self.epoch, self.run.number, position, number,
            )
        )  # fmt: skip

    def _move_row(self, position: int, number: int, state: str) -> None:
        self.settled.append((self.run.number, position, state, None, number, self.epoch, None, None))

    # -- after the commit ------------------------------------------------------------------------

    def apply(self) -> None:
        """Writes the overlay into the run; called once, after the transaction has succeeded."""
        run = self.run
        for step, (first, items) in self.groups.items():
            run.add_group(step, first, items)
        for step, left in self._groups_open.items():
            run.groups[step].open = left
        for step, bad in self._groups_bad.items():
            run.groups[step].bad = bad
        for position, number in self.attempts.items():
            run.attempts[position] = number
        for child, left in self.waiting.items():
            run.waiting[child] = left
        for position, output in self.outputs.items():
            if len(output) <= KEPT_OUTPUT_BYTES:
                run.outputs[position] = output
        run.move_all(self.states)
        if self.failed or self.skipped or self.crashes or self.losses or self.errors or self.timers:
            self._apply_rare(run)
        run.journal_length += 1
        run.status = self.status
        run.intent = self.intent
        run.stopping = self.stopping
        run.rows_ahead = self.rows_ahead
        run.first_failure = self.first_failure

    def _apply_rare(self, run: RunState) -> None:
        """What a plan has that tells of more than successes."""
        run.failed_parents.update(self.failed)
        run.skipped_parents.update(self.skipped)
        run.crashes.update(self.crashes)
        run.losses.update(self.losses)
        run.errors.update(self.errors)
        run.timers.update((position, ready_us) for ready_us, position in self.timers)

    @property
    def changed(self) -> bool:
        """True where there is something to commit."""
        return bool(self.events)


def _text(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
