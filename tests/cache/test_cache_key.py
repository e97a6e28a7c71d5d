"""Keys of cached results, and how a difference is told: tables only."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codomyrmex.logistics.orchestration.project.cache_key import HASHED, first_difference, kept, key_of

BASE: dict[str, Any] = {
    "action": "train:fit",
    "code": {"files": {"train.py": "1", "model.py": "2"}},
    "python": "3.12.4",
    "parameters": {"lr": 0.1, "net": {"depth": 3, "name": "small"}},
    "env": {"MODE": "x"},
    "inputs": {"data.csv": "5", "more.csv": "6"},
    "also": ["v1", 7],
}

CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "a parameter": ({"parameters": {**BASE["parameters"], "lr": 0.2}}, "parameter 'lr' was 0.1, is 0.2"),
    "a parameter inside another": (
        {"parameters": {"lr": 0.1, "net": {"depth": 4, "name": "small"}}},
        "parameter 'net.depth' was 3, is 4",
    ),
    "a new parameter": ({"parameters": {**BASE["parameters"], "seed": 1}}, "parameter 'seed' is new"),
    "a parameter less": ({"parameters": {"lr": 0.1}}, "parameter 'net' is gone"),
    "a long parameter": (
        {"parameters": {**BASE["parameters"], "lr": {HASHED: "00"}}},
        "parameter 'lr' changed",
    ),
    "an input": ({"inputs": {"data.csv": "50", "more.csv": "6"}}, "input data.csv changed"),
    "a new input": ({"inputs": {**BASE["inputs"], "third.csv": "7"}}, "input third.csv is new"),
    "an input less": ({"inputs": {"data.csv": "5"}}, "input more.csv is gone"),
    "the source": (
        {"code": {"files": {"train.py": "1", "model.py": "3"}}},
        "the action's source changed: model.py",
    ),
    "another file of source": (
        {"code": {"files": {**BASE["code"]["files"], "loss.py": "3"}}},
        "the action's source changed: loss.py is new",
    ),
    "a version instead of source": (
        {"code": {"version": "2"}},
        "it is now told by other means whether the action's source changed",
    ),
    "the action": ({"action": "train:tune"}, "its action was train:fit, is train:tune"),
    "Python": ({"python": "3.13.0"}, "Python was 3.12.4, is 3.13.0"),
    "a variable": ({"env": {"MODE": "y"}}, "variable MODE changed"),
    "also": ({"also": ["v2", 7]}, "`also` [0] was 'v1', is 'v2'"),
    "the folder": ({"folder": "sub"}, "its working folder was ., is sub"),
    "what it promises": ({"outputs": ["model.bin"]}, "the outputs it promises changed"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_makes_another_key_and_is_told(what: str) -> None:
    change, sentence = CHANGES[what]
    now = {**BASE, **change}
    assert key_of(now) != key_of(BASE)
    assert first_difference(BASE, now) == sentence


def test_versions_packages_and_keys_are_told_by_their_values() -> None:
    assert first_difference({"code": {"version": "1"}}, {"code": {"version": "2"}}) == (
        "the action's version was '1', is '2'"
    )
    before, now = {"code": {"package": "numpy 1.26"}}, {"code": {"package": "numpy 2.0"}}
    assert first_difference(before, now) == "the action's package was numpy 1.26, is numpy 2.0"
    assert first_difference({"key": "jan"}, {"key": "feb"}) == "its key was 'jan', is 'feb'"


def test_the_order_of_names_is_no_difference() -> None:
    turned = dict(reversed(BASE.items()))
    assert key_of(turned) == key_of(BASE)
    assert first_difference(BASE, turned) is None


def test_long_and_private_values_are_kept_as_hashes() -> None:
    assert kept("short") == "short"
    assert set(kept("x" * 1000)) == {HASHED}
    assert set(kept({"url": "https://me:s3cret@host"}, private=("s3cret",))) == {HASHED}
    assert kept(["plain"], private=("s3cret",)) == ["plain"]


_trees = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=2), _trees), st.dictionaries(st.text(max_size=2), _trees))
def test_keys_differ_exactly_where_a_difference_can_be_told(
    before: dict[str, Any], now: dict[str, Any]
) -> None:
    one, other = {"parameters": before}, {"parameters": now}
    assert (key_of(one) == key_of(other)) == (first_difference(one, other) is None)
