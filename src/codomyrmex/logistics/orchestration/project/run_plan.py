"""What a drain is about to do to one run: moves, rows and events, before anything changes.

Layer: pure. The drain feeds a `RunPlan` news (`take_up`, `start`, `complete`, `fail` ...), calls `settle`,
commits the rows that the plan has gathered, and then calls `apply`. A plan whose commit failed is dropped,
and nothing has happened. The columns stand in `run_overlay`, steps without a slot in `waiting_steps`, what
follows when a phase has nothing open any more in `run_phases`.

Settling runs to a fixed point, without recursion: a task that became terminal counts down its children;
a child with no open parent is judged once (trigger rule, condition, fan-out), and may itself become
terminal; when nothing of a phase is open any more, the next begins or the run ends. The cost of one result is
O(its out-degree).
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

import msgspec

from codomyrmex.logistics.orchestration.project import run_phases, waiting_steps
from codomyrmex.logistics.orchestration.project.expressions import EvaluationError
from codomyrmex.logistics.orchestration.project.run_overlay import RunOverlay, encoded
from codomyrmex.logistics.orchestration.project.run_scope import RunScope, items_of_step
from codomyrmex.logistics.orchestration.project.run_state import (
    BLOCKED,
    CANCELLED,
    COMPLETED,
    FAILED,
    PENDING,
    RUNNING,
    SKIPPED,
)
from codomyrmex.logistics.orchestration.project.states import (
    NEXT,
    STATUSES,
    BlockReason,
    ItemFailure,
    RunIntent,
    RunMove,
    RunPhase,
    TaskMove,
    WorkflowStatus,
    after,
    run_after,
)
from codomyrmex.logistics.orchestration.project.trigger_rules import rule_verdict

BY_WISH = "cancelled"
"""Why nothing new starts of a run that somebody cancelled."""
RUN_DEADLINE = -1
"""Stands for the run itself where positions have deadlines."""
_STARTED = NEXT[TaskMove.STARTED]
_COMPLETED = NEXT[TaskMove.COMPLETED]


class RunPlan(RunOverlay):
    """See the module."""

    __slots__ = ()

    # -- the run ---------------------------------------------------------------------------------

    def take_up(self) -> None:
        """The run begins: steps without dependencies are judged."""
        self.status = run_after(self.status, RunMove.STARTED)
        self.events.append((RunMove.STARTED.value, None))
        limits = (self.run.options.timeout_s, self.run.workflow.timeout_s)
        shortest_s = min((limit for limit in limits if limit is not None), default=None)
        if shortest_s is not None:
            self.deadline_us = self.now_us + round(shortest_s * 1_000_000)
            self.timers.append((self.deadline_us, RUN_DEADLINE))
        self.begin_steps(range(self.run.workflow.main_count))

    def begin_steps(self, steps: range) -> None:
        """Judges the steps of a phase that wait for nothing."""
        waiting = self.run.waiting
        for step in steps:
            if not waiting[step] and self.state_of(step) == BLOCKED:  # `fail_fast` may have settled it
                self._judge(step)

    def revive(self) -> None:
        """After a recovery: what is ready is offered again, timers run on, what was to be judged is judged."""
        self.events.append(("run_recovered", None))
        self.timers += [(ready_us, position) for position, ready_us in self.run.timers.items()]
        if self.deadline_us is not None and self.phase is RunPhase.MAIN:
            self.timers.append((self.deadline_us, RUN_DEADLINE))
        lost = {position for position, _end in self.ready}  # they are offered already
        for position in self.present_positions():
            if self.state_of(position) == PENDING and position not in lost:
                self.ready.append((position, position + 1))
        waiting_steps.revive(self)
        self._go_on()

    def _go_on(self) -> None:
        """Judges and opens what was held back: by a pause, or by the death of an engine."""
        run = self.run
        for position in list(self.present_positions()):
            if self.state_of(position) != BLOCKED or position in run.timers or self.reason_of(position):
                continue
            if self.attempt_of(position):
                continue  # it waits for its next attempt
            if position < run.step_count and position not in run.workflow.undoes and not self._left(position):
                self._judge(position)
        for step in run.groups:
            if step in run.workflow.waiting and self.state_of(step) == RUNNING:
                waiting_steps.open_more(self, step)

    def stop(self, reason: str, intent: RunIntent = RunIntent.NONE) -> None:
        """Nothing new of this phase starts: what has not begun is cancelled, what runs is left to its executor.

        A cancel is for main only: handlers are the clean-up, and go on.
        """
        if self.ended or self.status.terminal:
            return
        effective = self.phase is RunPhase.MAIN or intent is RunIntent.KILL
        if intent.strength > self.intent.strength:
            paused = self.intent is RunIntent.PAUSE
            self.intent = intent
            self.events.append(("intent", None, intent.value))
            self._unpause()
            if effective:
                waiting_steps.ask_children(self, intent)
            elif paused:
                waiting_steps.ask_children(self, RunIntent.NONE)
                self._go_on()
        if not effective:
            return
        if self.stopping is not None:
            return
        self.stopping = reason
        waiting_steps.ask_children(self, RunIntent.CANCEL)
        for step in self.present_steps():
            if self.state_of(step) in (PENDING, BLOCKED) and self.reason_of(step) is not BlockReason.CHILD:
                self.settle_unstarted(step, CANCELLED, reason)
            elif self.state_of(step) == RUNNING and self.items_of(step) is not None:
                self._drop_items(step, reason)

    def _drop_items(self, step: int, reason: str, *, open_stay: bool = False) -> None:
        """Cancels the items of a fan-out of which nothing runs; `open_stay` leaves those that wait for an answer.

        One that has never begun has no row and gets none: the end of its step, or what stopped it, says what
        became of it. So the cost of the commit does not grow with the number of items.
        """
        found = self.items_of(step)
        assert found is not None, step
        dropped = 0
        for position in range(found[0], found[0] + len(found[1])):
            code = self.state_of(position)
            if code not in (PENDING, BLOCKED) or self.reason_of(position) is BlockReason.CHILD:
                continue
            if open_stay and waiting_steps.is_open(self, position):
                continue
            if self.attempt_of(position):
                self.settle_unstarted(position, CANCELLED, reason)
            else:
                self.states[position] = CANCELLED
                dropped += 1
        if not dropped:
            return
        self.open -= dropped
        self.wish_cancelled |= reason == BY_WISH
        self.groups_cancelled[step] = self.group_value(step, self.groups_cancelled, "cancelled") + dropped
        self.groups_open[step] = left = self.group_value(step, self.groups_open, "open") - dropped
        self.events.append(("items_cancelled", step, dropped, reason))
        if not left:
            self._group_ended(step)

    def withdraw(self, intent: RunIntent) -> None:
        """The run was cancelled before it could begin: it ends, and no handler follows."""
        self.intent = intent
        self.events.append(("intent", None, intent.value))
        self._end_unbegun(BY_WISH, None)

    def skip(self, why: str) -> None:
        """The run does not begin because of its concurrency key; no handler follows."""
        self._end_unbegun("concurrency", {"type": "Skipped", "message": why})

    def _end_unbegun(self, reason: str, error: dict[str, Any] | None) -> None:
        self.stopping = reason
        for position in list(self.present_positions()):
            self.settle_unstarted(position, CANCELLED, self.stopping)
        self.status = run_after(self.status, RunMove.CANCELLED)
        self.outcome, self.ended = self.status, True
        self.result = (None, encoded(error))
        self.events.append((RunMove.CANCELLED.value, None))

    def pause(self) -> None:
        """Nothing new starts, nothing is opened, no timer counts, until `resume`; a run that stops goes on to do so."""
        if self.intent is RunIntent.NONE and not self.status.terminal and not self.ended:
            self.intent = RunIntent.PAUSE
            self.paused_us = self.now_us
            self.events.append(("intent", None, RunIntent.PAUSE.value))
            waiting_steps.ask_children(self, RunIntent.PAUSE)

    def resume(self) -> None:
        """Goes on after a pause, where there was one."""
        if self.intent is RunIntent.PAUSE:
            self.intent = RunIntent.NONE
            self.events.append(("intent", None, RunIntent.NONE.value))
            self._unpause()
            waiting_steps.ask_children(self, RunIntent.NONE)
            self._go_on()

    def _unpause(self) -> None:
        if self.paused_us is None:
            return
        if self.status is WorkflowStatus.PAUSED:
            self.status = run_after(self.status, RunMove.RESUMED)
            self.events.append((RunMove.RESUMED.value, None))
        if self.deadline_us is not None:
            self.deadline_us += self.now_us - self.paused_us
            self.timers.append((self.deadline_us, RUN_DEADLINE))
        self.paused_us = None
        self.resumed = True
        self.timers += [(ready_us, position) for position, ready_us in self.run.timers.items()]

    # -- attempts --------------------------------------------------------------------------------

    def start(self, position: int) -> int:
        """Admits an attempt; returns its number, counted from 1."""
        code = self.state_of(position)
        if _STARTED[code] < 0:
            after(code, TaskMove.STARTED)  # raises
        self.states[position] = RUNNING
        self.running += 1
        self.attempts[position] = number = self.attempt_of(position) + 1
        row = (self.run.number, position, number, self.epoch, self.now_us)
        (self.started if number == 1 else self.restarted).append(row)
        self.events.append(("started", position, number))
        return number

    def complete(
        self, position: int, number: int, result: bytes, ended_us: int, *, cached: bool = False
    ) -> None:
        """Records the result of an attempt; `cached` where nothing had to run for it."""
        code = self.state_of(position)
        if _COMPLETED[code] < 0:
            after(code, TaskMove.COMPLETED)  # raises
        run = self.run
        self.states[position] = COMPLETED
        self.running -= 1
        self.finished.append(
            ("completed", ended_us, result, crc32(result), None, run.number, position, number, self.epoch)
        )
        self.events.append(
            ("completed", position, number, "cached") if cached else ("completed", position, number)
        )
        self.keep_result(position, result, ended_us)

    def keep_result(self, position: int, result: bytes, ended_us: int) -> None:
        """What follows from any completed task."""
        workflow, step = self.run.workflow, self.step_of(position)
        if workflow.referenced[step]:
            self.outputs[position] = result  # also a large one: until the commit it stands nowhere else
        if workflow.compensations and step in workflow.compensations:
            self.undoable.append((ended_us, position))
        self.open -= 1
        self.queue.append((position, COMPLETED))

    def fail(self, position: int, number: int, kind: str, error: dict[str, Any], ended_us: int) -> None:
        """Records that an attempt failed for good; `kind` is the outcome's."""
        cancelled = kind == "cancelled" and self.stopping is not None
        move = TaskMove.CANCELLED if cancelled else TaskMove.FAILED
        self.states[position] = code = after(self.state_of(position), move)
        self.running -= 1
        text = encoded(error)
        self.finished.append(
            (move.value, ended_us, None, None, text, self.run.number, position, number, self.epoch)
        )
        self.failed_attempts.append((self.run.number, position, number, self.epoch, kind, ended_us, text))
        self.events.append((move.value, position, number, self.stopping if cancelled else kind))
        self.errors[position] = error
        self.wish_cancelled |= cancelled and self.stopping == BY_WISH
        self.terminal(position, code)

    def may_retry(self, position: int) -> bool:
        """False where nothing of this kind starts any more."""
        return self.stopping is None and not self.group_stopped(self.step_of(position))

    def retry(
        self, position: int, number: int, kind: str, error: dict[str, Any], ended_us: int, *, delay_us: int
    ) -> None:
        """The attempt failed and another follows: at once, or after a delay."""
        if kind == "crashed":
            self.crashes[position] = self.crash_count(position) + 1
        if kind == "lost":
            self.losses[position] = self.loss_count(position) + 1
        if kind == "out_of_memory" and self.run.workflow.spec(self.step_of(position)).retry.memory > 1:
            self.memory_raises[position] = self.raise_count(position) + 1
        self.failed_attempts.append(
            (self.run.number, position, number, self.epoch, kind, ended_us, encoded(error))
        )
        if not delay_us:
            self.give_back(position, number, kind)
            return
        self.states[position] = after(self.state_of(position), TaskMove.RETRY_SET)
        self.running -= 1
        ready_us = self.now_us + delay_us
        self._returned(position, number, "blocked", "timer", ready_us)
        self.events.append(("retry_set", position, number, kind, ready_us))
        self.timers.append((ready_us, position))

    def give_back(self, position: int, number: int, why: str) -> None:
        """An attempt that never began, or whose engine died, goes back to the queue; `why` tells which."""
        self.states[position] = after(self.state_of(position), TaskMove.RETURNED)
        self.running -= 1
        if why == "recalled":  # it never began: the attempt is not counted
            self.attempts[position] = number - 1
        if why == "recalled" and number == 1:
            self.withdrawn.append((self.run.number, position, number))
        else:
            self._returned(position, number, "pending", None, None)
        self.events.append(("returned", position, number, why))
        if self.stopping is not None:
            self.settle_unstarted(position, CANCELLED, self.stopping)
        elif self.group_stopped(self.step_of(position)):
            self.settle_unstarted(position, CANCELLED, "item_failed")
        else:
            self.ready.append((position, position + 1))

    def lose(self, position: int, number: int) -> None:
        """The engine that ran this attempt is dead; it runs again and no retry is used up."""
        self.losses[position] = self.loss_count(position) + 1
        self.failed_attempts.append(
            (self.run.number, position, number, self.epoch, "lost", self.now_us, None)
        )
        self.give_back(position, number, "lost")

    def due(self, position: int, ready_us: int) -> None:
        """A deadline has passed that was set for `ready_us`.

        It is that of the run, of a wait, or of the delay before the next attempt. One that was set for another
        moment since is not this one, whatever the clock says.
        """
        if self.intent is RunIntent.PAUSE:
            return  # it is set again when the pause ends
        if position == RUN_DEADLINE:
            if self.phase is RunPhase.MAIN and self.deadline_us == ready_us and self.stopping is None:
                self.events.append(("run_timed_out", None))
                self.stop("timeout")
            return
        if self.state_of(position) == RUNNING and position in self.run.workflow.waiting:
            waiting_steps.open_more(self, position)
            return
        if self.state_of(position) != BLOCKED or self.run.timers.get(position) != ready_us:
            return
        if self.step_of(position) in self.run.workflow.waiting:
            waiting_steps.due(self, position)
            return
        self.states[position] = after(BLOCKED, TaskMove.READY)
        number = self.attempt_of(position)
        self.settled.append((self.run.number, position, "pending", None, number, self.epoch, None, None))
        self.events.append(("ready", position))
        self.ready.append((position, position + 1))

    # -- settling --------------------------------------------------------------------------------

    def settle(self) -> None:
        """Runs consequences to a fixed point; begins the next phase, or ends the run, when nothing is open."""
        while True:
            self._settle_queue()
            if self.ended or self.intent is RunIntent.PAUSE or self.status is not WorkflowStatus.RUNNING:
                break
            if self.phase is RunPhase.COMPENSATING and self.open:
                run_phases.undo_next(self)
                break
            if self.open:
                break
            run_phases.advance(self)
        if (
            self.intent is RunIntent.PAUSE
            and not self.running
            and self.status is WorkflowStatus.RUNNING
            and not self.ended
        ):
            self.status = run_after(self.status, RunMove.PAUSED)
            self.events.append((RunMove.PAUSED.value, None))

    def _settle_queue(self) -> None:
        queue = self.queue
        while queue:
            position, code = queue.pop()
            if position >= self.run.step_count:
                self._item_ended(self.step_of(position), code, position)
            else:
                self._count_down(position, code)

    def terminal(self, position: int, code: int) -> None:
        """A task has ended otherwise than COMPLETED."""
        self.open -= 1
        self.queue.append((position, code))
        if code != FAILED:
            return
        spec = self.run.workflow.spec(self.step_of(position))
        item = position >= self.run.step_count
        if not spec.required or (item and spec.on_item_failure is ItemFailure.CONTINUE):
            return
        if self.phase is not RunPhase.MAIN:
            if self.handler_failure is None:
                self.handler_failure = position
            return
        if self.first_failure is None:
            self.first_failure = position
        if self.run.workflow.fail_fast and self.stopping is None:
            self.stop("fail_fast")

    def _left(self, step: int) -> int:
        left = self.waiting.get(step)
        return self.run.waiting[step] if left is None else left

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

    # -- fan-outs --------------------------------------------------------------------------------

    def _item_ended(self, step: int, code: int, position: int) -> None:
        self.groups_open[step] = left = self.group_value(step, self.groups_open, "open") - 1
        if code == FAILED:
            self.groups_failed[step] = self.group_value(step, self.groups_failed, "failed") + 1
            policy = self.run.workflow.spec(step).on_item_failure
            if policy is not ItemFailure.CONTINUE and step not in self.run.errors:
                self.errors.setdefault(step, self.errors[position])
            if policy is ItemFailure.STOP and left:
                self._stop_group(step)
                return  # whoever ended last has ended the step
        elif code == CANCELLED:
            self.groups_cancelled[step] = self.group_value(step, self.groups_cancelled, "cancelled") + 1
        if not left:
            self._group_ended(step)
        elif step in self.run.workflow.waiting:
            waiting_steps.open_more(self, step)

    def _stop_group(self, step: int) -> None:
        """An item failed, and what has not begun of its fan-out does not begin any more."""
        if self.group_stopped(step):
            return
        self.groups_stopped.add(step)
        self._drop_items(step, "item_failed", open_stay=True)

    def _group_ended(self, step: int) -> None:
        failed = self.group_value(step, self.groups_failed, "failed")
        cancelled = self.group_value(step, self.groups_cancelled, "cancelled")
        tolerant = self.run.workflow.spec(step).on_item_failure is ItemFailure.CONTINUE
        error = None
        if failed and not tolerant:
            first = self.errors.get(step) or self.run.errors.get(step) or {}
            error = {
                "type": first.get("type"),
                "message": f"{failed} items failed; the first: {first.get('message')}",
            }
            move = TaskMove.FAILED
            self.errors[step] = error
        else:
            move = TaskMove.CANCELLED if cancelled else TaskMove.COMPLETED
        self.states[step] = code = after(RUNNING, move)
        text = encoded(error)
        self.finished.append(
            (move.value, self.now_us, None, None, text, self.run.number, step, 1, self.epoch)
        )
        self.events.append((move.value, step, 1))
        self.terminal(step, code)

    def expand(self, step: int, items: list[Any], first: int | None = None) -> None:
        """A fan-out step gets its items."""
        first = self.size if first is None else first
        self.groups[step] = (first, items)
        self.states[step] = after(BLOCKED, TaskMove.EXPANDED)
        self.attempts[step] = 1
        self.started.append((self.run.number, step, 1, self.epoch, self.now_us))
        self.expanded.append((self.run.number, step, first, len(items), msgspec.json.encode(items)))
        self.groups_open[step] = len(items)
        self.events.append(("expanded", step, first, len(items)))
        self.open += len(items)

    # -- judging ---------------------------------------------------------------------------------

    def _judge(self, step: int) -> None:
        """Decides once what becomes of a step whose parents are all terminal."""
        workflow = self.run.workflow
        if self._bad_parents or self.stopping is not None or workflow.has_rules:
            verdict, reason = rule_verdict(self, step)
            if verdict is not None:
                self.settle_unstarted(step, verdict, reason)
                return
        try:
            condition = workflow.conditions.get(step)
            if condition is not None and not condition.evaluate(RunScope(self.run, self)):
                self.settle_unstarted(step, SKIPPED, "condition")
                return
            if step in workflow.fan_outs:
                self._fan_out(step, items_of_step(self.run, step, self))
                return
        except EvaluationError as error:
            self.settle_unstarted(
                step, FAILED, "expression", {"type": "ExpressionError", "message": str(error)}
            )
            return
        if step in workflow.waiting:
            waiting_steps.open_waiting(self, step)
            return
        self.states[step] = after(BLOCKED, TaskMove.READY)
        self.ready.append((step, step + 1))

    def _fan_out(self, step: int, items: list[Any]) -> None:
        self.expand(step, items)
        first = self.groups[step][0]
        if not items:
            self._group_ended(step)
        elif step in self.run.workflow.waiting:
            waiting_steps.open_more(self, step)
        else:
            self.ready.append((first, first + len(items)))

    @property
    def _bad_parents(self) -> bool:
        return bool(self.failed or self.skipped or self.run.failed_parents or self.run.skipped_parents)

    def settle_unstarted(
        self, position: int, code: int, reason: str, error: dict[str, Any] | None = None
    ) -> None:
        """Ends a task of which nothing runs."""
        move = TaskMove(STATUSES[code].value)
        after(self.state_of(position), move)
        if self.reason_of(position) is BlockReason.APPROVAL:
            waiting_steps.withdraw(self, position)
        self.states[position] = code
        number = self.attempt_of(position)
        self.settled.append(
            (self.run.number, position, move.value, reason, number, self.epoch, self.now_us, encoded(error))
        )
        self.events.append((move.value, position, reason))
        if error is not None:
            self.errors[position] = error
        self.wish_cancelled |= code == CANCELLED and self.stopping == BY_WISH
        self.terminal(position, code)

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
