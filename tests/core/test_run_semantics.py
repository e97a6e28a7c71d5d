"""What a run does, one rule at a time, on a real engine in memory and in virtual time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, Event, Lock
from typing import Any

import pytest

from codomyrmex.current_task import current_task
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.logistics.orchestration.project.workflow import Workflow
from codomyrmex.testing import FinishedRun, VirtualClock, run_workflow
from waiting import wait_until

LIMIT_S = 20.0


def value(value: Any = None, **_more: Any) -> Any:
    return value


def fail(error: str = "ValueError", message: str = "no") -> None:
    raise {"ValueError": ValueError, "KeyError": KeyError}[error](message)


def workflow(**steps: dict[str, Any]) -> Workflow:
    """A workflow of steps that return their `value` parameter, or do what `call` says."""
    made = Workflow("rules")
    for name, options in steps.items():
        function = options.pop("call", value)
        made.step(function, **options.pop("parameters", {})).options(name=name, **options)
    return made


def statuses(made: Workflow, **stubs: Any) -> dict[str, str]:
    return run_workflow(made, stubs=stubs).statuses()


@pytest.fixture
def engine() -> Iterator[OrchestrationEngine]:
    with OrchestrationEngine(state=":memory:", clock=VirtualClock(), cpu_count=4) as opened:
        yield opened


def kinds(run: FinishedRun, task: str | None) -> list[str]:
    return [event["event"] for event in run.events if event["task"] == task]


# -- retries -----------------------------------------------------------------------------------------


def test_a_failed_attempt_is_tried_again_after_its_delay_and_the_journal_says_so() -> None:
    made = workflow(a={"retry": {"max_attempts": 3, "delay_s": 100, "backoff": 3}})
    run = run_workflow(made, stubs={"a": [ValueError, ValueError, 7]})
    assert kinds(run, "a") == [*["started", "retry_set", "ready"] * 2, "started", "completed"]
    assert run.results["a"] == 7
    assert run.attempts("a") == 3
    assert run.duration == pytest.approx(400, abs=5)


def test_a_retry_without_delay_goes_back_to_the_queue_at_once() -> None:
    run = run_workflow(workflow(a={"retry": 1}), stubs={"a": [ValueError, 7]})
    assert kinds(run, "a")[1] in ("returned", "retry_set")
    assert run.success


@pytest.mark.parametrize(
    ("retry", "attempts"),
    [
        ({"max_attempts": 3, "on": ["ValueError"]}, 1),
        ({"max_attempts": 3, "on": ["LookupError"]}, 3),
        ({"max_attempts": 3, "never": ["LookupError"]}, 1),
        ({"max_attempts": 3, "on": ["KeyError"], "never": ["KeyError"]}, 1),
        ({"max_attempts": 3}, 3),
    ],
)
def test_on_and_never_name_exceptions_or_their_bases(retry: dict[str, Any], attempts: int) -> None:
    run = run_workflow(workflow(a={"retry": retry}), stubs={"a": KeyError("gone")})
    assert run.attempts("a") == attempts
    assert run.status.value == "failed"


def test_jitter_keeps_the_delay_between_half_and_whole() -> None:
    made = workflow(a={"retry": {"max_attempts": 2, "delay_s": 100, "jitter": True}})
    run = run_workflow(made, stubs={"a": [ValueError, 1]})
    assert run.duration is not None
    assert 50 <= run.duration <= 105


def test_an_unserialisable_result_is_never_tried_again_and_names_its_place() -> None:
    run = run_workflow(workflow(a={"retry": 5}), stubs={"a": lambda: {"rows": [object()]}})
    assert run.attempts("a") == 1
    assert run.error is not None
    assert "rows" in run.error


# -- what a step asks of those before it ---------------------------------------------------------------

ENDS = {
    "completed": {},
    "failed": {"call": fail},
    "skipped": {"run_if": "false"},
    "optional": {"call": fail, "required": False},
    "cancelled": {"needs": ["broken"]},
}
TABLE = {
    #              completed    failed       skipped     optional    cancelled
    "all_success": ("completed", "cancelled", "skipped", "skipped", "cancelled"),
    "none_failed": ("completed", "cancelled", "completed", "completed", "cancelled"),
    "all_done": ("completed",) * 5,
    "one_success": ("completed", "skipped", "skipped", "skipped", "skipped"),
    "one_failed": ("skipped", "completed", "skipped", "completed", "completed"),
}


@pytest.mark.parametrize("rule", TABLE)
@pytest.mark.parametrize("end", ENDS)
def test_each_trigger_rule_judges_each_end_of_a_single_parent(rule: str, end: str) -> None:
    made = workflow(broken={"call": fail}, a=dict(ENDS[end]), b={"needs": ["a"], "trigger_rule": rule})
    found = statuses(made)
    assert found["a"] == ("failed" if end == "optional" else end)
    assert found["b"] == TABLE[rule][list(ENDS).index(end)]


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [("all_success", "cancelled"), ("none_failed", "cancelled"), ("one_success", "completed"),
     ("one_failed", "completed"), ("all_done", "completed")],
)  # fmt: skip
def test_each_trigger_rule_judges_parents_that_ended_differently(rule: str, wanted: str) -> None:
    made = workflow(
        a={}, b={"call": fail}, c={"run_if": "false"}, d={"needs": ["a", "b", "c"], "trigger_rule": rule}
    )
    assert statuses(made)["d"] == wanted


def test_a_step_that_need_not_succeed_does_not_fail_the_run() -> None:
    run = run_workflow(workflow(a={"call": fail, "required": False}, b={}))
    assert run.status.value == "completed"
    assert run.statuses() == {"a": "failed", "b": "completed"}


def test_a_condition_sees_outputs_statuses_and_errors() -> None:
    made = workflow(
        a={"parameters": {"value": {"n": 3}}},
        b={"call": fail, "required": False},
        yes={"run_if": "steps.a.output.n == 3 and steps.b.status == 'failed'", "trigger_rule": "all_done"},
        no={"run_if": "steps.a.output.n > 3"},
        why={"run_if": "'no' in steps.b.error.message", "trigger_rule": "all_done"},
    )
    found = statuses(made)
    assert (found["yes"], found["no"], found["why"]) == ("completed", "skipped", "completed")


def test_a_condition_that_cannot_be_worked_out_fails_its_step_without_an_attempt() -> None:
    run = run_workflow(workflow(a={"parameters": {"value": 3}}, b={"run_if": "len(steps.a.output) > 0"}))
    assert run.statuses()["b"] == "failed"
    assert run.attempts("b") == 0


def test_a_parameter_that_has_no_value_is_a_fault_of_its_step() -> None:
    made = workflow(
        a={"run_if": "false"},
        b={"parameters": {"value": "${steps.a.output.x}"}, "trigger_rule": "all_done"},
        c={},
    )
    run = run_workflow(made)
    assert run.statuses() == {"a": "skipped", "b": "failed", "c": "completed"}
    assert "steps.a.output" in (run.error or "")


def test_fail_fast_cancels_what_has_not_begun() -> None:
    made = workflow(a={"call": fail}, b={"needs": ["a"], "trigger_rule": "all_done"}, c={"needs": ["b"]})
    made.fail_fast = True
    run = run_workflow(made)
    assert run.statuses() == {"a": "failed", "b": "cancelled", "c": "cancelled"}
    assert run.status.value == "failed"


def test_fail_fast_on_a_faulty_condition_of_a_first_step_cancels_the_other_first_steps() -> None:
    made = workflow(a={"run_if": "len(parameters.n) > 0"}, b={}, c={})
    made.declarations = {"n": {"type": "integer", "default": 1}}
    made.fail_fast = True
    assert statuses(made) == {"a": "failed", "b": "cancelled", "c": "cancelled"}


def test_fail_fast_asks_what_runs_to_stop() -> None:
    begun = Event()

    def wait_for_the_end() -> None:
        begun.set()
        wait_until(lambda: current_task().cancelled, timeout_s=LIMIT_S)

    made = workflow(a={}, b={})
    made.fail_fast = True
    run = run_workflow(made, stubs={"a": wait_for_the_end, "b": lambda: begun.wait(LIMIT_S) and fail()})
    assert run.statuses() == {"a": "completed", "b": "failed"}


# -- fan-outs ----------------------------------------------------------------------------------------


def test_a_fan_out_gives_the_outputs_of_its_items_in_order() -> None:
    made = workflow(a={"foreach": [3, 1, 2], "parameters": {"value": "${item}", "index": "${index}"}})
    run = run_workflow(made)
    assert run.results["a"] == [3, 1, 2]
    assert run.attempts("a") == 3


def test_an_empty_fan_out_is_complete_at_once_and_gives_an_empty_list() -> None:
    made = workflow(a={"foreach": []}, b={"parameters": {"value": "${steps.a.output}"}})
    run = run_workflow(made)
    assert run.results == {"a": [], "b": []}
    assert "a" not in run.order


def test_items_that_fail_fail_the_fan_out_and_the_first_is_named() -> None:
    def only_even(number: int) -> int:
        if number % 2:
            raise ValueError(f"odd: {number}")
        return number

    made = workflow(
        a={"foreach": [0, 1, 2, 3], "parameters": {"number": "${item}"}, "retry": 1, "max_parallel": 1},
        b={"needs": ["a"]},
    )
    run = run_workflow(made, stubs={"a": only_even})
    assert run.statuses() == {
        "a": "failed", "a[0]": "completed", "a[1]": "failed", "a[2]": "completed", "a[3]": "failed",
        "b": "cancelled",
    }  # fmt: skip
    assert run.attempts("a[1]") == 2
    assert "odd: 1" in (run.error or "")
    assert run.tasks["a"].error is not None
    assert run.tasks["a"].error["message"] == "2 items failed; the first: odd: 1"


def test_a_fan_out_of_something_that_is_no_list_fails() -> None:
    made = workflow(a={"parameters": {"value": 3}}, b={"foreach": "${steps.a.output}"})
    assert statuses(made) == {"a": "completed", "b": "failed"}


# -- how much at once, and in which order ----------------------------------------------------------------


class Peak:
    """Counts how many are inside at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = Lock()

    def __call__(self, **_parameters: Any) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.003)
        with self._lock:
            self.now -= 1


