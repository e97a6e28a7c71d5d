"""How an attempt in a process ends against its will, and that nobody else notices."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from codomyrmex.logistics.orchestration.project.executors.attempt import Attempt, Outcome, OutcomeKind
from codomyrmex.logistics.orchestration.project.executors.process import ProcessExecutor
from codomyrmex.logistics.orchestration.project.executors.process_tree import descendants
from waiting import wait_until

Make = Callable[..., Attempt]


class InBackground:
    """One attempt on a thread of its own."""

    def __init__(self, executor: ProcessExecutor, attempt: Attempt) -> None:
        self.attempt = attempt
        self._outcomes: list[Outcome] = []
        self._thread = threading.Thread(target=lambda: self._outcomes.append(executor.run(attempt)))
        self._thread.start()

    def outcome(self) -> Outcome:
        self._thread.join(20)
        assert self._outcomes, "it never ended"
        return self._outcomes[0]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):  # it may go while it is read
        return False


def pid_in(path: Path) -> int:
    return int(wait_until(lambda: path.exists() and path.read_text(), what=f"a pid in {path}"))


def worker_pids() -> tuple[int, int]:
    """Supervisor and runner of the only worker."""
    supervisor = next(pid for pid in descendants(os.getpid()))
    return supervisor, descendants(supervisor)[0]


def test_a_timeout_ends_a_loop_and_grandchildren_with_a_session_of_their_own(
    executor: ProcessExecutor, make: Make, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    outcome = executor.run(make("stubborn_and_wait", {"timeout_s": 0.4}, pid_file=str(pid_file)))
    assert not is_alive(pid_in(pid_file))
    assert outcome.kind is OutcomeKind.TIMED_OUT
    assert outcome.error is not None
    assert outcome.error.message == "ran past its timeout of 0.4 s"
    assert "TimeoutError" in outcome.error.mro
    assert 0.4 <= outcome.duration_s < 3


def test_a_timeout_leaves_the_neighbours_alone(executor: ProcessExecutor, make: Make, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    neighbour = InBackground(executor, make("wait", until=str(flag)))
    assert executor.run(make("spin", {"timeout_s": 0.1})).kind is OutcomeKind.TIMED_OUT
    flag.touch()
    assert neighbour.outcome().kind is OutcomeKind.COMPLETED
    assert executor.run(make("nothing")).kind is OutcomeKind.COMPLETED


def test_an_attempt_within_its_timeout_is_not_touched_by_the_next_ones_deadline(
    executor: ProcessExecutor, make: Make
) -> None:
    for _ in range(30):
        assert executor.run(make("nothing", {"timeout_s": 5.0})).kind is OutcomeKind.COMPLETED
    assert executor.run(make("spin", {"timeout_s": 0.05})).kind is OutcomeKind.TIMED_OUT


@pytest.mark.parametrize(
    ("how", "signal_number", "exit_code"),
    [("exit", None, 7), ("segv", signal.SIGSEGV, None), ("kill", signal.SIGKILL, None)],
)
def test_a_crash_names_signal_or_exit_code_sweeps_the_tree_and_spares_neighbours(
    executor: ProcessExecutor,
    make: Make,
    tmp_path: Path,
    how: str,
    signal_number: int | None,
    exit_code: int | None,
) -> None:
    flag, pid_file = tmp_path / "flag", tmp_path / "pid"
    neighbour = InBackground(executor, make("wait", until=str(flag)))
    attempt = make("stubborn_and_die", pid_file=str(pid_file), how=how)
    outcome = executor.run(attempt)
    assert not is_alive(pid_in(pid_file))
    assert outcome.kind is OutcomeKind.CRASHED
    assert outcome.error is not None
    assert (outcome.error.signal, outcome.error.exit_code) == (signal_number, exit_code)
    log = Path(attempt.log_path or "").read_text()
    assert log.startswith("last words\n")
    assert ("Segmentation fault" in log) is (how == "segv")
    flag.touch()
    assert neighbour.outcome().kind is OutcomeKind.COMPLETED


def test_cancel_lets_finally_blocks_run(executor: ProcessExecutor, make: Make, tmp_path: Path) -> None:
    started, done = tmp_path / "started", tmp_path / "done"
    running = InBackground(executor, make("tidy", {"grace_s": 5.0}, started=str(started), done=str(done)))
    wait_until(started.exists)
    assert executor.cancel(running.attempt.token)
    assert running.outcome().kind is OutcomeKind.CANCELLED
    assert done.read_text() == "tidied"


def test_cancel_of_an_action_that_looks_lets_it_return_by_itself_within_the_grace(
    executor: ProcessExecutor, make: Make, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    running = InBackground(executor, make("cooperate", {"grace_s": 0.3}, started=str(started)))
    wait_until(started.exists)
    executor.cancel(running.attempt.token)
    assert running.outcome().kind is OutcomeKind.CANCELLED


def test_kill_does_not_wait_for_the_grace_period_also_after_a_cancel(
    executor: ProcessExecutor, make: Make, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    running = InBackground(executor, make("stubborn_and_wait", {"grace_s": 60.0}, pid_file=str(pid_file)))
    pid = pid_in(pid_file)
    started = time.monotonic()
    executor.cancel(running.attempt.token)
    executor.cancel(running.attempt.token, kill=True)
    assert running.outcome().kind is OutcomeKind.CANCELLED
    assert not is_alive(pid)
    assert time.monotonic() - started < 5


def test_cancel_of_what_does_not_run_says_so_and_a_late_one_hits_nobody(
    executor: ProcessExecutor, make: Make, tmp_path: Path
) -> None:
    attempt = make("nothing")
    executor.run(attempt)
    assert executor.cancel(attempt.token) is False
    supervisor, _ = worker_pids()
    worker = next(iter(executor._pool._idle.values()))[0]
    flag = tmp_path / "flag"
    running = InBackground(executor, make("wait", until=str(flag)))
    worker.cancel(1, kill=True)  # the attempt before, which has ended
    flag.touch()
    assert running.outcome().kind is OutcomeKind.COMPLETED
    assert worker_pids()[0] == supervisor


def test_a_cancel_that_comes_while_the_worker_starts_is_kept(executor: ProcessExecutor, make: Make) -> None:
    running = InBackground(executor, make("spin"))
    wait_until(lambda: executor.cancel(running.attempt.token))
    assert running.outcome().kind is OutcomeKind.CANCELLED


def test_a_killed_runner_is_a_crash_and_its_grandchildren_are_swept(
    executor: ProcessExecutor, make: Make, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    running = InBackground(executor, make("stubborn_and_wait", pid_file=str(pid_file)))
    pid = pid_in(pid_file)
    os.kill(worker_pids()[1], signal.SIGKILL)
    outcome = running.outcome()
    assert not is_alive(pid)
    assert outcome.kind is OutcomeKind.CRASHED
    assert outcome.error is not None
    assert outcome.error.signal == signal.SIGKILL


def test_a_killed_supervisor_takes_everything_with_it_before_the_engine_goes_on(
    executor: ProcessExecutor, make: Make, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    running = InBackground(executor, make("stubborn_and_wait", pid_file=str(pid_file)))
    pid = pid_in(pid_file)
    supervisor, runner = worker_pids()
    os.kill(supervisor, signal.SIGKILL)
    outcome = running.outcome()
    assert not is_alive(pid)
    assert not is_alive(runner)
    assert outcome.kind is OutcomeKind.LOST
    assert executor.run(make("nothing")).kind is OutcomeKind.COMPLETED


def test_a_worker_that_died_idle_costs_the_next_attempt_nothing(
    executor: ProcessExecutor, make: Make
) -> None:
    for victim in (0, 1):
        executor.run(make("nothing"))
        pid = worker_pids()[victim]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: not is_alive(pid))
        assert executor.run(make("nothing")).kind is OutcomeKind.COMPLETED


def test_closing_ends_what_runs(executor: ProcessExecutor, make: Make, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    running = InBackground(executor, make("stubborn_and_wait", pid_file=str(pid_file)))
    pid = pid_in(pid_file)
    executor.close()
    assert not is_alive(pid)
    assert running.outcome().kind is OutcomeKind.CANCELLED


def test_many_cancels_at_random_moments_end_each_attempt_in_exactly_one_way(
    executor: ProcessExecutor, make: Make
) -> None:
    """Every attempt is the one that was asked to end or completes; none dies for another."""
    for index in range(40):
        attempt = make("add", a=index)
        canceller = threading.Thread(target=executor.cancel, args=(attempt.token,))
        canceller.start()
        outcome = executor.run(attempt)
        canceller.join()
        assert outcome.kind in (OutcomeKind.COMPLETED, OutcomeKind.CANCELLED), outcome
        assert executor.run(make("nothing")).kind is OutcomeKind.COMPLETED
