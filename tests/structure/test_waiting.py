"""`wait_until` gives the answer, or says what it waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def test_the_first_true_answer_is_given_back(wait_until: Callable[..., Any]) -> None:
    answers = iter([None, "", 0, "here"])
    assert wait_until(lambda: next(answers)) == "here"


def test_the_end_of_patience_names_what_was_wanted(wait_until: Callable[..., Any]) -> None:
    with pytest.raises(AssertionError, match=r"waited 0\.01 s for the moon; the last answer was \[\]"):
        wait_until(list, timeout_s=0.01, what="the moon")
