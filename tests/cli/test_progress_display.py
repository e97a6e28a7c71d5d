"""How far runs and tasks are, as people see it on a terminal of 80 columns and as programs read it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.cli.figures import bar_text, left_text, percent_text
from codomyrmex.cli.line_report import LineReporter
from codomyrmex.cli.live_view import LiveView
from codomyrmex.cli.run_follow import Moment
from codomyrmex.cli.run_text import live_runs_lines, progress_text, run_lines, tasks_lines
from codomyrmex.cli.terminal import Terminal, display_width, printable
from codomyrmex.cli.watch import WatchedRun
from codomyrmex.logistics.orchestration.project.run_views import RunView, TaskCounts, TaskView
from codomyrmex.logistics.orchestration.project.task_progress import Progress
from waiting import wait_until

NOW = datetime(2026, 11, 22, 15, 4, 11, tzinfo=UTC)
START = NOW - timedelta(seconds=12.3)
HALF = Progress(done=21, total=50, message="epoch 21 of 50, loss 0.173")


def a_run(**changes: Any) -> RunView:
    fields: dict[str, Any] = {
        "execution_id": "k3f9a2c8xy",
        "workflow": "nightly",
        "status": "running",
        "created_at": START,
        "started_at": START,
        "tasks": TaskCounts(total=612, completed=410, running=2, pending=200),
        "owner": "engine 3 pid 4242",
        "percent": 67.9,
        "left_s": 190.0,
        "left_p90_s": 300.0,
    }
    return RunView(**{**fields, **changes})


def a_task(name: str = "train", **changes: Any) -> TaskView:
    fields: dict[str, Any] = {
        "name": name,
        "step": name.partition("[")[0],
        "status": "running",
        "attempt": 1,
        "started_at": START,
        "progress": HALF,
        "left_s": 17.0,
    }
    return TaskView(**{**fields, **changes})


def written(terminal: Terminal) -> str:
    return terminal.stream.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""), (0, ""), (0.7, ""), (3.2, "a few seconds left"), (41, "about 40 s left"), (57, "about 1 min left"),
        (190, "about 3 min left"), (4900, "about 1 h 20 min left"), (3580, "about 1 h left"),
        (50_000, "about 13 h left"), (400_000, "about 5 d left"),
    ],
)  # fmt: skip
def test_what_is_left_is_said_no_finer_than_it_is_known(seconds: float | None, text: str) -> None:
    assert left_text(seconds) == text


def test_a_percentage_is_never_more_than_was_reached() -> None:
    assert [percent_text(percent) for percent in (None, 0.0, 41.9, 99.99)] == ["", "0 %", "41 %", "99 %"]


def test_a_bar_is_as_wide_as_it_is_told_also_without_its_signs() -> None:
    assert bar_text(0, 8) == "────────"
    assert bar_text(55, 8) == "━━━━────"
    assert bar_text(140, 8) == "━━━━━━━━"
    assert bar_text(55, 8, unicode=False) == "####----"


@pytest.mark.parametrize(
    ("done", "total", "text"), [(21, 50, "42 %"), (1204, None, "1,204"), (0.25, None, "0.25")]
)
def test_where_nobody_knows_of_how_much_it_is_said_how_much(
    done: float, total: float | None, text: str
) -> None:
    assert progress_text(Progress(done=done, total=total)) == text


def test_a_run_in_full_says_how_far_it_is_and_its_tasks_too(screen: Terminal) -> None:
    text = "\n".join(run_lines(screen, a_run(), [a_task()], NOW))
    assert "progress ━━━━━━━━━━━━━─────── 67 %, about 3 min left" in text
    assert "train  ● running  42 %  12.3 s  epoch 21 of 50, loss 0.173, about 20 s left" in text
    assert "progress" not in "\n".join(run_lines(screen, a_run(status="failed"), [], NOW))
    unknown = a_run(percent=None, left_s=None)
    assert "progress" not in "\n".join(run_lines(screen, unknown, [], NOW))


def test_what_is_live_says_how_much_is_done_and_left(screen: Terminal) -> None:
    unknown = a_run(percent=None, left_s=None)
    titles, known, plain = live_runs_lines(screen, [a_run(), unknown], NOW)
    assert titles.split()[5:8] == ["DONE", "AGE", "LEFT"]
    assert "67 %" in known
    assert "3 min" in known
    assert "%" not in plain
    assert max(map(display_width, (titles, known, plain))) <= 80


def test_every_line_fits_whatever_a_task_says(screen: Terminal) -> None:
    loud = Progress(done=1, total=3, message="m" * 200)
    tasks = [a_task("x" * 100, progress=loud), a_task("y", progress=Progress(done=10**12))]
    for lines in (tasks_lines(screen, tasks, NOW), run_lines(screen, a_run(workflow="w" * 100), tasks, NOW)):
        assert max(map(display_width, lines[1:])) <= 80
    view = LiveView(screen)
    view.started(a_run())
    view.tell(Moment(run=a_run(workflow="w" * 100), running=tasks))
    view.close()
    assert max(display_width(printable(line)) for line in written(screen).splitlines()) <= 80


def test_a_message_cannot_steer_the_terminal(screen: Terminal) -> None:
    nasty = a_task(progress=Progress(done=1, total=2, message="a\x1b[2J\nb"))
    assert "a b" in "\n".join(tasks_lines(screen, [nasty], NOW))


def test_the_live_view_has_a_bar_for_each_task_that_says_how_far_it_is(screen: Terminal) -> None:
    view = LiveView(screen)
    view.started(a_run())
    view.tell(Moment(run=a_run(), running=[a_task(), a_task("copy", progress=Progress(done=1204))]))
    view.close()
    text = printable(written(screen))
    for part in ("67 %", "about 3 min left", "━━━━──────  42 %", "epoch 21 of 50", "1,204"):
        assert part in text


def test_plain_lines_say_how_far_it_is(pipe: Terminal) -> None:
    seconds = iter(range(0, 1000, 6))
    LineReporter(pipe, now_s=lambda: next(seconds)).tell(Moment(run=a_run(), running=[a_task()]))
    assert written(pipe).splitlines() == ["410/612 done, 67 %, about 3 min left, running: train (42 %)"]


class Reads:
    """A run that is asked for again and again."""

    def __init__(self) -> None:
        self.estimates = 0

    def run(self, run_id: str) -> RunView:
        return a_run(percent=None, left_s=None, left_p90_s=None)

    def tasks(self, run_id: str, **more: Any) -> list[TaskView]:
        return [a_task(left_s=None)]

    def with_estimates(self, run: RunView, tasks: list[TaskView]) -> tuple[RunView, list[TaskView]]:
        self.estimates += 1
        return a_run(), [a_task()]


def test_watching_works_out_once_a_second_how_far_it_is() -> None:
    reads = Reads()
    source = WatchedRun(reads, "k3f9a2c8xy", abandoned="", streams=False)  # type: ignore[arg-type]
    moments = [source.look() for _ in range(5)]
    assert {(moment.run.percent, moment.running[0].left_s) for moment in moments} == {(67.9, 17.0)}
    assert reads.estimates == 1


WORKFLOW = """
codomyrmex: 1
name: steady
steps:
  - {name: work, call: "steady:work"}
