"""What a docstring says of parameters, in the three styles in use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codomyrmex.logistics.orchestration.project.actions.docstrings import parameter_texts, summary_of

GOOGLE = """Does it.

Some words: these are no parameter.

Args:
    path (Path | None): where it is,
        on two lines.
    *rest: what is left.
    n: how many: at most three.
    bare

Returns:
    dict: not a parameter
"""
NUMPY = """Does it.

Parameters
----------
path : Path, optional
    Where it is,
    on two lines.
a, b : int
    Both.
lonely

Returns
-------
found : dict
    Not a parameter.
"""
REST = """Does it.

:param path: where it is,
    on two lines.
:param int n: how many
:type n: int
:keyword key: a key
:returns: nothing
"""


@pytest.mark.parametrize(
    ("doc", "expected"),
    [
        (
            GOOGLE,
            {"path": "where it is, on two lines.", "rest": "what is left.", "n": "how many: at most three."},
        ),
        (NUMPY, {"path": "Where it is, on two lines.", "a": "Both.", "b": "Both."}),
        (REST, {"path": "where it is, on two lines.", "n": "how many", "key": "a key"}),
        ("Just a sentence: nothing more.", {}),
        ("", {}),
        ("Args:\n", {}),
        ("Parameters\n----------\n", {}),
    ],
    ids=["google", "numpy", "rest", "sentence", "empty", "google without items", "numpy without items"],
)
def test_each_style_is_read(doc: str, expected: dict[str, str]) -> None:
    assert parameter_texts(doc) == expected


def test_the_summary_is_the_first_line_with_text() -> None:
    assert summary_of("\n\n  Does it.\n  And more.\n") == "Does it."
    assert summary_of("   ") == ""


@given(st.text(alphabet="a:- \nArgs()*param\t", max_size=200))
def test_no_docstring_is_an_error(doc: str) -> None:
    parameter_texts(doc)
