"""What a run says while nothing of it runs: why."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from io import StringIO

import pytest

from codomyrmex.cli.line_report import LineReporter
from codomyrmex.cli.live_view import LiveView
from codomyrmex.cli.run_follow import Moment
from codomyrmex.cli.standstill import EVERY_S, FIRST_S, Standstill
from codomyrmex.cli.terminal import Terminal
from codomyrmex.exceptions import StoreBusy
from codomyrmex.logistics.orchestration.project.explanations import Explanation, RunExplanation
from codomyrmex.logistics.orchestration.project.resource_request import UNIT
from codomyrmex.logistics.orchestration.project.run_views import RunView, TaskCounts
from codomyrmex.logistics.orchestration.project.wait_reasons import (
    Dependencies,
    Reason,
    ResourceShort,
    Upstream,
)

LOCK = ResourceShort(resource="database", name="database", asked=UNIT, free=0, capacity=UNIT)
AFTER = Dependencies(steps=(Upstream(task="load", status="running"),))
HELD = "write waits for database, of which there is one"


def explained(*reasons: Reason, holds: tuple[Reason, ...] = ()) -> RunExplanation:
    task = Explanation(task="write", status="pending", reasons=reasons)
    return RunExplanation(
        run="k3", workflow="nightly", status="running", about=(), holds=holds, reasons=(task,)
    )


class Asked:
    """An explanation that counts how often it was asked for, and a clock that a test moves."""

    def __init__(self, answer: Callable[[], RunExplanation], *, takes_s: float = 0.0) -> None:
        self.answer, self.takes_s = answer, takes_s
        self.times, self.now_s = 0, 100.0
        self.standstill = Standstill(self, now_s=lambda: self.now_s)

    def __call__(self) -> RunExplanation:
        self.times += 1
        self.now_s += self.takes_s
        return self.answer()

    def after(self, seconds: float, *, idle: bool = True) -> str:
        self.now_s += seconds
        return self.standstill.text(idle=idle)


def a_run() -> RunView:
    return RunView(
        execution_id="k3",
        workflow="nightly",
        status="running",
        created_at=datetime.now(UTC),
        tasks=TaskCounts(total=3, completed=1),
    )


def test_a_run_that_stands_still_for_a_second_says_what_it_is_short_of() -> None:
    asked = Asked(lambda: explained(AFTER, LOCK))
    assert (asked.after(0), asked.times) == ("", 0)
    assert asked.after(FIRST_S) == HELD
    assert (asked.after(0.1), asked.times) == (HELD, 1)
    assert (asked.after(EVERY_S), asked.times) == (HELD, 2)


def test_what_holds_the_whole_run_comes_first() -> None:
    asked = Asked(lambda: explained(AFTER, holds=(LOCK,)))
    asked.after(0)
    assert asked.after(FIRST_S) == HELD.removeprefix("write ")


def test_work_that_goes_on_ends_the_word_and_begins_the_second_anew() -> None:
    asked = Asked(lambda: explained(LOCK))
    asked.after(0)
    assert asked.after(FIRST_S)
    assert (asked.after(0.1, idle=False), asked.after(0.1), asked.times) == ("", "", 1)


def test_other_reasons_and_a_busy_state_say_nothing() -> None:
    def busy() -> RunExplanation:
        raise StoreBusy("the state is busy")

    for answer in (lambda: explained(AFTER), busy):
        asked = Asked(answer)
        asked.after(0)
        assert (asked.after(FIRST_S), asked.times) == ("", 1)


def test_a_question_that_takes_long_is_asked_less_often() -> None:
    asked = Asked(lambda: explained(LOCK), takes_s=1.0)
    asked.after(0)
    asked.after(FIRST_S)
    asked.after(EVERY_S)
    assert asked.times == 1
    asked.after(20.0)
    assert asked.times == 2


def test_plain_lines_and_the_live_view_say_why_nothing_runs() -> None:
    lines, screen = Terminal(StringIO(), {}), Terminal(StringIO(), {"TERM": "xterm", "COLUMNS": "80"})
    seconds = iter(range(0, 1000, 6))
    reporter = LineReporter(lines, now_s=lambda: next(seconds))
    moment = Moment(run=a_run(), held=HELD)
    reporter.tell(moment)
    reporter.tell(moment)
    assert lines.stream.getvalue() == f"1/3 done; {HELD}\n"  # type: ignore[attr-defined]
    view = LiveView(screen)
    view.started(moment.run)
    view.tell(moment)
    view.close()
    assert HELD in screen.stream.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("idle", [True, False])
def test_before_the_first_second_is_over_nothing_is_asked(idle: bool) -> None:
    asked = Asked(lambda: explained(LOCK))
    for _ in range(3):
        assert asked.after(FIRST_S / 4, idle=idle) == ""
    assert asked.times == 0
