"""States, retries and leases: tables and properties of the pure rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codomyrmex.exceptions import IllegalTransition
from codomyrmex.logistics.orchestration.project.states import (
    RUN_MOVES,
    RunIntent,
    RunMove,
    TriggerRule,
    WorkflowStatus,
    run_after,
)
from codomyrmex.logistics.task.lease import LEASE_S, RENEW_EVERY_S, SELF_STOP_S, Holder, is_dead, must_stop
from codomyrmex.logistics.task.retry import RetryPolicy, decide
from codomyrmex.logistics.task.states import (
    CODES,
    FIRST_TERMINAL_CODE,
    MOVES,
    TERMINAL,
    TaskMove,
    TaskPriority,
    TaskStatus,
    after,
)

S, M = TaskStatus, TaskMove


@pytest.mark.parametrize("status", TaskStatus)
@pytest.mark.parametrize("move", TaskMove)
def test_a_task_takes_the_moves_of_the_table_and_no_other(status: TaskStatus, move: TaskMove) -> None:
    if (status, move) in MOVES:
        assert after(CODES[status], move) == CODES[MOVES[status, move]]
    else:
        with pytest.raises(IllegalTransition) as caught:
            after(CODES[status], move)
        assert (caught.value.state, caught.value.event) == (status.value, move.value)


def test_nothing_leaves_a_terminal_state_and_everything_else_can_reach_one() -> None:
    assert not [state for state, _move in MOVES if state in TERMINAL]
    reached: set[TaskStatus] = set(TERMINAL)
    for _ in TaskStatus:
        reached |= {before for (before, _move), end in MOVES.items() if end in reached}
    assert reached == set(TaskStatus)


def test_the_codes_sort_the_terminal_states_last() -> None:
    assert {status for status in TaskStatus if CODES[status] >= FIRST_TERMINAL_CODE} == TERMINAL
    assert all(status.terminal == (status in TERMINAL) for status in TaskStatus)


@pytest.mark.parametrize("status", WorkflowStatus)
@pytest.mark.parametrize("move", RunMove)
def test_a_run_takes_the_moves_of_the_table_and_no_other(status: WorkflowStatus, move: RunMove) -> None:
    if (status, move) in RUN_MOVES:
        assert run_after(status, move) is RUN_MOVES[status, move]
    else:
        with pytest.raises(IllegalTransition):
            run_after(status, move)
    assert not (status.terminal and (status, move) in RUN_MOVES)


def test_priorities_and_intents_have_an_order() -> None:
    assert sorted(TaskPriority, reverse=True) == [
        TaskPriority.CRITICAL, TaskPriority.HIGH, TaskPriority.NORMAL, TaskPriority.LOW,
    ]  # fmt: skip
    assert [intent.strength for intent in RunIntent] == [0, 1, 2, 3]
    assert [rule.value for rule in TriggerRule] == [
        "all_success", "none_failed", "all_done", "one_success", "one_failed",
    ]  # fmt: skip


def again(
    policy: RetryPolicy, *, attempts: int = 1, crashes: int = 0, kind: str = "failed", names: str = ""
) -> bool:
    return decide(
        policy, attempts=attempts, crashes=crashes, kind=kind, names=names.split(), fraction=0.5
    ).again


@pytest.mark.parametrize(
    ("policy", "how", "wanted"),
    [
        ({}, {}, False),
        ({"max_attempts": 2}, {}, True),
        ({"max_attempts": 2}, {"attempts": 2}, False),
        ({"max_attempts": 9}, {"kind": "cancelled"}, False),
        ({"max_attempts": 9}, {"kind": "unserialisable"}, False),
        ({"max_attempts": 9, "on": ("timeout",)}, {"kind": "timed_out"}, True),
        ({"max_attempts": 9, "on": ("timeout",)}, {"names": "ValueError Exception"}, False),
        ({"max_attempts": 9, "on": ("LookupError",)}, {"names": "KeyError LookupError Exception"}, True),
        ({"max_attempts": 9, "never": ("LookupError",)}, {"names": "KeyError LookupError Exception"}, False),
        (
            {"max_attempts": 9, "on": ("KeyError",), "never": ("LookupError",)},
            {"names": "KeyError LookupError"},
            False,
        ),
        ({"max_attempts": 9, "never": ("timeout",)}, {"kind": "timed_out"}, False),
        ({"max_attempts": 9}, {"kind": "crashed", "crashes": 1}, True),
        ({"max_attempts": 9}, {"kind": "crashed", "crashes": 2}, False),
        ({"max_attempts": 9, "max_crashes": 3}, {"kind": "crashed", "crashes": 2}, True),
        ({"max_attempts": 9}, {"kind": "failed", "crashes": 5}, True),
    ],
)
def test_an_attempt_follows_only_where_the_policy_says_so(
    policy: dict[str, object], how: dict[str, object], wanted: bool
) -> None:
    assert again(RetryPolicy(**policy), **how) is wanted  # type: ignore[arg-type]


def test_delays_double_up_to_the_longest() -> None:
    policy = RetryPolicy(max_attempts=9, delay_s=1, backoff=2, max_delay_s=5)
    assert [policy.delay_after(retries, 0.5) for retries in range(5)] == [1, 2, 4, 5, 5]


@given(
    delay=st.floats(0, 1e6),
    backoff=st.floats(1, 10),
    longest=st.floats(0, 1e6),
    retries=st.integers(0, 10**6),
    fraction=st.floats(0, 1, exclude_max=True),
)
def test_jitter_stays_in_the_upper_half_of_a_delay_that_never_overflows(
    delay: float, backoff: float, longest: float, retries: int, fraction: float
) -> None:
    plain = RetryPolicy(delay_s=delay, backoff=backoff, max_delay_s=longest)
    spread = RetryPolicy(delay_s=delay, backoff=backoff, max_delay_s=longest, jitter=True)
    whole = plain.delay_after(retries, fraction)
    assert 0 <= whole <= longest
    assert whole / 2 <= spread.delay_after(retries, fraction) <= whole


SECOND_US = 1_000_000


@pytest.mark.parametrize(
    ("ended", "same_boot", "lock_is_free", "lease_left_s", "dead"),
    [
        (True, True, False, 30, True),
        (False, True, True, 30, True),
        (False, True, False, -30, False),  # the kernel says that it lives: it holds the interpreter for long
        (False, True, None, 1, False),
        (False, True, None, 0, True),
        (False, False, None, 1, False),
        (False, False, None, -1, True),
        (False, False, True, 1, False),  # a lock of another boot says nothing
    ],
)
def test_an_engine_is_dead_when_the_kernel_or_its_lease_says_so(
    ended: bool, same_boot: bool, lock_is_free: bool | None, lease_left_s: int, dead: bool
) -> None:
    now_us = 10**15
    holder = Holder(
        epoch=1,
        same_boot=same_boot,
        ended=ended,
        lock_is_free=lock_is_free,
        lease_until_us=now_us + lease_left_s * SECOND_US,
    )
    assert is_dead(holder, now_us=now_us) is dead


@given(renewed_s=st.floats(0, 1e6), waited_s=st.floats(0, 100))
def test_a_holder_stops_before_anybody_else_may_begin(renewed_s: float, waited_s: float) -> None:
    now_s = renewed_s + waited_s
    holder = Holder(
        epoch=1,
        same_boot=False,
        ended=False,
        lock_is_free=None,
        lease_until_us=round((renewed_s + LEASE_S) * SECOND_US),
    )
    if is_dead(holder, now_us=round(now_s * SECOND_US)):
        assert must_stop(renewed_s=renewed_s, now_s=now_s)
    assert RENEW_EVERY_S < SELF_STOP_S < LEASE_S
