"""Hostile sources end quickly, in little memory, with an error of ours or a value, and with nothing else."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_scope import SampleScope

from codomyrmex.exceptions import CodomyrmexError
from codomyrmex.logistics.orchestration.project.expressions import compile_condition
from codomyrmex.logistics.orchestration.project.references import compile_template, modernise
from codomyrmex.logistics.orchestration.project.shell_text import shell_variables

MANY = 300_000

SOURCES: dict[str, str] = {
    "deep parentheses": "(" * MANY,
    "deep brackets": "[" * MANY,
    "deep subscripts": "item" + "[item" * MANY,
    "many nots": "not " * MANY,
    "many minuses": "-" * MANY + "1",
    "many dots": "item" + ".a" * MANY,
    "fewer parentheses": "(" * 1000,
    "fewer nots": "not " * 250,
    "fewer minuses": "-" * 1000 + "1",
    "fewer dots": "item" + ".a" * 500,
    "power": "9**9**9**9",
    "product of ranges": "sum(range(200000)) * sum(range(200000)) * sum(range(200000))",
    "huge range": "range(99999999999)",
    "ranges in a list": "[" + ",".join(["range(200000)"] * 70) + "]",
    "sorted ranges": "[" + ",".join(["sorted(range(200000))"] * 4) + "]",
    "sorted list": "[" + ",".join(["sorted(parameters.list)"] * 4) + "]",
    "sums": "+".join(["sum(parameters.list)"] * 32),
    "memberships": " or ".join(["-1 in parameters.list"] * 40),
    "joins": "[" + ",".join(["join(parameters.list)"] * 4) + "]",
    "join with itself": "join(parameters.list, join(parameters.list, str(parameters.list)))",
    "text of an integer": "str(parameters.huge)",
    "integer of a text": "int(parameters.digits)",
    "float of a text": "float(parameters.digits)",
    "deep value": "str(parameters.deep)",
    "deep comparison": "parameters.deep == parameters.deeper",
    "deep order": "[parameters.deep] < [parameters.deeper]",
    "deep membership": "parameters.deep in [parameters.deeper]",
    "deep minimum": "min(parameters.deep, parameters.deeper)",
    "deep order of lists": "sorted([parameters.deep, parameters.deeper])",
    "defaults": "??".join(["item"] * 150),
    "quotes": "'" * MANY,
    "escapes": "'" + "\\" * MANY,
    "digits": "1" * 1000 + " > 0",
    "nulls": "\0" * 100,
    "unicode": "ⅷ²٣" * 50,
}


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


SCOPE = SampleScope(
    parameters={
        "list": list(range(200_000)),
        "huge": 10**6000,
        "digits": "9" * 6000,
        "deep": deep(50_000),
        "deeper": deep(50_000),
    }
)


def settle(source: str) -> None:
    """Compile and evaluate; only errors of ours may come out."""
    try:
        compile_condition(source).evaluate(SCOPE)
    except CodomyrmexError:
        pass
    try:
        compile_template({"p": "${" + source + "}"}).resolve(SCOPE)
    except CodomyrmexError:
        pass


def cpu_s(work: Callable[[], object]) -> float:
    """The processor time of some work, which a busy machine does not stretch."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


@pytest.mark.parametrize("name", SOURCES)
def test_a_hostile_source_ends_within_a_second(name: str) -> None:
    assert cpu_s(lambda: settle(SOURCES[name])) < 1.0


TEXTS: dict[str, str] = {
    "open marks": "${" * MANY,
    "open quotes": "${'" * MANY,
    "mixed quotes": "${'\"" * MANY,
    "dollars": "$" * MANY,
    "literals": "$${" * MANY,
    "empty objects": "${" + "{}" * MANY,
    "one long mark": "${" + "a" * MANY,
    "old marks": "{{" * MANY,
    "long old mark": "{{a" + ".a" * MANY,
    "old marks with names": "{{a " * MANY,
    "references": "${item}" * 10_000,
    "closed marks": "${x}" * MANY,
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_hostile_text_ends_within_a_second(name: str) -> None:
    def work() -> None:
        modernise(TEXTS[name])
        try:
            compile_template(TEXTS[name])
        except CodomyrmexError:
            pass

    assert cpu_s(work) < 1.0


SHELL_PARTS = (
    "${item}", "${index}", "(", "`", "[[ -eq ", "[[ ${index} -eq ", "'", '"', "$'\\", "$'a'", "<<E ", "<<E\n",
    "<<E\nx\n", "${", "${x", "eval a", "a[", "a[${index}", "case x in ", "$(", "$((", "\\", "#", " #",
    "${x:-'", '"${x:-', "\n", "$${", "${item.a", "]]",
)  # fmt: skip


@pytest.mark.parametrize("part", SHELL_PARTS)
def test_a_hostile_text_for_the_shell_ends_within_a_second(part: str) -> None:
    text = (part * (130_000 // len(part)))[:130_000]

    def work() -> None:
        try:
            shell_variables(f"{text}\n${{item}}")
        except CodomyrmexError:
            pass

    assert cpu_s(work) < 1.0


MEMORY_PROBE = """
import resource, sys
sys.path[:0] = {paths!r}
import test_hostile_expressions as hostile
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, source in hostile.SOURCES.items():
    if "deep " not in name:
        hostile.settle(source)
unit = 1 if sys.platform == "darwin" else 1024
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit)
"""


def test_hostile_sources_together_need_little_memory() -> None:
    probe = MEMORY_PROBE.format(paths=sys.path)
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200 * 1024 * 1024


PIECES = st.sampled_from(
    ["steps.build.output", "steps.gone.output", ".count", "[0]", "['a']", "[", "]", "(", ")", "item", "index",
     "parameters.list", "parameters.nothing", "env.HOME", " ", "and", "or", "not", "in", "is", "null", "true",
     "1", "2.5", "'x'", '"', "'", "+", "-", "*", "/", "<", ">=", "==", "!=", "??", ",", "{}", "{", "}",
     "len(", "min(", "sorted(", "str(", "range(", "join(", "keys(", "int(", "contains(", "$", "${",
     "__import__(",
     ".__class__", "\\", "é"]
)  # fmt: skip


@settings(max_examples=400)
@given(source=st.lists(PIECES, max_size=14).map("".join) | st.lists(PIECES, max_size=10).map(" ".join))
def test_nothing_but_our_errors_comes_out(source: str) -> None:
    scope = SampleScope()
    for work in (
        lambda: compile_condition(source).evaluate(scope),
        lambda: compile_template([source, f"${{{source}}}", f"a${{{source}}}"]).resolve(scope),
    ):
        try:
            work()
        except CodomyrmexError:
            pass


@given(source=st.text(max_size=60))
def test_any_text_is_read_or_refused(source: str) -> None:
    settle(source)
