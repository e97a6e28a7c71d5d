"""Every key of the format in its short form, and the canonical form that it stands for."""

from __future__ import annotations

from typing import Any

import pytest

from codomyrmex.exceptions import Fault
from codomyrmex.logistics.orchestration.project.workflow_dag import Graph
from codomyrmex.logistics.orchestration.project.workflow_diagram import Looks, dot, mermaid
from codomyrmex.logistics.orchestration.project.workflow_file import load_text, write_text

YAML = """
codomyrmex: 1
name: release
timeout: 2h
concurrency: "release-${parameters.v}"
labels: {team: core, version: "${parameters.v}", year: 2026}
parameters: {v: {type: string}}
defaults: {retry: 1, timeout: 10m}
steps:
  - {name: build, run: [make], cache: true, on_item_failure: fail, foreach: {size: [1, 2], seed: "${range(3)}"}}
  - {name: test, run: [pytest], cache: {inputs: tests, outputs: [report.xml], also: "${env.CI}", ttl: 7d, key: k}}
  - {name: pay, call: "shop:pay", cache: false, compensate: {call: "shop:refund", with: {id: "${output.id}"}, retry: 5}}
  - {name: ask, approval: "Ship ${parameters.v}?"}
  - {name: sign, approval: {message: Sign, who: alice, form: {type: object}, timeout: 30m, default: {}}}
  - {name: ready, wait_for: ready}
  - {name: data, wait_for: {signal: data, timeout: 5m, default: [1]}}
  - {name: nap, sleep: 5m}
  - {name: rest, sleep: "${parameters.v}"}
  - {name: notes, workflow: notes, with: {v: "${parameters.v}"}, timeout: 1h, retry: 2}
  - {name: here, workflow: ./here.yaml, needs: nap}
on_failure:
  - {name: tell, run: "mail me"}
finally:
  - {name: sweep, run: [rm, -r, tmp], timeout: 5s}
  - {name: done, wait_for: done}
"""
SHARED: dict[str, Any] = {"retry": {"max_attempts": 2}, "timeout_s": 600.0}
DOCUMENT: dict[str, Any] = {
    "codomyrmex": 1,
    "name": "release",
    "timeout_s": 7200.0,
    "concurrency": {"key": "release-${parameters.v}"},
    "labels": {"team": "core", "version": "${parameters.v}", "year": "2026"},
    "parameters": {"v": {"type": "string"}},
    "steps": [
        {
            "name": "build", "module": "shell", "action": "run", "parameters": {"command": ["make"]},
            "cache": {}, "foreach": {"size": [1, 2], "seed": "${range(3)}"}, **SHARED,
        },
        {
            "name": "test", "module": "shell", "action": "run", "parameters": {"command": ["pytest"]},
            "cache": {
                "inputs": ["tests"], "outputs": ["report.xml"], "also": ["${env.CI}"], "ttl_s": 604800.0, "key": "k",
            },
            **SHARED,
        },
        {
            "name": "pay", "module": "shop", "action": "pay", **SHARED,
            "compensate": {
                "module": "shop", "action": "refund", "parameters": {"id": "${output.id}"},
                "retry": {"max_attempts": 6}, "timeout_s": 600.0,
            },
        },
        {"name": "ask", "approval": {"message": "Ship ${parameters.v}?"}},
        {
            "name": "sign",
            "approval": {
                "message": "Sign", "who": ["alice"], "form": {"type": "object"}, "timeout_s": 1800.0, "default": {},
            },
        },
        {"name": "ready", "wait_for": {"signal": "ready"}},
        {"name": "data", "wait_for": {"signal": "data", "timeout_s": 300.0, "default": [1]}},
        {"name": "nap", "sleep": 300.0},
        {"name": "rest", "sleep": "${parameters.v}"},
        {
            "name": "notes", "workflow": "notes", "parameters": {"v": "${parameters.v}"},
            "timeout_s": 3600.0, "retry": {"max_attempts": 3},
        },
        {"name": "here", "workflow": "./here.yaml", "dependencies": ["nap"]},
    ],
    "on_failure": [
        {
            "name": "tell", "module": "shell", "action": "run",
            "parameters": {"command": "mail me", "shell": True}, **SHARED,
        }
    ],
    "finally": [
        {
            "name": "sweep", "module": "shell", "action": "run", "parameters": {"command": ["rm", "-r", "tmp"]},
            "retry": {"max_attempts": 2}, "timeout_s": 5.0,
        },
        {"name": "done", "wait_for": {"signal": "done"}},
    ],
}  # fmt: skip


