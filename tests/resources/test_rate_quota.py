"""A quota lets so much pass per time, exactly: the generic cell rate algorithm, with another one for an oracle."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyrate_limiter
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codomyrmex.logistics.orchestration.project.rate_quota import Rate, claim, refund

NOW_US = 1_700_000_000_000_000
SECOND_US = 1_000_000
UNIT = 10_000


@dataclass
class Quota:
    """A quota in use: what a row of the store remembers, and everything that passed."""

    rate: Rate
    tat_us: int = 0
    passed: list[tuple[int, int]] = field(default_factory=list)

    def ask(self, amount: int, now_us: int) -> int | None:
        """None when it passes, else the instant at which to ask again."""
        passage = claim(self.rate, amount, tat_us=self.tat_us, now_us=now_us)
        if passage.tat_us is None:
            return passage.retry_us
        self.tat_us = passage.tat_us
        self.passed.append((now_us, amount))
        return None


RATES = st.builds(
    Rate,
    capacity=st.integers(1, 200 * UNIT),
    per_us=st.integers(1000, 3600 * SECOND_US),
    burst=st.none() | st.integers(1, 400 * UNIT),
)


@st.composite
def courses(draw: st.DrawFn) -> tuple[Rate, list[tuple[int, int]]]:
    """A quota, and claims of any weight that can pass at times that never go back."""
    rate = draw(RATES)
    most = rate.capacity if rate.burst is None else rate.burst
    pauses = st.integers(0, 10) | st.integers(0, 2 * rate.per_us)
    asked = draw(st.lists(st.tuples(pauses, st.integers(1, most)), min_size=1, max_size=40))
    return rate, asked


def test_up_to_the_burst_passes_at_once_and_then_one_for_each_part_of_the_period() -> None:
    quota = Quota(Rate(capacity=60 * UNIT, per_us=60 * SECOND_US, burst=3 * UNIT))

    assert [quota.ask(UNIT, NOW_US) for _ in range(3)] == [None, None, None]
    assert quota.ask(UNIT, NOW_US) == NOW_US + SECOND_US
    assert quota.ask(UNIT, NOW_US + SECOND_US) is None


def test_without_a_burst_calls_are_spaced_evenly() -> None:
    quota = Quota(Rate(capacity=2 * UNIT, per_us=SECOND_US))

    assert quota.ask(UNIT, NOW_US) is None
    assert quota.ask(UNIT, NOW_US) == NOW_US + SECOND_US // 2
    assert quota.ask(UNIT, NOW_US + SECOND_US // 2) is None


def test_without_a_burst_a_heavy_call_passes_once_those_before_it_are_paid_for() -> None:
    quota = Quota(Rate(capacity=10 * UNIT, per_us=10 * SECOND_US))

    assert quota.ask(7 * UNIT, NOW_US) is None
    assert quota.ask(UNIT, NOW_US) == NOW_US + 7 * SECOND_US


@given(courses())
def test_in_no_window_passes_more_than_the_burst_and_what_the_rate_gives(
    course: tuple[Rate, list[tuple[int, int]]],
) -> None:
    rate, asked = course
    quota = Quota(rate)
    now_us = NOW_US
    for pause_us, amount in asked:
        now_us += pause_us
        quota.ask(amount, now_us)

    for first, (begin_us, _) in enumerate(quota.passed):
        total = 0
        for end_us, amount in quota.passed[first:]:
            total += amount
            at_once = amount if rate.burst is None else rate.burst
            # Costs are rounded up to microseconds, the burst's too: hence the one microsecond.
            assert total * rate.per_us <= at_once * rate.per_us + (end_us - begin_us + 1) * rate.capacity


@given(courses(), st.integers(1, 400 * UNIT))
def test_it_passes_at_the_instant_it_names_and_not_one_microsecond_earlier(
    course: tuple[Rate, list[tuple[int, int]]], amount: int
) -> None:
    rate, asked = course
    amount = min(amount, rate.capacity if rate.burst is None else rate.burst)
    quota = Quota(rate)
    now_us = NOW_US
    for pause_us, each in asked:
        now_us += pause_us
        quota.ask(each, now_us)

    retry_us = quota.ask(amount, now_us)
    if retry_us is not None:
        assert retry_us > now_us
        assert quota.ask(amount, retry_us - 1) == retry_us
        assert quota.ask(amount, retry_us) is None


@given(courses())
def test_asking_in_vain_costs_nothing(course: tuple[Rate, list[tuple[int, int]]]) -> None:
    rate, asked = course
    patient, pushing = Quota(rate), Quota(rate)
    now_us = NOW_US
    for pause_us, amount in asked:
        now_us += pause_us
        if patient.ask(amount, now_us) is not None:
            assert [pushing.ask(amount, now_us) is None for _ in range(3)] == [False] * 3
        else:
            pushing.ask(amount, now_us)
    assert pushing.passed == patient.passed


@given(
    limit=st.sampled_from([1, 2, 5, 10, 25, 50, 100]),
    interval_ms=st.sampled_from([100, 1000, 10_000]),
    burst=st.integers(1, 120),
    asked=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 120)), min_size=1, max_size=60),
)
def test_another_implementation_decides_alike(
    limit: int, interval_ms: int, burst: int, asked: list[tuple[int, int]]
) -> None:
    """pyrate-limiter's, for rates that divide evenly and instants of whole milliseconds: all that it has."""
    oracle = pyrate_limiter.GCRA()
    rates = [pyrate_limiter.Rate(limit, interval_ms, burst=burst)]
    state = oracle.initial(rates)
    quota = Quota(Rate(capacity=limit, per_us=interval_ms * 1000, burst=burst))
    now_ms = NOW_US // 1000
    for pause_ms, weight in asked:
        now_ms += pause_ms
        amount = min(weight, burst)
        state, decision = oracle.step(rates, state, now_ms, amount)
        retry_us = quota.ask(amount, now_ms * 1000)
        assert (retry_us is None) == decision.allowed
        if retry_us is not None:
            assert -(-(retry_us - now_ms * 1000) // 1000) == decision.retry_after_ms


@pytest.mark.parametrize("burst", [None, 5 * UNIT])
def test_what_was_given_back_may_be_used_again(burst: int | None) -> None:
    rate = Rate(capacity=5 * UNIT, per_us=5 * SECOND_US, burst=burst)
    quota = Quota(rate)
    quota.ask(5 * UNIT, NOW_US)
    assert quota.ask(UNIT, NOW_US) is not None

    quota.tat_us = refund(rate, 5 * UNIT, tat_us=quota.tat_us)

    assert quota.ask(UNIT, NOW_US) is None


@given(RATES, st.integers(1, 400 * UNIT), st.integers(1, 400 * UNIT))
def test_a_refund_never_gives_back_more_than_was_paid(rate: Rate, paid: int, given_back: int) -> None:
    cost_us = rate.cost_us(paid)
    tat_us = refund(rate, min(paid, given_back), tat_us=NOW_US + cost_us)
    assert NOW_US <= tat_us < NOW_US + cost_us or tat_us == NOW_US + cost_us


@given(RATES, st.integers(0, 10**15))
def test_a_clock_that_was_set_back_keeps_nobody_waiting_for_longer_than_a_full_quota_takes(
    rate: Rate, back_us: int
) -> None:
    quota = Quota(rate)
    most = rate.capacity if rate.burst is None else rate.burst
    quota.ask(most, NOW_US)

    retry_us = quota.ask(1, NOW_US - back_us)

    assert retry_us is None or retry_us - (NOW_US - back_us) <= max(
        rate.per_us, rate.cost_us(most)
    ) + rate.cost_us(1)
    if retry_us is not None:
        assert quota.ask(1, retry_us) is None


def test_what_can_never_pass_is_told_apart() -> None:
    rate = Rate(capacity=60 * UNIT, per_us=60 * SECOND_US, burst=10 * UNIT)
    assert rate.allows(10 * UNIT)
    assert not rate.allows(10 * UNIT + 1)
    assert not rate.allows(0)
    assert Rate(capacity=60 * UNIT, per_us=60 * SECOND_US).allows(60 * UNIT)
