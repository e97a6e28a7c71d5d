"""What is kept of each subject: the newest samples, few of one run, of the subjects that are used."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from codomyrmex.logistics.storage.database import Database
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase
from codomyrmex.performance import profiles
from codomyrmex.performance.profiles import Addition, Sample
from codomyrmex.performance.samples import WHATEVER_SIZE

SUBJECT = profiles.step_subject("flow", "build")


@pytest.fixture
def database() -> Iterator[Database]:
    opened = SQLiteDatabase.open(":memory:")
    yield opened
    opened.close()


def add(database: Database, run: int, *durations_s: float, subject: str = SUBJECT, now_us: int = 1) -> None:
    samples: list[Sample] = [(duration_s, None, None) for duration_s in durations_s]
    added = Addition(subject, WHATEVER_SIZE, run=run, more=len(samples), samples=samples)
    profiles.add(database, [added], now_us=now_us)


def test_a_subject_is_known_by_the_median_and_the_ninth_of_ten_of_its_samples(database: Database) -> None:
    add(database, 1, *[float(value) for value in range(1, 11)])
    [found] = profiles.summaries(database, SUBJECT)
    assert (found.durations, found.count) == ((5.0, 9.0), 10)


def test_the_newest_samples_are_kept_and_all_are_counted(database: Database) -> None:
    for run in range(1, 101):
        add(database, run, float(run))
    found = profiles.find(database, SUBJECT)
    assert found is not None
    assert found.duration_s == [float(run) for run in range(37, 101)]
    assert found.count == 100


def test_what_a_run_adds_later_takes_the_place_of_what_it_added_before(database: Database) -> None:
    add(database, 1, 5.0)
    add(database, 2, 1.0, 2.0)
    add(database, 3, 7.0)
    add(database, 2, 1.0, 2.0, 3.0)
    found = profiles.find(database, SUBJECT)
    assert found is not None
    assert (found.duration_s, found.runs) == ([5.0, 7.0, 1.0, 2.0, 3.0], [1, 3, 2, 2, 2])


def test_what_belongs_to_no_run_comes_on_top(database: Database) -> None:
    add(database, 0, 1.0)
    add(database, 0, 2.0)
    found = profiles.find(database, SUBJECT)
    assert found is not None
    assert found.duration_s == [1.0, 2.0]


def test_cpu_and_memory_are_known_of_the_samples_that_have_them(database: Database) -> None:
    samples = [(1.0, 0.5, 100), (2.0, None, None), (3.0, 1.5, 300), (None, None, 900)]
    profiles.add(database, [Addition(SUBJECT, 4, run=1, more=4, samples=samples)], now_us=1)
    assert profiles.find(database, SUBJECT) is None
    found = profiles.find(database, SUBJECT, 4)
    assert found is not None
    assert found.durations == (2.0, 3.0)
    assert found.cpu == (0.5, 1.5)
    assert found.memory == (300, 900)


def test_a_fan_out_is_known_by_its_numbers_of_items_too(database: Database) -> None:
    add(database, 1, 4.0)
    for size in (10, 30, 20):
        profiles.add(database, [Addition(SUBJECT, WHATEVER_SIZE, run=size, items=[size])], now_us=1)
    [found] = profiles.summaries(database, SUBJECT)
    assert found.items == [10, 30, 20]
    assert (found.durations, found.count) == ((4.0, 4.0), 1)


def test_the_steps_of_a_workflow_are_found_and_nobody_elses(database: Database) -> None:
    for subject in ("step:flow/a", "step:flow/b", "step:flow.2/a", "step:flow-2/a", "step:flo/a", "run:flow"):
        add(database, 1, 1.0, subject=subject)
    found = profiles.summaries_below(database, profiles.step_subject("flow", ""))
    assert [each.subject for each in found] == ["step:flow/a", "step:flow/b"]


def test_one_subject_twice_in_one_go_is_one_row(database: Database) -> None:
    twice = [
        Addition(SUBJECT, WHATEVER_SIZE, run=run, more=1, samples=[(float(run), None, None)])
        for run in (1, 2)
    ]
    assert profiles.add(database, twice, now_us=1) == 1
    assert profiles.add(database, twice, now_us=1) == 0
    found = profiles.find(database, SUBJECT)
    assert found is not None
    assert found.duration_s == [1.0, 2.0]


def test_of_too_many_subjects_those_go_that_were_not_used_for_longest(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "ROWS_AT_MOST", 10)
    monkeypatch.setattr(profiles, "ROWS_AFTER_PRUNING", 8)
    for at in range(10):
        add(database, 1, 1.0, subject=f"action:m.a{at}", now_us=at)
    assert profiles.prune(database) == 10
    add(database, 2, 1.0, subject="action:m.a0", now_us=50)
    add(database, 2, 1.0, subject="action:m.new", now_us=51)
    assert profiles.prune(database) == 8
    left = {each.subject for each in profiles.summaries_below(database, "action:")}
    assert left == {"action:m.a0", "action:m.new", *(f"action:m.a{at}" for at in range(4, 10))}
