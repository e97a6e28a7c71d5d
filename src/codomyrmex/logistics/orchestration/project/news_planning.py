"""What news mean: each entry of the inbox goes into the plan of its run.

Layer: beside the drain, which calls it while it plans. Nothing is written or started here. What is asked of a
run that is not in `runs` (it ended, or waits to begin) is passed over, and its row stays open.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import random
from typing import Any

import msgspec

from codomyrmex.logistics.orchestration.project import waiting_steps
from codomyrmex.logistics.orchestration.project.batch import Batch
from codomyrmex.logistics.orchestration.project.executors.attempt import Outcome, OutcomeKind
from codomyrmex.logistics.orchestration.project.followed_plan import Turn
from codomyrmex.logistics.orchestration.project.news import (
    Adoption,
    Answered,
    Arrival,
    Asked,
    ChildEnded,
    Due,
    PauseAsked,
    Recall,
    SignalSent,
    StopAsked,
)
from codomyrmex.logistics.orchestration.project.order_policy import span_of
from codomyrmex.logistics.orchestration.project.ready_tasks import QUICK_S
from codomyrmex.logistics.orchestration.project.run_plan import BY_WISH, RunPlan
from codomyrmex.logistics.orchestration.project.run_state import RunState
from codomyrmex.logistics.orchestration.project.states import WorkflowStatus
from codomyrmex.logistics.orchestration.project.tails import tails_of
from codomyrmex.logistics.task.retry import RetryDecision, decide

LEARNING = 0.125
"""How much the newest duration counts in what is known of a step's."""
LOSSES_AT_MOST = 10
"""An attempt that is lost through no fault of its own runs again, but not for ever."""
Runs = dict[int, RunState]


def plan_recall(batch: Batch, news: Recall, runs: Runs) -> None:
    """Attempts were taken back before they began."""
    run = news.chunk.run
    if runs.get(run.number) is run:
        plan = batch.plan_for(run)
        for position, number in news.entries:
            plan.give_back(position, number, "recalled")
        if news.at is not None:  # it is not so quick
            run.typical_s[run.workflow.spec_of[run.step_of(news.at[0])]] = QUICK_S
    batch.closed[news.chunk] = batch.closed.get(news.chunk, 0) + len(news.entries)


def plan_adoption(batch: Batch, news: Adoption, durations_s: Sequence[float] | None = None) -> None:
    """A run begins here, or goes on; `durations_s` is what its steps are expected to take, if that is known."""
    run = news.run
    run.tails = tails_of(run.workflow.graph, durations_s)
    run.began_us = batch.now_us
    if durations_s is not None:
        worked_s = [each for step, each in enumerate(durations_s) if step not in run.workflow.waiting]
        run.task_s = sum(worked_s) / len(worked_s) if worked_s else 0.0
        run.span_us = span_of(run.task_s, run.workflow.main_count)
    if run.options.follow is not None and run.turn is None:
        run.turn = Turn(run.options.follow)
    plan = batch.plan_for(run)
    for position, number in news.lost:
        plan.lose(position, number)
    if news.run.status is not WorkflowStatus.PENDING:
        plan.revive()
    elif news.skipped is not None:
        plan.skip(news.skipped)
    elif news.stop.ends:
        plan.withdraw(news.stop)
    else:
        plan.take_up()


def plan_asked(batch: Batch, news: Asked, run: RunState) -> None:
    """Somebody wants something of a run."""
    batch.intents.extend(news.intents)
    plan = batch.plan_for(run)
    if isinstance(news, StopAsked):
        plan.stop(BY_WISH, news.intent)
    elif isinstance(news, PauseAsked):
        if news.on:
            plan.pause()
        else:
            plan.resume()
    elif isinstance(news, SignalSent):
        waiting_steps.signal(plan, news.name, news.data, news.by)
    else:
        _plan_answer(plan, news)


def _plan_answer(plan: RunPlan, news: Answered) -> None:
    position = plan.run.position_of(news.task)
    if position is not None:
        waiting_steps.answer(
            plan, position, approved=news.approved, data=news.data, by=news.by, comment=news.comment
        )


def plan_due(batch: Batch, news: Due, run: RunState) -> None:
    """A deadline has passed."""
    batch.plan_for(run).due(news.position, news.ready_us)


