"""`codomyrmex.testing` does what it tells its users."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from codomyrmex.clock import ManualClock, VirtualClock
from codomyrmex.exceptions import CodomyrmexError, StoreFull, TaskNotFound, ValidationError
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.logistics.orchestration.project.workflow import Workflow
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase
from codomyrmex.testing import FaultyDatabase, assert_resumes, codomyrmex_engine, run_workflow

__all__ = ["codomyrmex_engine"]

FILE = """
codomyrmex: 1
name: nightly
parameters: {rows: {type: integer, default: 3}}
steps:
  - name: fetch
    run: 'curl "https://example.org/${parameters.rows}" > ${TMPDIR}/x'
    retry: {max_attempts: 3, delay_s: 3600}
  - {name: count, call: "shop.sales:count", with: {rows: "${steps.fetch.output.rows}"}, timeout: 10s}
  - {name: tell, call: "shop.mail:send", with: {text: "${steps.count.output} rows"}, needs: [count]}
outputs: {rows: "${steps.count.output}", told: "${steps.tell.output}"}
"""
MODULE = "def count(rows): return len(rows)\ndef send(text): return text\n"


@pytest.fixture
def nightly(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    for name in ("__init__", "sales", "mail"):
        (tmp_path / "shop" / f"{name}.py").write_text(MODULE)
    path = tmp_path / "nightly.yaml"
    path.write_text(FILE)
    return path


def test_stubs_stand_in_for_steps_and_delays_pass_at_once(nightly: Path) -> None:
    sent = []
    stubs = {
        "fetch": [ConnectionError("gone"), TimeoutError, {"rows": [1, 2]}],
        "count": lambda rows: len(rows) + 0,
        "tell": lambda text: sent.append(text) or "told",
    }
    began_s = time.monotonic()
    run = run_workflow(nightly, stubs=stubs)
    assert time.monotonic() - began_s < 30
    assert run.outputs == {"rows": 2, "told": "told"}
    assert sent == ["2 rows"]
    assert run.order == ["fetch", "count", "tell"]
    assert [run.attempts(name) for name in run.order] == [3, 1, 1]
    assert run.duration is not None
    assert run.duration > 2 * 3600


def test_until_runs_only_what_a_step_needs(nightly: Path) -> None:
    run = run_workflow(nightly, {"rows": 5}, stubs={"fetch": {"rows": []}, "count": 0}, until="count")
    assert list(run.tasks) == ["fetch", "count"]
    assert run.parameters["rows"] == 5
    assert run.success


def test_what_is_not_stubbed_really_runs(nightly: Path) -> None:
    run = run_workflow(nightly, stubs={"fetch": {"rows": [1, 2, 3]}})
    assert run.outputs == {"rows": 3, "told": "3 rows"}


@pytest.mark.parametrize("option", [{"stubs": {"fetched": 1}}, {"until": "fetched"}])
def test_a_step_that_is_not_there_is_named(nightly: Path, option: dict[str, object]) -> None:
    with pytest.raises(TaskNotFound, match="fetch"):
        run_workflow(nightly, **option)  # type: ignore[arg-type]


def test_a_faulty_workflow_is_refused_as_ever(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("codomyrmex: 1\nname: bad\nsteps: [{name: a, run: 'echo', needs: [b]}]\n")
    with pytest.raises(ValidationError, match="unknown step 'b'"):
        run_workflow(path)


def test_a_run_that_takes_too_long_says_what_it_waits_for() -> None:
    document = {
        "codomyrmex": 1,
        "name": "long",
        "isolation": "thread",
        "steps": [
            {"name": "a", "module": "recoverable_steps", "action": "slow", "parameters": {"pause_s": 0.5}}
        ],
    }
    with pytest.raises(CodomyrmexError, match="a is running"):
        run_workflow(document, timeout_s=0.05)


def test_the_fixture_is_an_engine_in_memory(codomyrmex_engine: OrchestrationEngine) -> None:
    document = {
        "codomyrmex": 1,
        "name": "one",
        "isolation": "thread",
        "steps": [{"name": "a", "module": "recoverable_steps", "action": "slow", "parameters": {"n": 4}}],
    }
    assert codomyrmex_engine.execute_workflow(document).results["a"] == 4


def test_a_faulty_database_fails_the_commits_it_was_told_to() -> None:
    database = FaultyDatabase(SQLiteDatabase.open(":memory:"), fail_commit={2, 3})
    insert = "INSERT INTO meta (key, value) VALUES (?, '')"

    def put(key: str) -> None:
        with database.transaction() as tx:
            tx.execute(insert, (key,))

    put("one")
    with pytest.raises(StoreFull) as before:
        put("two")
    database.after = True
    with pytest.raises(StoreFull) as after:
        put("three")
    assert (before.value.outcome_unknown, after.value.outcome_unknown) == (False, True)
    with pytest.raises(ZeroDivisionError), database.transaction():
        raise ZeroDivisionError
    put("four")
    kept = {key for (key,) in database.query("SELECT key FROM meta")}
    assert kept & {"one", "two", "three", "four"} == {"one", "three", "four"}
    assert (database.commits, database.injected) == (4, 2)
    database.close()


def test_the_clocks_stand_or_leave_out_what_is_skipped() -> None:
    manual, virtual = ManualClock(5_000_000), VirtualClock()
    assert not manual.skip(1)
    manual.advance(2.5)
    assert (manual.now_us(), manual.monotonic_s()) == (7_500_000, 7.5)
    before_us, before_s = virtual.now_us(), virtual.monotonic_s()
    assert virtual.skip(3600)
    assert virtual.now_us() - before_us >= 3600 * 1_000_000
    assert virtual.monotonic_s() - before_s >= 3600


RESUMABLE = """
codomyrmex: 1
name: resumable
steps:
  - {name: list, call: "work:numbers", with: {count: 12}}
  - {name: double, call: "work:double", foreach: "${steps.list.output}", with: {n: "${item}"}}
  - {name: add, call: "work:add", with: {numbers: "${steps.double.output}"}}
outputs: {sum: "${steps.add.output}"}
"""
WORK = """
import time
def numbers(count): return list(range(count))
def double(n):
    time.sleep(0.02)
    return 2 * n
def add(numbers): return sum(numbers)
"""


def resumable(folder: Path, work: str = WORK) -> Path:
    (folder / "work.py").write_text(work)
    path = folder / "resumable.yaml"
    path.write_text(RESUMABLE)
    return path


def test_a_workflow_that_survives_kills_is_told_so(tmp_path: Path) -> None:
    run = assert_resumes(resumable(tmp_path), kills=3)
    assert run.outputs == {"sum": 132}


def test_a_workflow_that_comes_out_differently_after_a_kill_is_found_out(tmp_path: Path) -> None:
    forgetful = f"import os\n{WORK}".replace("return 2 * n", "return 2 * n + os.getppid()")
    with pytest.raises(AssertionError, match=r"(?s)results differs .* \(seed=7\)"):
        assert_resumes(resumable(tmp_path, forgetful), kills=1, seed=7)


def test_what_a_workflow_asks_for_is_there_whatever_machine_the_test_runs_on() -> None:
    workflow = Workflow("large")
    workflow.step(sum, iterable=[1]).options(
        name="large", resources={"cpu": 500, "gpu": 3, "licence": 2, "memory": "900GiB"}, isolation="process"
    )
    assert run_workflow(workflow, stubs={"large": 1}).results["large"] == 1
