"""A plan as text: when it ends, what it was made for, the chart, what holds it up, what was taken to be so."""

from __future__ import annotations

from collections.abc import Sequence

from codomyrmex.cli.figures import duration_text
from codomyrmex.cli.gantt import MOST_ROWS, WIDTH, gantt_lines
from codomyrmex.cli.terminal import Terminal, one_line
from codomyrmex.cli.text_lines import folded
from codomyrmex.cli.text_table import Cell, Column, Row, table_lines
from codomyrmex.logistics.orchestration.project.amount_words import LABELS, amount_text, listed
from codomyrmex.logistics.orchestration.project.resource_request import CPU, DISK, GPU, MEMORY, NETWORK
from codomyrmex.logistics.orchestration.project.workflow_plan import OPTIMISED, Bound, WorkflowPlan

_MOST_BOUNDS = 4
_MOST_ASSUMPTIONS = 6
_ABOUT_EQUAL = 0.02
"""Two ends so near each other, as a share of the later one, are told as one."""
_WHAT = {MEMORY: " of memory", DISK: " of disk", NETWORK: " of network"}
_BOUNDS = {**LABELS, GPU: "GPU", "workers": "attempts at once"}


def plan_lines(terminal: Terminal, plan: WorkflowPlan, *, verbose: int = 0) -> list[str]:
    """The whole of it; `verbose` 1 has a line for each item of a fan-out too, 2 leaves nothing out."""
    chart = gantt_lines(terminal, plan, unfold=verbose > 0, most=None if verbose > 1 else MOST_ROWS)
    lines = [*_head(terminal, plan), *_wrapped(terminal, "planned for", supply_text(plan)), "", *chart, ""]
    lines += _path_lines(terminal, plan)
    lines += _bound_lines(terminal, plan.bounds if verbose else plan.bounds[:_MOST_BOUNDS])
    if plan.assumptions:
        shown = plan.assumptions if verbose else plan.assumptions[:_MOST_ASSUMPTIONS]
        lines += ["", terminal.paint("taken to be so", "bold")]
        for sentence in shown:
            lines += folded(one_line(sentence), terminal.width or WIDTH, first="  - ", then="    ")
        if len(shown) < len(plan.assumptions):
            lines.append(f"  and {len(plan.assumptions) - len(shown):,} more (-v)")
    return lines


def _head(terminal: Terminal, plan: WorkflowPlan) -> list[str]:
    """`nightly: 3 min 05 s, 2 min 50 s to 3 min 40 s in 8 of 10 cases`; of an optimised plan also what it gains."""
    name = terminal.paint(one_line(plan.workflow), "bold")
    expected, drawn = duration_text(plan.expected_s), duration_text(plan.duration_s)
    head = f"{name}: {terminal.paint(expected, 'bold')}"
    spread = plan.spread
    if spread is not None:
        low, high = duration_text(spread.p10_s), duration_text(spread.p90_s)
        head += f", {low} to {high} in 8 of 10 cases" if low != high else ""
    if not plan.complete:
        head += f", {terminal.paint('and it would not complete', 'red')}"
    width = terminal.width or WIDTH
    if plan.method == OPTIMISED:
        return [head, *folded(_gain(plan), width)]
    if abs(plan.expected_s - plan.duration_s) <= _ABOUT_EQUAL * plan.expected_s:
        return [head]
    return [head, *folded(f"{drawn} where each task takes its median, as drawn below", width)]


def _gain(plan: WorkflowPlan) -> str:
    """What an optimised plan is better by."""
    before_s = plan.unoptimised_s
    if before_s is None or before_s <= plan.duration_s:
        return "no order is shorter" if plan.optimal else "no shorter order was found"
    share = 100 * (1 - plan.duration_s / before_s)
    best = ", and no order is shorter" if plan.optimal else ""
    return f"{share:.1f} % shorter than the usual order ({duration_text(before_s)}){best}"


def supply_text(plan: WorkflowPlan) -> str:
    """`8 CPUs, 2 GPUs, 3 of database, 32 attempts at once`: of what its tasks ask for, and CPUs."""
    wanted = {id for task in plan.tasks for id in task.request} | {CPU}
    had = [item for item in plan.capacities.items() if item[0] in wanted]
    words = [_amount_of(id, amount) for id, amount in sorted(had, key=_machine_first)]
    return listed([*words, f"{plan.workers:,} attempts at once"], 0)


def _amount_of(id: str, amount: int) -> str:
    if id in (CPU, GPU):
        return amount_text(id, amount)
    return amount_text(id, amount) + _WHAT.get(id, f" of {id}")


def _machine_first(item: tuple[str, int]) -> tuple[int, str]:
    order = (CPU, MEMORY, GPU, DISK, NETWORK)
    return (order.index(item[0]) if item[0] in order else len(order), item[0])


def _path_lines(terminal: Terminal, plan: WorkflowPlan) -> list[str]:
    """The steps of the longest path on one line or a few; of a long path the ends."""
    if not plan.critical_path:
        return []
    arrow = " → " if terminal.unicode else " -> "
    steps = [one_line(step) for step in plan.critical_path]
    if len(steps) > _MOST_STEPS:
        mark = "…" if terminal.unicode else "..."
        between = len(steps) - _MOST_STEPS + 1
        steps = [
            *steps[: _MOST_STEPS // 2],
            f"{mark} {between:,} steps {mark}",
            *steps[-_MOST_STEPS // 2 + 1 :],
        ]
    return _wrapped(terminal, "critical path", arrow.join(steps))


_MOST_STEPS = 12


def _bound_lines(terminal: Terminal, bounds: Sequence[Bound]) -> list[str]:
    """What no order can beat, the tightest first."""
    if not bounds:
        return []
    columns = [
        Column("HELD UP BY", shrink_to=14),
        Column("TAKES AT LEAST", right=True),
        Column("BUSY", right=True),
    ]
    rows: list[Row] = [
        [
            Cell(_bound_name(bound.name), "" if number else "bold"),
            duration_text(bound.least_s),
            "" if bound.used is None else f"{100 * bound.used:.0f} %",
        ]
        for number, bound in enumerate(bounds)
    ]
    return ["", *table_lines(terminal, columns, rows)]


def _bound_name(name: str) -> str:
    return _BOUNDS.get(name, name)


def _wrapped(terminal: Terminal, title: str, text: str) -> list[str]:
    """A dim title, and the text behind it in as many lines as it needs."""
    first = f"{terminal.paint(title, 'dim')}  "
    return folded(text, terminal.width or WIDTH, first=first, then="  ", taken=len(title) + 2)