def plan_child_end(batch: Batch, news: ChildEnded, run: RunState) -> None:
    """The run that a step started is terminal."""
    plan = batch.plan_for(run)
    if news.status is WorkflowStatus.COMPLETED:
        outputs = (news.outputs or "{}").encode()
        waiting_steps.child_completed(plan, news.position, news.attempt, outputs)
        return
    cancelled = news.status is WorkflowStatus.CANCELLED
    found: dict[str, Any] = msgspec.json.decode(news.error) if news.error else {}
    what = "was cancelled" if cancelled else f"failed: {found.get('message') or found.get('type')}"
    name = "ChildCancelled" if cancelled else "ChildFailed"
    error = {"type": name, "message": f"run {news.id} {what}", "run": news.id}
    if plan.may_retry(news.position):
        policy = run.workflow.spec(plan.step_of(news.position)).retry
        decision = decide(
            policy, attempts=news.attempt, crashes=0, kind="failed", names=(name,), fraction=random()
        )
        if decision.again:
            delay_us = round(decision.delay_s * 1_000_000)
            waiting_steps.child_retry(plan, news.position, news.attempt, error, delay_us=delay_us)
            return
    waiting_steps.child_failed(plan, news.position, news.attempt, cancelled=cancelled, error=error)


def plan_arrival(batch: Batch, news: Arrival, runs: Runs, *, frozen: bool) -> None:
    """An attempt has ended; `frozen` while the engine shuts down and ends them itself."""
    chunk, outcome = news.chunk, news.outcome
    run = chunk.run
    batch.closed[chunk] = batch.closed.get(chunk, 0) + 1
    if runs.get(run.number) is not run:
        return  # put aside, or already closed
    plan = batch.plan_for(run)
    position = news.position
    if not outcome.cached:
        _learn(run, position, outcome.duration_s)
    if outcome.kind is OutcomeKind.COMPLETED:
        result = outcome.result or b"null"
        plan.complete(position, news.number, result, outcome.ended_us, cached=outcome.cached)
        if outcome.cache_row is not None:
            plan.cached.append(outcome.cache_row)
    else:
        _plan_failure(plan, position, news.number, outcome, frozen=frozen)


def _learn(run: RunState, position: int, newest_s: float) -> None:
    """How long the attempts of a step take."""
    spec = run.workflow.spec_of[run.step_of(position)]
    before = run.typical_s[spec]
    if newest_s > run.slowest_s:
        run.slowest_s = newest_s
        if not run.task_s:  # nothing was learned before this run
            run.span_us = span_of(newest_s, run.workflow.main_count)
    run.typical_s[spec] = newest_s if before < 0 else before + LEARNING * (newest_s - before)


def _plan_failure(plan: RunPlan, position: int, number: int, outcome: Outcome, *, frozen: bool) -> None:
    error = (
        outcome.error.to_dict() if outcome.error is not None else {"type": outcome.kind.value, "message": ""}
    )
    error["kind"] = outcome.kind.value
    if frozen and plan.stopping is None:
        plan.lose(position, number)  # the shutdown of this engine ended it, whatever it made of that
        return
    if plan.may_retry(position) and outcome.kind is not OutcomeKind.CANCELLED:
        if outcome.kind is OutcomeKind.LOST and plan.loss_count(position) < LOSSES_AT_MOST:
            plan.retry(position, number, "lost", error, outcome.ended_us, delay_us=0)
            return
        decision = _decision(plan, position, number, outcome, error)
        if decision.again:
            delay_us = round(decision.delay_s * 1_000_000)
            plan.retry(position, number, outcome.kind.value, error, outcome.ended_us, delay_us=delay_us)
            return
        if outcome.kind is OutcomeKind.CRASHED and plan.crash_count(position):
            error["message"] += f"; it {decision.why}, so it is not tried again"
    plan.fail(position, number, outcome.kind.value, error, outcome.ended_us)


def _decision(
    plan: RunPlan, position: int, number: int, outcome: Outcome, error: dict[str, Any]
) -> RetryDecision:
    crashes = plan.crash_count(position) + (outcome.kind is OutcomeKind.CRASHED)
    return decide(
        plan.run.workflow.spec(plan.step_of(position)).retry,
        attempts=number - plan.loss_count(position),
        crashes=crashes,
        kind=outcome.kind.value,
        names=(error["type"], *error.get("mro", ())),
        fraction=random(),
    )
