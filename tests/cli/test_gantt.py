"""The chart of a plan: every line in its place, at any width, without colour, without signs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from io import StringIO
from itertools import takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codomyrmex.cli.gantt import gantt_lines, rows_of, tick_text
from codomyrmex.cli.terminal import Terminal, display_width
from codomyrmex.logistics.orchestration.project.workflow_plan import PlannedTask, WorkflowPlan

UNDER = ("  and ", "  * critical", "  · ready", "  ─ holds", "  . ready", "  ~ a guess")


class Paper(StringIO):
    """A terminal that can show the signs of one encoding."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return True


@pytest.fixture
def ascii_screen(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """80 columns of plain ASCII."""
    monkeypatch.setenv("COLUMNS", "80")
    return Terminal(Paper("ascii"), {"NO_COLOR": "1"})


def task(name: str, start_s: float, end_s: float, **more: object) -> PlannedTask:
    fields: dict[str, object] = {"step": name.partition("[")[0], "ready_s": start_s, **more}
    return PlannedTask(task=name, start_s=start_s, end_s=end_s, **fields)  # type: ignore[arg-type]


def plan_of(tasks: Iterable[PlannedTask]) -> WorkflowPlan:
    found = tuple(tasks)
    return WorkflowPlan(
        workflow="w",
        definition="hash",
        tasks=found,
        duration_s=max((each.end_s for each in found), default=0.0),
        critical_path=(),
        critical_path_s=0.0,
        bounds=(),
        capacities={},
        workers=8,
    )


NIGHTLY = plan_of(
    [
        task("build", 0, 60, critical=True),
        task("lint", 30, 45, ready_s=0, known=False),
        task("parse", 60, 100, critical=True),
        *(
            task(f"parse[{item}]", 60 + item // 2 * 20, 80 + item // 2 * 20, ready_s=60, critical=item > 1)
            for item in range(4)
        ),
        task("report", 100, 120, critical=True),
    ]
)


def bars(lines: list[str]) -> list[str]:
    """The lines of tasks."""
    return list(takewhile(lambda line: not line.startswith(UNDER), lines[2:]))


def test_a_plan_is_a_line_for_each_task_under_the_time(screen: Terminal) -> None:
    assert gantt_lines(screen, NIGHTLY) == [
        "           0             30 s           1 min          1 min 30 s",
        "           ├─────────────┼──────────────┼──────────────┼─────────────",
        "* build    █████████████████████████████                              1 min 00 s",
        "  lint     ··············▒▒▒▒▒▒▒▒                                        ~15.0 s",
        "* parse ×4                              ███████████████████               40.0 s",
        "* report                                                   ██████████     20.0 s",
        "  * critical path   · ready, but waits its turn   ~ a guess",
    ]


def test_unfolded_every_item_has_its_line(screen: Terminal) -> None:
    lines = bars(gantt_lines(screen, NIGHTLY, unfold=True))
    assert [line[2:].split()[0] for line in lines] == [
        *("build", "lint", "parse", "parse[0]", "parse[1]", "parse[2]", "parse[3]", "report")
    ]
    assert [line[0] for line in lines] == ["*", " ", "*", " ", " ", "*", "*", "*"]


def test_items_of_a_child_run_fold_into_one_line_too() -> None:
    tasks = [task(f"deploy[{at}]/push", at, at + 1) for at in range(3)]
    assert [row.label for row in rows_of(tasks, unfold=False)] == ["deploy/push ×3"]


def test_what_takes_no_time_stands_before_what_begins_after_it() -> None:
    tasks = [task("deploy", 5, 9), task("deploy/push", 5, 7), task("asked", 5, 5), task("build", 0, 5)]
    assert [row.name for row in rows_of(tasks, unfold=False)] == ["build", "asked", "deploy", "deploy/push"]


def test_a_folded_line_shows_the_gaps_between_its_items(screen: Terminal) -> None:
    tasks = [task("a[0]", 0, 10), task("a[1]", 20, 30), task("a[2]", 50, 60, ready_s=40)]
    lines = bars(gantt_lines(screen, plan_of(tasks)))
    assert re.fullmatch(r"  a ×3 ▒{8,} {8,}▒{8,} {8,}·{8,}▒{8,} 1 min 00 s", lines[0])


def test_what_holds_no_slot_is_a_thin_line(screen: Terminal, ascii_screen: Terminal) -> None:
    plan = plan_of([task("pause", 0, 10, slot=False), task("work", 10, 20)])
    lines = gantt_lines(screen, plan)
    assert re.search(r"pause ─{20,} {20,}", lines[2])
    assert lines[-1] == "  ─ holds nothing"
    assert re.search(r"pause -{20,} {20,}", gantt_lines(ascii_screen, plan)[2])


def test_where_the_terminal_has_no_signs_there_are_none(ascii_screen: Terminal) -> None:
    lines = gantt_lines(ascii_screen, NIGHTLY)
    assert "".join(lines).isascii()
    assert lines[1].strip().startswith("+---")
    assert "####" in lines[2]
    assert re.search(r"lint +\.{8,}={4,}", lines[3])
    assert "parse x4" in lines[4]


def test_colour_adds_nothing_but_colour(screen: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = gantt_lines(screen, NIGHTLY)
    assert "\x1b" not in "".join(plain)
    painted = gantt_lines(Terminal(Paper("utf-8"), {"FORCE_COLOR": "1"}), NIGHTLY)
    assert "\x1b[33m█" in "".join(painted)
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in painted] == plain


def test_of_too_many_lines_the_critical_and_the_long_ones_stay(screen: Terminal) -> None:
    tasks = [task(f"t{at}", at, at + 1 + at % 10, critical=at < 3) for at in range(100)]
    lines = gantt_lines(screen, plan_of(tasks), most=20)
    shown = [line[2:].split()[0] for line in bars(lines)]
    assert len(shown) == 20
    assert shown[:3] == ["t0", "t1", "t2"]
    assert {int(name[1:]) % 10 for name in shown[3:]} == {8, 9}
    assert shown == sorted(shown, key=lambda name: int(name[1:]))
    assert "  and 80 more lines, the longest 9.0 s (-vv shows all)" in lines
    assert len(bars(gantt_lines(screen, plan_of(tasks), most=None))) == 100


def test_critical_lines_that_found_no_room_are_told(screen: Terminal) -> None:
    tasks = [task(f"t{at}", at, at + 1, critical=True) for at in range(5)]
    assert "  and 2 more lines, 2 of them critical, the longest 1.0 s (-vv shows all)" in gantt_lines(
        screen, plan_of(tasks), most=3
    )


def test_a_long_name_is_cut_and_its_count_is_not(screen: Terminal) -> None:
    name = "everything-that-there-is-to-parse"
    tasks = [task(f"{name}[{at}]", 0, 1) for at in range(1200)]
    assert bars(gantt_lines(screen, plan_of(tasks)))[0].startswith("  everything-that-th… ×1,200 ▒▒")


def test_a_plan_that_takes_no_time_has_a_chart_all_the_same(screen: Terminal) -> None:
    lines = bars(gantt_lines(screen, plan_of([task("a", 0, 0), task("b", 0, 0)])))
    assert [line.split() for line in lines] == [["a", "▏", "0", "ms"], ["b", "▏", "0", "ms"]]
    assert gantt_lines(screen, plan_of([])) == []


@pytest.mark.parametrize(
    ("moment_s", "text"),
    [(0, "0"), (0.002, "2 ms"), (0.5, "0.5 s"), (1, "1 s"), (30, "30 s"), (60, "1 min"), (90, "1 min 30 s"),
     (600, "10 min"), (7200, "2 h"), (5400, "1 h 30 min"), (172800, "2 d"), (129600, "1 d 12 h")],
)  # fmt: skip
def test_a_mark_of_the_axis_is_a_short_duration(moment_s: float, text: str) -> None:
    assert tick_text(moment_s) == text


@pytest.mark.parametrize(
    ("end_s", "moment_s"),
    [(0.004, 0.002), (0.3, 0.1), (7, 2), (59, 20), (61, 30), (3600, 1800), (90_000, 43_200), (3e6, 864_000)],
)
def test_a_bar_begins_under_the_mark_of_its_moment(screen: Terminal, end_s: float, moment_s: float) -> None:
    marks, axis, _, bar = gantt_lines(screen, plan_of([task("a", 0, end_s), task("b", moment_s, end_s)]))
    at = marks.index(f" {tick_text(moment_s)} ") + 1
    assert axis[at] == "┼"
    assert abs(bar.index("▒") - at) <= 1


moments = st.floats(0, 1e6, allow_subnormal=False)
tasks = st.builds(
    lambda number, item, times, critical, slot: task(
        f"step-{number}" + (f"[{item}]" if item is not None else ""),
        sorted(times)[1],
        sorted(times)[2],
        ready_s=sorted(times)[0],
        critical=critical,
        slot=slot,
    ),
    st.integers(0, 10**12),
    st.none() | st.integers(0, 9),
    st.tuples(moments, moments, moments),
    st.booleans(),
    st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(tasks, min_size=1, max_size=30), st.sampled_from([40, 80, 133, 300]), st.booleans())
def test_no_line_is_wider_than_the_terminal(found: list[PlannedTask], columns: int, unfold: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        lines = gantt_lines(
            Terminal(Paper("utf-8"), {"NO_COLOR": "1"}), plan_of(found), unfold=unfold, most=10
        )
    assert max(map(display_width, lines)) <= columns
    assert all(re.search("[█▒▏─]", line) for line in bars(lines))