@pytest.mark.parametrize(("of", "cap"), [("run", 2), ("step", 3), ("cpu", 2)])
def test_no_more_run_at_once_than_the_cap_says(engine: OrchestrationEngine, of: str, cap: int) -> None:
    peak = Peak()
    options: dict[str, Any] = {"step": {"max_parallel": cap}, "cpu": {"resources": {"cpu": 2}}}.get(of, {})
    made = Workflow("caps", max_parallel=cap if of == "run" else None)
    made.step(lambda n: peak(), n="${item}").options(name="a", foreach=list(range(12)), **options)
    assert engine.execute_workflow(made).success
    assert 1 <= peak.most <= cap


def test_independent_steps_run_side_by_side(engine: OrchestrationEngine) -> None:
    together = Barrier(3, timeout=LIMIT_S)
    made = Workflow("parallel")
    for number in range(3):
        made.step(lambda: together.wait() and None).options(name=f"s{number}")
    assert engine.execute_workflow(made).success


def test_one_slow_item_does_not_hold_up_the_quick_ones_behind_it(engine: OrchestrationEngine) -> None:
    rest = Event()

    def work(n: int) -> None:
        if n == 100:
            assert rest.wait(LIMIT_S)
        if n == 299:
            rest.set()

    made = Workflow("straggler")
    made.step(work, n="${item}").options(name="a", foreach=list(range(300)))
    run = engine.execute_workflow(made)
    assert run.success, run.error


