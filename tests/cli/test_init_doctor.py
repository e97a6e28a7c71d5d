"""Commands that need no run: `init` and `doctor`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from codomyrmex.cli import health_checks


def test_init_writes_a_workflow_and_says_what_to_do_next(cli, project: Path) -> None:
    ended = cli("init")
    assert ended.code == 0
    assert (project / "codomyrmex.yaml").exists()
    assert (project / "actions.py").exists()
    assert ended.out.splitlines()[-1].strip() == "codomyrmex run"


def test_init_elsewhere_says_where_to_go(cli, project: Path) -> None:
    assert cli("init", "new/place", "--json").document["data"]["next"] == [
        f"cd {project}/new/place",
        "codomyrmex run",
    ]
    assert (project / "new/place/actions.py").exists()


def test_init_changes_nothing_that_is_there(cli, project: Path) -> None:
    (project / "actions.py").write_text("mine")
    ended = cli("init")
    assert ended.code == 6
    assert "actions.py is there already" in ended.err
    assert not (project / "codomyrmex.yaml").exists()
    assert (project / "actions.py").read_text() == "mine"


def test_the_actions_that_init_writes_need_nothing_but_the_standard_library(cli, project: Path) -> None:
    cli("init")
    (project / ".hidden").mkdir()
    (project / ".hidden/no.txt").write_text("not these")
    (project / "a.txt").write_text("one two three")
    script = (
        "import actions; paths = [path for path in actions.find_texts('.') if path.endswith('.txt')];"
        "print(paths, actions.write_report([actions.count_words(path) for path in paths], 'out.csv'))"
    )
    ended = subprocess.run(
        [sys.executable, "-S", "-c", script], capture_output=True, text=True, timeout=20, check=True
    )
    assert ended.stdout.splitlines()[-1] == "['./a.txt'] {'words': 3, 'path': 'out.csv'}"
    assert (project / "out.csv").read_text().split() == ["path,words", "./a.txt,3"]


def test_doctor_finds_this_machine_in_order(cli) -> None:
    data = cli("doctor", "--json").document["data"]
    assert data["healthy"] is True
    assert {"Python", "SQLite", "state", "disk"} <= {check["name"] for check in data["checks"]}


def test_doctor_fails_where_the_state_cannot_be_written(cli) -> None:
    ended = cli("doctor", "--state", "/proc/nothing")
    assert ended.code == 1
    assert "✗ state" in ended.out
    assert "--state DIR" in ended.out
    document = cli("doctor", "--state", "/proc/nothing", "--json").document
    assert (document["ok"], document["data"]["healthy"]) == (False, False)


def test_doctor_says_what_there_is_to_share_and_where_that_is_kept(
    cli, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODOMYRMEX_RESOURCES_CPU", "6")
    monkeypatch.setenv("CODOMYRMEX_HOST_DIR", str(project / "host"))
    assert "6 CPUs, " in (told := cli("doctor").out)
    assert f"shared with other projects by {project / 'host' / 'ledger.db'}" in told
    (project / "host").write_text("a file")
    ended = cli("doctor")
    assert (ended.code, "is no folder" in ended.out, "CODOMYRMEX_HOST_DIR" in ended.out) == (1, True, True)
    monkeypatch.setenv("CODOMYRMEX_RESOURCES_SCOPE", "project")
    assert "of this project alone" in cli("doctor").out


def test_doctor_leaves_nothing_behind(cli, project: Path) -> None:
    cli("doctor")
    assert list(project.iterdir()) == []


def test_doctor_tells_of_settings_that_cannot_be_read(cli, project: Path) -> None:
    (project / ".codomyrmex").mkdir()
    (project / ".codomyrmex/config.toml").write_text("max_workers = 'many'")
    ended = cli("doctor")
    assert (ended.code, "max_workers is 'many'" in ended.out) == (1, True)
    assert "✓ worker" in ended.out


@pytest.mark.parametrize(
    ("check", "verdict"),
    [
        (health_checks.sqlite_verdict("3.51.3", "x"), "ok"),
        (health_checks.sqlite_verdict("3.51.2", "x"), "fail"),
        (health_checks.check_python((3, 10, 9)), "fail"),
        (health_checks.check_platform("win32"), "fail"),
        (health_checks.check_platform("darwin"), "warn"),
        (health_checks.disk_verdict(10 * 1024**3), "ok"),
        (health_checks.disk_verdict(500 * 1024**2), "warn"),
        (health_checks.disk_verdict(1024), "fail"),
    ],
)
def test_what_is_too_old_or_too_small_says_what_to_do(check: health_checks.Check, verdict: str) -> None:
    assert check.verdict == verdict
    assert bool(check.advice) == (verdict != "ok")
