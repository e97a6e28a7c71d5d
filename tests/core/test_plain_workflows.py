"""A short workflow of mere calls is not given to the schema's validator: it must be one that it would pass."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codomyrmex.logistics.orchestration.project import workflow_check
from codomyrmex.logistics.orchestration.project.workflow_check import _is_plain, _validator, check

USUAL = [*"abcdefgh", "b2", "_x", "a.b-c"] * 3
"""Most of what is drawn, so that many a workflow is plain."""
NAMES = st.sampled_from([*USUAL, "", "2a", "a b", "ä", "a\n", "x" * 128, "x" * 129, None, 1, True, ["a"]])
TEXTS = st.sampled_from([*USUAL, "acts", "./acts.py", "", "ä\n", None, 3, b"a"])
FIELDS = st.fixed_dictionaries(
    {"name": NAMES, "module": TEXTS, "action": TEXTS},
    optional={
        "parameters": st.sampled_from([{}, {}, {"a": 1}, {1: 2}, {"a": {"$type": "date"}}, [], "x", None]),
        "dependencies": st.one_of(st.lists(NAMES, max_size=3), NAMES),
        "run": st.just("true"),
        "timeout_s": st.just(-1),
    },
)


def some_of(fields: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The same with any of its keys left out."""
    return st.sets(st.sampled_from(sorted(fields)), max_size=2).map(
        lambda gone: {key: value for key, value in fields.items() if key not in gone}
    )


STEPS = st.one_of(FIELDS, FIELDS, FIELDS.flatmap(some_of), st.sampled_from([None, "a", []]))
TREES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"name": NAMES, "steps": st.lists(STEPS, max_size=3)},
    optional={"codomyrmex": st.sampled_from([1, 1.0, True, 2, "1", None]), "env": st.just({})},
)
PLAIN: dict[str, Any] = {
    "codomyrmex": 1,
    "name": "flow",
    "steps": [
        {"name": "a", "module": "acts", "action": "act", "parameters": {}},
        {"name": "b", "module": "acts", "action": "act", "dependencies": ["a"]},
    ],
}
WRONG = [None, True, 1.5, "", "2a", [], [1], {}, {"x-y": 1}, {1: 2}, "ä", b"a", ("a",)]


@settings(max_examples=600, deadline=None)
@given(TREES)
def test_whatever_is_taken_to_be_plain_passes_the_schema(tree: dict[str, Any]) -> None:
    if _is_plain(tree):
        assert _validator(None).is_valid(tree), tree


def test_every_wrong_value_in_a_plain_workflow_is_left_to_the_schema() -> None:
    whole = _validator(None)
    for place in ((), ("steps", 0), ("steps", 1), ("steps", 1, "dependencies")):
        holder: Any = PLAIN
        for part in place:
            holder = holder[part]
        for key in [*holder, "x-more", "timeout"] if isinstance(holder, dict) else range(len(holder)):
            for value in WRONG:
                tree = copy.deepcopy(PLAIN)
                inside: Any = tree
                for part in place:
                    inside = inside[part]
                inside[key] = value
                if _is_plain(tree):
                    assert whole.is_valid(tree), (place, key, value)


def test_a_plain_workflow_is_found_to_be_one_and_needs_no_validator(monkeypatch: pytest.MonkeyPatch) -> None:
    def unwanted(name: str | None) -> Any:
        raise AssertionError("the validator was asked for")

    monkeypatch.setattr(workflow_check, "_validator", unwanted)
    assert check(copy.deepcopy(PLAIN)) == []


def test_a_long_workflow_is_left_to_the_schema() -> None:
    steps = [{"name": f"s{number}", "module": "acts", "action": "act"} for number in range(51)]
    assert not _is_plain({**PLAIN, "steps": steps})
    assert _is_plain({**PLAIN, "steps": steps[:50]})
