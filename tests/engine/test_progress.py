"""How far attempts and runs are: what is said, what is kept of it, who is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from codomyrmex import OrchestrationEngine, Workflow, current_task
from codomyrmex.clock import ManualClock
from codomyrmex.exceptions import StoreIOError
from codomyrmex.logistics.orchestration.project import progress_store
from codomyrmex.logistics.orchestration.project.progress_board import ProgressBoard
from codomyrmex.logistics.orchestration.project.progress_store import ProgressRow
from codomyrmex.logistics.orchestration.project.run_state import COMPLETED, RUNNING, RunOptions, RunState
from codomyrmex.logistics.orchestration.project.run_views import RunView, TaskView
from codomyrmex.logistics.orchestration.project.task_progress import LONGEST_MESSAGE, Progress, read_note
from codomyrmex.logistics.orchestration.project.workflow_compiler import compile_workflow
from codomyrmex.logistics.storage.database import Database
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase
from codomyrmex.testing import FaultyDatabase
from waiting import wait_until

ROWS = "SELECT position, attempt, done, total, message FROM task_progress ORDER BY position"
LEARNED = """
INSERT INTO profile (subject, size_class, count, samples, median_s, p90_s, updated_at) VALUES (?, -1, 9, '{}', ?, ?, 0)
"""


# -- one word ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("note", "percent"),
    [
        ({"done": 3, "total": 4}, 75.0), ({"done": 5, "total": 4}, 100.0), ({"done": 0, "total": 0.5}, 0.0),
        ({"done": 7, "total": None}, None), ({"done": 7, "total": 0}, None), ({"done": 7, "total": "8"}, None),
    ],
)  # fmt: skip
def test_a_word_has_a_percentage_where_it_has_a_total(note: dict[str, Any], percent: float | None) -> None:
    found = read_note(note, at_us=5)
    assert found is not None
    assert (found.done, found.percent, found.at_us) == (note["done"], percent, 5)


@pytest.mark.parametrize("done", [None, True, "3", b"3", float("nan"), float("inf"), -1, [], 10**400])
def test_a_word_that_is_no_number_is_none(done: Any) -> None:
    assert read_note({"done": done, "total": 4}, at_us=0) is None


def test_a_long_message_is_cut_and_what_is_no_text_is_left_out() -> None:
    said = [read_note({"done": 1, "message": text}, at_us=0) for text in ("x" * 999, {"a": 1})]
    assert [each.message for each in said if each is not None] == ["x" * LONGEST_MESSAGE, ""]


def test_a_message_is_one_line_that_every_store_and_terminal_takes() -> None:
    said = read_note({"done": 1, "message": "a\x1b[31mb\r\nc\0d \ud800 é 字"}, at_us=0)
    assert said is not None
    assert said.message == "a [31mb  c d   é 字"
    said.message.encode()


# -- the board ---------------------------------------------------------------------------------------


@pytest.fixture
def database() -> Iterator[Database]:
    with closing(SQLiteDatabase.open(":memory:")) as opened:
        yield opened


def a_run(steps: int = 2) -> RunState:
    """A run of which every step is in its first attempt."""
    document = {
        "codomyrmex": 1,
        "name": "w",
        "steps": [{"name": f"s.{number}", "module": "m", "action": "a"} for number in range(steps)],
    }
    run = RunState(
        number=7,
        id="bcdfghjkmn",
        workflow=compile_workflow(document),
        parameters={},
        options=RunOptions(root="/"),
    )
    for step in range(steps):
        run.state[step], run.attempts[step] = RUNNING, 1
    return run


class Board:
    """A board over one run, and what it told."""

    def __init__(self, database: Database) -> None:
        self.run = a_run()
        self.told: list[tuple[str, float]] = []
        self.database = database
        self.board = ProgressBoard(
            database,
            ManualClock(),
            find={self.run.id: self.run}.get,
            tell=lambda _run, _event, data: self.told.append((data["task"], data["done"])),
        )

    def note(self, task: str, done: float, attempt: int = 1) -> None:
        token = f"3.{self.run.id}.{task}.{attempt}"
        self.board.note(token, {"kind": "progress", "done": done, "total": 4, "message": "m"})

    @property
    def rows(self) -> list[Any]:
        return self.database.query(ROWS)


def test_only_the_newest_word_is_stored_and_told_and_only_once(database: Database) -> None:
    board = Board(database)
    for done in (1, 2, 3):
        board.note("s.0", done)
    board.board.flush()
    board.board.flush()
    assert board.rows == [(0, 1, 3.0, 4.0, "m")]
    assert board.told == [("s.0", 3.0)]


def test_what_an_attempt_said_goes_when_it_ends(database: Database) -> None:
    board = Board(database)
    board.note("s.0", 1)
    board.note("s.1", 1)
    board.board.flush()
    board.run.state[0] = COMPLETED
    assert list(board.board.of_run(board.run)) == [1]
    board.board.flush()
    assert [row[0] for row in board.rows] == [1]
    board.board.close()
    assert board.rows == []


def test_nobody_listens_to_an_attempt_that_is_over_or_unknown(database: Database) -> None:
    board = Board(database)
    board.run.attempts[0] = 2
    board.note("s.0", 1, attempt=1)
    board.note("elsewhere", 1)
    board.board.note("3.xxxxxxxxxx.s.1.1", {"kind": "progress", "done": 1})
    board.board.flush()
    assert (board.rows, board.told) == ([], [])


def test_a_store_that_refuses_costs_nothing_but_time(database: Database) -> None:
    faulty = FaultyDatabase(database, fail_commit=(1, 3), error=StoreIOError)
    board = Board(faulty)
    board.note("s.0", 1)
    board.board.flush()
    assert (board.rows, board.told) == ([], [])
    board.board.flush()
    assert (len(board.rows), board.told) == (1, [("s.0", 1.0)])
    board.run.state[0] = COMPLETED
    board.board.flush()
    board.board.flush()
    assert (board.rows, faulty.injected) == ([], 2)


# -- real runs ---------------------------------------------------------------------------------------


class Work:
    """An action that says how far it is and waits to be let go."""

    def __init__(self) -> None:
        self.began, self.go_on = Event(), Event()

    def __call__(self) -> None:
        current_task().progress(1, 4, "a quarter")
        self.began.set()
        assert self.go_on.wait(30)


@pytest.fixture
def work() -> Iterator[Work]:
    made = Work()
    yield made
    made.go_on.set()


@pytest.fixture
def engine() -> Iterator[OrchestrationEngine]:
    with OrchestrationEngine(state=":memory:") as opened:
        yield opened


def begun(engine: OrchestrationEngine, work: Work, *, then: bool = False) -> str:
    """A run whose first step is at work, its first word on the board."""
    workflow = Workflow("counts")

    def first() -> None:
        work()

    step = workflow.step(first).options(name="work")
    if then:
        workflow.step(lambda: None).options(name="after", dependencies=[step])
    run_id = engine.start_workflow(workflow).execution_id
    assert work.began.wait(10)
    return run_id


def look(engine: OrchestrationEngine) -> None:
    """What the timekeeper does once a second."""
    engine._host.progress.look()


def ended(engine: OrchestrationEngine, run_id: str, work: Work) -> None:
    work.go_on.set()
    engine.wait(run_id, 30)
    look(engine)


def test_readers_see_what_a_task_says_while_it_runs(engine: OrchestrationEngine, work: Work) -> None:
    run_id = begun(engine, work)
    look(engine)
    task = engine.reader.task(run_id, "work")
    assert task.progress is not None
    assert (task.percent, task.progress.message) == (25.0, "a quarter")
    assert task.to_dict()["progress"]["total"] == 4
    ended(engine, run_id, work)
    assert engine.reader.task(run_id, "work").progress is None
    assert engine._host.database.query(ROWS) == []


def test_handlers_are_told_and_the_journal_is_not(engine: OrchestrationEngine, work: Work) -> None:
    told: dict[str, dict[str, Any]] = {}
    for event in ("task_progress", "run_progress"):
        engine.register_event_handler(event, lambda event, data: told.update({event: data}))
    run_id = begun(engine, work)
    look(engine)
    wait_until(lambda: len(told) == 2)
    told["task_progress"].pop("at_us")
    assert told["task_progress"] == {
        "run_id": run_id, "workflow": "counts", "task": "work", "done": 1.0, "total": 4.0, "percent": 25.0,
        "message": "a quarter",
    }  # fmt: skip
    assert told["run_progress"]["run_id"] == run_id
    assert {"percent", "left_s", "left_p90_s"} <= told["run_progress"].keys()
    ended(engine, run_id, work)
    assert not [event for event in engine.reader.events(run_id) if "progress" in event["event"]]


def test_a_handler_hears_nothing_of_a_run_that_has_ended(engine: OrchestrationEngine, work: Work) -> None:
    heard: list[str] = []
    engine.register_event_handler("*", lambda event, data: heard.append(event))
    run_id = begun(engine, work)
    look(engine)
    ended(engine, run_id, work)
    look(engine)
    wait_until(lambda: "run_completed" in heard and engine._host.orchestrator.teller.silent)
    assert heard.index("task_progress") < heard.index("completed")
    assert heard[-1] == "run_completed"


def test_the_engine_and_its_readers_say_the_same_of_a_run(engine: OrchestrationEngine, work: Work) -> None:
    with engine._host.database.transaction() as tx:
        tx.execute(LEARNED, ("step:counts/after", 600.0, 900.0))
    run_id = begun(engine, work, then=True)
    look(engine)
    live = engine.progress(run_id)
    stored, (task, _after) = engine.reader.with_estimates(
        engine.reader.run(run_id), engine.reader.tasks(run_id)
    )
    for view in (live, stored):
        assert view.percent is not None
        assert view.left_s is not None
        assert 0 <= view.percent < 5
        assert 600 <= view.left_s < 660
        assert view.left_p90_s is not None
        assert 900 <= view.left_p90_s < 1000
    assert task.left_s is not None
    assert task.left_s < 60
    abandoned, _tasks = engine.reader.with_estimates(replace(engine.reader.run(run_id), owner="nobody"))
    assert (abandoned.percent, abandoned.left_s) == (0.0, None)
    ended(engine, run_id, work)
    assert engine.progress(run_id).percent is None


def test_nothing_is_said_of_how_long_where_nothing_is_known(engine: OrchestrationEngine) -> None:
    began, go_on = Event(), Event()

    def silent() -> None:
        began.set()
        assert go_on.wait(30)

    workflow = Workflow("silent")
    workflow.step(silent)
    run_id = engine.start_workflow(workflow).execution_id
    assert began.wait(10)
    assert engine.progress(run_id).percent is None
    run, (task,) = engine.reader.with_estimates(engine.reader.run(run_id), engine.reader.tasks(run_id))
    assert (run.percent, run.left_s, task.left_s) == (None, None, None)
    go_on.set()
    engine.wait(run_id, 30)


def test_a_run_of_which_only_the_whole_is_known_counts_from_its_beginning() -> None:
    clock = ManualClock()
    with OrchestrationEngine(state=":memory:", clock=clock) as engine:
        with engine._host.database.transaction() as tx:
            tx.execute(LEARNED, ("run:asks", 100.0, 100.0))
        document = {
            "codomyrmex": 1,
            "name": "asks",
            "steps": [
                {"name": "go", "approval": "Go on?"},
                {"name": "a", "run": "true", "dependencies": ["go"]},
            ],
        }
        run_id = engine.start_workflow(document).execution_id
        wait_until(lambda: engine.reader.run(run_id).status == "running")
        clock.advance(60.0)
        found = engine.progress(run_id)
        assert found.percent == pytest.approx(60.0, abs=0.1)
        assert found.left_s == pytest.approx(40.0, abs=0.1)
        engine.cancel(run_id, kill=True)
        engine.wait(run_id, 30)


def test_a_word_of_an_earlier_attempt_says_nothing_of_this_one(
    engine: OrchestrationEngine, work: Work
) -> None:
    run_id = begun(engine, work)
    database = engine._host.database
    number = database.query("SELECT number FROM run WHERE id = ?", (run_id,))[0][0]
    with database.transaction() as tx:
        progress_store.put(tx, [ProgressRow(number, 0, 0, Progress(done=3, total=4))])
    assert engine.reader.task(run_id, "work").progress is None
    with database.transaction() as tx:
        progress_store.forget(tx, run_id)
    assert database.query(ROWS) == []
    ended(engine, run_id, work)


def test_what_a_dead_engine_left_of_a_run_goes_when_another_takes_it_over(tmp_path: Path) -> None:
    document = {"codomyrmex": 1, "name": "night", "steps": [{"name": "night", "sleep": 3600}]}
    with OrchestrationEngine(state=tmp_path) as engine:
        run_id = engine.start_workflow(document).execution_id
        wait_until(lambda: engine.reader.task(run_id, "night").waiting)
        with engine._host.database.transaction() as tx:
            progress_store.put(tx, [ProgressRow(1, 0, 1, Progress(done=3, total=4))])
    with OrchestrationEngine(state=tmp_path) as engine:
        wait_until(lambda: engine.progress(run_id).owner == "this engine")
        assert engine._host.database.query(ROWS) == []
        engine.cancel(run_id, kill=True)
        engine.wait(run_id, 30)


ACTIONS = """
from pathlib import Path
import time
from codomyrmex import current_task

