"""What an attempt writes is its log: only its own, whole, and readable while it still runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from codomyrmex.logistics.orchestration.project.executors.attempt import Attempt, OutcomeKind
from codomyrmex.logistics.orchestration.project.executors.process import ProcessExecutor
from waiting import wait_until

Make = Callable[..., Attempt]


def log_of(attempt: Attempt) -> Path:
    return Path(attempt.log_path or "")


def test_an_attempt_that_wrote_nothing_leaves_no_log(executor: ProcessExecutor, make: Make) -> None:
    attempt = make("nothing")
    executor.run(attempt)
    assert not log_of(attempt).exists()


def test_both_streams_of_each_attempt_go_to_its_own_log(executor: ProcessExecutor, make: Make) -> None:
    first, silent, second = make("say", text="one", error="!"), make("nothing"), make("say", text="two")
    for attempt in (first, silent, second):
        executor.run(attempt)
    assert log_of(first).read_text() == "one\n!"
    assert log_of(second).read_text() == "two\n"
    assert not log_of(silent).exists()


def test_the_log_can_be_followed_while_the_attempt_runs(
    executor: ProcessExecutor, make: Make, tmp_path: Path
) -> None:
    executor.run(make("nothing"))
    flag = tmp_path / "flag"
    attempt = make("say_and_wait", text="working", until=str(flag))
    thread = threading.Thread(target=executor.run, args=(attempt,))
    thread.start()
    try:
        wait_until(lambda: log_of(attempt).exists() and log_of(attempt).read_text() == "working\n")
    finally:
        flag.touch()
        thread.join()
    assert log_of(attempt).read_text() == "working\n"


def test_a_supervisor_that_sleeps_is_woken_by_the_next_attempt(executor: ProcessExecutor, make: Make) -> None:
    executor.run(make("nothing"))
    worker = next(iter(executor._pool._idle.values()))[0]
    stat = Path(f"/proc/{worker.pid}/status")
    quiet = [-1, 0]

    def sleeps() -> bool:
        quiet.append(int(stat.read_text().partition("\nvoluntary_ctxt_switches:")[2].split()[0]))
        return len(quiet) > 12 and len(set(quiet[-4:])) == 1

    wait_until(sleeps, every_s=0.03)
    assert executor.run(make("spin", {"timeout_s": 0.1})).kind is OutcomeKind.TIMED_OUT


def test_warnings_of_logging_and_the_output_of_commands_are_in_the_log(
    executor: ProcessExecutor, make: Make, project: Path
) -> None:
    (project / "loud.py").write_text(
        "import logging, subprocess\n"
        "def loud():\n"
        "    logging.getLogger('x').warning('careful')\n"
        "    logging.getLogger('x').info('hidden')\n"
        "    subprocess.run(['echo', 'from a command'])\n"
    )
    attempt = make("loud", {"module": "loud"})
    executor.run(attempt)
    assert log_of(attempt).read_text() == "careful\nfrom a command\n"


def test_an_attempt_without_a_log_path_leaves_nothing(
    executor: ProcessExecutor, make: Make, tmp_path: Path
) -> None:
    executor.run(make("say", {"log_path": None}, text="unheard"))
    after = make("say", text="heard")
    executor.run(after)
    assert log_of(after).read_text() == "heard\n"
    assert [path.name for path in (tmp_path / "logs").iterdir()] == [log_of(after).name]


def test_the_log_of_an_attempt_that_timed_out_has_what_it_wrote(
    executor: ProcessExecutor, make: Make, tmp_path: Path
) -> None:
    attempt = make("say_and_wait", {"timeout_s": 0.02}, text="so far", until=str(tmp_path / "never"))
    executor.run(make("nothing"))
    assert executor.run(attempt).kind is OutcomeKind.TIMED_OUT
    assert log_of(attempt).read_text().startswith("so far\n")
