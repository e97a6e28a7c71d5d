"""`workflows plan`: what it tells, what it takes, what it refuses; and that it leaves nothing behind."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.exceptions import ResourceRefused, ValidationError
from codomyrmex.logistics.orchestration.project import plan_store
from codomyrmex.logistics.orchestration.project.machine import Machine
from codomyrmex.logistics.orchestration.project.plan_request import simulations_for, workers_of
from codomyrmex.logistics.orchestration.project.workflow_manager import WorkflowManager
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase
from codomyrmex.performance import profiles
from codomyrmex.performance.samples import WHATEVER_SIZE
from own_terminal import on_a_terminal

FLOW = """
codomyrmex: 1
name: nightly
parameters: {shards: {type: integer, default: 4}}
steps:
  - {name: build, run: [make]}
  - {name: lint, run: [make, lint]}
  - {name: parse, run: [echo, "${item}"], foreach: "${range(parameters.shards)}", needs: [build]}
  - {name: pause, sleep: 5s, needs: [lint]}
  - {name: report, run: [make, report], needs: [parse, pause]}
"""
DURATIONS = "{build: 30s, lint: 20, parse: 1m, report: 10}"
SUITES = """
codomyrmex: 1
name: suites
max_parallel: 2
defaults: {resources: {cpu: 0.1}}
steps: [{name: a, run: ["true"]}, {name: b, run: ["true"]}, {name: c, run: ["true"]},
  {name: d, run: ["true"]}, {name: e, run: ["true"]}]
"""
SUITES_TOOK = '{"a": 30, "b": 30, "c": 20, "d": 20, "e": 20}'
LOCKED = """
codomyrmex: 1
name: locked
steps:
  - {name: table, run: [true], foreach: [1, 2, 3], resources: {cpu: 0, database: 1}}
"""


@pytest.fixture
def flow(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workflow, what its steps take, and a machine of four CPUs."""
    monkeypatch.setenv("CODOMYRMEX_RESOURCES_CPU", "4")
    monkeypatch.setenv("CODOMYRMEX_RESOURCES_DISK", "1GB")  # what is free is another number at every look
    (project / "flow.yaml").write_text(FLOW)
    (project / "took.yaml").write_text(DURATIONS)
    (project / "locked.yaml").write_text(LOCKED)
    return project


@pytest.fixture
def planned(cli: Callable[..., Any], flow: Path) -> Callable[..., dict[str, Any]]:
    """The plan of flow.yaml with the durations of took.yaml, as data."""

    def call(*words: str) -> dict[str, Any]:
        ended = cli("workflows", "plan", "flow.yaml", "--durations", "took.yaml", "--json", *words)
        assert ended.code == 0, ended
        data: dict[str, Any] = ended.document["data"]
        return data

    return call


