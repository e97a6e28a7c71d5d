"""A step is expected to take what it took, else what its action took, else what is usual; and says which."""

from __future__ import annotations

from typing import Any

import pytest
from learned_runs import compiled

from codomyrmex.logistics.orchestration.project.expectations import Expectation, Expectations
from codomyrmex.logistics.orchestration.project.values import encode_tree
from codomyrmex.performance.samples import size_class

ACT = {"acts.act": Expectation(3.0, 5.0)}


def test_a_step_is_known_by_its_own_attempts_before_those_of_its_action() -> None:
    learned = Expectations(steps={("flow", "a"): Expectation(1.0, 2.0)}, actions=ACT)
    assert learned.of_steps(compiled({"name": "a"}, {"name": "b"})) == [(1.0, 2.0, True), (3.0, 5.0, True)]


def test_where_nothing_is_known_every_step_is_a_guess_of_a_second() -> None:
    found = Expectations().of_steps(compiled({"name": "a"}, {"name": "b"}))
    assert found == [(1.0, 1.0, False)] * 2


def test_a_guess_is_the_median_of_the_steps_that_are_known() -> None:
    known = {("flow", name): Expectation(s, 2 * s) for name, s in (("a", 1.0), ("b", 4.0), ("c", 9.0))}
    workflow = compiled(*({"name": name} for name in "abcd"))
    assert Expectations(steps=known).of_steps(workflow)[3] == (4.0, 8.0, False)


def test_the_same_name_in_another_workflow_says_nothing() -> None:
    learned = Expectations(steps={("other", "a"): Expectation(9.0, 9.0)})
    assert learned.of_steps(compiled({"name": "a"})) == [(1.0, 1.0, False)]


@pytest.mark.parametrize("module", ["shell", "python", "http"])
def test_what_other_commands_took_says_nothing_of_this_one(module: str) -> None:
    action, parameters = {
        "shell": ("run", {"command": ["true"]}),
        "python": ("run", {"code": "pass"}),
        "http": ("request", {"url": "https://example.org/"}),
    }[module]
    step = {"name": "a", "module": module, "action": action, "parameters": parameters}
    learned = Expectations(actions={f"{module}.{action}": Expectation(9.0, 9.0)})
    assert not learned.of_steps(compiled(step))[0].known


def test_constant_parameters_are_compared_with_those_of_about_their_size() -> None:
    large = {"text": "x" * 5000}
    size = size_class(len(encode_tree(large)))
    learned = Expectations(
        actions=ACT,
        sizes={("acts.act", size): Expectation(60.0, 70.0), ("acts.act", 0): Expectation(0.1, 0.2)},
    )
    workflow = compiled(
        {"name": "none"},
        {"name": "large", "parameters": large},
        {"name": "middle", "parameters": {"text": "x" * 50}},
        {"name": "open", "parameters": {"text": "${steps.none.output}"}, "dependencies": ["none"]},
    )
    assert [found.median_s for found in learned.of_steps(workflow)] == [0.1, 60.0, 3.0, 3.0]


def test_steps_without_a_slot_take_what_they_say_or_what_their_runs_took() -> None:
    workflow = compiled(
        {"name": "nap", "sleep": 30},
        {"name": "ask", "approval": {"message": "go on?"}},
        {"name": "known", "workflow": "child"},
        {"name": "unknown", "workflow": "stranger"},
        {"name": "act"},
    )
    found = Expectations(runs={"child": Expectation(20.0, 25.0)}).of_steps(workflow)
    assert found == [
        (30.0, 30.0, True),
        (0.0, 0.0, False),
        (20.0, 25.0, True),
        (0.0, 0.0, False),
        (1.0, 1.0, False),
    ]


def test_what_somebody_says_counts_before_what_was_learned() -> None:
    learned = Expectations(
        steps={("flow", name): Expectation(1.0, 1.0) for name in "abc"},
        actions={"acts.act": Expectation(1.0, 1.0)},
        items={("flow", "a"): 7.0},
    )
    said = Expectations.with_given({"a": 10, "flow/b": 20, "b": 5, "nap": 2}, learned=learned)
    workflow = compiled({"name": "a"}, {"name": "b"}, {"name": "c"}, {"name": "nap", "sleep": 30})
    assert [found.median_s for found in said.of_steps(workflow)] == [10.0, 20.0, 1.0, 2.0]
    assert said.items == {("flow", "a"): 7.0}


def test_somebody_may_say_it_of_an_action_for_all_its_steps() -> None:
    said = Expectations.with_given({"acts.act": 4.5})
    assert said.of_steps(compiled({"name": "a"}, {"name": "b"})) == [(4.5, 4.5, True)] * 2


def test_steps_of_every_phase_are_expected() -> None:
    last: Any = {"finally": [{"name": "z", "module": "acts", "action": "end"}]}
    workflow = compiled({"name": "a"}, **last)
    learned = Expectations(actions={"acts.end": Expectation(2.0, 2.0), **ACT})
    assert [found.median_s for found in learned.of_steps(workflow)] == [3.0, 2.0]
