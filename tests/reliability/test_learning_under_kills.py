"""`kill -9` of engines that learn durations and store how far attempts are: no word outlives who said it, what
was learned is sound, and a run that follows a plan keeps to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from learning_course import LearningCourse, write_project

SHORT = pytest.param(2, id="short")
FULL = pytest.param(20, id="full", marks=pytest.mark.reliability)


@pytest.mark.parametrize("kills", [SHORT, FULL])
def test_words_lessons_and_plans_outlive_engines_as_they_should(
    kills: int, tmp_path: Path, chance: Random, record: Callable[..., None]
) -> None:
    file = write_project(tmp_path / "project")
    course = LearningCourse(folder=tmp_path / "project", file=file, chance=chance)
    found = course.perform(kills)
    assert found.faults == []
    assert found.words > 0
    record(
        "`kill -9` of engines that learn, whose attempts tell how far they are",
        found.kills,
        f"{found.at_words} of them while words of running attempts were stored, in {found.runs} runs that followed a "
        f"plan; the state was read {found.looks} times: words shown {found.words}, of another attempt 0; runs out of "
        f"their order 0; {found.profiles} profiles, none of them with what cannot be",
    )
