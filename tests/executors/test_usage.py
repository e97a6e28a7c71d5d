"""What an attempt used is measured where that is cheap, is its own, and is told with its outcome."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time, thread_time

import pytest

from codomyrmex.logistics.orchestration.project.executors import verdicts
from codomyrmex.logistics.orchestration.project.executors.attempt import Attempt, Outcome, OutcomeKind
from codomyrmex.logistics.orchestration.project.executors.coroutine import AsyncExecutor
from codomyrmex.logistics.orchestration.project.executors.process import ProcessExecutor
from codomyrmex.logistics.orchestration.project.executors.thread import ThreadExecutor
from codomyrmex.logistics.orchestration.project.executors.worker import usage

Make = Callable[..., Attempt]
MIB = 1024 * 1024
ACTIONS = """
import os, subprocess, sys, time

SPIN = "import time\\nwhile time.process_time() < float({seconds}): pass"
HOLD = "held = bytearray({size})"

def spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
def spin_in_child(seconds):
    subprocess.run([sys.executable, "-c", SPIN.format(seconds=seconds)], check=True)
def hold(size): return len(bytearray(size))
def hold_in_child(size):
    subprocess.run([sys.executable, "-c", HOLD.format(size=size)], check=True)
def hold_and_fail(size):
    held = bytearray(size)
    raise ValueError(len(held))
def close_everything():
    os.closerange(3, 64)
    sys.files = [open(os.devnull, "w") for _ in range(8)]
def nothing(): return None
"""


@pytest.fixture(autouse=True)
def busy(project: Path) -> None:
    (project / "busy.py").write_text(ACTIONS)


def memory_of(outcome: Outcome) -> float:
    """In MiB; the kernel counts pages in bundles, so it is exact to a fraction of one."""
    assert outcome.kind is OutcomeKind.COMPLETED, outcome
    assert outcome.memory_bytes is not None
    return outcome.memory_bytes / MIB


def test_cpu_time_counts_and_waiting_does_not(executor: ProcessExecutor, make: Make, tmp_path: Path) -> None:
    busy = {"module": "busy"}
    spun = executor.run(make("spin", busy, seconds=0.05))
    assert spun.cpu_s is not None
    assert spun.cpu_s >= 0.05
    idle = executor.run(make("nothing", busy))
    assert idle.cpu_s is not None
    assert idle.cpu_s < 0.05
    child = executor.run(make("spin_in_child", busy, seconds=0.08))
    assert child.cpu_s is not None
    assert child.cpu_s >= 0.08


def test_a_peak_of_memory_is_that_of_the_attempt_and_not_of_those_before(
    executor: ProcessExecutor, make: Make
) -> None:
    busy = {"module": "busy"}
    assert 59 <= memory_of(executor.run(make("hold", busy, size=60 * MIB))) < 75
    assert memory_of(executor.run(make("nothing", busy))) < 5
    assert 19 <= memory_of(executor.run(make("hold", busy, size=20 * MIB))) < 35


def test_the_peak_of_a_process_that_the_action_started_counts_where_it_is_the_largest(
    executor: ProcessExecutor, make: Make
) -> None:
    busy = {"module": "busy"}
    assert 59 <= memory_of(executor.run(make("hold_in_child", busy, size=60 * MIB))) < 90
    assert memory_of(executor.run(make("nothing", busy))) < 5


def test_the_peak_of_a_command_is_known_each_time(executor: ProcessExecutor, make: Make) -> None:
    shell, python = {"module": "shell"}, {"module": "python"}
    large = f"held = bytearray({80 * MIB})"
    small = f"held = bytearray({40 * MIB})"
    assert 79 <= memory_of(executor.run(make("run", shell, command=[sys.executable, "-c", large]))) < 110
    assert 39 <= memory_of(executor.run(make("run", python, code=small))) < 70
    # A process is never smaller than what it was started from, here the worker.
    assert 1 < memory_of(executor.run(make("run", shell, command=["true"]))) < 40


def test_an_attempt_that_failed_tells_what_it_used_too(executor: ProcessExecutor, make: Make) -> None:
    outcome = executor.run(make("hold_and_fail", {"module": "busy"}, size=30 * MIB))
    assert outcome.kind is OutcomeKind.FAILED
    assert outcome.memory_bytes is not None
    assert outcome.memory_bytes >= 29 * MIB


def test_files_that_an_action_left_open_are_not_written_to(executor: ProcessExecutor, make: Make) -> None:
    busy = {"module": "busy"}
    executor.run(make("close_everything", busy))
    assert memory_of(executor.run(make("hold", busy, size=10 * MIB))) >= 9


def test_what_ran_out_of_memory_says_what_it_had_at_least(executor: ProcessExecutor, make: Make) -> None:
    attempt = make("hold", {"module": "busy", "memory_bytes": 64 * MIB, "memory_hard": True}, size=500 * MIB)
    outcome = executor.run(attempt)
    assert outcome.kind is OutcomeKind.OUT_OF_MEMORY
    assert outcome.memory_bytes is not None
    assert outcome.memory_bytes >= 64 * MIB
    assert outcome.parameters_bytes == len(attempt.parameters)


def test_a_verdict_of_too_much_memory_says_how_much_it_was(make: Make) -> None:
    said = {"verdict": "out_of_memory", "sequence": 1, "limit_bytes": 100, "used_bytes": 150}
    outcome = verdicts.outcome_of(said, make("hold", size=1), 0, 0.0)
    assert (outcome.kind, outcome.memory_bytes) == (OutcomeKind.OUT_OF_MEMORY, 150)
    kernel = verdicts.outcome_of({"verdict": "out_of_memory", "sequence": 1}, make("hold", size=1), 0, 0.0)
    assert (kernel.kind, kernel.memory_bytes) == (OutcomeKind.OUT_OF_MEMORY, None)


@pytest.mark.parametrize("reset", ["/nowhere/%d", "/proc/%d/status"])
def test_where_the_kernel_cannot_forget_a_peak_it_is_not_known(
    reset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "_RESET", reset)
    measured = usage.Usage()
    for _ in range(2):
        measured.begin()
        cpu_s, memory_bytes = measured.end()
        assert cpu_s >= 0
        assert memory_bytes is None


def test_of_a_thread_the_cpu_time_is_its_own(make: Make) -> None:
    def spin(seconds: float) -> None:
        end = thread_time() + seconds
        while thread_time() < end:
            pass

    attempt = make("spin", {"function": spin}, seconds=0.02)
    before = process_time()
    outcome = ThreadExecutor().run(attempt)
    assert outcome.cpu_s is not None
    assert 0.02 <= outcome.cpu_s <= process_time() - before
    assert outcome.memory_bytes is None
    assert outcome.parameters_bytes == len(attempt.parameters)


def test_of_a_short_thread_attempt_and_of_a_coroutine_nothing_is_known_but_the_parameters(make: Make) -> None:
    async def later(seconds: float) -> None:
        await asyncio.sleep(seconds)

    executor = AsyncExecutor()
    attempts = make("nothing", {"function": lambda: None}), make("later", {"function": later}, seconds=0.002)
    outcomes = ThreadExecutor().run(attempts[0]), executor.run(attempts[1])
    executor.close()
    for attempt, outcome in zip(attempts, outcomes, strict=True):
        assert outcome.kind is OutcomeKind.COMPLETED
        assert (outcome.cpu_s, outcome.memory_bytes) == (None, None)
        assert outcome.parameters_bytes == len(attempt.parameters)
