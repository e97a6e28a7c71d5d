"""`run --dry-run [--why]` and the options that run a part, at the command line."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ACTS = """
def work(x=1):
    return x * 2

def boom():
    raise ValueError("no")
"""
FLOW = """
codomyrmex: 1
name: flow
parameters: {lr: {type: number, default: 0.1}}
steps:
  - {name: load, call: "./acts.py:work", cache: {inputs: [data.csv]}}
  - {name: fit, call: "./acts.py:work", with: {x: "${parameters.lr}"}, needs: [load], cache: true}
  - {name: each, call: "./acts.py:work", with: {x: "${item}"}, foreach: "${range(steps.load.output)}", cache: true}
  - {name: plain, call: "./acts.py:work", with: {x: "${steps.fit.output}"}}
  - {name: late, call: "./acts.py:work", with: {x: "${steps.plain.output}"}, cache: true}
  - {name: off, call: "./acts.py:work", run_if: "parameters.lr > 10", cache: true}
  - {name: after, call: "./acts.py:work", needs: ["off"], cache: true}
"""


@pytest.fixture
def flow(project: Path) -> Path:
    (project / "acts.py").write_text(ACTS)
    (project / "flow.yaml").write_text(FLOW)
    (project / "data.csv").write_text("1")
    return project


def verdicts(cli: Callable[..., Any], *words: str) -> dict[str, tuple[str, str | None]]:
    """{step: (verdict, why)}."""
    data = cli("run", "flow.yaml", "--dry-run", "--json", *words).document["data"]
    return {each["step"]: (each["verdict"], each["why"]) for each in data["steps"]}


def test_before_the_first_run_everything_would_run_and_nothing_is_made(cli, flow: Path) -> None:
    assert verdicts(cli) == {
        "load": ("would run", "never ran with a cache"),
        "fit": ("would run", "never ran with a cache"),
        "each": ("unknown", None),
        "plain": ("would run", "it has no cache"),
        "late": ("unknown", None),
        "off": ("would be skipped", "its condition does not hold"),
        "after": ("would be skipped", "off would be skipped"),
    }
    assert not (flow / ".codomyrmex").exists()


def test_after_a_run_what_is_kept_is_named_with_its_run(cli, flow: Path) -> None:
    run_id = cli("run", "flow.yaml", "--json").document["data"]["execution_id"]
    data = cli("run", "flow.yaml", "--dry-run", "--json").document["data"]
    by_name = {each["step"]: each for each in data["steps"]}
    assert {name for name in by_name if by_name[name]["run"] == run_id} == {"load", "fit", "each"}
    assert by_name["each"]["verdict"] == "cached"
    assert (by_name["each"]["items"], by_name["each"]["items_cached"]) == (2, 2)
    assert (by_name["late"]["verdict"], by_name["late"]["until"]) == ("unknown", "plain")


def test_a_dry_run_says_what_the_run_then_does(cli, flow: Path) -> None:
    cli("run", "flow.yaml")
    (flow / "data.csv").write_text("2")
    before = verdicts(cli)
    run_id = cli("run", "flow.yaml", "--json").document["data"]["execution_id"]
    assert before["load"] == ("would run", "input data.csv changed")
    assert before["each"][0] == "unknown"
    assert before["fit"] == ("cached", None)
    after = cli("run", "flow.yaml", "--dry-run", "--json").document["data"]["steps"]
    assert next(each["run"] for each in after if each["step"] == "load") == run_id
    assert next(each["run"] for each in after if each["step"] == "fit") != run_id


def test_the_first_difference_is_told(cli, flow: Path) -> None:
    cli("run", "flow.yaml")
    assert verdicts(cli, "-p", "lr=0.2")["fit"] == ("would run", "parameter 'x' was 0.1, is 0.2")
    (flow / "acts.py").write_text(ACTS + "# edited\n")
    assert verdicts(cli)["fit"] == ("would run", "the action's source changed: acts.py")
    (flow / "data.csv").unlink()
    verdict, why = verdicts(cli)["load"]
    assert (verdict, "'data.csv' matches no file" in (why or "")) == ("would fail", True)


def test_force_would_run_all_that_is_kept(cli, flow: Path) -> None:
    cli("run", "flow.yaml")
    assert verdicts(cli, "--force")["fit"] == ("would run", "asked for, whatever is kept")


def test_the_table_fits_a_terminal_of_eighty_columns(cli, flow: Path, screen: Any) -> None:
    from codomyrmex.cli.dry_run import DryRun, dry_run_lines
    from codomyrmex.logistics.orchestration.project.run_forecast import Verdict

    plan = {"workflow": "flow", "parameters": {}, "levels": [["a"]], "fan_outs": [], "warnings": []}
    long = [
        Verdict(step="step-" + "x" * 40, verdict="cached", run_id="abcdefghij"),
        Verdict(step="b", verdict="unknown", until="step-" + "x" * 60, why=None),
        Verdict(step="c", verdict="would run", why="parameter 'a' was " + "1" * 40 + ", is " + "2" * 40),
        *(Verdict(step=f"n{at}", verdict="would run", why="it has no cache") for at in range(300)),
    ]
    lines = dry_run_lines(screen, DryRun(plan=plan, verdicts=long, note=None), why=True)
    assert max(map(len, lines)) <= 80
    assert "and 103 more: 103 would run" in lines[-1]


def test_a_plain_dry_run_of_a_workflow_without_a_cache_stays_short(cli, flow: Path) -> None:
    (flow / "plain.yaml").write_text(
        'codomyrmex: 1\nname: plain\nsteps: [{name: only-one, call: "./acts.py:work"}]\n'
    )
    assert "VERDICT" not in cli("run", "plain.yaml", "--dry-run").out
    assert "it has no cache" in cli("run", "plain.yaml", "--dry-run", "--why").out


def test_a_part_says_what_it_leaves_out(cli, flow: Path) -> None:
    cli("run", "flow.yaml")
    ended = cli("run", "flow.yaml", "--only", "plain")
    assert ended.code == 0, ended.err
    assert "no part of this run: load, each, late, off, after" in ended.err
    assert verdicts(cli, "--only", "plain") == {
        "fit": ("reused", None),
        "plain": ("would run", "it has no cache"),
    }


def test_a_missing_result_is_exit_code_2_with_the_way_to_it(cli, flow: Path) -> None:
    for more in ((), ("--dry-run",)):
        ended = cli("run", "flow.yaml", "--from", "plain", *more)
        assert ended.code == 2
        assert "no run of 'flow' has a result of step 'fit'" in ended.err
        assert "--until fit" in ended.err
    assert not (flow / ".codomyrmex").exists()


def test_an_unknown_step_gets_the_nearest(cli, flow: Path) -> None:
    ended = cli("run", "flow.yaml", "--until", "plian")
    assert (ended.code, "did you mean 'plain'?" in ended.err) == (2, True)


def test_why_without_dry_run_is_refused(cli, flow: Path) -> None:
    assert cli("run", "flow.yaml", "--why").code == 2


@pytest.mark.parametrize(
    "text",
    [
        'codomyrmex: 1\nname: piped\nsteps: [{name: a, call: "acts:work"}]\noutputs: {a: "${steps.a.output}"}\n',
        '{"codomyrmex": 1, "name": "piped", "steps": [{"name": "a", "module": "acts", "action": "work"}],'
        ' "outputs": {"a": "${steps.a.output}"}}',
    ],
)
def test_a_workflow_comes_from_stdin(cli, flow: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    def piped() -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    piped()
    assert cli("run", "-", "--json").document["data"]["outputs"] == {"a": 2}
    piped()
    assert cli("run", "-", "--dry-run", "--json").document["data"]["workflow"] == "piped"
    piped()
    assert cli("run", "-", "--only", "b").code == 2
    assert cli("run", "-", "--params", "-").code == 2


def test_a_mistake_in_a_piped_workflow_is_placed(cli, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"codomyrmex: 1\nname: x\nstepz: []\n")))
    ended = cli("run", "-")
    assert (ended.code, "<stdin>:3" in ended.err) == (2, True)


def test_what_can_never_run_is_refused_before_anything_is_made(cli, project: Path) -> None:
    (project / "big.yaml").write_text(
        "codomyrmex: 1\nname: big\nsteps:\n"
        "  - {name: a, run: [ls], resources: {cpu: 90000}}\n"
        "  - {name: b, run: [ls], resources: {licence: 1, api_quota: 1}}\n"
    )
    for words in (["--dry-run"], []):
        outcome = cli("run", "big.yaml", *words, "--json")
        assert outcome.code == 7
        error = outcome.document["error"]
        assert error["code"] == "resource_refused"
        assert [each["path"] for each in error["details"]] == [
            "steps[0] 'a'.resources.cpu",
            "steps[1] 'b'.resources.licence",
        ]
        assert "codomyrmex resources add licence --type custom --capacity 1" in error["message"]
        assert not (project / ".codomyrmex").exists()
