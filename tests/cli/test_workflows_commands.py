"""`workflows show`, `graph`, `schema` and `validate` of a workflow that uses every kind of step."""

from __future__ import annotations

from pathlib import Path

import pytest

TEXT = """
codomyrmex: 1
name: release
timeout: 2h
concurrency: {key: "release-${parameters.v}", policy: cancel_old}
labels: {team: core, version: "${parameters.v}"}
parameters: {v: {type: string}}
steps:
  - {name: build, run: [make], cache: {inputs: [src], ttl: 7d}, timeout: 10m, required: false}
  - {name: pay, run: [pay], compensate: {run: "echo ${output.id}"}, needs: [build]}
  - {name: ask, approval: {message: "Ship ${parameters.v}?", who: [al, bo], timeout: 2h, default: false}, needs: [pay]}
  - {name: nap, sleep: 5m, needs: [ask]}
  - {name: news, wait_for: {signal: ready, timeout: 1h}}
on_failure:
  - {name: tell, run: [mail]}
finally:
  - {name: sweep, run: [rm]}
  - {name: last, run: [rm], needs: [sweep]}
"""


@pytest.fixture
def release(project: Path) -> None:
    (project / "release.yaml").write_text(TEXT)


@pytest.mark.usefixtures("release")
def test_a_workflow_is_shown_with_what_waits_handles_and_undoes(cli) -> None:
    assert cli("workflows", "show", "release.yaml").out.splitlines()[2:] == [
        "  at most 2 h 00 min",
        "  one at a time of release-${parameters.v} (a later one cancels it)",
        "  team=core version=${parameters.v}",
        "",
        "PARAMETER  TYPE    DEFAULT",
        "v          string  (must be given)",
        "",
        "STEP   ACTION                           NEEDS  HOW",
        "build  shell:run                               at most 10 min 00 s, cached, may fail",
        "pay    shell:run                        build  undone by shell:run",
        "ask    approval: Ship ${parameters.v}?  pay    asks al, bo, waits 2 h 00 min, then false",
        "nap    sleep 5 min 00 s                 ask",
        "news   signal ready                            waits 1 h 00 min",
        "",
        "WHEN IT FAILS  ACTION",
        "tell           shell:run",
        "",
        "AT THE END  ACTION     NEEDS",
        "sweep       shell:run",
        "last        shell:run  sweep",
    ]


@pytest.mark.usefixtures("release")
def test_what_is_shown_fits_into_80_columns(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = cli("workflows", "show", "release.yaml").out.splitlines()

    assert max(map(len, lines[2:])) <= 80


@pytest.mark.usefixtures("release")
def test_levels_are_drawn_for_each_phase(cli) -> None:
    drawn = cli("workflows", "graph", "release.yaml", "--form", "levels")
    data = cli("workflows", "graph", "release.yaml", "--json").document["data"]

    assert drawn.out == (
        "1  build, news\n2  pay\n3  ask\n4  nap\non_failure 1  tell\nfinally 1  sweep\nfinally 2  last\n"
    )
    assert data["levels"] == [["build", "news"], ["pay"], ["ask"], ["nap"]]
    assert data["handlers"] == {"on_failure": [["tell"]], "finally": [["sweep"], ["last"]]}
    assert data["compensations"] == {"pay": "pay.compensate"}
    assert '    ask{{"ask"}}\n' in data["text"]


@pytest.mark.usefixtures("release")
def test_every_rule_of_the_schema_that_a_person_fills_in_is_described(cli) -> None:
    schema = cli("workflows", "schema", "--json").document["data"]
    shown = [*schema["properties"].items(), *schema["$defs"]["step"]["properties"].items()]
    for part in ("approval", "wait_for", "cache"):
        shown += schema["$defs"]["step"]["properties"][part]["properties"].items()

    assert [name for name, rule in shown if not {"description", "$ref"}.intersection(rule)] == []


@pytest.mark.usefixtures("release")
def test_a_workflow_with_every_kind_is_found_without_fault(cli) -> None:
    assert cli("workflows", "validate", "release.yaml").code == 0
