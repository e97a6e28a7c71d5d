"""A KeyboardInterrupt at any moment in the thread that waits: the run ends right, or goes on later."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from small_workflow import WORKFLOW, check, finish

from codomyrmex.clock import VirtualClock
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from waiting import wait_until

# An interrupt that lands in a weak reference's callback is swallowed by Python, with this warning.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@contextmanager
def interrupted(engine: OrchestrationEngine, after_s: float) -> Iterator[None]:
    """Raises KeyboardInterrupt here once, `after_s` after a run was handed in, unless the block has ended.

    (Not before: Python's own parser, which reads the actions, answers an interrupt with a SystemError.)
    """
    armed = True

    def interrupt(_number: int, _frame: Any) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise KeyboardInterrupt

    def wait_and_send() -> None:
        wait_until(lambda: over.is_set() or engine._host.orchestrator.live_runs(), every_s=0.0002)
        over.wait(after_s)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    over = threading.Event()
    before = signal.signal(signal.SIGUSR1, interrupt)
    sender = threading.Thread(target=wait_and_send)
    sender.start()
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        armed = False
        over.set()
        sender.join()
        signal.signal(signal.SIGUSR1, before)


def interrupt_often(folder: Path, times: int) -> None:
    chance = Random()
    for number in range(times):
        state = folder / str(number)
        after_s = chance.choice([chance.uniform(0, 0.004), chance.uniform(0, 0.03)])
        with OrchestrationEngine(state=state, clock=VirtualClock()) as engine, interrupted(engine, after_s):
            engine.execute_workflow(WORKFLOW)
        check(finish(state))


def test_an_interrupted_wait_loses_nothing(tmp_path: Path) -> None:
    interrupt_often(tmp_path, 25)


@pytest.mark.reliability
def test_an_interrupted_wait_loses_nothing_in_full(tmp_path: Path) -> None:
    interrupt_often(tmp_path, 1000)


def test_an_interrupt_while_a_step_runs_leaves_the_step_to_end(tmp_path: Path) -> None:
    steps = [{"name": "a", "module": "recoverable_steps", "action": "slow", "parameters": {"pause_s": 0.3}}]
    document = {"codomyrmex": 1, "name": "w", "isolation": "thread", "steps": steps}
    with OrchestrationEngine(state=tmp_path / "state") as engine:
        with interrupted(engine, 0.05):
            engine.execute_workflow(document)
        (run,) = engine.reader.runs()[0]
        assert engine.wait(run.execution_id, 20)
        assert engine.reader.run(run.execution_id).status == "completed"
