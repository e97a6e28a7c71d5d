"""`run` and what looks at runs afterwards, each through the real engine."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from codomyrmex.cli import command_table

ACTIONS = """
import time

def work(i, seconds=0.0):
    print("working on", i, flush=True)
    time.sleep(seconds)
    return i

def boom(i):
    print("about to fail")
    raise ValueError(f"bad {i}")
"""

FLOW = """
codomyrmex: 1
name: flow
parameters:
  n: {type: integer, default: 3}
  tags: {type: list, default: []}
  where: {type: path, default: .}
steps:
  - {name: first, run: "echo out; echo err >&2"}
  - name: each
    needs: [first]
    foreach: "${range(parameters.n)}"
    call: "./acts.py:work"
    with: {i: "${item}"}
outputs: {n: "${steps.each.output}", tags: "${parameters.tags}"}
"""

BAD = """
codomyrmex: 1
name: bad
steps:
  - {name: parse, foreach: [1, 2, 3], call: "./acts.py:boom", with: {i: "${item}"}}
  - {name: sh, run: "echo one; false"}
  - {name: late, needs: [parse], run: ["true"]}
"""


@pytest.fixture
def flows(project: Path) -> Path:
    (project / "acts.py").write_text(ACTIONS)
    (project / "flow.yaml").write_text(FLOW)
    (project / "bad.yaml").write_text(BAD)
    return project


def test_what_init_writes_runs_and_can_be_looked_at(cli, project: Path) -> None:
    cli("init")
    ended = cli("run")
    assert (ended.code, "✓ completed" in ended.out) == (0, True), ended
    assert (project / "word-count.csv").exists()
    assert (project / ".codomyrmex/.gitignore").exists()
    assert "outputs" in cli("show").out
    assert "texts in" in cli("logs", "find").out
    assert cli("ps").out == ""
    assert cli("status", "--json").document["data"]["runs"]["completed"] == 1
    assert cli("workflows", "validate").code == 0


def test_a_run_in_json_is_one_document(cli, flows: Path) -> None:
    ended = cli("run", "flow.yaml", "--json", "-p", "n=2", "-p", "tags=a")
    data = ended.document["data"]
    assert ended.err == ""
    assert data["outputs"] == {"n": [0, 1], "tags": ["a"]}
    assert data["tasks"] == {"total": 4, "completed": 4, "failed": 0, "skipped": 0, "cancelled": 0}
    assert (data["workflow"], data["status"], data["failed_step"], data["error"]) == (
        "flow",
        "completed",
        None,
        None,
    )
    row = cli("runs", "list", "--json").document["data"]["runs"][0]
    assert (row["execution_id"], row["workflow"], row["status"]) == (
        data["execution_id"],
        "flow",
        "completed",
    )


def test_verbose_streams_what_the_steps_print(cli, flows: Path) -> None:
    ended = cli("run", "flow.yaml", "-v")
    for line in ("first │ out", "first │ err", "each[2] │ working on 2", "✓ each"):
        assert line in ended.err


def test_quiet_leaves_only_the_result(cli, flows: Path) -> None:
    ended = cli("-q", "run", "flow.yaml")
    assert (ended.code, ended.err) == (0, "")
    assert "4 tasks" in ended.out or "5 tasks" in ended.out


def test_a_failure_shows_what_where_and_how_to_go_on(cli, flows: Path) -> None:
    ended = cli("run", "bad.yaml")
    assert ended.code == 1
    assert "✗ failed" in ended.out
    for part in (
        "✗ parse[0] failed",
        "ValueError: bad 1",
        "acts.py:11 boom",
        "│ about to fail",
        "2 more items of parse failed",
        "✗ sh failed",
        "ended with exit code 1",
        "│ one",
    ):
        assert part in ended.err
    assert "site-packages" not in ended.err
    following = [
        shlex.split(line)[1:] for line in ended.err.splitlines() if line.startswith("    codomyrmex ")
    ]
    assert following
    for words in following:
        assert command_table.exists(words[0]) or command_table.exists(*words[:2])


def test_the_commands_under_a_failure_work_as_they_stand(cli, flows: Path) -> None:
    ended = cli("run", "bad.yaml")
    lines = [line.split("  ")[2] for line in ended.err.splitlines() if line.startswith("    codomyrmex ")]
    for line in lines:
        words = shlex.split(line)[1:]
        assert cli(*words).code == (1 if words[0] == "run" else 0)


def test_a_failed_run_in_json_has_the_run_and_the_error(cli, flows: Path) -> None:
    document = cli("run", "bad.yaml", "--json").document
    assert (document["ok"], document["error"]["code"], document["data"]["status"]) == (
        False,
        "run_failed",
        "failed",
    )
    assert document["data"]["tasks"]["failed"] == 5
    assert document["data"]["tasks"]["cancelled"] == 1
    assert "codomyrmex show" in document["error"]["hint"]


def test_what_failed_can_be_looked_at_afterwards(cli, flows: Path) -> None:
    cli("run", "bad.yaml", "-q")
    assert "a step it depends on did not succeed" in cli("show").out
    names = [
        task["name"]
        for task in cli("tasks", "list", "--status", "failed", "--json").document["data"]["tasks"]
    ]
    assert names == ["parse", "parse[0]", "parse[1]", "parse[2]", "sh"]
    assert "bad 2" in cli("tasks", "show", "bad", "parse[1]").out
    assert cli("logs", "bad", "parse[1]").out == "about to fail\n"
    assert cli("logs", "parse[1]").out == "about to fail\n"
    assert cli("logs", "bad", "sh", "--json").document["data"]["logs"][0]["text"] == "one"
    assert "parse │" not in cli("logs").out
    assert "failed" in cli("explain").out


def test_a_run_that_takes_too_long_is_124(cli, flows: Path) -> None:
    (flows / "long.yaml").write_text('codomyrmex: 1\nname: long\nsteps: [{name: s, run: ["sleep", "60"]}]\n')
    ended = cli("run", "long.yaml", "--timeout", "300ms")
    assert ended.code == 124
    assert "the time is up" in ended.err
    assert "cancelled" in ended.out


def test_a_dry_run_shows_the_order_and_makes_nothing(cli, flows: Path) -> None:
    ended = cli("run", "flow.yaml", "--dry-run")
    assert (ended.code, "nothing was run" in ended.out) == (0, True)
    assert "2  each (for each)" in ended.out
    assert not (flows / ".codomyrmex").exists()
    data = cli("run", "flow.yaml", "--dry-run", "--json", "-p", "n=9").document["data"]
    assert data["levels"] == [["first"], ["each"]]
    assert data["parameters"] == {"n": 9, "tags": [], "where": str(flows)}


MISTAKES = {
    "a cycle": (
        "steps: [{name: a, run: [x], needs: [b]}, {name: b, run: [x], needs: [a]}]",
        "a -> b -> a",
    ),
    "an unknown step in a reference": (
        'steps: [{name: build, run: [x]}, {name: b, run: [x, "${steps.biuld.output}"]}]',
        "did you mean 'build'?",
    ),
    "an unknown action": (
        'steps: [{name: a, call: "./acts.py:wrok", with: {i: 1}}]',
        "did you mean 'work'?",
    ),
    "an unknown built-in": ("steps: [{name: a, call: shell.rnu}]", "did you mean 'run'?"),
    "an unknown module": ('steps: [{name: a, call: "./atcs.py:work"}]', "atcs.py"),
    "a parameter that the action has not": (
        'steps: [{name: a, call: "./acts.py:work", with: {i: 1, secnods: 2}}]',
        "seconds",
    ),
    "a parameter that is missing": ('steps: [{name: a, call: "./acts.py:work"}]', "'i'"),
    "a name twice": ("steps: [{name: a, run: [x]}, {name: a, run: [y]}]", "a"),
    "an unknown key": ("steps: [{name: a, run: [x], neds: [b]}]", "did you mean 'needs'?"),
    "a call in a condition": ("steps: [{name: a, run: [x], run_if: \"__import__('os')\"}]", "__import__"),
    "an unquoted reference": ("steps: [{name: a, run: [x], env: {P: ${env.HOME}}}]", "quote the reference"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_file_is_code_2_with_its_place_before_anything_runs(
    cli, flows: Path, mistake: str
) -> None:
    steps, told = MISTAKES[mistake]
    (flows / "wrong.yaml").write_text(f"codomyrmex: 1\nname: wrong\n{steps}\n")
    ended = cli("run", "wrong.yaml")
    assert ended.code == 2
    assert "wrong.yaml:3" in ended.err
    assert told in ended.err
    assert "Traceback" not in ended.err
    assert not (flows / ".codomyrmex").exists()
    assert cli("workflows", "validate", "wrong.yaml").code == 2


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        ("run flow.yaml -p nn=1", 2, "no parameter 'nn'; did you mean 'n'?"),
        ("run flow.yaml -p n=many", 2, "an integer is needed"),
        ("run flow.yaml -p n", 2, "not name=value"),
        ("run flow.yaml --timeout soon", 2, "no duration"),
        ("run folw.yaml", 5, "did you mean 'flow.yaml'?"),
        ("run nothing", 5, "no workflow 'nothing'"),
        ("run", 5, "codomyrmex init"),
        ("show", 5, "nothing has run yet"),
        ("show nope", 5, "no run 'nope'"),
        ("cancel nope", 5, "no run 'nope'"),
        ("resume nope", 5, "no run 'nope'"),
        ("logs", 5, "nothing has run yet"),
        ("actions show ./acts.py:wrok", 5, "did you mean 'work'?"),
        ("actions show wrok", 2, "module:function"),
        ("workflows show nope", 5, "no workflow 'nope'"),
        ("run --state postgresql://host/db flow.yaml", 2, "not there yet"),
    ],
)
def test_what_is_not_there_or_not_so_has_its_code_and_makes_nothing(
    cli, flows: Path, line: str, code: int, told: str
) -> None:
    ended = cli(*line.split())
    assert (ended.code, ended.out) == (code, "")
    assert told in ended.err
    assert not (flows / ".codomyrmex").exists()


def test_names_of_runs_and_tasks_that_are_not_there_are_explained(cli, flows: Path) -> None:
    run_id = cli("run", "flow.yaml", "--json", "-p", "n=1").document["data"]["execution_id"]
    assert cli("show", run_id[:6]).code == 0
    assert cli("show", "flow").code == 0
    wrong = cli("tasks", "show", "flow", "frist")
    assert (wrong.code, "did you mean 'first'?" in wrong.err) == (5, True)
    assert cli("logs", "flow", "frist").code == 5


def test_definitions_are_listed_shown_drawn_and_checked(cli, flows: Path) -> None:
    (flows / "workflows").mkdir()
    (flows / "workflows/two.yaml").write_text(
        FLOW.replace("name: flow", "name: two").replace("./acts", "../acts")
    )
    (flows / "workflows/broken.yaml").write_text("codomyrmex: 1\nname: broken\nsteps: []\n")
    rows = cli("workflows", "list", "--json").document["data"]["workflows"]
    assert [(row["name"], row["steps"], len(row["faults"])) for row in rows] == [
        ("broken", 0, 1),
        ("two", 2, 0),
    ]
    assert "1 fault" in cli("workflows", "list").out
    assert "for each ${range(parameters.n)}" in cli("workflows", "show", "two").out
    assert cli("workflows", "graph", "two").out == "graph TD\n    first --> each\n"
    assert cli("workflows", "graph", "two", "--form", "levels").out == "1  first\n2  each\n"
    assert "digraph" in cli("workflows", "graph", "two", "--form", "dot").out
    assert cli("workflows", "schema", "--json").document["data"]["$schema"].endswith("2020-12/schema")
    checked = cli("workflows", "validate")
    assert checked.code == 2
    assert "✗ workflows/broken.yaml" in checked.out
    assert "✓ workflows/two.yaml" in checked.out


def test_actions_are_listed_and_shown(cli, flows: Path) -> None:
    names = [row["name"] for row in cli("actions", "list", "--json").document["data"]["actions"]]
    assert {"shell.run", "http.request", "python.run", "files.read"} <= set(names)
    shown = cli("actions", "show", "./acts.py:work")
    assert "acts.py:4" in shown.out
    assert "(must be given)" in shown.out


def test_a_run_elsewhere_names_commands_that_reach_it(cli, flows: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / ".git").mkdir(parents=True)
    (other / "bad.yaml").write_text('codomyrmex: 1\nname: b\nsteps: [{name: s, run: "echo x; false"}]\n')
    ended = cli("run", str(other / "bad.yaml"))
    lines = [line.strip() for line in ended.err.splitlines() if line.startswith("    codomyrmex ")]
    assert lines[0].split("  ")[0].endswith(f"--root {other}")
    assert lines[-1].split("  ")[0] == f"codomyrmex run {other / 'bad.yaml'}"
    assert not (flows / ".codomyrmex").exists()
