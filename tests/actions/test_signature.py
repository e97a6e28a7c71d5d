"""Actions as their source tells them, nothing imported."""

from __future__ import annotations

import inspect
import textwrap

import pytest

from codomyrmex.logistics.orchestration.project.actions.signature import (
    Outline,
    SourceUnreadable,
    outline_of,
)


def outline(text: str) -> Outline:
    return outline_of(textwrap.dedent(text).encode(), "steps.py")


def test_a_function_is_described_with_its_parameters() -> None:
    found = outline('''
        async def fetch(url: str, *, tries: int = 3, headers: "dict[str, str] | None" = None, **more):
            """Fetches a page.

            And more.
            """
    ''').signature("fetch")

    assert found is not None
    assert (found.name, found.line, found.summary) == ("fetch", 2, "Fetches a page.")
    assert (found.is_async, found.accepts_any, found.registered) == (True, True, False)
    assert [
        (each.name, each.annotation, each.json_type, each.required, each.default) for each in found.parameters
    ] == [
        ("url", "str", "string", True, None),
        ("tries", "int", "integer", False, "3"),
        ("headers", "dict[str, str] | None", "object", False, "None"),
    ]


def test_required_and_default_agree_with_inspect() -> None:
    def example(a, b=1, /, c=2, *d, e, f=3, **g):  # type: ignore[no-untyped-def]
        pass

    found = outline("def example(a, b=1, /, c=2, *d, e, f=3, **g): ...").signature("example")

    assert found is not None
    expected = [
        (each.name, each.default is inspect.Parameter.empty, each.kind is inspect.Parameter.POSITIONAL_ONLY)
        for each in inspect.signature(example).parameters.values()
        if each.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    ]
    assert [(each.name, each.required, each.positional_only) for each in found.parameters] == expected


@pytest.mark.parametrize(
    ("imports", "marker"),
    [
        ("from codomyrmex import action", "action"),
        ("from codomyrmex.current_task import action as step", "step"),
        ("import codomyrmex", "codomyrmex.action"),
        ("import codomyrmex.current_task", "codomyrmex.current_task.action"),
        ("from codomyrmex import current_task as ct", "ct.action"),
    ],
)
def test_what_action_declares_is_read_however_it_is_imported(imports: str, marker: str) -> None:
    marked = f"@{marker}(effects='unsafe', timeout_s=5, resources={{'cpu': 2}})"

    found = outline(f"{imports}\n{marked}\ndef pay(amount: int): ...").signature("pay")

    assert found is not None
    assert found.registered
    assert found.declared == {"effects": "unsafe", "timeout_s": 5, "resources": {"cpu": 2}}


def test_an_action_is_found_by_the_name_that_it_declares() -> None:
    found = outline("from codomyrmex import action\n@action(name='pay-all')\ndef _pay(): ...")

    assert found.declared_names() == {"pay-all": "_pay"}
    assert found.signature("pay-all") == found.signature("_pay")


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("@retry\ndef f(): ...", "f"),
        ("from codomyrmex import action\n@action(effects=LEVEL)\ndef f(): ...", "f"),
        ("f = partial(g, 1)", "f"),
        ("f = lambda x: x", "f"),
        ("from os import path as f", "f"),
        ("import os", "os.getcwd"),
        ("class f: ...", "f"),
        ("from x import *", "f"),
        ("def __getattr__(name): ...", "f"),
        ("for name in names:\n    globals()[name] = make(name)", "f"),
        ("if A:\n    def f(x): ...\nelse:\n    def f(): ...", "f"),
        ("try:\n    from fast import f\nexcept ImportError:\n    def f(): ...", "f"),
        ("with open(p) as f: ...", "f"),
        ("class C(Base): ...", "C.f"),
    ],
)
def test_what_only_running_would_tell_is_unknown(text: str, action: str) -> None:
    assert outline(text).signature(action) is None


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("def g(): ...", "f"),
        ("f = 3", "f"),
        ("f: int", "f"),
        ("class C:\n    def g(self): ...", "C.f"),
        ("def g():\n    def f(): ...", "f"),
        ("def f(): ...\ndef g(): ...\nf = None", "f"),
        ("", "f"),
    ],
)
def test_what_is_plainly_not_there_is_said_to_be_missing(text: str, action: str) -> None:
    with pytest.raises(KeyError):
        outline(text).signature(action)


@pytest.mark.parametrize(
    "text",
    [
        "if True:\n    def f(x): ...",
        "try:\n    def f(x): ...\nexcept E: ...",
        "def f(): ...\ndef f(x): ...",
        "@overload\ndef f(): ...\n@overload\ndef f(y): ...\ndef f(x): ...",
        "@functools.lru_cache(maxsize=None)\ndef f(x): ...",
        "def g(x): ...\nf = g",
    ],
)
def test_the_last_plain_binding_counts(text: str) -> None:
    found = outline(text).signature("f")

    assert found is not None
    assert [each.name for each in found.parameters] == ["x"]


@pytest.mark.parametrize("kind", ["staticmethod", "classmethod"])
def test_a_static_or_class_method_takes_what_a_caller_gives(kind: str) -> None:
    first = "cls, " if kind == "classmethod" else ""

    found = outline(f"class C:\n    @{kind}\n    def f({first}x): ...").signature("C.f")

    assert found is not None
    assert [each.name for each in found.parameters] == ["x"]


@pytest.mark.parametrize(
    "source", [b"def f(:", b"\0", b"# coding: nonsense\n", b"(" * 5000, b"x = '\xff'"], ids=range(5)
)
def test_a_file_that_is_no_python_is_unreadable(source: bytes) -> None:
    with pytest.raises(SourceUnreadable):
        outline_of(source, "steps.py")


def test_the_warnings_of_the_users_source_stay_silent() -> None:
    assert outline(r'def f(): return "\d"').known() == ["f"]
