"""A task that has waited too long goes before what is only more urgent, and breaks no other rule by that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from codomyrmex.logistics.orchestration.project.admission import Admission, Lane
from codomyrmex.logistics.orchestration.project.order_policy import OrderPolicy
from codomyrmex.logistics.orchestration.project.resource_request import CPU, Request
from codomyrmex.logistics.orchestration.project.run_simulation import Simulation
from codomyrmex.logistics.orchestration.project.run_state import RunOptions, RunState
from codomyrmex.logistics.orchestration.project.states import WorkflowStatus
from codomyrmex.logistics.orchestration.project.workflow_compiler import compile_workflow

SECOND = 1_000_000
SMALL = Request(cpu_milli=500)
OTHER = Request(cpu_milli=600)


@dataclass
class Run:
    number: int


def queues() -> Admission:
    return Admission(cpu_milli=4000, max_workers=8, policy=OrderPolicy(reserve_after_s=10.0))


def offered(to: Admission, run: int, at_s: int, *, tail_s: float, span_s: int = 0, **more: Any) -> Lane:
    """A task that became ready at an instant."""
    lane = to.lane(Run(run), **{"request": SMALL, "quick": False, **more})
    to.mark(at_s * SECOND)
    to.offer(lane, 1, 0, 1, tail_s, span_us=span_s * SECOND)
    return lane


def admitted(to: Admission) -> list[Lane]:
    """Who begins now, in order."""
    found = []
    while (lane := to.next_lane()) is not None:
        assert len(found) < 10, "it goes on for ever"
        to.take(lane, 1)
        to.claim(lane)
        found.append(lane)
    return found


def test_it_goes_before_what_is_only_more_urgent() -> None:
    to = queues()
    late = offered(to, 1, 0, tail_s=1.0)
    urgent = offered(to, 2, 1, tail_s=9.0)
    to.mark(50 * SECOND)
    to.keep_room()
    assert admitted(to) == [late, urgent]


def test_a_task_of_its_own_run_goes_first_and_their_limit_holds() -> None:
    to = queues()
    mine: dict[str, Any] = {"caps": (((1, -1), 1),), "span_s": 100}
    late = offered(to, 1, 0, tail_s=1.0, **mine)
    own = offered(to, 1, 1, tail_s=9.0, request=OTHER, **mine)
    urgent = offered(to, 2, 1, tail_s=5.0)
    to.mark(50 * SECOND)
    to.keep_room()
    assert admitted(to) == [own, urgent]  # run 1 may have one at a time
    to.release(own)
    assert admitted(to) == [late]


def test_one_that_is_set_aside_stays_there() -> None:
    to = queues()
    late = offered(to, 1, 0, tail_s=1.0, quick=True)
    urgent = offered(to, 2, 1, tail_s=9.0)
    to.mark(50 * SECOND)
    to.keep_room()
    assert to.next_lane() is late
    to.set_aside(late)
    assert admitted(to) == [urgent]
    to.take_back()
    assert admitted(to) == [late]


@pytest.mark.parametrize(("lasts_s", "span_s"), [(1.0, 2.0), (3600.0, 7200.0)])
def test_a_run_of_which_nothing_was_learned_takes_its_span_from_its_own_tasks(
    lasts_s: float, span_s: float
) -> None:
    steps = [
        {"name": "a", "module": "acts", "action": "act"},
        {"name": "b", "module": "acts", "action": "act", "dependencies": ["a"]},
        {"name": "c", "module": "acts", "action": "act", "dependencies": ["b"]},
    ]
    workflow = compile_workflow({"codomyrmex": 1, "name": "w", "steps": steps})
    run = RunState(number=0, id="r", workflow=workflow, parameters={}, options=RunOptions(root="/"))
    simulation = Simulation(machine={CPU: 1000}, workers=4, attempt_s=lambda _run, _position: lasts_s)
    simulation.submit(run)
    simulation.run()
    assert run.status is WorkflowStatus.COMPLETED
    assert run.span_us == span_s * SECOND
