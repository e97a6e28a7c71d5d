"""Pause, cancel and the failure of items at awkward moments, one rule each, fed to the pure core by hand."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

from random_workflows import whole_document
from reference_rules import plain
from simulated_runs import NUMBER, SimulatedRun, Simulation

from codomyrmex.logistics.orchestration.project.news import (
    Adoption,
    ChildEnded,
    Chunk,
    News,
    PauseAsked,
    Recall,
    StopAsked,
)
from codomyrmex.logistics.orchestration.project.states import RunIntent, WorkflowStatus

PAUSE, RESUME = PauseAsked(NUMBER, True), PauseAsked(NUMBER, False)
CANCEL = StopAsked(NUMBER, RunIntent.CANCEL)
TWO_ITEMS = ("items", [{"value": 0, "script": ["ValueError"]}, {"value": 1, "script": ["ok"]}])


class ByHand(Simulation):
    """A run of which nothing happens but what a test says."""

    def __init__(self, *steps: dict[str, Any], **more: Any) -> None:
        always = SimpleNamespace(
            random=lambda: 0.39, choice=lambda options: options[0], shuffle=Random(0).shuffle
        )
        made = {"on_failure": [], "finally": [], "fail_fast": False, "timeout_s": None, "result": None}
        document = whole_document({**made, "steps": list(steps), **more})
        super().__init__(document, always, calm=True)  # type: ignore[arg-type]
        self.commit([Adoption(self.run, [])])

    def start_some(self, plan: Any) -> None:
        """Everything that is ready starts."""
        for position in self.ready:
            self.attempts[position] = plan.start(position)
        self.ready = []

    def at(self, name: str) -> int:
        return next(at for at in range(len(self.run.state)) if self.run.name_of(at) == name)

    def ends(self, *names: str) -> None:
        """Attempts of these tasks end, in one commit."""
        self.commit([self.arrival(self.at(name)) for name in names])

    def child_fails(self, name: str) -> News:
        start = self.children[self.at(name)]
        return ChildEnded(
            run_number=NUMBER,
            position=start.position,
            attempt=start.attempt,
            id=start.run.id,
            status=WorkflowStatus.FAILED,
            outputs=None,
            error=None,
        )

    def time_passes(self) -> None:
        """Every deadline there is now comes due."""
        for _ in list(self.timers):
            self.commit([self.due()])

    @property
    def statuses(self) -> dict[str, str]:
        return SimulatedRun(self).statuses()

    def told(self, event: str) -> list[str]:
        return [self.run.name_of(each[1]) for _sequence, each in self.journal if each[0] == event]


def child(name: str, **more: Any) -> dict[str, Any]:
    return plain(name, kind="workflow", script=["ValueError"], **more)


def test_a_child_run_that_fails_in_a_pause_is_tried_again_after_it() -> None:
    run = ByHand(child("c", max_attempts=2))
    run.commit([PAUSE])
    run.commit([run.child_fails("c")])
    run.commit([RESUME])
    run.time_passes()
    assert run.told("waiting") == ["c", "c"]


def test_a_delay_that_was_set_again_by_a_resume_is_over_once() -> None:
    run = ByHand(child("c", max_attempts=2, delay_s=1))
    run.commit([run.child_fails("c")])
    run.commit([PAUSE])
    run.commit([RESUME])
    run.time_passes()
    assert run.told("waiting") == ["c", "c"]


def test_a_cancel_that_cancels_nothing_leaves_the_outcome_that_main_had() -> None:
    run = ByHand(plain("a", script=["ValueError"]), plain("b", parents=["a"]), plain("c"))
    run.ends("a")
    assert run.statuses["b"] == "cancelled"
    run.commit([CANCEL])
    run.ends("c")
    assert run.run.status is WorkflowStatus.FAILED


def test_a_cancel_in_a_pause_of_a_handler_phase_lets_the_handlers_go_on() -> None:
    run = ByHand(plain("a"), **{"finally": [plain("f"), plain("g", kind="sleep", parents=["f"])]})
    run.ends("a")
    run.commit([PAUSE])
    run.ends("f")
    run.commit([CANCEL])
    run.time_passes()
    assert run.run.status is WorkflowStatus.COMPLETED


def test_a_cancel_in_a_handler_phase_is_not_passed_on_to_its_child_runs() -> None:
    run = ByHand(plain("a"), **{"finally": [child("c")]})
    run.ends("a")
    run.commit([CANCEL])
    assert run.stopped_children == set()


def test_an_item_that_waits_for_its_next_child_run_has_not_begun_where_another_item_fails() -> None:
    run = ByHand(child("c", over=TWO_ITEMS, on_item_failure="stop", max_attempts=2, delay_s=1))
    run.commit([run.child_fails("c[0]")])
    first = run.due()
    run.commit([first])
    run.commit([run.child_fails("c[1]")])
    run.commit([run.child_fails("c[0]")])
    assert run.statuses == {"c": "failed", "c[0]": "failed", "c[1]": "cancelled"}


def test_a_fan_out_that_allows_failures_and_was_cancelled_is_cancelled() -> None:
    step = plain("s", over=TWO_ITEMS, on_item_failure="continue", max_parallel=1)
    run = ByHand(step, plain("t"))
    run.ends("s[0]")
    run.attempts.pop(run.at("s[1]"))
    run.commit([CANCEL, Recall(Chunk(run.run, None), [(run.at("s[1]"), 1)])])  # type: ignore[arg-type]
    assert run.statuses["s"] == "cancelled"


def test_a_delay_that_begins_in_the_commit_in_which_a_pause_ends_is_waited_for() -> None:
    run = ByHand(plain("a", script=["ValueError", "ok"], max_attempts=2, delay_s=1))
    run.commit([PAUSE])
    run.commit([run.arrival(run.at("a")), RESUME])
    assert run.statuses == {"a": "blocked"}
    run.time_passes()
    run.ends("a")
    assert run.run.status is WorkflowStatus.COMPLETED