def work(item, gate):
    current_task().progress(item, 4, "in a process")
    while not Path(gate).exists():
        time.sleep(0.01)
"""
PARENT = """
codomyrmex: 1
name: parent
parameters: {gate: {type: string}}
steps:
  - {name: child, workflow: child, with: {gate: "${parameters.gate}"}}
  - {name: after, sleep: 60, needs: [child]}
"""
CHILD = """
codomyrmex: 1
name: child
parameters: {gate: {type: string}}
steps:
  - {name: each, call: "told:work", foreach: [1, 3], with: {item: "${item}", gate: "${parameters.gate}"},
     resources: {cpu: 0}}
"""


def test_items_in_processes_and_the_runs_above_them_know_how_far_they_are(tmp_path: Path) -> None:
    (tmp_path / "workflows").mkdir()
    (tmp_path / "told.py").write_text(ACTIONS)
    for name, text in (("parent", PARENT), ("child", CHILD)):
        (tmp_path / "workflows" / f"{name}.yaml").write_text(text)
    gate = tmp_path / "gate"
    with OrchestrationEngine(state=tmp_path / ".codomyrmex", root=tmp_path) as engine:
        parent = engine.start_workflow("parent", parameters={"gate": str(gate)}).execution_id

        def said() -> list[TaskView]:
            look(engine)
            child = engine.reader.task(parent, "child").child
            tasks = engine.reader.tasks(child, status="running") if child is not None else []
            return [task for task in tasks if task.progress is not None]

        found: Callable[[], Any] = lambda: len(tasks := said()) == 2 and tasks  # noqa: E731
        first, second = wait_until(found)
        assert (first.name, first.percent, second.percent) == ("each[0]", 25.0, 75.0)
        above: RunView = engine.reader.with_estimates(engine.reader.run(parent))[0]
        live = engine.progress(parent)
        assert above.left_s is not None
        assert live.left_s is not None
        assert 60 < above.left_s < 120
        assert 60 < live.left_s < 120
        gate.touch()
        engine.cancel(parent)
        engine.wait(parent, 30)


def test_what_has_no_place_in_json_ends_no_attempt(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        "from pathlib import Path\n"
        "from codomyrmex import current_task\n"
        "def odd():\n"
        "    task = current_task()\n"
        "    nan, inf = float('nan'), float('inf')\n"
        "    for odd in ((nan, 1, ''), (inf, inf, ''), (1, 1, 'half \\ud800'), (1, 1, Path()), ([], [], '')):\n"
        "        task.progress(*odd)\n"
        "    task.metric('loss', float('nan'))\n"
    )
    step = {"name": "odd", "module": "odd", "action": "odd", "isolation": "process"}
    with OrchestrationEngine(state=tmp_path / "state", root=tmp_path) as engine:
        execution = engine.execute_workflow({"codomyrmex": 1, "name": "odd", "steps": [step]})
        assert execution.status.value == "completed", engine.reader.task(execution.execution_id, "odd").error
