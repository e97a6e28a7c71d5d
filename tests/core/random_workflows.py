"""Small workflows made at random, run on real engines and checked against the reference interpreter.

Steps call `scripted_steps.act`, found by module and name, so a run can go on in another engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from hypothesis import strategies as st
from reference_interpreter import Interpreter
from scripted_steps import scripted, total

from codomyrmex.logistics.orchestration.project.states import TriggerRule
from codomyrmex.testing import FinishedRun

Step = dict[str, Any]
NAMES = {"ValueError": {"ValueError"}, "KeyError": {"KeyError", "LookupError"}}
SCRIPTS = st.lists(st.sampled_from(["ok", "ok", "ok", "ValueError", "KeyError"]), min_size=1, max_size=3)


def expected(
    step: Step, _task: str, number: int, item: Any, output: Mapping[str, Any]
) -> tuple[set[str] | None, Any]:
    """The same, for the interpreter."""
    if step["uses"] is not None and step["uses"] not in output:
        return set(), None  # its parameter cannot be resolved
    script, item = scripted(step["script"], item)
    said = script[min(number, len(script)) - 1]
    return (None, 1 + total(output.get(step["uses"])) + total(item)) if said == "ok" else (NAMES[said], None)


@st.composite
def steps(draw: st.DrawFn, *, at_most: int = 7, broken: bool = True) -> list[Step]:
    """The steps of a workflow; with `broken`, conditions and fan-outs may be faulty."""
    names = [f"s{number}" for number in range(draw(st.integers(1, at_most)))]
    return [draw(_step(name, names[:number], broken)) for number, name in enumerate(names)]


@st.composite
def _step(draw: st.DrawFn, name: str, before: list[str], broken: bool) -> Step:
    earlier = st.sampled_from(before) if before else st.none()
    parents = set(draw(st.lists(earlier, max_size=3))) - {None}
    uses = draw(st.one_of(st.none(), earlier))
    condition = draw(_conditions(earlier) if before else st.just(("always", None, None)))
    over = draw(_fan_outs(earlier, broken))
    parents |= {uses, condition[1], over[1] if over is not None and over[0] == "output" else None} - {None}
    return {
        "name": name,
        "parents": sorted(parents),
        "uses": uses,
        "condition": condition,
        "over": over,
        "rule": draw(st.sampled_from(["all_success", "all_success", *(rule.value for rule in TriggerRule)])),
        "required": draw(st.sampled_from([True, True, False])),
        "priority": draw(st.sampled_from(["low", "normal", "high"])),
        "script": draw(SCRIPTS),
        "max_attempts": draw(st.integers(1, 3)),
        "delay_s": draw(st.sampled_from([0, 0, 0.5])),
        "on": draw(st.sampled_from([[], [], ["ValueError"], ["LookupError"]])),
        "never": draw(st.sampled_from([[], [], [], ["KeyError"]])),
        "max_parallel": draw(st.sampled_from([None, None, 1])),
    }


def _conditions(earlier: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    kinds = [
        st.just(("always", None, None)),
        st.just(("always", None, None)),
        st.tuples(st.just("status"), earlier, st.sampled_from(["completed", "failed", "skipped"])),
        st.tuples(st.just("output"), earlier, st.integers(1, 3)),
    ]
    return st.one_of(*kinds)


def _fan_outs(earlier: st.SearchStrategy[Any], broken: bool) -> st.SearchStrategy[Any]:
    items = st.lists(st.fixed_dictionaries({"value": st.integers(0, 3), "script": SCRIPTS}), max_size=3)
    kinds = [st.none(), st.none(), st.tuples(st.just("items"), items)]
    if broken:  # a condition that cannot be worked out, and a reference to what may be no list, or nothing
        kinds += [st.just(("condition", None)), earlier.map(lambda name: ("output", name) if name else None)]
    return st.one_of(*kinds)


def document(chosen: Iterable[Step], **more: Any) -> dict[str, Any]:
    """The workflow as a document."""
    parameters = {"number": {"type": "integer", "default": 5}}
    head = {"codomyrmex": 1, "name": "random", "isolation": "thread", "parameters": parameters}
    return {**head, "steps": [_entry(step) for step in chosen], **more}


def _entry(step: Step) -> dict[str, Any]:
    kind, parent, wanted = step["condition"]
    parameters: dict[str, Any] = {"script": step["script"]}
    entry: dict[str, Any] = {
        "name": step["name"],
        "module": "scripted_steps",
        "action": "act",
        "dependencies": step["parents"],
        "trigger_rule": step["rule"],
        "required": step["required"],
        "priority": step["priority"],
        "parameters": parameters,
        "retry": {key: step[key] for key in ("max_attempts", "delay_s", "on", "never")},
    }
    if step["uses"] is not None:
        parameters["used"] = f"${{steps.{step['uses']}.output}}"
    if kind != "always":
        entry["run_if"] = f"steps.{parent}.{kind} == {wanted!r}"
    if step["over"] == ("condition", None):
        entry["run_if"] = f"({entry.get('run_if', 'true')}) and len(parameters.number) > 0"
    elif step["over"] is not None:
        kind, over = step["over"]
        entry["foreach"] = f"${{steps.{over}.output}}" if kind == "output" else over
        parameters["item"] = "${item}"
    if step["max_parallel"] is not None:
        entry["max_parallel"] = step["max_parallel"]
    return entry


def moves(run: FinishedRun, fan_outs: set[str]) -> Iterable[list[tuple[str, str, int]]]:
    """The journal as the interpreter wants it: one list per commit."""
    for _sequence, events in groupby(run.events, key=lambda event: event["sequence"]):
        found = []
        for event in events:
            kind, task, details = event["event"], event["task"], event["details"]
            if task is None or task in fan_outs or not details or not isinstance(details[0], int):
                continue
            if kind == "returned" and details[1] in ("lost", "recalled"):
                found.append(("given_back", task, details[0]))
            elif kind in ("completed", "failed", "retry_set", "returned", "started"):
                found.append(("started" if kind == "started" else "ended", task, details[0]))
        yield found


def check(
    run: FinishedRun, chosen: list[Step], *, fail_fast: bool = False, result: str | None = None
) -> None:
    """Compares a run with what the interpreter makes of it."""
    oracle = Interpreter(chosen, expected, fail_fast=fail_fast, result=result)
    for commit in moves(run, {step["name"] for step in chosen if step["over"] is not None}):
        oracle.commit(commit)
    assert run.statuses() == {name: oracle.state[name] for name in run.tasks}
    assert len(run.tasks) == len(oracle.state)
    assert run.status.value == oracle.status()
    assert dict(run.results) == {
        step["name"]: oracle.output[step["name"]] for step in chosen if step["name"] in oracle.output
    }
    if result is not None and oracle.status() == "completed":
        assert run.outputs == {"result": oracle.output[result]}
