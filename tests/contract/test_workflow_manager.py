"""Definitions by name, runs of them, and what a manager says about both."""

from __future__ import annotations

from pathlib import Path

import pytest

from codomyrmex.exceptions import SettingsError, ValidationError, WorkflowNotFound
from codomyrmex.logistics.orchestration.project import OrchestrationEngine, WorkflowManager

DUMP = {"name": "dump", "module": "json", "action": "dumps", "parameters": {"obj": "${parameters.what}"}}
WHAT = {"what": {"type": "integer", "default": 1}}


def test_a_manager_alone_makes_runs_and_finds_workflows(tmp_path: Path) -> None:
    with WorkflowManager(root=tmp_path) as manager:
        assert manager.create_workflow("dumping", [DUMP], parameters=WHAT, save=True) is True
        assert manager.list_workflows() == ["dumping"]
        steps = manager.get_workflow("dumping")
        assert steps is not None
        assert [step.name for step in steps] == ["dump"]
        assert manager.get_workflow("nobody") is None
        assert manager.execute_workflow("dumping", what=2).results["dump"] == "2"
        assert manager.execute_workflow("dumping", None, {"what": 3}).results["dump"] == "3"
        assert manager.execute_workflow("dumping", {"what": 4}).results["dump"] == "4"
        with pytest.raises(WorkflowNotFound):
            manager.execute_workflow("nobody")
    with WorkflowManager(root=tmp_path) as another:
        assert another.load_workflow(tmp_path / "workflows" / "dumping.yaml") == "dumping"
        assert another.execute_workflow("dumping")["success"]


def test_a_session_that_holds_nothing_is_refused() -> None:
    with WorkflowManager() as manager:
        manager.create_workflow("dumping", [DUMP], parameters=WHAT)
        with pytest.raises(ValidationError, match="no such session"):
            manager.execute_workflow("dumping", "s1")
        with pytest.raises(ValidationError, match="no such session"):
            manager.start_workflow("dumping", session_id="s1")
        assert manager.execute_workflow("dumping", session_id=None).success


def test_the_summary_counts_runs_by_what_became_of_them(tmp_path: Path) -> None:
    with WorkflowManager(state=tmp_path / "state", root=tmp_path) as manager:
        empty = manager.get_performance_summary()
        assert (empty["total_executions"], empty["success_rate"], empty["slowest"]) == (0, None, None)
        manager.create_workflow("dumping", [DUMP], parameters=WHAT)
        manager.create_workflow("bad", [{**DUMP, "action": "loads", "parameters": {"s": "{"}}])
        for _ in range(3):
            assert manager.execute_workflow("dumping").success
        assert not manager.execute_workflow("bad").success
        summary = manager.get_performance_summary()
    counts = {name: summary[name] for name in ("total_executions", "completed", "failed", "running")}
    assert counts == {"total_executions": 4, "completed": 3, "failed": 1, "running": 0}
    assert summary["success_rate"] == 0.75
    assert summary["average_duration"] > 0
    assert summary["slowest"]["workflow"] in ("dumping", "bad")
    with WorkflowManager(state=tmp_path / "state", root=tmp_path) as later:
        assert later.get_performance_summary()["total_executions"] == 4


def test_a_manager_works_on_a_given_engine() -> None:
    with OrchestrationEngine(state=":memory:", cpu_count=2) as engine:
        manager = WorkflowManager(engine=engine)
        manager.create_workflow("dumping", [DUMP], parameters=WHAT)
        run = manager.execute_workflow("dumping")
        assert engine.reader.run(run.execution_id).status == "completed"
        manager.close()
        assert manager.execute_workflow("dumping").success
        with pytest.raises(SettingsError, match="not both"):
            WorkflowManager(engine=engine, state=":memory:")
