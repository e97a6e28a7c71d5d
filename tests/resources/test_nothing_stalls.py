"""What waits begins as soon as it can: whoever freed it, and whatever else lacks something meanwhile."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from resource_steps import hold

from codomyrmex import OrchestrationEngine, Workflow
from codomyrmex.exceptions import Conflict, StoreBusy, StoreError
from codomyrmex.logistics.orchestration.project.host_ledger import HostLedger
from codomyrmex.logistics.orchestration.project.resource_request import UNIT
from codomyrmex.testing import FakeGpus
from waiting import wait_until

SOON_S = 5.0
NOT_YET_S = 0.4


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[OrchestrationEngine]:
    with OrchestrationEngine(state=tmp_path / "state", cpu_count=2, recover=False) as found:
        yield found


def start(
    engine: OrchestrationEngine, *, count: int = 1, session: str | None = None, **resources: Any
) -> str:
    workflow = Workflow("w")
    workflow.map(hold, over=[0.0] * count, seconds="${item}").options(name="hold", resources=resources)
    return engine.start_workflow(workflow, session).execution_id


def add_quota(engine: OrchestrationEngine, per_s: int) -> None:
    row = ("api", "api", "api_quota", per_s * UNIT, 1_000_000, per_s * UNIT)
    with engine._host.database.transaction() as tx:
        tx.execute(
            "INSERT INTO resource (id, name, type, capacity, per_us, burst, created_at) VALUES (?, ?, ?, ?, ?, ?, 0)",
            row,
        )
    engine._host.resources_changed()


def test_a_release_by_hand_in_the_same_process_lets_work_begin(engine: OrchestrationEngine) -> None:
    kept = engine.resources.allocate_resources("me", {"cpu": 2})
    assert kept is not None
    run = start(engine)
    assert not engine.wait(run, NOT_YET_S)
    engine.resources.release(kept[0].allocation_id)
    assert engine.wait(run, SOON_S)


def test_a_holding_that_expires_lets_work_begin(engine: OrchestrationEngine) -> None:
    assert engine.resources.allocate_resources("me", {"cpu": 2}, ttl_s=0.3)
    assert engine.wait(start(engine), SOON_S)


def test_what_is_put_back_into_service_lets_work_begin(engine: OrchestrationEngine) -> None:
    engine.resources.set_offline("cpu")
    run = start(engine)
    assert not engine.wait(run, NOT_YET_S)
    engine.resources.set_online("cpu")
    assert engine.wait(run, SOON_S)


def test_a_ledger_that_failed_once_is_asked_again(
    engine: OrchestrationEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow, failures = HostLedger.grow, [StoreBusy("busy"), StoreBusy("busy")]

    def failing(self: HostLedger, *given: Any, **more: Any) -> dict[str, int]:
        if failures:
            raise failures.pop()
        return grow(self, *given, **more)

    monkeypatch.setattr(HostLedger, "grow", failing)
    assert engine.wait(start(engine), SOON_S)
    assert not failures


def test_a_ledger_that_cannot_be_used_is_told_when_an_engine_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CODOMYRMEX_HOST_DIR", str(tmp_path / "file" / "folder"))
    with pytest.raises(StoreError, match="the ledger of this host cannot be used"):
        OrchestrationEngine(state=tmp_path / "state", recover=False)
    monkeypatch.setenv("CODOMYRMEX_RESOURCES_SCOPE", "project")
    with OrchestrationEngine(state=tmp_path / "state", recover=False) as engine:
        assert engine.wait(start(engine), SOON_S)


@pytest.mark.parametrize("lacking", ["gpu", "memory"])
def test_work_that_needs_nothing_scarce_passes_what_waits_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    monkeypatch.setenv("CODOMYRMEX_RESOURCES_GPU", "1")
    with OrchestrationEngine(state=tmp_path / "s", cpu_count=2, recover=False) as engine:
        if lacking == "gpu":
            engine.resources.set_offline("gpu-0")
            first = start(engine, gpu=1, cpu=0)
        else:
            most = engine.host.capacities()["sys-memory"]
            assert engine.resources.allocate_resources("me", {"memory": most})
            first = start(engine, memory=most, cpu=0)
        assert not engine.wait(first, NOT_YET_S)
        assert engine.wait(start(engine), SOON_S)
        assert not engine.reader.run(first).final


def test_a_device_that_somebody_else_uses_is_taken_when_they_have_left(tmp_path: Path) -> None:
    gpus = FakeGpus(2)
    gpus.occupy(1)
    with OrchestrationEngine({"gpu_probe": gpus}, state=tmp_path / "s", cpu_count=2, recover=False) as engine:
        one, both = start(engine, gpu=1, cpu=0), start(engine, gpu=2, cpu=0)
        assert engine.wait(one, SOON_S)
        assert not engine.wait(both, NOT_YET_S)
        gpus.release(1)
        assert engine.wait(both, 3 * 2.0)  # it is looked for every two seconds


def elsewhere(engine: OrchestrationEngine, sql: str) -> None:
    """Another process changes a row of the state."""
    script = (
        "import sys; from codomyrmex.logistics.storage.sqlite import SQLiteDatabase as S\n"
        "with S.open_existing(sys.argv[1]).transaction() as tx: tx.execute(sys.argv[2])"
    )
    state = f"{engine.host.state_dir}/state.db"
    subprocess.run([sys.executable, "-c", script, state, sql], check=True, timeout=60)


def test_a_quota_that_another_process_puts_back_into_service_is_found(engine: OrchestrationEngine) -> None:
    add_quota(engine, 100)
    engine.resources.set_offline("api")
    run = start(engine, api=1, cpu=0)
    assert not engine.wait(run, NOT_YET_S)
    elsewhere(engine, "UPDATE resource SET offline = 0 WHERE id = 'api'")
    assert engine.wait(run, SOON_S)


def test_a_quota_that_another_process_makes_smaller_is_obeyed_from_then_on(
    engine: OrchestrationEngine,
) -> None:
    add_quota(engine, 500)
    run = start(engine, count=2000, api=1, cpu=0)
    assert not engine.wait(run, NOT_YET_S)
    elsewhere(engine, "UPDATE resource SET capacity = 10000, burst = NULL WHERE id = 'api'")

    def done() -> int:
        return int(engine.host.database.query("SELECT count(*) FROM task WHERE state = 'completed'")[0][0])

    assert not engine.wait(run, NOT_YET_S)
    before = done()
    assert not engine.wait(run, 2.0)
    assert done() - before <= 4
    engine.cancel(run)
    engine.wait(run)


def test_what_a_session_lacks_of_its_own_is_no_wait_for_what_others_may_have(
    engine: OrchestrationEngine,
) -> None:
    engine.resources.add_resource({"id": "door", "name": "door", "type": "custom", "capacity": 2})
    assert engine.resources.allocate_resources("night", {"door": 1})
    run = start(engine, count=2, session="night", door=1, cpu=0)
    wait_until(lambda: engine.reader.run(run).final)
    slow = Workflow("slow")
    slow.map(hold, over=[2.0] * 2, seconds="${item}").options(name="hold", resources={"door": 1, "cpu": 0})
    busy = engine.start_workflow(slow, "night").execution_id
    wait_until(lambda: len(engine.host.database.query("SELECT 1 FROM allocation WHERE pool = 'night'")) == 1)
    assert not engine.wait(busy, NOT_YET_S)
    assert engine.host.database.query("SELECT * FROM resource_wait") == []
    assert engine.wait(start(engine, count=4, door=1, cpu=0), SOON_S)
    engine.cancel(busy)
    engine.wait(busy)


def test_a_head_that_cannot_be_met_at_present_keeps_nobody_back(engine: OrchestrationEngine) -> None:
    assert engine.resources.allocate_resources("me", {"cpu": 1})
    large = start(engine, cpu=2)
    assert not engine.wait(large, NOT_YET_S)
    assert engine.wait(start(engine, cpu=1), SOON_S)
    engine.resources.deallocate_resources("me")
    assert engine.wait(large, SOON_S)


def test_what_is_waited_for_is_looked_at_by_one_timer(engine: OrchestrationEngine) -> None:
    add_quota(engine, 5)
    run = start(engine, count=30, api=1)
    orchestrator, woken = engine.host.orchestrator, []
    wake = orchestrator._wake_now
    orchestrator._wake_now = lambda: (woken.append(1), wake())[1]  # type: ignore[method-assign]
    assert not engine.wait(run, 2.0)
    assert len(woken) < 3 * 18  # five a second for the quota and four for the poll
    engine.cancel(run)
    engine.wait(run)


def test_a_resource_that_is_taken_away_and_added_anew_while_it_is_held_stops_nothing(
    engine: OrchestrationEngine,
) -> None:
    door = {"id": "door", "name": "door", "type": "custom", "capacity": 1}
    engine.resources.add_resource(door)
    workflow = Workflow("w")
    workflow.map(hold, over=[0.3] * 4, seconds="${item}").options(
        name="hold", resources={"door": 1, "cpu": 0}
    )
    run = engine.start_workflow(workflow).execution_id
    wait_until(lambda: engine.host.database.query("SELECT 1 FROM allocation"))
    engine.resources.remove_resource("door", force=True)
    engine.resources.add_resource(door)
    assert engine.wait(run, SOON_S)
    assert engine.host.database.query("SELECT * FROM allocation") == []


def test_what_attempts_run_on_cannot_be_given_back(engine: OrchestrationEngine) -> None:
    assert engine.resources.allocate_resources("night", {"cpu": 1}, ttl_s=0.2)
    workflow = Workflow("w")
    workflow.step(hold, seconds=1.5).options(name="hold")
    run = engine.start_workflow(workflow, "night").execution_id
    wait_until(lambda: engine.host.uses_holding("night"))
    with pytest.raises(Conflict, match="attempts of session 'night' run on what it holds"):
        engine.resources.deallocate_resources("night")
    assert not engine.wait(run, 0.8)
    assert engine.host.ledger.holds("night")  # its time is over, but it is in use
    assert engine.wait(run, SOON_S)


def test_a_variable_that_holds_a_secret_is_no_way_around_it(
    engine: OrchestrationEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODOMYRMEX_SECRET_TOKEN", "t0p-s3cret-value")
    document = {
        "codomyrmex": 1,
        "name": "leak",
        "steps": [{"name": "leak", "run": ["echo", "${env.CODOMYRMEX_SECRET_TOKEN}"]}],
    }
    assert not engine.execute_workflow(document).success
    assert engine.host.state_dir is not None
    found = [path for path in engine.host.state_dir.rglob("*.log") if "t0p-s3cret-value" in path.read_text()]
    assert found == []
    assert "t0p-s3cret-value" not in str(engine.host.database.query("SELECT result, error FROM task"))