def test_higher_priority_goes_first() -> None:
    made = workflow(
        low={"priority": "low"}, normal={}, critical={"priority": "critical"}, high={"priority": "high"}
    )
    made.max_parallel = 1
    assert run_workflow(made).order == ["critical", "high", "normal", "low"]


# -- cancelling ----------------------------------------------------------------------------------------


def test_cancelling_ends_what_runs_and_cancels_what_waits(engine: OrchestrationEngine) -> None:
    begun = Event()

    def stubborn() -> str:
        begun.set()
        wait_until(lambda: current_task().cancelled, timeout_s=LIMIT_S)
        return "finished all the same"

    made = Workflow("cancel")
    first = made.step(stubborn).options(name="a")
    made.step(value, value=first.output).options(name="b")
    execution = engine.start_workflow(made)
    assert begun.wait(LIMIT_S)
    engine.cancel(execution.execution_id)
    engine.cancel(execution.execution_id)
    assert execution.wait(LIMIT_S)
    run = FinishedRun(engine.reader, execution.execution_id)
    assert run.status.value == "cancelled"
    assert run.statuses() == {"a": "completed", "b": "cancelled"}
    engine.cancel(execution.execution_id)
    assert execution.status.value == "cancelled"


def test_cancelling_right_after_the_start_ends_every_task(engine: OrchestrationEngine) -> None:
    for _ in range(20):
        made = Workflow("early")
        made.step(lambda: wait_until(lambda: current_task().cancelled, timeout_s=LIMIT_S)).options(
            name="a", foreach=[1, 2, 3, 4, 5, 6]
        )
        execution = engine.start_workflow(made)
        engine.cancel(execution.execution_id)
        assert execution.wait(LIMIT_S)
        assert execution.status.value == "cancelled"