def spans(plan: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """{task: (start, end)}."""
    return {task["task"]: (task["start_s"], task["end_s"]) for task in plan["tasks"]}


def test_a_plan_says_when_every_task_begins_and_ends(planned: Callable[..., dict[str, Any]]) -> None:
    plan = planned()
    assert spans(plan) == {
        "build": (0, 30),
        "lint": (0, 20),
        "pause": (20, 25),
        **{f"parse[{item}]": (30, 90) for item in range(4)},
        "report": (90, 100),
    }
    assert (plan["workflow"], plan["method"], plan["duration_s"]) == ("nightly", "admission", 100)
    assert (plan["critical_path"], plan["bound_by"]) == (["build", "parse", "report"], "critical path")
    assert all(task["known"] for task in plan["tasks"])


def test_a_plan_leaves_nothing_behind(cli: Callable[..., Any], flow: Path) -> None:
    assert cli("workflows", "plan", "flow.yaml").code == 0
    assert sorted(path.name for path in flow.iterdir()) == ["flow.yaml", "locked.yaml", "took.yaml"]
    assert cli("run", "locked.yaml").code == 7  # makes the state
    cli("resources", "add", "database", "--capacity", "1")
    before = cli("runs", "list", "--json").document
    assert cli("workflows", "plan", "locked.yaml").code == 0
    assert cli("runs", "list", "--json").document == before


def test_as_text_it_is_a_chart_and_what_holds_the_run_up(cli: Callable[..., Any], flow: Path) -> None:
    lines = cli("workflows", "plan", "flow.yaml", "--durations", "took.yaml").out.splitlines()
    assert lines[:2] == ["nightly: 1 min 40 s", "planned for  4 CPUs and 16 attempts at once"]
    assert [line.split()[0] for line in lines if "█" in line] == ["*"] * 3
    assert "critical path  build → parse → report" in lines
    assert any(re.fullmatch(r"critical path +1 min 40 s", line) for line in lines)
    assert any(re.fullmatch(r"CPU +1 min 15 s +75 %", line) for line in lines)


def test_a_fan_out_is_one_line_and_with_v_one_for_each_item(cli: Callable[..., Any], flow: Path) -> None:
    assert "parse ×4" in cli("workflows", "plan", "flow.yaml").out
    unfolded = cli("workflows", "plan", "flow.yaml", "-v").out
    assert [f"parse[{item}]" in unfolded for item in range(5)] == [True] * 4 + [False]


def test_what_never_ran_is_a_guess_and_says_so(cli: Callable[..., Any], flow: Path) -> None:
    ended = cli("workflows", "plan", "flow.yaml")
    assert re.search(r"build .*~1\.0 s", ended.out)
    assert "~ a guess" in ended.out
    assert "nothing is known of build" in ended.out


def test_the_cache_is_passed_over_and_that_is_said(cli: Callable[..., Any], flow: Path) -> None:
    (flow / "kept.yaml").write_text(
        "codomyrmex: 1\nname: kept\nsteps: [{name: a, run: ['true'], cache: true}, {name: b, run: ['true']}]\n"
    )
    assert cli("run", "kept.yaml").code == 0
    assert "nothing is taken from the cache: a\n" in cli("workflows", "plan", "kept.yaml").out


def test_parameters_are_read_as_those_of_a_run(
    planned: Callable[..., dict[str, Any]], cli: Callable[..., Any]
) -> None:
    assert "parse[6]" in spans(planned("-p", "shards=7"))
    refused = cli("workflows", "plan", "flow.yaml", "-p", "shards=many")
    assert (refused.code, "shards" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "duration_s"),
    [
        ((), 100),
        (("--what-if", "cpu=2"), 160),
        (("--what-if", "cpu=1"), 305),
        (("--what-if", "cpu=0.5"), 305),
        (("--what-if", " cpu = 8 , memory=64GiB", "--what-if", "disk=1TB"), 100),
        (("--max-parallel", "1"), 305),
    ],
)
def test_with_less_it_takes_longer(
    planned: Callable[..., dict[str, Any]], words: tuple[str, ...], duration_s: float
) -> None:
    assert planned(*words)["duration_s"] == duration_s


