"""Runs, workflows and graphs as notebooks show them: well-formed, escaped, complete, and fetching nothing."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st

from codomyrmex import OrchestrationEngine, Workflow
from codomyrmex.logistics.orchestration.project.graph_svg import NODES_AT_MOST, graph_svg
from codomyrmex.logistics.orchestration.project.html_views import execution_html, graph_html, workflow_html
from codomyrmex.logistics.orchestration.project.run_views import RunView, TaskCounts, TaskView
from codomyrmex.logistics.orchestration.project.workflow_dag import Graph

NASTY = '<img src="x" onerror=alert(1)> & \'"'
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class Reader(HTMLParser):
    """Fails on tags that do not match and on attributes that would fetch or run something."""

    VOID = frozenset({"path", "rect"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.seen: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        for name, value in attrs:
            assert name not in ("src", "href"), (tag, name, value)
            assert not name.startswith("on"), (tag, name, value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data + " "


def view(**more: object) -> RunView:
    given = {"execution_id": "r1", "workflow": "nightly", "status": "completed", "started_at": BEGAN}
    return RunView(**{**given, **more})  # type: ignore[arg-type]


def task(
    name: str, status: str = "completed", *, at_s: float = 0.0, took_s: float = 1.0, **more: object
) -> TaskView:
    began = BEGAN + timedelta(seconds=at_s)
    return TaskView(
        name=name,
        step=name.partition("[")[0],
        status=status,
        started_at=began,
        ended_at=began + timedelta(seconds=took_s),
        duration_s=took_s,
        **more,  # type: ignore[arg-type]
    )


def test_a_run_tells_how_it_ended_where_it_failed_and_how_long_each_step_took() -> None:
    failed = {"message": "bad", "frame": "acts.py:7 clean"}
    tasks = [
        task("load", took_s=0.0004),
        task("clean", "failed", at_s=1, took_s=150, counts=TaskCounts(total=9, completed=8, failed=1)),
        task("clean[0]", index=0),
        task("clean[3]", "failed", at_s=1, took_s=2.25, index=3, attempt=2, error=failed),
        TaskView(name="report", step="report", status="cancelled", reason="upstream"),
    ]
    run = view(
        status="failed",
        error="step 'clean[3]': ValueError: bad",
        failed_step="clean[3]",
        duration_s=7201.0,
        tasks=TaskCounts(total=12, completed=9, failed=2, cancelled=1),
    )
    text = " ".join(Reader(execution_html(run, tasks)).text.split())
    assert "nightly ✗ failed in 2 h 0 min · run r1 · 12 tasks: 9 completed, 2 failed, 1 cancelled" in text
    assert "step 'clean[3]': ValueError: bad acts.py:7 clean" in text
    assert "load ✓ completed < 1 ms" in text
    assert "clean ✗ failed 9 items: 8 completed, 1 failed 2 min" in text
    assert "clean[3] ✗ failed 2 2.2 s" in text
    assert "report ■ cancelled (upstream)" in text
    assert "clean[0]" not in text


@settings(max_examples=30)
@given(st.text(max_size=20), st.text(max_size=20))
def test_no_value_of_a_run_becomes_markup(one: str, other: str) -> None:
    run = view(
        workflow=NASTY + one, error=other + NASTY, outputs={NASTY: [other, NASTY]}, parameters={one: NASTY}
    )
    html = execution_html(run, [task(NASTY + other), task("x", "blocked", reason=NASTY)])
    assert "<img" not in html
    assert set(Reader(html).seen) <= {
        *(
            "style",
            "div",
            "b",
            "span",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "i",
            "details",
            "summary",
            "code",
        ),
    }


def test_bars_stay_within_the_run() -> None:
    tasks = [task("a", took_s=3), task("b", at_s=3, took_s=1), task("none", at_s=4, took_s=0)]
    bars = re.findall(r"left:([\d.]+)%;width:([\d.]+)%", execution_html(view(), tasks))
    assert bars == [("0.0", "75.0"), ("75.0", "25.0"), ("99.0", "0.0")]


def test_a_long_run_is_cut_and_says_so() -> None:
    html = execution_html(view(), [task(f"s{number}") for number in range(1000)])
    assert "and 960 more of 1000 steps" in html
    assert len(html) < 40_000


def plain(number: int, note: str = "") -> int:
    return number


def test_a_workflow_shows_its_graph_what_each_step_calls_and_what_was_set() -> None:
    tree = {
        "name": NASTY,
        "parameters": {"n": {"type": "integer", "default": 3}},
        "steps": [
            {
                "name": "a",
                "module": "/home/me/acts.py",
                "action": "load",
                "parameters": {"n": "${parameters.n}"},
            },
            {
                "name": "b",
                "module": "__main__",
                "action": "f",
                "foreach": "${steps.a.output}",
                "retry": 2,
                "timeout_s": 5,
            },
            {
                "name": "ask",
                "approval": {"message": "Go on?"},
                "run_if": "len(steps.b.output) > 1",
                "dependencies": ["a"],
            },
            {"name": "rest", "sleep": 5, "compensate": {"module": "acts", "action": "undo"}},
        ],
        "finally": [
            {
                "name": "close",
                "module": "acts",
                "action": "close",
                "parameters": {"x": "${steps.rest.output}"},
            }
        ],
    }
    reader = Reader(workflow_html(tree))
    text = " ".join(reader.text.split())
    assert NASTY in reader.text
    assert "svg" in reader.seen
    assert "a acts.py:load b f a for each of ${steps.a.output} , retry 2 , timeout 5 s" in text
    assert "ask approval: Go on? a, b if len(steps.b.output) > 1" in text
    assert "rest sleep: 5 undone by acts:undo" in text
    assert "finally calls after close acts:close rest" in text
    assert "Not resumable by another process, which cannot find these functions: b" in text
    assert "n integer = 3" in text


def test_a_workflow_with_faults_is_shown_all_the_same() -> None:
    workflow = Workflow("faulty")
    workflow.step(plain, number="${steps.").options(run_if="1 +", needs=["nowhere"])
    assert "nowhere" in Reader(workflow_html(workflow.to_dict())).text


def test_a_graph_with_a_cycle_or_too_many_nodes_is_a_table() -> None:
    assert "svg" not in Reader(graph_html(Graph.build(["a", "b"], [[1], [0]]))).seen
    names = [f"n{number}" for number in range(NODES_AT_MOST + 1)]
    reader = Reader(graph_html(Graph.build(names, [[], *([node] for node in range(NODES_AT_MOST))])))
    assert "svg" not in reader.seen
    assert "and 21 more" in reader.text


@settings(max_examples=30)
@given(st.integers(2, NODES_AT_MOST), st.data())
def test_every_small_graph_is_drawn_within_its_picture(count: int, data: st.DataObject) -> None:
    parents = [
        sorted(data.draw(st.sets(st.integers(0, node - 1), max_size=3))) if node else []
        for node in range(count)
    ]
    drawn = graph_svg([f"<{number}>" for number in range(count)], parents)
    if not any(parents):
        assert drawn is None
        return
    assert drawn is not None
    reader = Reader(drawn)
    assert reader.seen.count("rect") == count
    width, height = map(float, re.findall(r'(?:width|height)="(\d+)"', drawn)[:2])
    for x, y, wide in re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" rx="6" width="([\d.]+)"', drawn):
        assert 0 <= float(x) <= width + 1 - float(wide)
        assert 0 <= float(y) <= height + 1 - 26


def test_a_run_can_be_shown_also_when_its_engine_is_gone() -> None:
    workflow = Workflow("gone")
    workflow.step(plain, number=1)
    with OrchestrationEngine(state=":memory:") as engine:
        run = engine.execute_workflow(workflow)
        unread = engine.workflows.get_execution_status(run.execution_id)
        assert "1 task: 1 completed" in str(run._repr_html_())
        assert repr(run.tasks) == "{'plain': 'completed'}"
    assert run.success
    assert "of 'gone': completed" in repr(run)
    assert run._repr_html_() is None
    assert repr(unread) == f"<WorkflowExecution {run.execution_id}; its engine is shut down>"