def test_an_attempt_that_does_not_hear_is_asked_again(
    engine: OrchestrationEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, begun = engine._host.runner, Event()
    asked: list[int] = []

    def stop_too_early(run: Any, position: int, *, kill: bool) -> bool:
        asked.append(position)
        return len(asked) > 2 and stop(run, position, kill=kill)

    def work() -> None:
        begun.set()
        wait_until(lambda: current_task().cancelled, timeout_s=LIMIT_S)

    stop = runner.stop
    monkeypatch.setattr(runner, "stop", stop_too_early)
    made = Workflow("deaf")
    made.step(work).options(name="a")
    execution = engine.start_workflow(made)
    assert begun.wait(LIMIT_S)
    engine.cancel(execution.execution_id)
    assert execution.wait(LIMIT_S)
    assert asked == [0, 0, 0]


def test_a_cancelled_run_drops_the_timers_of_its_retries(engine: OrchestrationEngine) -> None:
    made = Workflow("timer")
    made.step(fail).options(name="a", retry={"max_attempts": 2, "delay_s": 3000})
    made.step(lambda: wait_until(lambda: current_task().cancelled, timeout_s=LIMIT_S)).options(name="b")
    execution = engine.start_workflow(made)
    wait_until(lambda: execution.tasks["a"].status == "blocked")
    engine.cancel(execution.execution_id)
    assert execution.wait(LIMIT_S)
    assert {name: task.status for name, task in execution.tasks.items()} == {
        "a": "cancelled",
        "b": "completed",
    }


def test_what_was_given_out_ahead_is_taken_back_when_the_run_is_cancelled(
    engine: OrchestrationEngine,
) -> None:
    begun, count = Event(), []

    def work(n: int) -> None:
        count.append(n)
        if n == 200:
            begun.set()
            wait_until(lambda: current_task().cancelled, timeout_s=LIMIT_S)

    made = Workflow("prefetched")
    made.step(work, n="${item}").options(name="a", foreach=list(range(2000)), max_parallel=1)
    execution = engine.start_workflow(made)
    assert begun.wait(LIMIT_S)
    engine.cancel(execution.execution_id)
    assert execution.wait(LIMIT_S)
    run = FinishedRun(engine.reader, execution.execution_id)
    found = list(run.statuses().values())
    assert run.statuses()["a"] == "cancelled"
    assert found.count("completed") == len(count) == 201
    assert max(task.attempt for task in run.tasks.values()) == 1


# -- ends ----------------------------------------------------------------------------------------------


def test_outputs_are_resolved_when_the_run_completes() -> None:
    made = workflow(a={"parameters": {"value": {"n": [1, 2]}}})
    made.outputs = {
        "whole": "${steps.a.output}",
        "part": "n is ${steps.a.output.n[1]}",
        "none": "${steps.a.output.x ?? 5}",
    }
    assert run_workflow(made).outputs == {"whole": {"n": [1, 2]}, "part": "n is 2", "none": 5}


def test_an_output_without_a_value_fails_the_run() -> None:
    made = workflow(a={"run_if": "false"})
    made.outputs = {"a": "${steps.a.output}"}
    run = run_workflow(made)
    assert run.status.value == "failed"
    assert "outputs" in (run.error or "")


def test_a_large_output_is_read_back_when_somebody_needs_it() -> None:
    made = workflow(
        a={"parameters": {"value": "x" * 200_000}}, b={"parameters": {"value": "${steps.a.output}"}}
    )
    assert len(run_workflow(made).results["b"]) == 200_000


def test_handlers_are_told_every_event_in_the_order_of_the_commits(engine: OrchestrationEngine) -> None:
    told: list[tuple[str, Any]] = []
    engine.register_event_handler("*", lambda event, data: told.append((event, data.get("task"))))
    execution = engine.execute_workflow(workflow(a={}, b={"needs": ["a"]}))
    wait_until(lambda: ("run_completed", None) in told)
    journal = [
        (event["event"], event["task"]) for event in FinishedRun(engine.reader, execution.execution_id).events
    ]
    assert told == journal == [
        ("run_started", None), ("started", "a"), ("completed", "a"), ("started", "b"), ("completed", "b"),
        ("run_completed", None),
    ]  # fmt: skip


def test_a_cancel_ends_what_runs_and_lets_the_clean_up_run_to_its_end(tmp_path: Path) -> None:
    """The wish to end is repeated until all has heard; it must not reach what begins after it."""
    sleeps = {"module": "shell", "action": "run"}
    document = {
        "codomyrmex": 1,
        "name": "tidy",
        "steps": [
            {"name": "made", **sleeps, "parameters": {"command": ["true"]}, "compensate": {
                **sleeps, "parameters": {"command": ["sleep", "0.4"]},
            }},
            {"name": "long", **sleeps, "parameters": {"command": ["sleep", "60"]}, "dependencies": ["made"]},
        ],
        "finally": [{"name": "swept", **sleeps, "parameters": {"command": ["sleep", "0.3"]}}],
    }  # fmt: skip
    with OrchestrationEngine(state=tmp_path / "state", root=tmp_path) as engine:
        execution = engine.start_workflow(document)
        wait_until(lambda: execution.tasks["long"].status == "running")
        engine.cancel(execution.execution_id)
        assert execution.wait(30)
        statuses = {name: task.status for name, task in execution.tasks.items()}
    assert statuses == {
        "made": "completed", "long": "cancelled", "made.compensate": "completed", "swept": "completed",
    }  # fmt: skip
    assert execution.status.value == "cancelled"