def test_short_forms_become_the_canonical_document() -> None:
    assert load_text(YAML).document == DOCUMENT


@pytest.mark.parametrize("format", ["yaml", "json"])
def test_the_document_survives_its_file(format: str) -> None:
    assert load_text(write_text(DOCUMENT, format), format=format).document == DOCUMENT


def test_toml_says_the_same() -> None:
    text = """
        name = "w"
        timeout = "1h"
        concurrency = {key = "w", policy = "queue"}
        [[steps]]
        name = "a"
        run = ["make"]
        foreach = {size = [1, 2]}
        compensate = {run = "rm x"}
        [[steps]]
        name = "b"
        approval = {message = "go?", who = ["alice"]}
        [[finally]]
        name = "c"
        sleep = 1.5
    """

    document = load_text(text, format="toml").document

    assert (document["timeout_s"], document["concurrency"]) == (3600.0, {"key": "w"})
    assert document["steps"][0]["compensate"]["parameters"] == {"command": "rm x", "shell": True}
    assert document["steps"][1]["approval"] == {"message": "go?", "who": ["alice"]}
    assert document["finally"] == [{"name": "c", "sleep": 1.5}]


PLACES: list[tuple[tuple[str | int, ...], str, int]] = [
    (("finally", 0, "timeout_s"), "finally[0] 'sweep'.timeout", 24),
    (("on_failure", 0, "parameters", "command"), "on_failure[0] 'tell'.run", 22),
    (("steps", 2, "compensate", "parameters", "id"), "steps[2] 'pay'.compensate.with.id", 12),
    (("steps", 3, "approval", "message"), "steps[3] 'ask'.approval", 13),
    (("steps", 1, "cache", "ttl_s"), "steps[1] 'test'.cache.ttl", 11),
    (("steps", 1, "cache", "inputs", 0), "steps[1] 'test'.cache.inputs", 11),
    (("concurrency", "key"), "concurrency", 5),
    (("timeout_s",), "timeout", 4),
]


@pytest.mark.parametrize(("path", "shown", "line"), PLACES)
def test_a_later_fault_is_shown_where_the_user_wrote_it(
    path: tuple[str | int, ...], shown: str, line: int
) -> None:
    (found,) = load_text(YAML).place([(path, Fault(message="no"))])

    assert (found.path, found.line) == (shown, line)


def test_a_drawing_shows_what_waits_what_handles_and_what_undoes() -> None:
    names = ["pay", "ask", "pay.compensate", "tell", "sweep", "done"]
    graph = Graph.build(names, [(), (0,), (), (), (), (4,)])
    document = {
        "steps": [
            {"name": "pay", "module": "m", "action": "f", "compensate": {"module": "m", "action": "g"}},
            {"name": "ask", "approval": {"message": "go?"}},
        ],
        "on_failure": [{"name": "tell", "module": "m", "action": "f"}],
        "finally": [
            {"name": "sweep", "module": "m", "action": "f"},
            {"name": "done", "wait_for": {"signal": "x"}},
        ],
    }
    looks = Looks.of_document(document)

    assert mermaid(graph, looks) == (
        "graph TD\n"
        '    ask{{"ask"}}\n'
        '    n2["pay.compensate"]\n'
        "    subgraph box_on_failure[on_failure]\n"
        "        tell\n"
        "    end\n"
        "    subgraph box_finally[finally]\n"
        "        sweep\n"
        '        done>"done"]\n'
        "    end\n"
        "    pay --> ask\n"
        "    sweep --> done\n"
        "    pay -.-> n2\n"
    )
    drawn = dot(graph, looks)
    assert '    "ask" [shape=hexagon];\n' in drawn
    assert 'subgraph cluster_finally { label="finally";\n        "sweep";\n' in drawn
    assert '    "pay" -> "pay.compensate" [style=dotted];\n' in drawn
