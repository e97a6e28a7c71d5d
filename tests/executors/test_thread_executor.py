"""Attempts in threads and coroutines mean the same values and endings as those in processes."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.current_task import TaskCancelled, current_task
from codomyrmex.logistics.orchestration.project import values
from codomyrmex.logistics.orchestration.project.executors.attempt import (
    Attempt,
    ErrorInfo,
    Executor,
    Outcome,
    OutcomeKind,
)
from codomyrmex.logistics.orchestration.project.executors.coroutine import AsyncExecutor
from codomyrmex.logistics.orchestration.project.executors.thread import ThreadExecutor

Make = Callable[..., Attempt]


@pytest.fixture(params=[ThreadExecutor, AsyncExecutor])
def either(request: pytest.FixtureRequest) -> Iterator[Executor]:
    executor: Executor = request.param()
    yield executor
    executor.close()


def run(executor: Executor, make: Make, function: Callable[..., Any], **given: Any) -> Outcome:
    return executor.run(make(function.__name__, {"function": function}, **given))


def test_the_action_gets_its_own_copy_of_parameters_and_the_result_is_encoded(
    either: Executor, make: Make
) -> None:
    rows = [1, (2, 3)]

    def change(rows: list[Any], path: Path) -> Any:
        rows.append(path)
        return rows

    outcome = run(either, make, change, rows=rows, path=Path("x"))
    assert outcome.kind is OutcomeKind.COMPLETED
    assert values.decode(outcome.result or b"") == [1, (2, 3), Path("x")]
    assert rows == [1, (2, 3)]
    assert outcome.started_us <= outcome.ended_us


def test_a_coroutine_is_awaited(either: Executor, make: Make) -> None:
    async def later(value: int) -> int:
        await asyncio.sleep(0)
        return value + current_task().attempt * 0

    assert run(either, make, later, value=4).result == b"4"


@pytest.mark.parametrize(
    ("problem", "kind", "name"),
    [
        (ConnectionError("x"), OutcomeKind.FAILED, "ConnectionError"),
        (MemoryError(), OutcomeKind.OUT_OF_MEMORY, "MemoryError"),
        (SystemExit(2), OutcomeKind.FAILED, "SystemExit"),
        (TaskCancelled(), OutcomeKind.CANCELLED, "TaskCancelled"),
    ],
)
def test_each_ending_has_its_kind(
    either: Executor, make: Make, problem: BaseException, kind: OutcomeKind, name: str
) -> None:
    def fail() -> None:
        raise problem

    outcome = run(either, make, fail)
    assert outcome.kind is kind
    assert outcome.error is not None
    assert outcome.error.type == name
    assert ErrorInfo.from_dict(outcome.error.to_dict()) == outcome.error


def test_a_value_that_cannot_be_kept_is_its_own_kind_of_ending(either: Executor, make: Make) -> None:
    def give() -> Any:
        return {"handle": threading.Lock()}

    outcome = run(either, make, give)
    assert outcome.kind is OutcomeKind.UNSERIALISABLE
    assert outcome.error is not None
    assert "output.handle" in outcome.error.message


def test_the_users_frame_of_a_thread_action_is_in_this_file(make: Make) -> None:
    def fail() -> None:
        raise ValueError("here")

    error = run(ThreadExecutor(), make, fail).error
    assert error is not None
    assert error.frame is not None
    assert error.frame.startswith(__file__)


def test_cancel_in_a_thread_is_a_request_that_the_action_reads(make: Make) -> None:
    executor = ThreadExecutor()
    begun, outcomes = threading.Event(), []

    def wait() -> str:
        begun.set()
        while not current_task().cancelled:
            pass
        return "asked"

    attempt = make("wait", {"function": wait})
    thread = threading.Thread(target=lambda: outcomes.append(executor.run(attempt)))
    thread.start()
    begun.wait(10)
    assert executor.cancel(attempt.token)
    thread.join(10)
    assert outcomes[0].result == b'"asked"'
    assert executor.cancel(attempt.token) is False


@pytest.mark.parametrize("by_closing", [False, True])
def test_cancel_and_close_end_a_coroutine_at_its_next_await(make: Make, by_closing: bool) -> None:
    executor = AsyncExecutor()
    begun, outcomes = threading.Event(), []

    async def wait() -> None:
        begun.set()
        await asyncio.sleep(60)

    attempt = make("wait", {"function": wait})
    thread = threading.Thread(target=lambda: outcomes.append(executor.run(attempt)))
    thread.start()
    begun.wait(10)
    if not by_closing:
        assert executor.cancel(attempt.token)
        thread.join(10)
    executor.close()
    thread.join(10)
    assert outcomes[0].kind is OutcomeKind.CANCELLED


def test_coroutines_of_several_slots_share_one_loop(make: Make) -> None:
    executor = AsyncExecutor()
    meeting: list[Any] = []

    async def meet() -> int:
        meeting.append(asyncio.get_running_loop())
        while len(meeting) < 3:  # noqa: ASYNC110  (plain data that all three would share on one loop only)
            await asyncio.sleep(0.001)
        return len(set(meeting))

    outcomes: list[Outcome] = []
    threads = [threading.Thread(target=lambda: outcomes.append(run(executor, make, meet))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    executor.close()
    assert [outcome.result for outcome in outcomes] == [b"1"] * 3


def test_a_module_is_imported_only_where_that_is_allowed(
    make: Make, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(project))
    (project / "only_here.py").write_text("def get(): return 1\n")
    attempt = make("get", {"module": "only_here"})
    refused = ThreadExecutor(importing=False).run(attempt).error
    assert refused is not None
    assert refused.type == "NotImportedHere"
    assert "only_here" not in sys.modules
    try:
        assert ThreadExecutor().run(attempt).result == b"1"
    finally:
        sys.modules.pop("only_here", None)


def test_the_log_of_a_thread_attempt_appears_with_its_first_line(make: Make) -> None:
    def talk(text: str) -> None:
        if text:
            current_task().log.info(text)

    executor = ThreadExecutor()
    silent = make("talk", {"function": talk}, text="")
    loud = make("talk", {"function": talk}, text="hello")
    executor.run(silent)
    executor.run(loud)
    assert not Path(silent.log_path or "").exists()
    assert Path(loud.log_path or "").read_text().endswith("INFO hello\n")