def test_workers_are_those_of_the_settings(
    planned: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODOMYRMEX_MAX_WORKERS", "1")
    plan = planned()
    assert (plan["workers"], plan["duration_s"], plan["bound_by"]) == (1, 305, "workers")


def test_what_the_machine_lacks_is_refused_as_by_run_unless_it_is_imagined(
    cli: Callable[..., Any], flow: Path
) -> None:
    (flow / "huge.yaml").write_text(
        "codomyrmex: 1\nname: huge\nsteps: [{name: a, run: [true], resources: {cpu: 64, gpu: 2}}]\n"
    )
    words = ("workflows", "plan", "huge.yaml")
    refused = cli(*words)
    assert refused.code == 7
    assert refused.err == cli("run", "huge.yaml").err
    assert "asks for 64 CPUs, and the machine has 4" in refused.err
    assert cli(*words, "--what-if", "cpu=64").code == 7
    plan = cli(*words, "--what-if", "cpu=64,gpu=2", "--json").document["data"]
    assert plan["tasks"][0]["request"] == {"sys-compute": 64_000, "gpu": 20_000}
    assert "64 CPUs, 2 GPUs and 64 attempts at once" in cli(*words, "--what-if", "cpu=64,gpu=2").out


def test_a_resource_that_only_steps_know_can_be_imagined(cli: Callable[..., Any], flow: Path) -> None:
    words = ("workflows", "plan", "locked.yaml")
    assert cli(*words).code == 7
    assert cli(*words, "--what-if", "database=1", "--json").document["data"]["duration_s"] == 3
    imagined = cli(*words, "--what-if", "database=3")
    assert "locked: 1.0 s" in imagined.out
    assert "there is no resource 'database' here: planned as if there were 3" in imagined.out


def test_what_the_state_limits_holds_for_the_plan(cli: Callable[..., Any], flow: Path) -> None:
    cli("resources", "add", "database", "--capacity", "2")
    words = ("workflows", "plan", "locked.yaml", "--json")
    assert cli(*words).document["data"]["duration_s"] == 2
    assert cli(*words, "--what-if", "database=3").document["data"]["duration_s"] == 1
    cli("resources", "offline", "database")
    told = cli(*words).document["data"]
    assert told["duration_s"] == 2
    assert "database is out of service: planned as if it were back" in told["assumptions"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--what-if", "cpus=8"), "did you mean 'cpu'?"),
        (("--what-if", "databse=8"), "no step asks for it"),
        (("--what-if", "cpu"), "'cpu' is not NAME=AMOUNT"),
        (("--what-if", "cpu=1,"), "'' is not NAME=AMOUNT"),
        (("--what-if", "cpu=1,cpu=2"), "names 'cpu' twice"),
        (("--what-if", "cpu=none"), "not a number: 'none'"),
        (("--what-if", "cpu=0"), "no machine is without"),
        (("--what-if", "memory=12 parsecs"), "write a size"),
        (("--what-if", "gpu=1.5"), "above it devices are whole"),
        (("--max-parallel", "0"), "x>=1"),
        (("--budget", "3s"), "--budget goes with --optimise"),
        (("--simulations", "9", "--optimise"), "--simulations goes without --optimise"),
        (("--durations", "absent.yaml"), "absent.yaml: No such file"),
    ],
)
def test_a_mistake_of_the_line_ends_with_2(
    cli: Callable[..., Any], flow: Path, words: tuple[str, ...], told: str
) -> None:
    ended = cli("workflows", "plan", "flow.yaml", *words)
    assert (ended.code, ended.out) == (2, "")
    assert told in ended.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{bild: 3}", "did you mean 'build'?"),
        ("{build: soon}", "build is 'soon', no duration"),
        ("{build: -3}", "build is -3, no duration"),
        ("{build: true}", "build is True, no duration"),
        ("{build: [3]}", "build is [3], no duration"),
        ("{build: .nan}", "no duration"),
        ("[build]", "--durations took.yaml: a mapping of names to values is needed"),
    ],
)
def test_durations_that_cannot_be_are_refused(
    cli: Callable[..., Any], flow: Path, text: str, told: str
) -> None:
    (flow / "took.yaml").write_text(text)
    ended = cli("workflows", "plan", "flow.yaml", "--durations", "took.yaml")
    assert (ended.code, told in ended.err) == (2, True), ended.err


def test_a_duration_is_of_a_step_of_a_step_of_one_workflow_or_of_an_action(
    cli: Callable[..., Any], flow: Path
) -> None:
    (flow / "took.yaml").write_text("{nightly/build: 5, shell.run: 3, lint: 4}")
    plan = cli("workflows", "plan", "flow.yaml", "--durations", "took.yaml", "--json").document["data"]
    took = {name: end - start for name, (start, end) in spans(plan).items()}
    assert (took["build"], took["lint"], took["report"]) == (5, 4, 3)


