"""What attempts take is learned beside the work: cheaply, fairly, and whatever the store says."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from threading import Event, Thread

import pytest
from learned_runs import compiled, complete, outcome, run_of

from codomyrmex.clock import ManualClock
from codomyrmex.exceptions import StoreBusy
from codomyrmex.logistics.orchestration.project import profile_recorder, task_runs
from codomyrmex.logistics.orchestration.project.executors.attempt import OutcomeKind
from codomyrmex.logistics.orchestration.project.profile_recorder import ProfileRecorder
from codomyrmex.logistics.orchestration.project.profile_store import (
    actions_of,
    durations_of,
    expectations_of,
)
from codomyrmex.logistics.orchestration.project.run_state import COMPLETED, RunState
from codomyrmex.logistics.orchestration.project.states import WorkflowStatus
from codomyrmex.logistics.storage.database import Database, Parameters, Row
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase
from codomyrmex.performance import profiles
from codomyrmex.performance.profiles import Profile
from codomyrmex.performance.samples import AT_ONCE_S, KEPT_OF_ONE_RUN, LARGE, size_class
from codomyrmex.testing import FaultyDatabase

ACTION = "action:acts.act"


@pytest.fixture
def database() -> Iterator[Database]:
    opened = SQLiteDatabase.open(":memory:")
    yield opened
    opened.close()


@pytest.fixture
def recorder() -> ProfileRecorder:
    return ProfileRecorder(ManualClock())


def of(database: Database, subject: str, size: int = -1) -> Profile:
    found = profiles.find(database, subject, size)
    assert found is not None, subject
    return found


def subjects(database: Database) -> set[str]:
    return {subject for (subject,) in database.query("SELECT subject FROM profile")}


def store_run(database: Database, run: RunState, took_s: float) -> None:
    """The row of a run that has completed."""
    with database.transaction() as tx:
        tx.execute(
            "INSERT OR IGNORE INTO definition VALUES (?, ?, '{}', 1)", (run.workflow.hash, run.workflow.name)
        )
        tx.execute(
            "INSERT INTO run (number, id, workflow, definition, status, epoch, parameters, options, created_at,"
            " started_at, ended_at) VALUES (?, ?, ?, ?, 'completed', 1, '{}', '{}', 1, 5000000, ?)",
            (run.number, run.id, run.workflow.name, run.workflow.hash, 5000000 + round(took_s * 1e6)),
        )


def test_an_attempt_teaches_of_its_step_and_of_its_action(
    database: Database, recorder: ProfileRecorder
) -> None:
    run = run_of(compiled({"name": "a"}, {"name": "b"}))
    recorder.note(run, 0, outcome(1.0, cpu_s=0.25, memory_bytes=4096, parameters_bytes=100))
    recorder.note(run, 1, outcome(3.0, parameters_bytes=5))
    assert recorder.flush(database)
    first = of(database, "step:flow/a")
    assert (first.duration_s, first.cpu_s, first.memory_bytes) == ([1.0], [0.25], [4096])
    assert of(database, ACTION).duration_s == [1.0, 3.0]
    assert of(database, ACTION, size_class(100)).duration_s == [1.0]
    assert of(database, ACTION, size_class(5)).duration_s == [3.0]
    learned = expectations_of(database, ["flow"], actions_of(run.workflow))
    assert [found.median_s for found in learned.of_steps(run.workflow)] == [1.0, 3.0]


@pytest.mark.parametrize("kind", [kind for kind in OutcomeKind if kind is not OutcomeKind.COMPLETED])
def test_what_did_not_complete_teaches_no_duration(
    database: Database, recorder: ProfileRecorder, kind: OutcomeKind
) -> None:
    recorder.note(run_of(compiled({"name": "a"})), 0, outcome(9.0, kind=kind))
    assert not recorder.has_news


def test_what_ran_out_of_memory_teaches_that_it_needs_more(
    database: Database, recorder: ProfileRecorder
) -> None:
    run = run_of(compiled({"name": "a"}))
    recorder.note(run, 0, outcome(9.0, kind=OutcomeKind.OUT_OF_MEMORY, memory_bytes=2**30))
    recorder.flush(database)
    assert of(database, "step:flow/a").memory == (2**30, 2**30)
    assert of(database, "step:flow/a").durations is None
    recorder.note(run, 0, outcome(2.0, memory_bytes=2**31))
    recorder.flush(database)
    assert of(database, "step:flow/a").memory == (2**30, 2**31)
    assert of(database, "step:flow/a").durations == (2.0, 2.0)


def test_a_step_that_only_ran_out_of_memory_has_no_known_duration(
    database: Database, recorder: ProfileRecorder
) -> None:
    run = run_of(compiled({"name": "a"}))
    recorder.note(run, 0, outcome(9.0, kind=OutcomeKind.OUT_OF_MEMORY, memory_bytes=2**30))
    recorder.flush(database)
    assert not expectations_of(database, ["flow"], ["acts.act"]).of_steps(run.workflow)[0].known


@pytest.mark.parametrize("lacking", [100, 2000])
def test_attempts_that_ran_out_of_memory_leave_durations_to_be_learned(
    database: Database, recorder: ProfileRecorder, lacking: int
) -> None:
    run = run_of(compiled({"name": "a"}))
    for number in range(lacking):
        recorder.note(run, 0, outcome(9.0, kind=OutcomeKind.OUT_OF_MEMORY, memory_bytes=2**20 + number))
    for number in range(lacking):
        recorder.note(run, 0, outcome(float(number), memory_bytes=2**30))
    recorder.flush(database)
    known = of(database, "step:flow/a")
    durations = [each for each in known.duration_s if each is not None]
    assert len(durations) >= KEPT_OF_ONE_RUN // 2
    assert max(durations) > lacking * 0.9, "from all of the run"
    assert known.memory_bytes[: len(known.memory_bytes) - len(durations)] == [
        2**20 + number for number in range(lacking - profile_recorder.LACKING_KEPT, lacking)
    ]
    assert known.count == 2 * lacking


def test_a_flush_just_before_the_first_attempt_is_kept_harms_nobody(
    database: Database, recorder: ProfileRecorder
) -> None:
    run = run_of(compiled({"name": "a"}, {"name": "b", "action": "other"}))
    recorder.note(run, 1, outcome(1.0))
    counted = recorder._runs[run.number].noted[0] = profile_recorder._Noted("a", "acts.act")
    assert counted.come()  # as `note` does in another thread, between counting and keeping
    assert recorder.flush(database)
    assert of(database, "step:flow/b").duration_s == [1.0]


def test_a_result_out_of_the_cache_teaches_nothing(recorder: ProfileRecorder) -> None:
    recorder.note(run_of(compiled({"name": "a"})), 0, outcome(0.001, cached=True))
    assert not recorder.has_news


def test_a_long_run_adds_few_samples_however_often_it_is_stored(
    database: Database, recorder: ProfileRecorder
) -> None:
    before, run = run_of(compiled({"name": "a"}), 1), run_of(compiled({"name": "a"}), 2)
    recorder.note(before, 0, outcome(100.0))
    recorder.ended(before)
    for at in range(10_000):
        recorder.note(run, 0, outcome(float(at)))
        if at % 1000 == 0:
            recorder.flush(database)
    recorder.ended(run)
    recorder.flush(database)
    for subject in ("step:flow/a", ACTION):
        found = of(database, subject)
        assert found.count == 10_001
        assert found.runs.count(1) == 1
        assert KEPT_OF_ONE_RUN // 2 <= found.runs.count(2) < KEPT_OF_ONE_RUN
        assert found.durations is not None
        assert found.durations.median == pytest.approx(5000, rel=0.2)


def test_steps_that_share_an_action_teach_of_it_together(
    database: Database, recorder: ProfileRecorder
) -> None:
    run = run_of(compiled(*({"name": f"s{at}"} for at in range(100))))
    for step in range(100):
        recorder.note(run, step, outcome(float(step)))
        if step == 50:
            recorder.flush(database)
    recorder.flush(database)
    found = of(database, ACTION)
    assert found.count == 100
    assert len(found.duration_s) == KEPT_OF_ONE_RUN
    assert found.durations is not None
    assert found.durations.median == pytest.approx(50, abs=5)


def test_a_large_workflow_keeps_rows_for_its_actions_only(
    database: Database, recorder: ProfileRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile_recorder, "STEPS_AT_MOST", 3)
    other = {"name": "e", "action": "other"}
    run = run_of(compiled(*({"name": name} for name in "abcd"), other))
    for step in range(5):
        recorder.note(run, step, outcome(1.0 + step))
    recorder.flush(database)
    assert profiles.summaries_below(database, "step:") == []
    assert of(database, ACTION).duration_s == [1.0, 2.0, 3.0, 4.0]
    assert of(database, "action:acts.other").duration_s == [5.0]


def test_tasks_submitted_alone_teach_of_their_actions_only(
    database: Database, recorder: ProfileRecorder
) -> None:
    assert profile_recorder.TASK_LABEL == task_runs.TASK_LABEL
    for number in range(1, 101):
        labels = {profile_recorder.TASK_LABEL: "{}"}
        run = run_of(compiled({"name": "a"}, name=f"task{number}", labels=labels), number)
        recorder.note(run, 0, outcome(float(number)))
        complete(run)
        assert not recorder.ended(run), "nobody has to hurry for it"
        if number in (60, 80):
            recorder.flush(database)
    recorder.flush(database)
    assert subjects(database) == {ACTION}
    found = of(database, ACTION)
    assert found.count == 100
    assert found.duration_s[-1] == 99.0 or found.duration_s[-1] == 100.0
    assert len(found.duration_s) <= profiles.KEPT


def test_commands_and_functions_without_a_name_teach_of_their_step_only(
    database: Database, recorder: ProfileRecorder
) -> None:
    shell = {"name": "a", "module": "shell", "action": "run", "parameters": {"command": ["true"]}}
    run = run_of(compiled(shell))
    recorder.note(run, 0, outcome(1.0))
    recorder.flush(database)
    assert subjects(database) == {"step:flow/a"}


def test_the_order_of_work_gets_a_duration_for_each_step_or_none_at_all(
    database: Database, recorder: ProfileRecorder
) -> None:
    workflow = compiled({"name": "a"}, {"name": "b", "action": "other"})
    assert durations_of(database, workflow) is None
    recorder.note(run_of(workflow), 0, outcome(4.0))
    recorder.flush(database)
    assert durations_of(database, workflow) == [4.0, 4.0]


def test_a_store_that_cannot_be_read_holds_up_no_work(database: Database) -> None:
    class Unreadable(FaultyDatabase):
        def query(self, sql: str, params: Parameters = ()) -> list[Row]:
            raise StoreBusy("somebody holds it")

    assert durations_of(Unreadable(database), compiled({"name": "a"})) is None


# -- whole runs --------------------------------------------------------------------------------------


def test_a_run_that_did_everything_itself_tells_how_long_all_of_it_takes(
    database: Database, recorder: ProfileRecorder
) -> None:
    run = run_of(compiled({"name": "a"}, {"name": "nap", "sleep": 5}))
    recorder.note(run, 0, outcome(2.0))
    complete(run)
    store_run(database, run, 7.5)
    assert recorder.ended(run), "somebody may want to plan the next one soon"
    recorder.flush(database)
    assert expectations_of(database, ["flow"], []).runs == {"flow": (7.5, 7.5, True)}


def test_a_run_that_only_waits_teaches_how_long_that_is(
    database: Database, recorder: ProfileRecorder
) -> None:
    run = run_of(compiled({"name": "nap", "sleep": 5}, {"name": "child", "workflow": "other"}))
    complete(run)
    store_run(database, run, 42.0)
    assert recorder.ended(run)
    recorder.flush(database)
    assert expectations_of(database, ["flow"], []).runs == {"flow": (42.0, 42.0, True)}


def test_a_run_that_somebody_paused_does_not_tell_how_long_it_takes(
    database: Database, recorder: ProfileRecorder
) -> None:
    run = run_of(compiled({"name": "a"}))
    recorder.note(run, 0, outcome(2.0))
    complete(run)
    store_run(database, run, 7.5)
    with database.transaction() as tx:
        tx.execute("INSERT INTO event VALUES (?, 1, 0, 1, ?)", (run.number, '[["run_paused",null]]'))
    recorder.ended(run)
    recorder.flush(database)
    assert expectations_of(database, ["flow"], []).runs == {}
    assert of(database, "step:flow/a").duration_s == [2.0]


@pytest.mark.parametrize("how", ["cached", "earlier", "failed"])
def test_a_run_that_took_results_from_elsewhere_or_failed_does_not(
    database: Database, recorder: ProfileRecorder, how: str
) -> None:
    run = run_of(compiled({"name": "a"}, {"name": "b"}))
    recorder.note(run, 0, outcome(2.0))
    if how != "earlier":
        recorder.note(run, 1, outcome(0.001, cached=how == "cached"))
    complete(run)
    if how == "failed":
        run.status = WorkflowStatus.FAILED
    store_run(database, run, 7.5)
    recorder.ended(run)
    recorder.flush(database)
    assert expectations_of(database, ["flow"], []).runs == {}


def test_a_fan_out_teaches_how_many_items_it_has(database: Database, recorder: ProfileRecorder) -> None:
    workflow = compiled(
        {"name": "a", "foreach": "${parameters.files}"}, parameters={"files": {"default": []}}
    )
    for number, size in enumerate((5, 50, 20), 1):
        run = run_of(workflow, number)
        run.add_group(0, 1, list(range(size)))
        for _ in range(size):
            recorder.note(run, 0, outcome(0.5))
        complete(run)
        store_run(database, run, 1.0)
        recorder.ended(run)
        recorder.flush(database)
    learned = expectations_of(database, ["flow"], ["acts.act"])
    assert learned.items == {("flow", "a"): 20.0}
    assert learned.of_steps(workflow) == [(0.5, 0.5, True)]
    assert set(learned.runs) == {"flow"}
    assert of(database, "step:flow/a").count == 75


def test_the_sizes_of_fan_outs_without_a_slot_are_known_and_their_durations_are_not(
    database: Database, recorder: ProfileRecorder
) -> None:
    step = {"name": "each", "workflow": "child", "foreach": [1, 2, 3]}
    run = run_of(compiled({"name": "a"}, step))
    run.add_group(1, 2, [1, 2, 3])
    recorder.note(run, 0, outcome(1.0))
    complete(run)
    recorder.ended(run)
    recorder.flush(database)
    learned = expectations_of(database, ["flow"], [])
    assert learned.items == {("flow", "each"): 3.0}
    assert ("flow", "each") not in learned.steps


def test_there_is_news_until_it_is_stored(database: Database, recorder: ProfileRecorder) -> None:
    states = [recorder.has_news]
    recorder.note(run_of(compiled({"name": "a"})), 0, outcome())
    states.append(recorder.has_news)
    recorder.flush(database)
    states.append(recorder.has_news)
    assert states == [False, True, False]


# -- storing -----------------------------------------------------------------------------------------


def test_a_flush_that_fails_is_made_up_for_by_the_next(recorder: ProfileRecorder) -> None:
    faulty = FaultyDatabase(SQLiteDatabase.open(":memory:"), fail_commit=1, error=StoreBusy)
    run, task = (
        run_of(compiled({"name": "a"}), 1),
        run_of(compiled({"name": "t", "action": "alone"}, labels={profile_recorder.TASK_LABEL: "{}"}), 2),
    )
    recorder.note(run, 0, outcome(1.0))
    recorder.note(task, 0, outcome(5.0))
    assert not recorder.flush(faulty)
    assert recorder.has_news
    recorder.note(run, 0, outcome(2.0))
    recorder.note(task, 0, outcome(6.0))
    run.move(0, COMPLETED)
    recorder.ended(run)
    assert recorder.flush(faulty)
    assert of(faulty, "step:flow/a").duration_s == [1.0, 2.0]
    assert of(faulty, "step:flow/a").count == 2
    assert of(faulty, "action:acts.alone").duration_s == [5.0, 6.0]
    faulty.close()


def test_what_cannot_be_stored_for_long_is_forgotten_from_the_oldest(
    recorder: ProfileRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile_recorder, "UNSTORED_AT_MOST", 5)
    faulty = FaultyDatabase(SQLiteDatabase.open(":memory:"), fail_commit=range(1, 50), error=StoreBusy)
    for number in range(1, 21):
        run = run_of(compiled({"name": "a"}), number)
        recorder.note(run, 0, outcome(float(number)))
        complete(run)
        recorder.ended(run)
        recorder.flush(faulty)
    faulty.fail_commit = ()
    assert recorder.flush(faulty)
    assert of(faulty, "step:flow/a").duration_s == [16.0, 17.0, 18.0, 19.0, 20.0]
    faulty.close()


def test_too_many_subjects_are_pruned_while_the_engine_works(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "ROWS_AT_MOST", 30)
    monkeypatch.setattr(profiles, "ROWS_AFTER_PRUNING", 20)
    clock = ManualClock()
    recorder = ProfileRecorder(clock)
    for number in range(1, 41):
        run = run_of(compiled({"name": "a"}, name=f"flow{number}"), number)
        recorder.note(run, 0, outcome(1.0))
        clock.advance(1)
        recorder.flush(database)
        assert profiles.count_rows(database) <= 31
    assert profiles.find(database, "step:flow40/a") is not None
    assert profiles.find(database, "step:flow1/a") is None


def test_a_flush_is_asked_for_once_and_not_for_each_child(
    recorder: ProfileRecorder, database: Database
) -> None:
    asked = []
    for number in range(1, 4):
        run = run_of(compiled({"name": "a"}), number)
        recorder.note(run, 0, outcome(1.0))
        complete(run)
        asked.append(recorder.ended(run))
    assert asked == [True, False, False]
    recorder.flush(database)
    assert of(database, "step:flow/a").count == 3


def test_attempts_are_counted_once_while_another_thread_stores_them(
    database: Database, recorder: ProfileRecorder
) -> None:
    chance, done = Random(5), Event()

    def store() -> None:
        while not done.is_set():
            recorder.flush(database)

    storing = Thread(target=store)
    storing.start()
    counts = [0, 0, 0]
    run = run_of(compiled(*({"name": name} for name in "abc")))
    for _ in range(20_000):
        step = chance.randrange(3)
        counts[step] += 1
        recorder.note(run, step, outcome(float(step)))
    recorder.ended(run)
    done.set()
    storing.join()
    recorder.flush(database)
    assert [of(database, f"step:flow/{name}").count for name in "abc"] == counts
    assert of(database, ACTION).count == 20_000


def test_of_a_large_workflow_what_is_over_at_once_has_no_row_and_is_known_all_the_same(
    recorder: ProfileRecorder, database: Database
) -> None:
    run = run_of(compiled(*({"name": f"s{number}"} for number in range(LARGE + 1))))
    store_run(database, run, took_s=4.0)
    for step in range(LARGE + 1):
        recorder.note(run, step, outcome(0.0001 if step else 4.0))
    complete(run)
    assert recorder.ended(run)
    assert recorder.flush(database)
    assert subjects(database) == {"step:flow/s0", "run:flow", ACTION}
    assert of(database, ACTION).count == LARGE + 1
    found = expectations_of(database, ["flow"], actions_of(run.workflow)).of_steps(run.workflow)
    assert found[0].median_s == 4.0
    assert all(each.known and each.median_s < AT_ONCE_S for each in found[1:])


def test_of_a_small_workflow_every_step_has_its_row(recorder: ProfileRecorder, database: Database) -> None:
    run = run_of(compiled({"name": "a"}, {"name": "b"}))
    for step in range(2):
        recorder.note(run, step, outcome(0.0001))
    assert recorder.flush(database)
    assert {"step:flow/a", "step:flow/b"} <= subjects(database)