"""
ACTION = """
from pathlib import Path
import time
from codomyrmex import current_task

def work():
    current_task().progress(3, 4, "three of four")
    while not Path("gate").exists():
        time.sleep(0.01)
"""


@pytest.fixture
def at_work(project: Path) -> Iterator[None]:
    """A run in a process of its own, which goes on until there is a file `gate`."""
    (project / "steady.yaml").write_text(WORKFLOW)
    (project / "steady.py").write_text(ACTION)
    words = [sys.executable, "-m", "codomyrmex", "run", "steady.yaml"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield
    (project / "gate").touch()
    assert process.wait(30) == 0


@pytest.mark.usefixtures("at_work")
def test_show_ps_and_watch_say_it_of_a_run_of_another_process(project: Path, cli: Any) -> None:
    def words() -> Any:
        ended = cli("show", "--json")
        return ended.code == 0 and ended.document["data"]["steps"][0]["progress"] and ended.document["data"]

    shown = wait_until(words, what="its word in the store")
    assert shown["steps"][0]["progress"] == {
        "done": 3.0, "total": 4.0, "percent": 75.0, "message": "three of four",
    }  # fmt: skip
    assert shown["steps"][0]["left_s"] >= 0
    assert 0 < shown["percent"] < 100
    assert shown["left_s"] is not None
    assert "three of four" in cli("show").out
    (listed,) = cli("ps", "--json").document["data"]["runs"]
    assert 0 < listed["percent"] < 100
    assert " %" in cli("ps").out
    threading.Timer(0.3, (project / "gate").touch).start()
    watched = [json.loads(line) for line in cli("watch", "--json").out.splitlines()]
    told = [each for each in watched if each["event"] == "progress"]
    assert told[0]["percent"] > 0
    assert told[0]["running"]["work"]["percent"] == 75.0
    assert (watched[-1]["status"], watched[-1]["percent"]) == ("completed", None)
