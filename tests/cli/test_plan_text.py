"""A plan in words: when it ends and how sure that is, what it was made for, what holds it up."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import pytest

from codomyrmex.cli.plan_text import plan_lines, supply_text
from codomyrmex.cli.terminal import Terminal, display_width
from codomyrmex.cli.text_lines import folded
from codomyrmex.logistics.orchestration.project.workflow_plan import (
    OPTIMISED,
    Bound,
    PlannedTask,
    Spread,
    WorkflowPlan,
)

GIB = 2**30


def task(name: str, request: dict[str, int]) -> PlannedTask:
    return PlannedTask(task=name, step=name, ready_s=0, start_s=0, end_s=180, request=request)


PLAN = WorkflowPlan(
    workflow="nightly",
    definition="hash",
    tasks=(
        task("a", {"sys-compute": 1000, "gpu": 10_000}),
        task("b", {"sys-memory": GIB, "database": 10_000}),
    ),
    duration_s=180.0,
    critical_path=("a",),
    critical_path_s=180.0,
    bounds=(
        Bound(name="critical path", least_s=180.0),
        Bound(name="gpu", least_s=90.0, used=0.5),
        Bound(name="database", least_s=60.0, used=1 / 3),
        Bound(name="sys-compute", least_s=22.5, used=0.125),
        Bound(name="workers", least_s=10.0, used=0.06),
    ),
    capacities={
        "database": 30_000,
        "gpu": 20_000,
        "sys-compute": 8000,
        "sys-disk": 1,
        "sys-memory": 64 * GIB,
    },
    workers=32,
)


def text(terminal: Terminal, plan: WorkflowPlan, *, verbose: int = 0) -> str:
    return "\n".join(plan_lines(terminal, plan, verbose=verbose))


def test_the_first_line_says_when_it_ends_and_how_sure_that_is(screen: Terminal) -> None:
    assert text(screen, PLAN).startswith("nightly: 3 min 00 s\n")
    sure = replace(PLAN, spread=Spread(p10_s=170, p50_s=182, p90_s=220.4, simulations=9))
    head = "nightly: 3 min 02 s, 2 min 50 s to 3 min 40 s in 8 of 10 cases\nplanned for"
    assert text(screen, sure).startswith(head)
    same = replace(PLAN, spread=Spread(p10_s=180, p50_s=180, p90_s=180, simulations=9))
    assert text(screen, same).startswith("nightly: 3 min 00 s\nplanned for")


def test_where_the_chart_ends_before_the_run_is_expected_to_it_says_both(screen: Terminal) -> None:
    slowest_of_many = replace(PLAN, spread=Spread(p10_s=200, p50_s=240, p90_s=300, simulations=9))
    assert plan_lines(screen, slowest_of_many)[:2] == [
        "nightly: 4 min 00 s, 3 min 20 s to 5 min 00 s in 8 of 10 cases",
        "3 min 00 s where each task takes its median, as drawn below",
    ]


@pytest.mark.parametrize(
    ("before_s", "optimal", "told"),
    [
        (200.0, True, "10.0 % shorter than the usual order (3 min 20 s), and no order is shorter"),
        (200.0, False, "10.0 % shorter than the usual order (3 min 20 s)"),
        (180.0, True, "no order is shorter"),
        (180.0, False, "no shorter order was found"),
    ],
)
def test_an_optimised_plan_says_what_it_gains(
    screen: Terminal, before_s: float, optimal: bool, told: str
) -> None:
    plan = replace(PLAN, method=OPTIMISED, unoptimised_s=before_s, optimal=optimal)
    assert plan_lines(screen, plan)[1] == told


def test_what_it_was_made_for_is_what_its_tasks_ask_for(screen: Terminal) -> None:
    assert supply_text(PLAN) == "8 CPUs, 64 GiB of memory, 2 GPUs, 3 of database and 32 attempts at once"
    assert supply_text(replace(PLAN, tasks=())) == "8 CPUs and 32 attempts at once"


def test_the_tightest_bounds_are_told_and_with_v_all(screen: Terminal) -> None:
    shown = text(screen, PLAN)
    assert re.search(r"^critical path +3 min 00 s$", shown, re.MULTILINE)
    assert re.search(r"^GPU +1 min 30 s +50 %$", shown, re.MULTILINE)
    assert "attempts at once  " not in shown
    assert re.search(r"^attempts at once +10\.0 s +6 %$", text(screen, PLAN, verbose=1), re.MULTILINE)


def test_of_a_long_critical_path_the_ends_are_told(screen: Terminal, pipe: Terminal) -> None:
    plan = replace(PLAN, critical_path=tuple(f"step-{at}" for at in range(100)))
    told = " ".join(text(screen, plan).split())
    assert "critical path step-0 → step-1 → " in told
    assert "→ step-5 → … 89 steps … → step-95 →" in told
    assert "→ step-99 HELD UP BY" in told
    assert "step-0 → step-1" in text(pipe, plan)


def test_of_many_assumptions_the_first_are_told(screen: Terminal) -> None:
    plan = replace(PLAN, assumptions=tuple(f"the moon is {at} cheese" for at in range(20)))
    shown = text(screen, plan)
    assert "  - the moon is 5 cheese\n  and 14 more (-v)" in shown
    assert "the moon is 19 cheese" in text(screen, plan, verbose=1)


def words_of(lines: Iterable[str]) -> list[str]:
    return [word for line in lines for word in line.split()]


@pytest.mark.parametrize("width", [10, 23, 80])
def test_words_are_folded_into_lines_that_fit(width: int) -> None:
    story = "when each task would begin and end, what 事 holds the run up; nothing is run"
    lines = folded(story, width, first="- ", then="  ")
    assert words_of(lines) == ["-", *story.split()]
    assert all(display_width(line) <= width for line in lines)
    assert all(line.startswith("  ") for line in lines[1:])
    assert folded("unbreakably-long short", 5, then=" ") == ["unbreakably-long", " short"]