def test_a_workflow_on_stdin_is_planned(
    cli: Callable[..., Any], flow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(FLOW.encode())))
    assert cli("workflows", "plan", "-").out.startswith("nightly: ")
    refused = cli("workflows", "plan", "-", "--durations", "-")
    assert (refused.code, "stdin is the workflow already" in refused.err) == (2, True)


def test_the_tasks_of_a_child_run_stand_behind_their_step(cli: Callable[..., Any], flow: Path) -> None:
    (flow / "whole.yaml").write_text(
        "codomyrmex: 1\nname: whole\nsteps:\n"
        "  - {name: night, workflow: ./flow.yaml, with: {shards: 1}}\n"
        "  - {name: mail, run: [true], needs: [night]}\n"
    )
    plan = cli("workflows", "plan", "whole.yaml", "--durations", "took.yaml", "--json")
    found = spans(plan.document["data"])
    assert found["night/parse[0]"] == (30, 90)
    assert (found["night"][1], found["mail"][0]) == (100, 100)


def test_the_same_question_has_the_same_answer(planned: Callable[..., dict[str, Any]]) -> None:
    first = planned("--simulations", "5")
    assert first["spread"]["simulations"] == 5
    assert planned("--simulations", "5") == first
    assert planned()["spread"] is None  # nothing varies


def test_larger_runs_are_simulated_less_often() -> None:
    assert [simulations_for(count) for count in (0, 50, 200, 2000, 2001)] == [200, 200, 100, 20, 0]


def test_from_python_it_is_the_same_plan(planned: Callable[..., dict[str, Any]], flow: Path) -> None:
    durations = {"build": 30, "lint": 20, "parse": 60, "report": 10}
    (flow / "suites.yaml").write_text(SUITES)
    took = json.loads(SUITES_TOOK)
    with WorkflowManager(root=flow) as manager:
        plan = manager.plan_workflow("flow.yaml", {"shards": 5}, durations=durations, what_if={"cpu": 2})
        assert plan.to_dict() == planned("-p", "shards=5", "--what-if", "cpu=2")
        assert manager.plan_workflow("flow.yaml", shards=1, durations=durations).duration_s == 100
        better = manager.plan_workflow("suites.yaml", durations=took, optimise_s=5)
        assert (better.duration_s, better.unoptimised_s) == (60, 70)
        kept = plan_store.find(manager.host.database, better.definition, {})
        assert kept is not None
        assert [*kept.order] == [*better.order]
        with pytest.raises(ValidationError, match="a duration is seconds"):
            manager.plan_workflow("flow.yaml", durations={"build": -1})
        with pytest.raises(ValidationError, match="did you mean 'memory'"):
            manager.plan_workflow("flow.yaml", what_if={"memry": "1GiB"})
        with pytest.raises(ResourceRefused, match="there is no resource 'database'"):
            manager.plan_workflow("locked.yaml")


@pytest.mark.parametrize("cpus", ["1", "3", "40"])
def test_a_plan_has_as_many_workers_as_an_engine(
    flow: Path, monkeypatch: pytest.MonkeyPatch, cpus: str
) -> None:
    monkeypatch.setenv("CODOMYRMEX_RESOURCES_CPU", cpus)
    with WorkflowManager(root=flow) as manager:
        engine = manager.host.orchestrator.capacity.workers
    machine = Machine(cpu_milli=1000 * int(cpus), memory_bytes=1)
    assert workers_of(machine, None) == engine
    assert workers_of(machine, 3) == 3


