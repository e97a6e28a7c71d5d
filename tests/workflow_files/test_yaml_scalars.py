"""What a plain word of YAML means: the 1.2 core schema, but text where a number would come back changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codomyrmex.logistics.orchestration.project.workflow_text import UnreadableText
from codomyrmex.logistics.orchestration.project.workflow_yaml import read_yaml, scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("~", None), ("null", None), ("Null", None),
        ("true", True), ("False", False),
        ("0", 0), ("-12", -12), ("123456789012345678901234567890", 123456789012345678901234567890),
        ("1.5", 1.5), ("-0.25", -0.25), ("1e-05", 1e-05),
    ],
)  # fmt: skip
def test_words_that_are_values(text: str, value: object) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "no", "yes", "on", "off", "NO", "12:30", "2026-03-31", "1.10", "0755", "1_000", "1e3", "+1", "0x1F",
        "0o17",
        ".5", "5.", ".inf", "-.inf", ".nan", "nan", "inf", "-0", "1.2.3", "٣", "1e999", "--1", "9" * 5000,
    ],
)  # fmt: skip
def test_words_that_stay_text(text: str) -> None:
    assert scalar(text) == text
    assert type(scalar(text)) is str


@given(st.integers(-(10**300), 10**300) | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_written_by_python_is_that_number(number: float) -> None:
    assert repr(scalar(repr(number))) == repr(number)


@given(st.text(st.sampled_from("0123456789-+.eE_xo:"), min_size=1, max_size=12))
def test_what_becomes_a_number_is_written_back_the_same(text: str) -> None:
    value = scalar(text)

    assert text == (value if isinstance(value, str) else repr(value))


def test_quoted_words_are_text_and_keys_stay_as_written() -> None:
    text = "1: 'true'\nyes: \"5\"\nnull: |\n  5\n"

    assert read_yaml(text).tree == {"1": "true", "yes": "5", "null": "5\n"}


def test_an_anchor_is_refused_once_however_often_it_is_used() -> None:
    with pytest.raises(UnreadableText) as caught:
        read_yaml("a: &x [1]\nb: [*x, *x, *x]\nc: *y\n")

    assert [(fault.line, fault.message) for fault in caught.value.faults] == [
        (1, "the anchor &x is not allowed"),
        (3, "the alias *y is not allowed"),
    ]


def test_a_bomb_of_ten_thousand_anchors_ends_early() -> None:
    text = "".join(f"k{number}: &a{number} [1]\n" for number in range(10_000))

    with pytest.raises(UnreadableText) as caught:
        read_yaml(text)

    assert len(caught.value.faults) == 20
