"""Steps that hold no slot: opened, answered, ended. What a run itself looks after.

Layer: pure; works on the plan of a drain. Such a task is BLOCKED with a reason while it is open, and its row
says so, so that it is found again after any crash:

    child      the run it started goes on by itself; its end comes as news
    approval   a row of the inbox; the first valid answer counts
    signal     a name; a signal is latched, so one that was sent before is there already
    timer      a sleep, or the delay before the next child is tried

What it waits for may have a deadline, which stands in the row (`ready_at`) and in the run's timers.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zlib import crc32

from codomyrmex.logistics.orchestration.project.amounts import read_duration_s
from codomyrmex.logistics.orchestration.project.child_definition import child_id
from codomyrmex.logistics.orchestration.project.child_making import make_child
from codomyrmex.logistics.orchestration.project.expressions import EvaluationError
from codomyrmex.logistics.orchestration.project.run_overlay import ChildStart, encoded
from codomyrmex.logistics.orchestration.project.run_scope import scope_of
from codomyrmex.logistics.orchestration.project.run_state import BLOCKED
from codomyrmex.logistics.orchestration.project.states import (
    BlockReason,
    RunIntent,
    StepKind,
    TaskMove,
    after,
)
from codomyrmex.logistics.orchestration.project.values import encode_tree, from_tagged, to_tagged
from codomyrmex.logistics.orchestration.project.waiting_spec import (
    CHILDREN_AT_ONCE,
    NO_DEFAULT,
    WaitingSpec,
)
from codomyrmex.logistics.orchestration.project.workflow_parameters import bind_parameters

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.run_plan import RunPlan

OPENED_AT_ONCE = 2000
"""More are opened by further plans, so that none holds the write lock for long."""
NOBODY = "default"
"""Who answered where the time was over and a default counts."""


# -- opening ---------------------------------------------------------------------------------------


def open_more(plan: RunPlan, step: int) -> None:
    """Opens items of a fan-out of such a step, as many as may be open at a time."""
    found = plan.items_of(step)
    assert found is not None, step
    first, items = found
    spec = plan.run.workflow.spec(step)
    cap = spec.max_parallel or (CHILDREN_AT_ONCE if spec.kind is StepKind.WORKFLOW else len(items))
    last = plan.group_value(step, plan.groups_opened, "opened") + OPENED_AT_ONCE
    while not _held(plan) and not plan.group_stopped(step):
        opened = plan.group_value(step, plan.groups_opened, "opened")
        if last <= opened < len(items):
            plan.timers.append((plan.now_us, step))  # the rest in a plan of its own
            return
        ended = len(items) - plan.group_value(step, plan.groups_open, "open")
        if opened >= len(items) or opened - ended >= cap:
            return
        plan.groups_opened[step] = opened + 1
        if plan.state_of(first + opened) == BLOCKED and not plan.attempt_of(first + opened):
            open_waiting(plan, first + opened)


def _held(plan: RunPlan) -> bool:
    return plan.intent is RunIntent.PAUSE or plan.stopping is not None


def open_waiting(plan: RunPlan, position: int) -> None:
    """Begins to wait; while the run is paused it stays unopened."""
    if _held(plan):
        return
    step = plan.step_of(position)
    spec = plan.run.workflow.waiting[step]
    number = plan.attempt_of(position) + 1
    try:
        text = None if spec.text is None else spec.text.resolve(scope_of(plan.run, position, plan))
        _OPENERS[spec.kind](plan, position, number, spec, text)
    except EvaluationError as error:
        plan.settle_unstarted(
            position, plan_failed(), "expression", {"type": "ExpressionError", "message": str(error)}
        )


def plan_failed() -> int:
    """The code of FAILED, looked up by its move from BLOCKED."""
    return after(BLOCKED, TaskMove.FAILED)


def _wait(plan: RunPlan, position: int, number: int, reason: BlockReason, *, due_s: float | None) -> None:
    ready_us = None if due_s is None else plan.now_us + round(due_s * 1_000_000)
    plan.attempts[position] = number
    plan.states[position] = after(BLOCKED, TaskMove.WAITING)
    plan.blocked[position] = reason
    plan.waited.append((plan.run.number, position, reason.value, number, plan.epoch, plan.now_us, ready_us))
    plan.events.append(("waiting", position, number, reason.value))
    if ready_us is not None:
        plan.timers.append((ready_us, position))


def _open_sleep(plan: RunPlan, position: int, number: int, spec: WaitingSpec, text: Any) -> None:
    seconds = spec.sleep_s
    if text is not None:
        try:
            seconds = read_duration_s(text)
        except ValueError as error:
            raise EvaluationError(f"sleep: {error}") from error
    _wait(plan, position, number, BlockReason.TIMER, due_s=seconds)


def _open_signal(plan: RunPlan, position: int, number: int, spec: WaitingSpec, text: Any) -> None:
    name = str(text)
    _wait(plan, position, number, BlockReason.SIGNAL, due_s=spec.timeout_s)
    plan.signal_names[position] = name
    run_number, place, reason, *rest = plan.waited.pop()
    plan.waited.append((run_number, place, f"{reason}:{name}", *rest))  # the name as it is now
    sent = plan.signals.get(name)
    latched = plan.run.signals.get(name) if sent is None else sent[0]
    if latched is not None:
        _complete(plan, position, latched)


def _open_approval(plan: RunPlan, position: int, number: int, spec: WaitingSpec, text: Any) -> None:
    _wait(plan, position, number, BlockReason.APPROVAL, due_s=spec.timeout_s)
    due_us = None if spec.timeout_s is None else plan.now_us + round(spec.timeout_s * 1_000_000)
    form, who = encoded(spec.form), encoded(list(spec.who))
    plan.approvals_opened.append((plan.run.number, position, str(text), form, who, plan.now_us, due_us))


def _open_child(plan: RunPlan, position: int, number: int, spec: WaitingSpec, _text: Any) -> None:
    run = plan.run
    template = run.workflow.templates[plan.step_of(position)]
    given = {} if template is None else template.resolve(scope_of(run, position, plan))
    child = run.children[spec.child]
    values = {name: from_tagged(value, classes=False) for name, value in given.items()}
    bound, faults = bind_parameters(
        child.document, values, caller_dir=run.options.root, root=run.options.root
    )
    if faults:
        said = "; ".join(fault.message for fault in faults)
        raise EvaluationError(f"workflow {spec.child!r} refuses its parameters: {said}")
    started = make_child(
        run,
        id=child_id(run.id, plan.name_of(position), number),
        name=spec.child,
        position=position,
        attempt=number,
        parameters={name: to_tagged(value) for name, value in bound.items()},
        timeout_s=spec.timeout_s,
    )
    _wait(plan, position, number, BlockReason.CHILD, due_s=None)
    plan.events.append(("child_started", position, started.id))
    plan.children_started.append(ChildStart(position=position, attempt=number, run=started))


_OPENERS = {
    StepKind.SLEEP: _open_sleep,
    StepKind.SIGNAL: _open_signal,
    StepKind.APPROVAL: _open_approval,
    StepKind.WORKFLOW: _open_child,
}


# -- news ------------------------------------------------------------------------------------------


def signal(plan: RunPlan, name: str, data: bytes, by: str) -> None:
    """A signal was sent: it is kept, and all who wait for it go on."""
    if plan.status.terminal or plan.ended:
        return
    plan.signals[name] = (data, by)
    plan.events.append(("signalled", None, name))
    waiting = {**plan.run.signal_names, **plan.signal_names}
    for position in sorted(at for at, wanted in waiting.items() if wanted == name):
        if plan.state_of(position) == BLOCKED:
            _complete(plan, position, data)


def answer(plan: RunPlan, position: int, *, approved: bool, data: Any, by: str, comment: str | None) -> None:
    """Somebody answered an approval; only the first answer to an open one counts."""
    if plan.state_of(position) != BLOCKED or plan.reason_of(position) is not BlockReason.APPROVAL:
        return
    plan.events.append(("answered", position, by, approved))
    _answered(plan, position, approved=approved, data=data, by=by, comment=comment)


def _answered(
    plan: RunPlan, position: int, *, approved: bool, data: Any, by: str, comment: str | None
) -> None:
    status = "approved" if approved else "rejected"
    plan.approvals_closed.append((status, encoded(data), by, comment, plan.now_us, plan.run.number, position))
    if approved:
        at = datetime.fromtimestamp(plan.now_us / 1_000_000, UTC).isoformat()
        said = {"approved": True, "by": by, "at": at, "data": data, "comment": comment}
        _complete(plan, position, encode_tree(said))
    else:
        message = f"rejected by {by}" + (f": {comment}" if comment else "")
        _fail(plan, position, "rejected", {"type": "Rejected", "message": message})


def withdraw(plan: RunPlan, position: int) -> None:
    """The run asks no more."""
    plan.approvals_closed.append(("withdrawn", None, None, None, plan.now_us, plan.run.number, position))


def due(plan: RunPlan, position: int) -> None:
    """The deadline of an open position has passed, or the delay before the next child."""
    reason = plan.reason_of(position)
    if reason is BlockReason.CHILD:
        return  # the delay was over already
    if reason is BlockReason.TIMER:
        if plan.run.workflow.waiting[plan.step_of(position)].kind is StepKind.SLEEP:
            _complete(plan, position, b"null")
        else:
            open_waiting(plan, position)
        return
    spec = plan.run.workflow.waiting[plan.step_of(position)]
    if spec.default is NO_DEFAULT:
        if reason is BlockReason.APPROVAL:
            plan.approvals_closed.append(
                ("timed_out", None, None, None, plan.now_us, plan.run.number, position)
            )
            message = f"nobody answered within {spec.timeout_s:g} s"
        else:
            name = plan.run.signal_names.get(position)
            message = f"signal {name!r} was not sent within {spec.timeout_s:g} s"
        _fail(plan, position, "timed_out", {"type": "TimedOut", "message": message})
    elif reason is BlockReason.APPROVAL:
        approved = spec.default if isinstance(spec.default, bool) else True
        data = None if isinstance(spec.default, bool) else spec.default
        plan.events.append(("answered", position, NOBODY, approved))
        _answered(plan, position, approved=approved, data=data, by=NOBODY, comment=None)
    else:
        _complete(plan, position, encode_tree(spec.default))


def child_completed(plan: RunPlan, position: int, number: int, outputs: bytes) -> None:
    """The run that an open position started has completed."""
    if _is_open_child(plan, position, number):
        _complete(plan, position, outputs)


def child_failed(
    plan: RunPlan, position: int, number: int, *, cancelled: bool, error: dict[str, Any]
) -> None:
    """The run that an open position started has failed, or was cancelled, and no other one follows."""
    if not _is_open_child(plan, position, number):
        return
    if cancelled and plan.stopping is not None:
        plan.settle_unstarted(position, after(BLOCKED, TaskMove.CANCELLED), plan.stopping)
    else:
        _fail(plan, position, "cancelled" if cancelled else "failed", error)


def child_retry(plan: RunPlan, position: int, number: int, error: dict[str, Any], *, delay_us: int) -> None:
    """The run that an open position started has failed, and another one is tried."""
    if not _is_open_child(plan, position, number):
        return
    row = (plan.run.number, position, number, plan.epoch, "failed", plan.now_us, encoded(error))
    plan.failed_attempts.append(row)
    plan.events.append(("retry_set", position, number, "failed", plan.now_us + delay_us))
    reason = BlockReason.TIMER
    ready_us = plan.now_us + delay_us
    plan.blocked[position] = reason
    plan.states[position] = BLOCKED
    plan.waited.append((plan.run.number, position, reason.value, number, plan.epoch, plan.now_us, ready_us))
    plan.timers.append((ready_us, position))


def _is_open_child(plan: RunPlan, position: int, number: int) -> bool:
    return (
        plan.state_of(position) == BLOCKED
        and plan.reason_of(position) is BlockReason.CHILD
        and plan.attempt_of(position) == number
    )


def is_open(plan: RunPlan, position: int) -> bool:
    """True for a task without a slot that has begun to wait; between two children it has not."""
    reason = plan.reason_of(position)
    kind = plan.run.workflow.spec(plan.step_of(position)).kind
    return reason is not None and not (reason is BlockReason.TIMER and kind is StepKind.WORKFLOW)


def ask_children(plan: RunPlan, intent: RunIntent) -> None:
    """Passes on what was asked of a run to the runs that it has started."""
    open_children = {**plan.run.blocked, **plan.blocked}
    for position, reason in open_children.items():
        if reason is BlockReason.CHILD and plan.state_of(position) == BLOCKED:
            plan.child_wishes.append((position, intent))


def revive(plan: RunPlan) -> None:
    """After a recovery: children are asked again what their parent was asked."""
    if plan.stopping is not None:
        ask_children(plan, RunIntent.KILL if plan.intent is RunIntent.KILL else RunIntent.CANCEL)
    elif plan.intent is RunIntent.PAUSE:
        ask_children(plan, RunIntent.PAUSE)


# -- ends ------------------------------------------------------------------------------------------


def _complete(plan: RunPlan, position: int, result: bytes) -> None:
    plan.states[position] = after(BLOCKED, TaskMove.COMPLETED)
    number = plan.attempt_of(position)
    plan.answered.append(
        ("completed", plan.now_us, result, crc32(result), None, plan.run.number, position, number)
    )
    plan.events.append(("completed", position, number))
    plan.keep_result(position, result, plan.now_us)


def _fail(plan: RunPlan, position: int, kind: str, error: Mapping[str, Any]) -> None:
    plan.states[position] = code = plan_failed()
    number = plan.attempt_of(position)
    told = {**error, "kind": kind}
    plan.answered.append(
        ("failed", plan.now_us, None, None, encoded(told), plan.run.number, position, number)
    )
    plan.events.append(("failed", position, number, kind))
    plan.errors[position] = told
    plan.terminal(position, code)
