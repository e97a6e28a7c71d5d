"""How runs, tasks and failures look on a terminal of 80 columns, and in a pipe."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.cli.failure_text import failure_lines, log_tail, next_lines
from codomyrmex.cli.figures import age_text, count_text, duration_text, instant_text, size_text
from codomyrmex.cli.line_report import LineReporter
from codomyrmex.cli.live_view import LiveView
from codomyrmex.cli.run_follow import Moment, follow
from codomyrmex.cli.run_text import (
    counts_text,
    live_runs_lines,
    outcome_lines,
    run_lines,
    runs_lines,
    task_lines,
    tasks_lines,
)
from codomyrmex.cli.terminal import Terminal, display_width, one_line, printable, shorten
from codomyrmex.cli.text_table import Cell, Column, table_lines
from codomyrmex.logistics.orchestration.project.run_views import RunView, TaskCounts, TaskView

NOW = datetime(2026, 11, 22, 15, 4, 11, tzinfo=UTC)
START = NOW - timedelta(seconds=12.3)
ERROR = {
    "type": "mypkg.errors.BadRow",
    "message": "row 17 has no date",
    "frame": "/p/mypkg/io.py:42 read_rows",
}


def a_run(**changes: Any) -> RunView:
    fields: dict[str, Any] = {
        "execution_id": "k3f9a2c8",
        "workflow": "nightly",
        "status": "running",
        "created_at": START,
        "started_at": START,
        "tasks": TaskCounts(total=612, completed=410, failed=1, running=2, pending=199),
        "owner": "engine 3 pid 4242",
    }
    return RunView(**{**fields, **changes})


def a_task(name: str = "parse[17]", **changes: Any) -> TaskView:
    step, _, index = name.rstrip("]").partition("[")
    fields: dict[str, Any] = {
        "name": name,
        "step": step,
        "index": int(index) if index else None,
        "status": "completed",
        "attempt": 1,
        "module": "mypkg.parse",
        "action": "parse",
        "duration_s": 0.31,
    }
    return TaskView(**{**fields, **changes})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""), (0, "0 ms"), (0.0004, "<1 ms"), (0.0421, "42 ms"), (0.25, "0.25 s"), (0.999, "1.0 s"),
        (9.96, "10.0 s"), (12.34, "12.3 s"), (59.96, "1 min 00 s"), (125, "2 min 05 s"), (3599.7, "1 h 00 min"),
        (3725, "1 h 02 min"), (100_000, "1 d 03 h"),
    ],
)  # fmt: skip
def test_durations_read_as_people_say_them(seconds: float | None, text: str) -> None:
    assert duration_text(seconds) == text


def test_sizes_counts_and_ages_read_as_people_say_them() -> None:
    assert [size_text(size) for size in (0, 1023, 4096, 13_207_024_435)] == [
        "0 B",
        "1023 B",
        "4.0 KiB",
        "12.3 GiB",
    ]
    assert [count_text(count, "task") for count in (0, 1, 1204)] == ["0 tasks", "1 task", "1,204 tasks"]
    assert [age_text(age) for age in (-1, 5, 200, 7300, 345_600)] == ["0 s", "5 s", "3 min", "2 h", "4 d"]


def test_instants_leave_out_what_is_today() -> None:
    noon = datetime(2026, 11, 22, 12, 0, 1).astimezone()
    assert instant_text(noon, noon + timedelta(minutes=5)) == "12:00:01"
    assert instant_text(noon, noon + timedelta(days=9)) == "Nov 22 12:00"
    assert instant_text(noon, noon + timedelta(days=400)) == "2026-11-22"


def test_nothing_in_a_text_can_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x1b]0;title\x07c\x07d\x9b1m\te\n") == "abcd1m\te\n"
    assert one_line("two\n  lines\x1b[31m") == "two lines"


def test_wide_signs_count_twice() -> None:
    assert display_width("ab日本e\u0301") == 7
    assert shorten("日本語のテスト", 7) == "日本語…"
    assert shorten("abcdefgh", 6, unicode=False) == "abc..."


def test_a_table_fits_by_shortening_the_widest_column_that_may_give(screen: Terminal) -> None:
    columns = [Column("ID"), Column("NAME", shrink_to=8), Column("WHY", shrink_to=8), Column("EMPTY")]
    lines = table_lines(screen, columns, [["id1", "n" * 30, Cell("w" * 90), ""], ["id2", "n", "", ""]])
    assert all(len(line) <= 80 for line in lines)
    assert lines[1].startswith("id1  " + "n" * 30 + "  ww")
    assert lines[1].endswith("…")
    assert "EMPTY" not in lines[0]


def test_a_table_in_a_pipe_is_whole_and_plain(pipe: Terminal) -> None:
    lines = table_lines(pipe, [Column("NAME", shrink_to=8)], [["n" * 300]])
    assert lines == ["NAME", "n" * 300]


def test_a_list_of_runs(screen: Terminal) -> None:
    ended = a_run(
        status="failed", duration_s=8, failed_step="parse", tasks=TaskCounts(total=3, completed=2, failed=1)
    )
    assert [line.split() for line in runs_lines(screen, [a_run(), ended], NOW)] == [
        ["RUN", "WORKFLOW", "STATUS", "TASKS", "STARTED", "TOOK", "FAILED"],
        ["k3f9a2c8", "nightly", "●", "running", "411/612", instant_text(START, NOW), "12.3", "s"],
        ["k3f9a2c8", "nightly", "✗", "failed", "3/3", instant_text(START, NOW), "8.0", "s", "parse"],
    ]


def test_what_is_live_says_who_works_on_it(screen: Terminal) -> None:
    lines = live_runs_lines(screen, [a_run(), a_run(owner="nobody")], NOW)
    assert lines[1].endswith("  pid 4242")
    assert lines[2].endswith("nobody")


@pytest.mark.parametrize("name", ["short", "x" * 128])
def test_every_line_about_a_run_fits_into_eighty_columns(screen: Terminal, name: str) -> None:
    run = a_run(
        workflow=name[:40],
        parameters={"root": "/a" * 100},
        outputs={"report": {"path": "p" * 200}},
        status="completed",
    )
    tasks = [
        a_task(name, status="failed", error={**ERROR, "message": "m " * 200}),
        a_task("b", reason="r " * 90),
    ]
    for lines in (
        runs_lines(screen, [run], NOW),
        run_lines(screen, run, tasks, NOW),
        tasks_lines(screen, tasks, NOW),
    ):
        assert max(map(display_width, lines)) <= 80


def test_a_run_in_full_has_its_parameters_steps_and_outputs(screen: Terminal) -> None:
    group = a_task(
        "parse", counts=TaskCounts(total=600, completed=598, failed=1, cancelled=1), status="failed"
    )
    run = a_run(
        status="failed", owner=None, duration_s=12.3, parameters={"shards": 3}, outputs={"report": "out.html"}
    )
    text = "\n".join(run_lines(screen, run, [a_task("list"), group], NOW))
    for part in (
        "nightly k3f9a2c8  ✗ failed in 12.3 s",
        "shards  3",
        "report  out.html",
        "600/600",
        "✓ completed",
    ):
        assert part in text


def test_one_task_in_full(screen: Terminal) -> None:
    lines = task_lines(
        screen, a_task(status="blocked", reason="dependencies", duration_s=None, attempt=0), NOW
    )
    assert lines[0] == "parse[17]  · blocked"
    assert lines[1:] == ["  action   mypkg.parse:parse", "  why      waits for what it depends on"]


def test_counts_name_only_what_there_is() -> None:
    assert counts_text(TaskCounts(total=3, completed=3)) == "3 tasks, all completed"
    assert counts_text(TaskCounts(total=5, completed=2, failed=1, blocked=2)) == (
        "5 tasks: 2 completed, 1 failed, 2 blocked"
    )
    assert counts_text(TaskCounts()) == "0 tasks"


def test_the_end_of_a_run_names_its_outputs(screen: Terminal) -> None:
    run = a_run(status="completed", duration_s=3, tasks=TaskCounts(total=2, completed=2), outputs={"n": 7})
    assert outcome_lines(screen, run, NOW) == [
        "nightly k3f9a2c8  ✓ completed in 3.0 s",
        "  2 tasks, all completed",
        "  n  7",
    ]


def test_a_failure_shows_exception_frame_log_and_commands(screen: Terminal) -> None:
    task = a_task(status="failed", error=ERROR, attempt=3)
    following = [("codomyrmex logs k3f9 'parse[17]'", "the whole log")]
    assert [*failure_lines(screen, task, ["reading", "row 16"]), *next_lines(screen, following)] == [
        "✗ parse[17] failed after 0.31 s, on attempt 3",
        "  BadRow: row 17 has no date",
        "  at /p/mypkg/io.py:42 read_rows",
        "",
        "  end of its log",
        "  │ reading",
        "  │ row 16",
        "",
        "  next",
        "    codomyrmex logs k3f9 'parse[17]'  the whole log",
    ]


def test_what_ran_out_of_memory_is_told_how_to_get_more(screen: Terminal) -> None:
    error = {
        "type": "x.OutOfMemory",
        "message": "used 85 MiB of the 64 MiB it asked for",
        "kind": "out_of_memory",
    }
    lines = failure_lines(screen, a_task(status="failed", error=error), [])
    assert "retry: {max_attempts: 3, memory: 2}" in lines[-1]
    assert max(display_width(printable(line)) for line in lines) <= 80
    assert "retry:" not in "".join(failure_lines(screen, a_task(status="failed", error=ERROR), []))


def test_the_end_of_a_log_is_five_lines_that_cannot_steer_the_terminal(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"x\n" * 9000 + b"10%\r50%\r100%\r\n\n\x1b[31mred\x1b[0m\n\xff\n\n")
    assert log_tail(str(log)) == ["x", "x", "100%", "red", "\ufffd"]
    assert log_tail(str(tmp_path / "none")) == []
    assert log_tail(None) == []


class Script:
    """A run told from a list of moments."""

    def __init__(self, moments: list[tuple[RunView, list[TaskView], list[TaskView]]]) -> None:
        self.moments = moments
        self.at = 0

    def look(self) -> Moment:
        run, running, ended = self.moments[self.at]
        return Moment(run=run, running=running, ended=ended)

    def wait(self, timeout_s: float) -> None:
        self.at += 1


def a_script() -> Script:
    busy = [
        a_task(f"parse[{number}]", status="running", duration_s=None, started_at=START)
        for number in range(12)
    ]
    failed = a_task(status="failed", error=ERROR)
    done = a_run(status="failed", duration_s=12.3, tasks=TaskCounts(total=612, completed=611, failed=1))
    return Script(
        [(a_run(), busy, [a_task("list")]), (a_run(), busy, [failed, a_task("parse[18]")]), (done, [], [])]
    )


def written(terminal: Terminal) -> str:
    return terminal.stream.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_plain_lines_tell_steps_and_failed_items_only(pipe: Terminal) -> None:
    ended = follow(a_script(), LineReporter(pipe))
    assert ended.status == "failed"
    assert written(pipe).splitlines() == [
        "nightly k3f9a2c8: 612 tasks, 411 of them done",
        "✓ list  0.31 s",
        "✗ parse[17]  0.31 s  BadRow: row 17 has no date",
    ]


def test_plain_lines_say_now_and_then_how_far_it_is(pipe: Terminal) -> None:
    seconds = iter(range(0, 1000, 6))
    reporter = LineReporter(pipe, now_s=lambda: next(seconds))
    reporter.tell(Moment(run=a_run(), running=[a_task(status="running")]))
    assert written(pipe).splitlines() == ["411/612 done, 1 failed, running: parse[17]"]


def test_a_burst_of_steps_is_told_by_its_failures_and_a_count(pipe: Terminal) -> None:
    burst = [a_task(f"step{number}") for number in range(99)] + [a_task("bad", status="failed", error=ERROR)]
    LineReporter(pipe).tell(Moment(run=a_run(), ended=burst))
    assert written(pipe).splitlines() == ["✗ bad  0.31 s  BadRow: row 17 has no date", "99 more steps ended"]


def test_the_live_view_shows_a_bar_and_what_runs_and_leaves_the_screen_clean(screen: Terminal) -> None:
    follow(a_script(), LiveView(screen))
    text = written(screen)
    for part in (
        "nightly k3f9a2c8",
        "411/612",
        "1 failed",
        "parse[0]",
        "and 4 more",
        "✓ list",
        "row 17 has no date",
    ):
        assert part in text
    assert text.rindex("\x1b[2K") > text.rindex("parse[7]")
    assert max(display_width(printable(line)) for line in text.splitlines()) <= 80


def test_the_live_view_gives_the_screen_back_when_interrupted(screen: Terminal) -> None:
    script = a_script()

    def interrupted(timeout_s: float) -> None:
        raise KeyboardInterrupt

    script.wait = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        follow(script, LiveView(screen))
    assert written(screen).rindex("\x1b[?25h") > written(screen).rindex("\x1b[?25l")
