"""Plans that runs can follow: what is kept is found again, by definition and parameters, and by nothing else."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from codomyrmex.exceptions import StoreCorrupt
from codomyrmex.logistics.orchestration.project import plan_store
from codomyrmex.logistics.orchestration.project.plan_store import PlanMissing
from codomyrmex.logistics.orchestration.project.workflow_plan import (
    OPTIMISED,
    Bound,
    PlannedTask,
    Spread,
    WorkflowPlan,
)
from codomyrmex.logistics.storage.database import Database
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase


def task(name: str, start_s: float = 0.0, **more: Any) -> PlannedTask:
    step = name.partition("[")[0]
    return PlannedTask(task=name, step=step, ready_s=0.0, start_s=start_s, end_s=start_s + 0.1, **more)


PLAN = WorkflowPlan(
    workflow="flow",
    definition="abc",
    tasks=(task("b", request={"sys-compute": 1000}, critical=True), task("a", 0.1, known=False)),
    duration_s=0.2,
    critical_path=("b",),
    critical_path_s=0.1,
    bounds=(Bound(name="sys-compute", least_s=0.2, used=1.0), Bound(name="critical path", least_s=0.1)),
    capacities={"sys-compute": 1000},
    workers=8,
    spread=Spread(p10_s=0.1, p50_s=0.2, p90_s=0.3, simulations=20),
    assumptions=("nothing else runs",),
    method=OPTIMISED,
    optimal=True,
    unoptimised_s=0.4,
)


@pytest.fixture
def database() -> Iterator[Database]:
    with closing(SQLiteDatabase.open(":memory:")) as found:
        yield found


def keep(database: Database, plan: WorkflowPlan, parameters: dict[str, Any], now_us: int = 1) -> None:
    with database.transaction() as tx:
        plan_store.insert(tx, plan, parameters=parameters, now_us=now_us)


def test_a_plan_that_was_kept_is_found_again_whole(database: Database) -> None:
    keep(database, PLAN, {"x": 1, "y": [2]})
    assert plan_store.find(database, "abc", {"y": [2], "x": 1}) == PLAN
    assert plan_store.find(database, "abc", {"x": 2, "y": [2]}) is None
    assert plan_store.find(database, "def", {"x": 1, "y": [2]}) is None


def test_a_newer_plan_replaces_the_one_before(database: Database) -> None:
    keep(database, PLAN, {})
    keep(database, replace(PLAN, duration_s=0.15), {}, now_us=2)
    found = plan_store.find(database, "abc", {})
    assert found is not None
    assert found.duration_s == 0.15


def test_parameters_of_any_size_are_told_apart(database: Database) -> None:
    large = {"text": "x" * 100_000}
    keep(database, PLAN, large)
    assert plan_store.find(database, "abc", large) == PLAN
    assert plan_store.find(database, "abc", {"text": "x" * 99_999}) is None
    assert database.query("SELECT max(length(parameters)) FROM workflow_plan")[0][0] < plan_store.LONGEST_KEY


def test_only_the_newest_plans_are_kept(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_store, "MOST_KEPT", 3)
    for number in range(5):
        keep(database, replace(PLAN, definition=f"d{number}"), {}, now_us=number)
    kept = [row[0] for row in database.query("SELECT definition FROM workflow_plan ORDER BY made_at")]
    assert kept == ["d2", "d3", "d4"]


def test_a_plan_that_cannot_be_read_is_said_to_be_so(database: Database) -> None:
    keep(database, PLAN, {})
    with database.transaction() as tx:
        tx.execute("UPDATE workflow_plan SET body = x'00'")
    with pytest.raises(StoreCorrupt, match="the plan of definition abc"):
        plan_store.find(database, "abc", {})


@pytest.mark.parametrize(
    ("definition", "parameters", "why"),
    [
        ("abc", {"x": 2}, "planned with other parameters"),
        ("new", {"x": 1}, "changed since it was planned"),
        (None, {"x": 1}, "never optimised"),
    ],
)
def test_a_plan_that_is_missing_says_why_and_how_it_is_made(
    database: Database, definition: str | None, parameters: dict[str, Any], why: str
) -> None:
    if definition is not None:
        keep(database, PLAN, {"x": 1})
    workflow: Any = SimpleNamespace(name="flow", hash=definition or "abc")
    with pytest.raises(PlanMissing, match=why) as caught:
        plan_store.plan_to_follow(database, workflow, parameters, command="make it")
    assert caught.value.exit_code == 2
    assert caught.value.hint == "make one: make it"


def test_a_plan_of_another_version_is_none(database: Database) -> None:
    keep(database, PLAN, {})
    body = zlib.compress(b'{"workflow": "flow", "planets": 8}')
    with database.transaction() as tx:
        tx.execute("UPDATE workflow_plan SET body = ?", (body,))
    assert plan_store.find(database, "abc", {}) is None
    workflow: Any = SimpleNamespace(name="flow", hash="abc")
    with pytest.raises(PlanMissing, match="another version of codomyrmex planned it"):
        plan_store.plan_to_follow(database, workflow, {})


def test_a_run_follows_steps_and_items_of_its_own() -> None:
    names = ["b", "each", "each[1]", "each[0]", "deploy", "deploy/build", "deploy/pack[0]", "a"]
    plan = replace(PLAN, tasks=tuple(task(name) for name in names))
    assert plan_store.order_of(plan) == ("b", "each[1]", "each[0]", "deploy", "a")
