"""A short workflow of mere calls is not given to the validator: only where that has nothing to say."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from codomyrmex.logistics.orchestration.project import workflow_check

ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 2),
    st.floats(),
    st.text(max_size=4),
    st.lists(st.text(max_size=2), max_size=2),
    st.dictionaries(st.text(max_size=2), st.none(), max_size=1),
)
NAMES = st.sampled_from(["a", "b", "_c.1-x", "a" * 128, "a" * 129, "1a", "", "a b", "a\n"])
STEPS = st.fixed_dictionaries(
    {"name": NAMES | ODD, "module": st.just("m") | ODD, "action": st.just("f") | ODD},
    optional={
        "parameters": st.just({}) | ODD,
        "dependencies": st.lists(NAMES | ODD, max_size=2) | ODD,
        "needs": st.just(["a"]),
    },
)
TREES = st.fixed_dictionaries(
    {"name": NAMES | ODD, "steps": st.lists(STEPS, max_size=3) | ODD},
    optional={"codomyrmex": st.just(1) | ODD, "description": st.just("x")},
)


@given(tree=TREES)
def test_what_is_taken_for_plain_is_what_the_schema_accepts(tree: dict[str, Any]) -> None:
    if workflow_check._is_plain(tree):
        assert workflow_check._validator(None).is_valid(tree)


def test_a_workflow_of_calls_is_plain() -> None:
    step = {"name": "a", "module": "m", "action": "f", "parameters": {}, "dependencies": []}
    assert workflow_check._is_plain({"codomyrmex": 1, "name": "w", "steps": [step]})
    assert not workflow_check._is_plain({"codomyrmex": True, "name": "w", "steps": [step]})
    assert not workflow_check._is_plain({"name": "w", "steps": [{**step, "retry": 2}]})
    assert not workflow_check._is_plain({"name": "w", "steps": []})