def test_a_shorter_order_is_found_kept_and_followed(cli: Callable[..., Any], flow: Path) -> None:
    (flow / "suites.yaml").write_text(SUITES)
    words = ("workflows", "plan", "suites.yaml", "--durations", "suites.json")
    (flow / "suites.json").write_text(SUITES_TOOK)
    assert "suites: 1 min 10 s" in cli(*words).out
    assert not (flow / ".codomyrmex").exists()
    ended = cli(*words, "--optimise", "--budget", "5s")
    assert ended.out.splitlines()[:2] == [
        "suites: 1 min 00 s",
        "14.3 % shorter than the usual order (1 min 10 s), and no order is shorter",
    ]
    assert ended.err == "kept; codomyrmex run suites.yaml --follow-plan begins the tasks in this order\n"
    assert cli("run", "suites.yaml", "--follow-plan").code == 0


def test_an_order_for_what_is_not_there_is_not_kept(cli: Callable[..., Any], flow: Path) -> None:
    words = ("--durations", "took.yaml", "--optimise", "--budget", "5s", "--what-if", "cpu=1")
    ended = cli("workflows", "plan", "flow.yaml", *words)
    assert ended.code == 0
    assert "not kept" in ended.err
    assert not (flow / ".codomyrmex").exists()


def test_the_plan_that_is_kept_has_the_parameters_in_its_command(
    planned: Callable[..., dict[str, Any]], cli: Callable[..., Any]
) -> None:
    words = ("--optimise", "-p", "shards=2", "--max-parallel", "3", "--durations", "took.yaml")
    ended = cli("workflows", "plan", "flow.yaml", *words)
    assert "codomyrmex run flow.yaml -p shards=2 --max-parallel 3 --follow-plan" in ended.err
    plan = planned(*words)
    assert (plan["method"], plan["optimal"], plan["unoptimised_s"]) == ("optimised", True, plan["duration_s"])


def test_without_the_solver_it_says_how_to_get_it(
    cli: Callable[..., Any], flow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ortools.sat.python", None)
    (flow / "suites.yaml").write_text(SUITES)
    (flow / "suites.json").write_text(SUITES_TOOK)
    ended = cli("workflows", "plan", "suites.yaml", "--durations", "suites.json", "--optimise")
    assert (ended.code, ended.out) == (1, "")
    assert "pip install 'codomyrmex[plan]'" in ended.err


def test_what_was_learned_is_what_a_plan_expects(cli: Callable[..., Any], flow: Path) -> None:
    assert cli("run", "flow.yaml").code == 1  # there is no make here; the state is made
    with closing(SQLiteDatabase.open(flow / ".codomyrmex" / "state.db")) as database:
        samples = [(seconds, None, None) for seconds in (40.0, 50.0, 80.0)]
        subject = profiles.step_subject("nightly", "build")
        profiles.add(
            database, [profiles.Addition(subject, WHATEVER_SIZE, run=1, more=3, samples=samples)], now_us=1
        )
    ended = cli("workflows", "plan", "flow.yaml")
    assert re.search(r"build .* 50\.0 s", ended.out)
    assert re.search(r"nightly: .*, .* to .* in 8 of 10 cases", ended.out)


@pytest.mark.parametrize("columns", [60, 80, 160])
def test_on_a_terminal_it_is_coloured_and_fits(flow: Path, columns: int) -> None:
    code, written = on_a_terminal(
        "workflows", "plan", "flow.yaml", "--durations", "took.yaml", columns=columns
    )
    assert code == 0, written
    lines = written.splitlines()
    assert "\x1b[33m█" in "".join(lines)
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert max(map(len, plain)) == columns


def test_no_colour_and_no_signs_where_they_are_not_wanted(
    flow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    words = ("workflows", "plan", "flow.yaml", "--durations", "took.yaml")
    code, written = on_a_terminal(*words)
    assert (code, "\x1b" in written, "█" in written) == (0, False, True)
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    ended = subprocess.run([sys.executable, "-m", "codomyrmex", *words], capture_output=True, check=True)
    assert "####" in ended.stdout.decode("ascii")
    assert "?" not in ended.stdout.decode("ascii")
